# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""Where reports arrive: a directory, or a web server that lists one. Nothing that is read here is believed yet."""

from __future__ import annotations

import http.client
import json
import os
from typing import Protocol
from urllib.parse import quote, urlsplit

from ansible_collections.edgeml.fleet.plugins.module_utils._common.errors import EdgemlError
from ansible_collections.edgeml.fleet.plugins.module_utils._common.tls import client_context
from ansible_collections.edgeml.fleet.plugins.module_utils._pull.report import REPORT_BYTES_MAX

from .settings import PullSettings

_SUFFIX = ".json"
_LISTING_BYTES_MAX = 16 << 20
_SECONDS = 30.0


class MailboxError(EdgemlError):
    """The mailbox cannot be read now."""


class Mailbox(Protocol):
    """Where reports arrive."""

    def sequences(self, device: str) -> list[int]:
        """The numbers of the reports that are there of a device, in their order. Raises MailboxError."""

    def read(self, device: str, sequence: int) -> bytes:
        """One report. Raises MailboxError."""


class DirectoryMailbox:
    """A mailbox whose directory this machine has, or a copy of."""

    def __init__(self, path: str) -> None:
        self._path = path

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

    def _directory(self, device: str) -> str:
        if "/" in device or device in (".", ".."):
            raise MailboxError(f"{device}: expected the name of a device that pulls to name a directory")
        return os.path.join(self._path, device)


class WebMailbox:
    """A mailbox that a web server lists in JSON, as nginx does with ``autoindex_format json``."""

    def __init__(self, settings: PullSettings) -> None:
        self._url = settings.mailbox.rstrip("/")
        parts = urlsplit(self._url)
        self._path = parts.path
        self._connection: http.client.HTTPConnection
        if parts.scheme == "https":
            try:
                context = client_context(
                    settings.mailbox_ca_file or None, settings.certificate_file or None, settings.key_file or None
                )
            except (OSError, ValueError) as error:
                raise MailboxError(
                    f"rollout_pull: {settings.certificate_file} {settings.mailbox_ca_file}: cannot be used for TLS: "
                    f"{error}"
                ) from error
            self._connection = http.client.HTTPSConnection(
                parts.hostname or "", parts.port, timeout=_SECONDS, context=context
            )
        else:
            self._connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=_SECONDS)

    def sequences(self, device: str) -> list[int]:
        """The numbers of the reports that are there of a device, in their order. Raises MailboxError."""
        content = self._get(f"{quote(device, safe='')}/", _LISTING_BYTES_MAX)
        if content is None:
            return []
        try:
            return _sequences([str(entry["name"]) for entry in json.loads(content)])
        except (ValueError, TypeError, KeyError) as error:
            raise MailboxError(f"{self._url}: expected a listing in JSON (autoindex_format json); {error}") from error

    def read(self, device: str, sequence: int) -> bytes:
        """One report. Raises MailboxError."""
        content = self._get(f"{quote(device, safe='')}/{sequence}{_SUFFIX}", REPORT_BYTES_MAX)
        if content is None:
            raise MailboxError(f"{self._url}: the report {sequence} of {device} is gone")
        return content

    def _get(self, path: str, most: int) -> bytes | None:
        """The content; None where there is none."""
        for attempt in (1, 2):
            try:
                self._connection.request("GET", f"{self._path}/{path}", headers={"User-Agent": "edgeml.fleet"})
                response = self._connection.getresponse()
                content = response.read(most + 1)
                if response.read1(1):
                    self._connection.close()
                break
            except (OSError, http.client.HTTPException) as error:
                # A server may have closed what was idle.
                self._connection.close()
                if attempt == 2:
                    raise MailboxError(f"{self._url}: cannot be read: {error or type(error).__name__}") from error
        if response.status == 404:
            return None
        if response.status != 200:
            raise MailboxError(f"{self._url}/{path}: HTTP status {response.status}")
        return content


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
