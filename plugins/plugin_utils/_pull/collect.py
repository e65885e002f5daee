# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""Waiting for reports: until each device has answered, or the time for it is over."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass, field
from typing import Callable, Collection, Iterable, Mapping, Optional, Sequence

from .mailbox import Mailbox, MailboxError, open_mailbox
from .reports import Book, DeviceReports, ReportError, StaleReportError, Verifier
from .settings import PullSettings

# How often the mailbox is read: soon at first, then less and less.
_PAUSE_SECONDS = (0.2, 10.0)
# How often who waits is told how it goes on: soon at first, then less and less.
_LINE_SECONDS = (30.0, 300.0)
_SHOWN_MAX = 20

# Gets the devices that are waited for, the seconds that are left, and why the mailbox cannot be read, if it cannot.
Tell = Callable[[Sequence[str], float, Optional[MailboxError]], None]


@dataclass
class Collected:
    """What came: ``missing`` are the devices without an answer, ``refused`` the reports that do not count."""

    missing: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    answered: int = 0
    seconds: float = 0.0


class Collector:
    """Reads a fleet's mailbox into its book: each report once, and of each device only when there is more of it."""

    def __init__(self, settings: PullSettings, mailbox: Mailbox | None = None) -> None:
        self._book = Book(settings.book)
        self._mailbox = mailbox or open_mailbox(settings)
        self._verifier = Verifier(settings.fleet, settings.ca_file, settings.crl_file)
        # What the mailbox said of a device when everything of it had been read.
        self._marks: dict[str, str | None] = {}
        self._refused: dict[tuple[str, int], str] = {}

    def collect(
        self,
        devices: Mapping[str, str],
        question: int,
        seconds: float,
        *,
        away: Collection[str] = (),
        tell: Tell | None = None,
    ) -> Collected:
        """Wait for at most ``seconds`` until ``devices``, each with its model, have answered a question.

        Those that are ``away`` are read, and not waited for. ``tell`` is called at once where somebody is waited for,
        and then now and again. Raises MailboxError where the mailbox could not be read in that time at all.
        """
        started = time.monotonic()
        waiting = dict(devices)
        next_line = 0.0
        while True:
            trouble = self._read(waiting, question)
            elapsed = time.monotonic() - started
            awaited = [device for device in waiting if device not in away]
            if not awaited or elapsed >= seconds:
                break
            if tell is not None and elapsed >= next_line:
                tell(sorted(awaited), seconds - elapsed, trouble)
                next_line = elapsed + min(max(elapsed, _LINE_SECONDS[0]), _LINE_SECONDS[1])
            least, most = _PAUSE_SECONDS
            time.sleep(min(max(elapsed / 10, least), most, max(seconds - elapsed, 0.0)))
        if awaited and trouble is not None:
            raise trouble
        refused = list(self._refused.values())
        more = [f"and {len(refused) - _SHOWN_MAX} more"] if len(refused) > _SHOWN_MAX else []
        return Collected(sorted(waiting), refused[:_SHOWN_MAX] + more, len(devices) - len(waiting), elapsed)

    def _read(self, waiting: dict[str, str], question: int) -> MailboxError | None:
        """Read what is new of the devices, and take those off that have answered; return what kept it from that."""
        try:
            marks = self._mailbox.marks()
        except MailboxError as error:
            return error
        trouble = None
        for device, model in list(waiting.items()):
            mark = marks.get(device, "")
            if mark is not None and mark == self._marks.get(device):
                continue
            try:
                reports = self.update(device)
            except MailboxError as error:
                trouble = error
                continue
            self._marks[device] = mark
            if reports.answer_to(model, question) is not None:
                del waiting[device]
        return trouble

    def update(self, device: str) -> DeviceReports:
        """Take what is new of a device; return what it has reported. Raises MailboxError."""
        reports = self._book.read(device)
        listed = self._mailbox.sequences(device)
        seen = reports.seen & set(listed)
        is_changed = seen != reports.seen
        reports.seen = seen
        try:
            for sequence in listed:
                if sequence not in seen and (device, sequence) not in self._refused:
                    is_changed = self._take(device, sequence, reports) or is_changed
        finally:
            if is_changed:
                self._book.write(device, reports)
        return reports

    def _take(self, device: str, sequence: int, reports: DeviceReports) -> bool:
        """Take one report; return whether it is not to be read again."""
        content = self._mailbox.read(device, sequence)
        try:
            report, key = self._verifier.verify(content, device, sequence)
            reports.add(report, key)
        except StaleReportError:
            # What was accepted before, and is not in the book for some reason.
            pass
        except ReportError as error:
            self._refused[device, sequence] = str(error)
            return False
        reports.seen.add(sequence)
        return True

    def close(self) -> None:
        """Close the connection to the mailbox."""
        self._mailbox.close()


def wait_for(
    settings: PullSettings,
    devices: Iterable[str],
    model: str,
    question: int,
    *,
    away: Collection[str] = (),
    tell: Tell | None = None,
) -> Collected:
    """Wait until devices have answered a question about a model, as ``Collector.collect`` does."""
    with contextlib.closing(Collector(settings)) as collector:
        asked = dict.fromkeys(devices, model)
        return collector.collect(asked, question, settings.report_seconds, away=away, tell=tell)
