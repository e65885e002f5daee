# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""Where reports arrive: a directory, or a web server that lists one. Nothing that is read here is believed yet."""

from __future__ import annotations

import email.utils
import os
import time
from typing import Protocol
from urllib.parse import quote

from ansible_collections.edgeml.fleet.plugins.module_utils._common.errors import EdgemlError
from ansible_collections.edgeml.fleet.plugins.module_utils._common.mailbox import MailboxClient
from ansible_collections.edgeml.fleet.plugins.module_utils._pull.report import REPORT_BYTES_MAX

from .settings import PullSettings

_SUFFIX = ".json"
# Times of changes are whole seconds where a web server says them.
_FRESH_SECONDS = 2.0


class MailboxError(EdgemlError):
    """The mailbox cannot be read now."""


class Mailbox(Protocol):
    """Where reports arrive."""

    def marks(self) -> dict[str, str | None]:
        """A mark for each device, which is another one as soon as there is more of it. Raises MailboxError.

        None: nobody can say that of it, because it has just been changed.
        """

    def sequences(self, device: str) -> list[int]:
        """The numbers of the reports that are there of a device, in their order. Raises MailboxError."""

    def read(self, device: str, sequence: int) -> bytes:
        """One report. Raises MailboxError."""

    def close(self) -> None:
        """Close what is open."""


class DirectoryMailbox:
    """A mailbox whose directory this machine has, or a copy of."""

    def __init__(self, path: str) -> None:
        self._path = path

    def marks(self) -> dict[str, str | None]:
        """A mark for each device, which is another one as soon as there is more of it. Raises MailboxError."""
        now = time.time()
        try:
            with os.scandir(self._path) as entries:
                changed = {entry.name: entry.stat().st_mtime_ns for entry in entries}
        except OSError as error:
            raise MailboxError(f"{self._path}: cannot be read: {error.strerror}") from error
        return {name: _mark(str(moment), moment / 1e9, now) for name, moment in changed.items()}

    def sequences(self, device: str) -> list[int]:
        """The numbers of the reports that are there of a device, in their order. Raises MailboxError."""
        try:
            return _sequences(os.listdir(self._directory(device)))
        except FileNotFoundError:
            return []
        except OSError as error:
            raise MailboxError(f"{self._directory(device)}: cannot be read: {error.strerror}") from error

    def read(self, device: str, sequence: int) -> bytes:
        """One report. Raises MailboxError."""
        path = os.path.join(self._directory(device), f"{sequence}{_SUFFIX}")
        try:
            # A link or a pipe in the place of a file is none of a device.
            with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
                return file.read(REPORT_BYTES_MAX + 1)
        except OSError as error:
            raise MailboxError(f"{path}: cannot be read: {error.strerror}") from error

    def close(self) -> None:
        """Nothing is open."""

    def _directory(self, device: str) -> str:
        if "/" in device or device in (".", ".."):
            raise MailboxError(f"{device}: expected the name of a device that pulls to name a directory")
        return os.path.join(self._path, device)


class WebMailbox:
    """A mailbox that a web server lists in JSON, as nginx does with ``autoindex_format json``."""

    def __init__(self, settings: PullSettings) -> None:
        self._client = MailboxClient(
            settings.mailbox,
            error=MailboxError,
            ca_file=settings.mailbox_ca_file or None,
            certificate=settings.certificate_file or None,
            key=settings.key_file or None,
        )

    def marks(self) -> dict[str, str | None]:
        """A mark for each device, which is another one as soon as there is more of it. Raises MailboxError."""
        entries, reply = self._client.listing("")
        now = _seconds(reply.headers.get("date", ""))
        return {entry.name: _mark(entry.changed, _seconds(entry.changed), now) for entry in entries}

    def sequences(self, device: str) -> list[int]:
        """The numbers of the reports that are there of a device, in their order. Raises MailboxError."""
        return _sequences([entry.name for entry in self._client.listing(f"{quote(device, safe='')}/", True)[0]])

    def read(self, device: str, sequence: int) -> bytes:
        """One report. Raises MailboxError."""
        path = f"{quote(device, safe='')}/{sequence}{_SUFFIX}"
        reply = self._client.ask("GET", path, bytes_max=REPORT_BYTES_MAX)
        if reply.status == 404:
            raise MailboxError(f"{self._client.url}: the report {sequence} of {device} is gone")
        self._client.require(reply, "GET", path)
        return reply.content

    def close(self) -> None:
        """Close the connection."""
        self._client.close()


def open_mailbox(settings: PullSettings) -> Mailbox:
    """Return the fleet's mailbox. Raises MailboxError."""
    if settings.mailbox.startswith(("http://", "https://")):
        return WebMailbox(settings)
    if not os.path.isdir(settings.mailbox):
        raise MailboxError(f"rollout_pull: mailbox: {settings.mailbox}: expected a directory; there is none")
    return DirectoryMailbox(settings.mailbox)


def _sequences(names: list[str]) -> list[int]:
    stems = [name[: -len(_SUFFIX)] for name in names if name.endswith(_SUFFIX)]
    return sorted(int(stem) for stem in stems if stem.isdecimal() and stem.isascii() and len(stem) <= 15)


def _mark(changed: str, seconds: float | None, now: float | None) -> str | None:
    """The time of a change as a mark, in seconds since 1970 ``seconds``; None while another change could have it."""
    if seconds is None or now is None or now - seconds < _FRESH_SECONDS:
        return None
    return changed


def _seconds(text: str) -> float | None:
    try:
        return email.utils.parsedate_to_datetime(text).timestamp()
    except (TypeError, ValueError):
        return None
