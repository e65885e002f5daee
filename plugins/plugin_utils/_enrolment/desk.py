# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""Where requests for certificates are found, and certificates are left: a mailbox, or a directory such as a stick."""

from __future__ import annotations

import http.client
import json
import re
import ssl
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

from ansible_collections.edgeml.fleet.plugins.module_utils._common.files import write_whole
from ansible_collections.edgeml.fleet.plugins.module_utils._enrolment.request import REQUEST_BYTES_MAX, EnrolmentError

TIMEOUT_SECONDS = 60
LISTING_BYTES_MAX = 16 << 20
_REQUEST = re.compile(r"([0-9a-f]{64})\.csr")


class Desk(Protocol):
    """Requests by the fingerprints of their keys. Each method raises EnrolmentError or OSError."""

    def waiting(self) -> list[str]:
        """The fingerprints that there are requests of."""

    def request(self, digest: str) -> bytes:
        """A request, in PEM; nothing of it is believed yet."""

    def answer(self, digest: str, certificate: str) -> None:
        """Leave a certificate for the device with this key, and remove its request."""


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


class MailboxDesk:
    """Requests in a mailbox. ``certificate`` is the file of a reader's certificate, with its key."""

    def __init__(self, url: str, certificate: str, ca_file: str | None) -> None:
        parts = urlsplit(url)
        if parts.scheme != "https" or not parts.hostname:
            raise EnrolmentError(f"the mailbox: expected an address with https://; found {url!r:.80}")
        self._url = f"https://{parts.netloc}/enroll/"
        context = ssl.create_default_context(cafile=ca_file)
        try:
            context.load_cert_chain(certificate)
        except OSError as error:
            raise EnrolmentError(
                f"{certificate}: expected the certificate of a reader with its key; {error}"
            ) from error
        self._connection = http.client.HTTPSConnection(
            parts.hostname, parts.port or 443, timeout=TIMEOUT_SECONDS, context=context
        )

    def waiting(self) -> list[str]:
        """The fingerprints that there are requests of."""
        try:
            names = [entry["name"] for entry in json.loads(self._ask("GET", "", LISTING_BYTES_MAX))]
        except (ValueError, TypeError, KeyError) as error:
            raise EnrolmentError(f"{self._url}: expected a list in JSON; {error}") from error
        return sorted(match[1] for name in names if (match := _REQUEST.fullmatch(str(name))))

    def request(self, digest: str) -> bytes:
        """A request, in PEM."""
        return self._ask("GET", f"{digest}.csr", REQUEST_BYTES_MAX + 1)

    def answer(self, digest: str, certificate: str) -> None:
        """Leave a certificate, and remove its request."""
        self._ask("PUT", f"{digest}.pem", 0, certificate.encode("ascii"))
        self._ask("DELETE", f"{digest}.csr", 0, may_be_gone=True)

    def _ask(
        self, method: str, name: str, bytes_max: int, content: bytes | None = None, may_be_gone: bool = False
    ) -> bytes:
        try:
            self._connection.request(method, f"/enroll/{name}", body=content)
            reply = self._connection.getresponse()
            body = reply.read(bytes_max)
            # What is longer is not read, so that the connection cannot be used again.
            if not reply.isclosed():
                self._connection.close()
        except (OSError, http.client.HTTPException) as error:
            self._connection.close()
            raise EnrolmentError(f"{self._url}: cannot be reached: {error or type(error).__name__}") from error
        if not (200 <= reply.status < 300 or (may_be_gone and reply.status == 404)):
            raise EnrolmentError(f"{self._url}{name}: HTTP status {reply.status} of {method}; is enrolment open there?")
        return body
