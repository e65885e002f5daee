# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""Where requests for certificates are found, and certificates are left: a mailbox, or a directory such as a stick."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Protocol

from ansible_collections.edgeml.fleet.plugins.module_utils._common.files import write_whole
from ansible_collections.edgeml.fleet.plugins.module_utils._common.mailbox import MailboxClient, enrolment_url
from ansible_collections.edgeml.fleet.plugins.module_utils._enrolment.request import REQUEST_BYTES_MAX, EnrolmentError

_REQUEST = re.compile(r"([0-9a-f]{64})\.csr")


class Desk(Protocol):
    """Requests by the fingerprints of their keys. Each method raises EnrolmentError or OSError."""

    def waiting(self) -> list[str]:
        """The fingerprints that there are requests of."""

    def request(self, digest: str) -> bytes:
        """A request, in PEM; nothing of it is believed yet."""

    def answer(self, digest: str, certificate: str) -> None:
        """Leave a certificate for the device with this key, and remove its request."""

    def close(self) -> None:
        """Close what is open."""


class DirectoryDesk:
    """Requests that were carried in a directory."""

    def __init__(self, path: str) -> None:
        self._path = Path(path)

    def waiting(self) -> list[str]:
        """The fingerprints that there are requests of."""
        return sorted(path.stem for path in self._path.iterdir() if _REQUEST.fullmatch(path.name))

    def request(self, digest: str) -> bytes:
        """A request, in PEM."""
        with (self._path / f"{digest}.csr").open("rb") as file:
            return file.read(REQUEST_BYTES_MAX + 1)

    def answer(self, digest: str, certificate: str) -> None:
        """Leave a certificate, and remove its request."""
        write_whole(str(self._path / f"{digest}.pem"), certificate)
        (self._path / f"{digest}.csr").unlink(missing_ok=True)

    def close(self) -> None:
        """Nothing is open."""


class MailboxDesk:
    """Requests in a mailbox. ``certificate`` is the file of a reader's certificate, with its key."""

    def __init__(self, url: str, certificate: str, ca_file: str | None) -> None:
        self._client = MailboxClient(
            enrolment_url(url, EnrolmentError),
            error=EnrolmentError,
            ca_file=ca_file,
            certificate=certificate,
            hint="; is enrolment open there?",
        )

    def waiting(self) -> list[str]:
        """The fingerprints that there are requests of."""
        entries, _reply = self._client.listing("")
        return sorted(match[1] for entry in entries if (match := _REQUEST.fullmatch(entry.name)))

    def request(self, digest: str) -> bytes:
        """A request, in PEM."""
        name = f"{digest}.csr"
        reply = self._client.ask("GET", name, bytes_max=REQUEST_BYTES_MAX)
        self._client.require(reply, "GET", name)
        return reply.content

    def answer(self, digest: str, certificate: str) -> None:
        """Leave a certificate, and remove its request."""
        answer, request = f"{digest}.pem", f"{digest}.csr"
        self._client.require(self._client.ask("PUT", answer, certificate.encode("ascii")), "PUT", answer)
        reply = self._client.ask("DELETE", request)
        if reply.status != 404:
            self._client.require(reply, "DELETE", request)

    def close(self) -> None:
        """Close the connection."""
        self._client.close()
