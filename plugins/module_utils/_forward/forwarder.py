# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.
"""Store and forward: what was recorded is sent in its order, and deleted when the receiver says that it has it.

What was sent is asked for at the next start, a minute later: a VictoriaMetrics that is asked at once says that it has
nothing, and goes on saying so for a while. What it does not have then is sent again; the same sample twice is one.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from typing import Any, Callable, NamedTuple, Sequence

from .._common.errors import StoreError
from .._common.files import hold_directory
from .._common.records import as_document, build
from .._pull.backoff import Backoff
from .._watch.metrics import Sample
from .clock import TOLERANCE_MS, Reading, read_clock, right_times
from .config import ForwardConfig
from .receiver import LinkError, Receiver, RefusedError, offset_ms
from .recording import record
from .spool import Batch, Spool, read_batch

# As much as is sent or asked for at once: some 3 MB of text, and two hours.
CHUNK_BATCHES, CHUNK_BYTES = 120, 512 << 10
# What was sent shows in what is asked for only then.
ASK_AFTER_MS = 20_000
# How often it is asked for until it is sent again, and how often it is sent while others are stored.
ASKS, ATTEMPTS = 2, 3
# Where more than that is missing, nothing else is sent before.
MISSING_MAX = 10
# One start sends no longer, so that the next minute is recorded.
SEND_SECONDS = 40.0


class Progress(NamedTuple):
    """What a device notes of its forwarding, in memory: after a start nothing of it is true any more.

    ``through`` is the number of the last batch that was sent, ``sent_ms`` when, since the start. ``asks`` and
    ``attempts``: how often what is missing was asked for, and sent. ``lost`` counts the batches that had to make room.
    ``offset_ms`` is what has to be added to the time since the start ``boot``, by the receiver's clock; None before it
    answered.
    """

    boot: str = ""
    through: int = 0
    sent_ms: int = 0
    asks: int = 0
    attempts: int = 0
    lost: int = 0
    offset_ms: int | None = None


class Forwarder:
    """One start of ``edgeml forward``. ``clock`` reads the clocks; ``lines`` is what there is to say, after ``run``."""

    def __init__(self, config: ForwardConfig, clock: Callable[[], Reading] = read_clock) -> None:
        self.lines: list[str] = []
        self._config = config
        self._clock = clock
        self._spool = Spool(config.state, config.batches_max)
        self._path = os.path.join(config.runtime, "progress.json")
        self._backoff = Backoff(config.runtime)
        self._deadline = time.monotonic() + SEND_SECONDS
        self._progress = Progress()

    def run(self, *, by_timer: bool = False, take_back: bool = False) -> int:
        """Record, ask and send. Return 0 also where nobody can be reached, 1 where something is wrong.

        ``by_timer``: leave out sending at moments, after it failed. ``take_back``: send also what was set aside. Raises
        OSError where the directories cannot be used.
        """
        os.makedirs(self._config.state, mode=0o700, exist_ok=True)
        os.makedirs(self._config.runtime, mode=0o755, exist_ok=True)
        with hold_directory(self._config.state) as free:
            if not free:
                self.lines.append("another one is at work")
                return 0
            self._spool.tidy()
            self._progress = self._read_progress()
            if take_back:
                self.lines.append(f"{self._spool.take_back()} batches that were set aside are sent again")
                self._note(through=0)
            code = self._record()
            if by_timer and self._backoff.skips():
                return code
            return max(code, self._deliver())

    def _record(self) -> int:
        now = self._clock()
        batches, aside = self._spool.batches(), self._spool.batches(self._spool.aside)
        own: list[Sample] = [
            ("edgeml_forward_queued_batches", {}, float(len(batches))),
            ("edgeml_forward_aside_batches", {}, float(len(aside))),
            ("edgeml_forward_lost_batches_total", {}, float(self._progress.lost)),
        ]
        if self._progress.offset_ms is not None:
            right_ms = now.boot_ms + self._progress.offset_ms
            error_ms = now.time_ms - right_ms
            own.append(("edgeml_forward_clock_error_seconds", {}, error_ms / 1000))
            now = now._replace(time_ms=now.time_ms if abs(error_ms) <= TOLERANCE_MS else right_ms, trusted=True)
        samples, problems = record(self._config, own)
        self.lines += problems
        number = max(batches[-1].sequence if batches else 0, self._progress.through) + 1
        try:
            self._spool.add(Batch(number, now, len(samples)), samples)
        except OSError as error:
            self.lines.append(f"{self._config.state}: this minute is lost: {error.strerror}")
        kept = len(self._spool.batches()) + len(self._spool.batches(self._spool.aside))
        lost = len(batches) + len(aside) + 1 - kept
        if lost:
            self._note(lost=self._progress.lost + lost)
            self.lines.append(f"{lost} recorded minutes were lost, because there is no room for more than {kept}")
        return int(lost > 0)

    def _deliver(self) -> int:
        code = 0
        try:
            receiver = Receiver(self._config)
            if self._progress.offset_ms is None:
                receiver.ask_time()
                self._note_time(receiver)
            code = self._date()
            if self._confirm(receiver):
                self._send(receiver)
        except LinkError as error:
            skipped = self._backoff.failed()
            self.lines.append(f"{error}: what was recorded is kept; {skipped} moments of the timer are left out")
            return code
        except RefusedError as error:
            self._backoff.failed()
            self.lines.append(str(error))
            return 1
        self._backoff.reached()
        return code

    def _date(self) -> int:
        """Give each batch that was not sent yet its right time; set those aside whose time nobody knows."""
        now = self._clock()
        batches = [batch for batch in self._spool.batches() if batch.sequence > self._progress.through]
        times = right_times([batch.reading for batch in batches], now, self._progress.offset_ms or 0)
        aside = corrected = 0
        for batch, time_ms in zip(batches, times):
            if time_ms is None:
                self._spool.set_aside(batch)
                aside += 1
            elif time_ms != batch.reading.time_ms:
                with self._drops_damaged(batch):
                    self._spool.correct(batch, time_ms)
                    corrected += 1
        if corrected:
            self.lines.append(f"the clock was wrong: {corrected} batches have the time now that it really was")
        if aside:
            self.lines.append(
                f"{aside} batches are of a time that nobody knows, because the clock was wrong: they are kept in "
                f"{self._spool.aside} and not sent"
            )
        return int(aside > 0)

    def _confirm(self, receiver: Receiver) -> bool:
        """Delete what is stored, and send again what is not. Return whether more is to be sent."""
        sent = [batch for batch in self._spool.batches() if batch.sequence <= self._progress.through]
        if not sent:
            return True
        # Nothing is sent meanwhile: or a device that records more often than that would never ask.
        if self._clock().boot_ms - self._progress.sent_ms < ASK_AFTER_MS:
            return False
        missing: list[Batch] = []
        for chunk in _chunks(sent):
            times = [batch.reading.time_ms for batch in chunk]
            stored = receiver.stored(min(times), max(times))
            self._note_time(receiver)
            for batch in chunk:
                if stored.get(batch.reading.time_ms, 0) >= batch.lines:
                    self._spool.remove(batch)
                else:
                    missing.append(batch)
        if not missing:
            self._note(asks=0, attempts=0)
            return True
        stores_others = len(missing) < len(sent)
        self._note(asks=self._progress.asks + 1)
        if self._progress.asks >= ASKS:
            self._repeat(receiver, missing, stores_others)
        return len(missing) <= MISSING_MAX

    def _repeat(self, receiver: Receiver, missing: Sequence[Batch], stores_others: bool) -> None:
        attempts = self._progress.attempts + int(stores_others)
        first, last = missing[0].reading.time_ms, missing[-1].reading.time_ms
        if attempts >= ATTEMPTS:
            for batch in missing:
                self._spool.set_aside(batch)
            self.lines.append(
                f"the receiver has not stored {len(missing)} batches of {first} to {last} ms since 1970, though it "
                f"stores others: they are kept in {self._spool.aside}. Is its retention shorter, or its number of "
                "series limited? `edgeml forward --again` has them sent again"
            )
            self._note(asks=0, attempts=0)
            return
        self.lines.append(f"the receiver does not have {len(missing)} batches that it took: they are sent again")
        for chunk in _chunks(missing):
            self._post(receiver, chunk)
        self._note(asks=0, attempts=attempts)

    def _send(self, receiver: Receiver) -> None:
        left = [batch for batch in self._spool.batches() if batch.sequence > self._progress.through]
        for chunk in _chunks(left):
            if time.monotonic() > self._deadline:
                return
            self._post(receiver, chunk)
            self._note(through=chunk[-1].sequence)

    def _post(self, receiver: Receiver, batches: Sequence[Batch]) -> None:
        content = b""
        for batch in batches:
            with self._drops_damaged(batch):
                one = self._spool.read(batch)
                read_batch(one)
                if content and len(content) + len(one) > CHUNK_BYTES:
                    receiver.store(content)
                    content = b""
                content += one
        if content:
            receiver.store(content)
        self._note_time(receiver)
        self._note(sent_ms=self._clock().boot_ms)

    @contextlib.contextmanager
    def _drops_damaged(self, batch: Batch) -> Any:
        """Remove a batch whose file turns out to be damaged: no receiver would take it."""
        try:
            yield
        except StoreError as error:
            self.lines.append(f"{self._spool.path(batch)}: {error}")
            self._spool.remove(batch)
            self._note(lost=self._progress.lost + 1)

    def _note_time(self, receiver: Receiver) -> None:
        self._note(offset_ms=offset_ms(receiver, self._clock()))

    def _note(self, **changes: Any) -> None:
        """Note progress. In memory, so that it is not synced; where that fails, what is known is sent again."""
        self._progress = self._progress._replace(**changes)
        part = f"{self._path}.part"
        with contextlib.suppress(OSError):
            with open(part, "w", encoding="ascii") as file:
                json.dump(as_document(self._progress), file)
            os.replace(part, self._path)

    def _read_progress(self) -> Progress:
        boot = self._clock().boot
        try:
            with open(self._path, encoding="ascii") as file:
                found: Progress = build(Progress, json.load(file))
        except (OSError, ValueError, TypeError, RecursionError):
            return Progress(boot)
        return found if found.boot == boot else Progress(boot)


def _chunks(batches: Sequence[Batch]) -> list[Sequence[Batch]]:
    return [batches[first : first + CHUNK_BATCHES] for first in range(0, len(batches), CHUNK_BATCHES)]
