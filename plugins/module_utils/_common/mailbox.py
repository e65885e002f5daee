# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""The client of a mailbox of reports and requests, for devices that write to it and for the controller, which reads."""

from __future__ import annotations

import http.client
import json
from typing import Any, Mapping, NamedTuple

from .address import Address, parse_address
from .connection import make_connection
from .errors import EdgemlError
from .tls import client_context

# A link that brings nothing for so long brings nothing.
SILENCE_SECONDS = 30.0
LISTING_BYTES_MAX = 16 << 20


class Reply(NamedTuple):
    """What a mailbox answered: the status of HTTP, the content, and the headers by their names in small letters."""

    status: int
    content: bytes
    headers: Mapping[str, str]


class Entry(NamedTuple):
    """A file or directory of a listing. ``changed``: when it was changed last, as the server writes a time; empty where
    it does not say that."""

    name: str
    changed: str


class MailboxClient:
    """A connection to a mailbox at ``url``, which is made when it is needed.

    ``ca_file`` has the authorities of its server, None: those of the system. ``certificate`` and ``key`` are the
    client's own. ``error`` is the kind of error that its methods raise, and itself for what cannot be used; ``hint``
    ends the text of one about a refusal.
    """

    def __init__(
        self,
        url: str,
        *,
        error: type[EdgemlError],
        ca_file: str | None = None,
        certificate: str | None = None,
        key: str | None = None,
        hint: str = "",
    ) -> None:
        self.url = url.rstrip("/")
        self._error = error
        self._hint = hint
        self._is_used = False
        address = _parsed(self.url, error)
        self._path = address.target.rstrip("/")
        context = None
        if address.scheme == "https":
            try:
                context = client_context(ca_file, certificate, key)
            except (OSError, ValueError) as found:
                raise error(
                    f"{url}: {certificate or ''} {ca_file or ''}: expected the client's certificate with its key, and "
                    f"the authority of the mailbox's server; cannot be used for TLS: {found}"
                ) from found
        self._connection = make_connection(address, SILENCE_SECONDS, context)

    def ask(
        self,
        method: str,
        path: str,
        content: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        bytes_max: int = 4096,
    ) -> Reply:
        """Ask for ``path`` below the mailbox's address. Of a longer answer ``bytes_max`` + 1 bytes are returned.

        A connection that was idle may have been closed by the server, so it is made anew once. Raises the error that
        the client was made with where nobody answers.
        """
        while True:
            try:
                return self._ask(method, f"{self._path}/{path}", content, headers or {}, bytes_max)
            except (OSError, http.client.HTTPException) as found:
                self.close()
                if not self._is_used:
                    raise self._error(f"{self.url}: cannot be reached: {found or type(found).__name__}") from found
                self._is_used = False

    def listing(self, path: str, may_be_missing: bool = False) -> tuple[list[Entry], Reply]:
        """What is in a directory, as nginx's ``autoindex_format json`` lists it, with the reply.

        Nothing for a directory that ``may_be_missing`` and is. Raises the client's error, also for another status and
        for what is no such list.
        """
        reply = self.ask("GET", path, bytes_max=LISTING_BYTES_MAX)
        if reply.status == 404 and may_be_missing:
            return [], reply
        self.require(reply, "GET", path)
        try:
            found = [Entry(str(entry["name"]), str(entry.get("mtime") or "")) for entry in json.loads(reply.content)]
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise self._error(
                f"{self.url}/{path}: expected a list in JSON (autoindex_format json); {error or type(error).__name__}"
            ) from error
        return found, reply

    def require(self, reply: Reply, method: str, path: str) -> None:
        """Raise the client's error for a reply that says that it was not done."""
        if not 200 <= reply.status < 300:
            raise self._error(f"{self.url}/{path}: HTTP status {reply.status} of {method}{self._hint}")

    def close(self) -> None:
        """Close the connection; the next question makes another one."""
        self._connection.close()

    def _ask(self, method: str, path: str, content: bytes | None, headers: Mapping[str, str], bytes_max: int) -> Reply:
        self._connection.request(method, path, body=content, headers={"User-Agent": "edgeml", **headers})
        response: Any = self._connection.getresponse()
        found = response.read(bytes_max + 1)
        # What is longer is not read, so that the connection cannot be used again.
        if not response.isclosed():
            self.close()
        self._is_used = True
        return Reply(response.status, found, {name.lower(): value for name, value in response.getheaders()})


def enrolment_url(mailbox: str, error: type[EdgemlError]) -> str:
    """Where the server of a mailbox takes requests for certificates. Raises ``error`` for an address without TLS."""
    address = _parsed(mailbox, error)
    if address.scheme != "https":
        raise error(f"the mailbox: expected an address with https://; found {mailbox!r:.80}")
    return address._replace(target="/enroll").url


def _parsed(url: str, error: type[EdgemlError]) -> Address:
    try:
        address = parse_address(url)
        if "?" in address.target:
            raise ValueError("expected no query, as a device's name follows")
        return address
    except ValueError as found:
        raise error(f"the mailbox: expected an address with https://; found {url!r:.80}: {found}") from found
