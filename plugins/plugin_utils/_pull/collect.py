# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""Waiting for reports: until each device has answered, or the time for it is over."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Iterable, Mapping

from .mailbox import Mailbox, MailboxError, open_mailbox
from .reports import Book, DeviceReports, ReportError, StaleReportError, Verifier
from .settings import PullSettings

# How often the mailbox is read: soon at first, then less and less.
_PAUSE_SECONDS = (0.2, 10.0)
_SHOWN_MAX = 20


@dataclass
class Collected:
    """What came: ``missing`` are the devices without an answer, ``refused`` the reports that do not count."""

    missing: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    answered: int = 0
    seconds: float = 0.0


class Collector:
    """Reads a fleet's mailbox into its book."""

    def __init__(self, settings: PullSettings, mailbox: Mailbox | None = None) -> None:
        self._book = Book(settings.book)
        self._mailbox = mailbox or open_mailbox(settings)
        self._verifier = Verifier(settings.fleet, settings.ca_file)
        # Numbers of files that were looked at, by device.
        self._seen: dict[str, int] = {}
        self._refused: dict[tuple[str, int], str] = {}

    def collect(self, devices: Mapping[str, str], question: int, seconds: float) -> Collected:
        """Wait for at most ``seconds`` until ``devices``, each with its model, have answered a question.

        Raises MailboxError where the mailbox could not be read in that time at all.
        """
        started = time.monotonic()
        waiting = dict(devices)
        while True:
            trouble = self._read(waiting, question)
            elapsed = time.monotonic() - started
            if not waiting or elapsed >= seconds:
                break
            least, most = _PAUSE_SECONDS
            time.sleep(min(max(elapsed / 10, least), most, max(seconds - elapsed, 0.0)))
        if waiting and trouble is not None:
            raise trouble
        refused = list(self._refused.values())
        more = [f"and {len(refused) - _SHOWN_MAX} more"] if len(refused) > _SHOWN_MAX else []
        return Collected(sorted(waiting), refused[:_SHOWN_MAX] + more, len(devices) - len(waiting), elapsed)

    def _read(self, waiting: dict[str, str], question: int) -> MailboxError | None:
        """Read what is new of the devices, and take those off that have answered; return what kept it from that."""
        trouble = None
        for device, model in list(waiting.items()):
            try:
                reports = self.update(device)
            except MailboxError as error:
                trouble = error
                continue
            if reports.answer_to(model, question) is not None:
                del waiting[device]
        return trouble

    def update(self, device: str) -> DeviceReports:
        """Take what is new of a device; return what it has reported. Raises MailboxError."""
        reports = self._book.read(device)
        last, changed = self._seen.get(device, 0), False
        for sequence in self._mailbox.sequences(device):
            if sequence <= last:
                continue
            content = self._mailbox.read(device, sequence)
            self._seen[device] = sequence
            try:
                report, key = self._verifier.verify(content, device, sequence)
                reports.add(report, key)
                changed = True
            except StaleReportError:
                # What was accepted lies in the mailbox until somebody clears it.
                continue
            except ReportError as error:
                self._refused[device, sequence] = str(error)
        if changed:
            self._book.write(device, reports)
        return reports


def wait_for(settings: PullSettings, devices: Iterable[str], model: str, question: int, seconds: float) -> Collected:
    """Wait until devices have answered a question about a model."""
    return Collector(settings).collect(dict.fromkeys(devices, model), question, seconds)
