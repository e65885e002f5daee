# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""Fetching objects: from the first source that gives them, block by block, each verified before the next."""

from __future__ import annotations

import os
import time
from datetime import datetime, timezone
from typing import Callable, NamedTuple, Sequence

from .._common.files import DurableTree
from .._common.window import is_open
from .._release.release import File
from .failures import FetchError, Kind, SourceError
from .options import FetchOptions
from .pace import Pace, Patience
from .partial import CorruptBlockError, Partial, held_bytes, is_fetched
from .sources import Source, Stream, open_sources

# What a fetch may use beyond its percentage: a block that was wrong, and what was on the way when it was dropped.
_SPARE_BYTES = 2 << 20
# Who waits for another process looks so often.
_LOOK_SECONDS = 0.5
# A connection that brings less counts as fruitless.
_PROGRESS_BYTES = 4 << 10
_CHECK_SECONDS = 5.0
# How often an object comes whose bytes are others when they are read again.
_ATTEMPTS = 3
_PATIENCE = Patience()


class Tally(NamedTuple):
    """What fetches cost: ``fetched`` bytes of whole blocks, the bytes ``received`` in all, and their ``seconds``."""

    fetched: int = 0
    received: int = 0
    seconds: float = 0.0


class _Offer:
    """A source as one object finds it."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.closed = False
        self.fresh = False
        self.corrupt = 0
        self.not_before = 0.0
        self.whole_only = False
        self.failure: SourceError | None = None


class Fetcher:
    """Fetches objects into ``directory``, a directory of ``tree``. ``headroom_percent`` of the free disk is left.

    ``may_go_on`` returns why a fetch must stop for now, or None; it is asked again and again.
    """

    def __init__(
        self,
        tree: DurableTree,
        directory: str,
        options: FetchOptions,
        *,
        headroom_percent: int = 0,
        patience: Patience = _PATIENCE,
        may_go_on: Callable[[], str | None] = lambda: None,
    ) -> None:
        # Its own imports take time on a device whose sources are none of the web.
        from .web import WebServer

        options.check()
        self.tally = Tally()
        self._tree = tree
        self._directory = directory
        self._options = options
        self._headroom_percent = headroom_percent
        self._patience = patience
        self._may_go_on = may_go_on
        self._pace = Pace(options.bytes_per_second)
        self._sources = open_sources(options, lambda url: WebServer(url, options, self._pace, patience))
        self._checked = 0.0

    def fetch(self, file: File) -> str:
        """Fetch one object, verify it, and return its path: ``directory`` and its digest. What another fetch, or an
        earlier one, has of it is used. Raises FetchError, and OSError for a disk that fails."""
        began = time.monotonic()
        deadline = began + self._options.seconds_max
        partial = Partial(self._tree, self._directory, file)
        try:
            while not is_fetched(self._directory, file):
                if partial.open():
                    self._check_space((file,))
                    return self._bring(partial, deadline)
                if time.monotonic() >= deadline:
                    raise self._exhausted(file, "another process fetches it")
                self._check_permission(0)
                time.sleep(_LOOK_SECONDS)
            return partial.path
        finally:
            partial.close()
            self.tally = self.tally._replace(seconds=self.tally.seconds + time.monotonic() - began)

    def fetch_all(self, files: Sequence[File]) -> None:
        """Fetch objects one after the other, if there is room for all of them. Raises as ``fetch`` does."""
        self._check_space(files)
        for file in files:
            self.fetch(file)

    def close(self) -> None:
        """Let go of all connections."""
        for source in self._sources:
            source.close()

    # ---- the parts ----

    def _bring(self, partial: Partial, deadline: float) -> str:
        for _attempt in range(_ATTEMPTS):
            run = _Run(partial, [_Offer(source) for source in self._sources], deadline)
            while not partial.is_complete():
                self._next(run)
            try:
                return partial.finish()
            except CorruptBlockError as error:
                # A power cut took bytes that had been verified. They come once more.
                why = error
        raise FetchError(Kind.DISK, f"{partial.path}: the disk returns other bytes than were written: {why}")

    def _next(self, run: _Run) -> None:
        """One try, at the best source that there is now."""
        self._check_permission(0)
        if time.monotonic() >= run.deadline:
            raise self._exhausted(run.partial.file, run.last)
        offer = run.choose()
        if offer is None:
            self._pause(run)
            return
        partial, before = run.partial, run.partial.size
        try:
            self._take(run, offer)
        except SourceError as error:
            run.note(offer, error)
        except CorruptBlockError as error:
            run.note(offer, SourceError(Kind.CORRUPT, f"{offer.source.name}: {error}"))
        if partial.size - before >= _PROGRESS_BYTES or partial.is_complete():
            run.progress()

    def _take(self, run: _Run, offer: _Offer) -> None:
        """Take what the source gives, to its end."""
        partial = run.partial
        start = 0 if offer.whole_only else partial.size
        if offer.corrupt and run.givers - {offer}:
            # A block of one source alone says who is wrong.
            partial.drop_block()
            start = partial.size
        self._check_space((partial.file,))
        stream = offer.source.open(partial.file, start, offer.fresh)
        try:
            self._read(run, offer, stream)
        except BaseException:
            offer.source.close()
            raise
        finally:
            stream.close()

    def _read(self, run: _Run, offer: _Offer, stream: Stream) -> None:
        partial, position = run.partial, stream.start
        mark, marked = time.monotonic(), 0
        while not partial.is_complete():
            chunk = stream.read(self._pace.chunk_bytes)
            if not chunk:
                return
            now = time.monotonic()
            marked += len(chunk)
            run.received += len(chunk)
            self.tally = self.tally._replace(received=self.tally.received + len(chunk))
            if now - mark >= self._patience.stall:
                if marked < self._patience.stall_bytes:
                    raise SourceError(
                        Kind.INTERRUPTED, f"{offer.source.name}: {marked} bytes came within {now - mark:.0f} s"
                    )
                mark, marked = now, 0
            # From a server that gives whole files only, what is there already comes again.
            new = chunk[max(0, partial.size - position) :]
            position += len(chunk)
            if new:
                before = partial.verified
                run.write(offer, new)
                self.tally = self.tally._replace(fetched=self.tally.fetched + partial.verified - before)
            self._check_budget(run)
            self._pace.spend(len(chunk))
            self._check_permission(_CHECK_SECONDS)

    def _pause(self, run: _Run) -> None:
        """Wait until a source can be asked again. Raises FetchError when none will be."""
        open_offers = run.open_offers()
        run.fruitless += 1
        if not open_offers or run.fruitless >= self._patience.rounds:
            raise FetchError(run.kind(), f"{run.partial.file.path}: {run.told()}")
        asked = min(offer.not_before for offer in open_offers) - time.monotonic()
        seconds = max(self._patience.pause(run.fruitless), asked)
        if time.monotonic() + seconds > run.deadline:
            raise self._exhausted(run.partial.file, run.told())
        self._sleep(seconds)
        run.begin_round()

    def _sleep(self, seconds: float) -> None:
        """Wait, and stop at once when nothing may flow any more."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            time.sleep(min(_CHECK_SECONDS, max(0.0, until - time.monotonic())))
            self._check_permission(_CHECK_SECONDS)

    def _check_permission(self, seconds: float) -> None:
        """Raise FetchError where the fetch must stop for now; asked at most once in so many ``seconds``."""
        now = time.monotonic()
        if now - self._checked < seconds:
            return
        self._checked = now
        why = self._may_go_on()
        if why is None and not is_open(self._options.windows, datetime.now(timezone.utc)):
            why = f"none of the windows is open: {', '.join(self._options.windows)}"
        if why is not None:
            raise FetchError(Kind.DEFERRED, f"the fetch goes on later: {why}")

    def _check_budget(self, run: _Run) -> None:
        file = run.partial.file
        most = (file.size - run.held) * self._options.bytes_max_percent // 100 + _SPARE_BYTES
        if run.received > most:
            raise FetchError(
                Kind.EXHAUSTED,
                f"{file.path}: expected at most {most} bytes, {self._options.bytes_max_percent}% of what was missing; "
                f"{run.received} came, and {run.partial.verified} of {file.size} are right. {run.told()}",
            )
        if time.monotonic() >= run.deadline:
            raise self._exhausted(file, run.told())

    def _check_space(self, files: Sequence[File]) -> None:
        """Raise FetchError unless what is missing of the objects fits on the disk, with headroom."""
        status = os.statvfs(self._tree.root)
        free = status.f_bavail * status.f_frsize
        needed = sum(file.size - held_bytes(self._directory, file) for file in files)
        if needed > free * (100 - self._headroom_percent) // 100:
            raise FetchError(
                Kind.DISK,
                f"{self._directory}: {', '.join(file.path for file in files[:3])} need {needed} bytes more; {free} are "
                f"free, of which {self._headroom_percent}% are to stay free",
            )

    def _exhausted(self, file: File, why: str) -> FetchError:
        return FetchError(Kind.EXHAUSTED, f"{file.path}: not there after {self._options.seconds_max:g} s: {why}")


class _Run:
    """One object's fetch: what was asked, and what came of it."""

    def __init__(self, partial: Partial, offers: list[_Offer], deadline: float) -> None:
        self.partial = partial
        self.offers = offers
        self.deadline = deadline
        self.held = partial.size
        self.received = 0
        self.fruitless = 0
        self.last = "no source was asked"
        # Who gave what there is of the block that is not whole yet; None: an earlier fetch.
        self.givers: set[_Offer | None] = {None} if partial.size > partial.verified else set()
        self._left = list(offers)

    def write(self, offer: _Offer, chunk: bytes) -> None:
        """Add what a source gave. Raises as ``Partial.write`` does."""
        verified = self.partial.verified
        self.givers.add(offer)
        try:
            self.partial.write(chunk)
        finally:
            if self.partial.size == self.partial.verified:
                self.givers = set()
            elif self.partial.verified > verified:
                self.givers = {offer}

    def choose(self) -> _Offer | None:
        """The first source of this round that may be asked; one that gives whole files only when no other is left."""
        now = time.monotonic()
        able = [offer for offer in self._left if not offer.closed and offer.not_before <= now]
        parts = [offer for offer in able if not offer.whole_only]
        others = [offer for offer in self.open_offers() if not offer.whole_only]
        if parts:
            return parts[0]
        return able[0] if able and not others else None

    def open_offers(self) -> list[_Offer]:
        """The sources that may still give the object."""
        return [offer for offer in self.offers if not offer.closed]

    def note(self, offer: _Offer, error: SourceError) -> None:
        """Note how a try failed: the source comes again in the next round, later, or not at all."""
        self.last = str(error)
        offer.failure = error
        offer.not_before = time.monotonic() + error.wait_seconds
        if error.kind is Kind.NO_RANGES:
            offer.whole_only = True
            return
        if error.kind is Kind.CORRUPT:
            # A cache may have kept what is wrong: it is passed by once.
            offer.corrupt += 1
            offer.fresh = True
        offer.closed = error.kind.permanent or offer.corrupt > 1
        if offer in self._left:
            self._left.remove(offer)

    def progress(self) -> None:
        """Bytes came: every source counts again, the first ones first."""
        self.fruitless = 0
        self.begin_round()

    def begin_round(self) -> None:
        """Have every source asked once more."""
        self._left = list(self.offers)

    def kind(self) -> Kind:
        """The kind of the last failure of the first source that failed."""
        return next((offer.failure.kind for offer in self.offers if offer.failure), Kind.UNREACHABLE)

    def told(self) -> str:
        """How each source failed."""
        return "; ".join(str(offer.failure) for offer in self.offers if offer.failure) or self.last
