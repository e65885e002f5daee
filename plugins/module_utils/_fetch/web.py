# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""Objects from a web server: one GET with at most one range for each try, and nothing believed of the reply."""

from __future__ import annotations

import base64
import contextlib
import email.utils
import http.client
import re
import socket
import ssl
import threading
import time
from email.message import Message
from typing import Callable, Mapping, Sequence
from urllib.parse import SplitResult, unquote, urljoin, urlsplit

from .._common.address import Address, parse_address
from .._common.connection import make_connection
from .._common.tls import client_context
from .failures import Kind, SourceError
from .options import FetchOptions
from .pace import Pace, Patience
from .sources import Stream, Wanted

_REDIRECTS_MAX = 5
_TOKEN_BYTES_MAX = 16 << 10
_WAIT_SECONDS_MAX = 86400.0
_PAGE_BYTES_MAX = 4 << 10
# A new connection takes less.
_DRAIN_SECONDS = 1.0
_RANGE = re.compile(r"bytes (\d{1,19})-(\d{1,19})/(\d{1,19}|\*)", re.IGNORECASE)
_PAGES = ("text/html", "application/xhtml+xml")
_TRIED_AGAIN = frozenset((408, 425, 429))


class WebServer:
    """A web server, or a path on one. It keeps its connection from one object to the next."""

    def __init__(self, location: str, options: FetchOptions, pace: Pace, patience: Patience) -> None:
        parts = urlsplit(location)
        self.name = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl().rstrip("/")
        self._options = options
        self._pace = pace
        self._patience = patience
        self._connection: http.client.HTTPConnection | None = None
        self._origin: tuple[str, str, int] | None = None
        self._user = _credentials(parts)

    def open(self, wanted: Wanted) -> Stream:
        """The bytes that are asked for, or all of the object. Raises SourceError."""
        headers = {"Range": f"bytes={wanted.start}-{wanted.end - 1}"}
        if wanted.fresh:
            headers["Cache-Control"] = "no-cache"
        response, url = self._reply(wanted.path, headers)
        return self._checked(response, url, lambda: _extent(response, url, wanted))

    def open_document(self, path: str, bytes_max: int) -> Stream:
        """A small file, whole. Raises SourceError."""
        response, url = self._reply(path, {})
        if response.length is None:
            return self._checked(response, url, lambda: _no_extent(response, url), bytes_max)
        return self._checked(response, url, lambda: (0, _document_bytes(response, url, bytes_max)))

    def has(self, path: str, size: int) -> bool:
        """Whether the server says that it has an object of this size. Raises SourceError."""
        response, _url = self._reply(path, {}, "HEAD")
        response.close()
        length = (response.headers.get("Content-Length") or "").strip()
        return response.status == 200 and length in ("", str(size))

    def close(self) -> None:
        """Let go of the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    # ---- the parts ----

    def _reply(
        self, path: str, headers: Mapping[str, str], method: str = "GET"
    ) -> tuple[http.client.HTTPResponse, str]:
        """The reply for what is at ``path``, and where it came from after redirects. Raises SourceError."""
        url = f"{self.name}/{path}"
        try:
            address = home = parse_address(url)
        except ValueError as error:
            raise SourceError(Kind.REFUSED, f"{url}: {error}") from error
        for _redirect in range(_REDIRECTS_MAX + 1):
            own = self._own_headers(own=address.origin == home.origin)
            response = self._ask(method, address, {**headers, **own})
            if response.status not in (301, 302, 303, 307, 308):
                return response, str(address)
            address = self._redirected(response, address)
        raise SourceError(Kind.REDIRECTED, f"{home}: expected at most {_REDIRECTS_MAX} redirects; found more")

    def _own_headers(self, own: bool) -> Mapping[str, str]:
        """The headers of each request. ``own``: it goes to the source itself, which may see what the device is let in
        by."""
        headers = {"Accept-Encoding": "identity", "User-Agent": "edgeml"}
        if own and self._options.token_file is not None:
            headers["Authorization"] = f"Bearer {_token(self._options.token_file)}"
        elif own and self._user:
            headers["Authorization"] = self._user
        return headers

    def _ask(self, method: str, address: Address, headers: Mapping[str, str]) -> http.client.HTTPResponse:
        if self._connection is not None and self._origin == address.origin:
            try:
                return self._send(method, address, headers)
            except SourceError as error:
                # A server may close what was idle, at any moment.
                if error.kind is not Kind.INTERRUPTED:
                    raise
        self.close()
        self._connect(address)
        return self._send(method, address, headers)

    def _send(self, method: str, address: Address, headers: Mapping[str, str]) -> http.client.HTTPResponse:
        connection = self._connection
        if connection is None:
            raise SourceError(Kind.INTERRUPTED, f"{address}: there is no connection")
        target = address.target
        if self._options.proxy and address.scheme == "http":
            target, headers = address.url, {**headers, **self._proxy_headers()}
        # A time-out of a socket begins anew with every byte; this one does not.
        late = threading.Event()
        watchdog = threading.Timer(2 * self._patience.stall, _hang_up, (connection, late))
        watchdog.daemon = True
        watchdog.start()
        try:
            connection.request(method, target, headers=dict(headers))
            response = connection.getresponse()
            # Headers that were cut off look like the last ones.
            if late.is_set():
                raise TimeoutError("timed out before the answer began")
            return response
        except (OSError, http.client.HTTPException) as error:
            self.close()
            raise SourceError(Kind.INTERRUPTED, f"{address}: no reply: {_told(error)}") from error
        finally:
            watchdog.cancel()

    def _connect(self, address: Address) -> None:
        """Connect within the patience for it: a time-out of a socket does not cover the resolution of a name."""
        connection = self._prepare(address)
        found: list[BaseException] = []
        done = threading.Event()
        abandoned = threading.Event()

        def connect() -> None:
            try:
                connection.connect()
            except BaseException as error:
                found.append(error)
            done.set()
            if abandoned.is_set():
                connection.close()

        threading.Thread(target=connect, daemon=True).start()
        if not done.wait(self._patience.connect):
            abandoned.set()
            raise SourceError(Kind.UNREACHABLE, f"{address}: no connection within {self._patience.connect:g} s")
        if found:
            connection.close()
            # Its traceback leads to the list: left there, it would keep the connection and its certificates.
            error = found.pop()
            kind = Kind.UNTRUSTED if isinstance(error, ssl.SSLCertVerificationError) else Kind.UNREACHABLE
            raise SourceError(kind, f"{address}: no connection: {_told(error)}") from error
        # It connects here, and nowhere else.
        connection.auto_open = 0
        connection.sock.settimeout(self._patience.stall)
        buffer = self._pace.receive_buffer_bytes
        if buffer is not None:
            connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        self._connection, self._origin = connection, address.origin

    def _prepare(self, address: Address) -> http.client.HTTPConnection:
        """A connection to the server or the proxy that does not stand yet."""
        try:
            proxy = parse_address(self._options.proxy) if self._options.proxy else None
        except ValueError as error:
            raise SourceError(Kind.UNREACHABLE, f"{address}: its proxy: {error}") from error
        context = self._context(address) if address.scheme == "https" else None
        return make_connection(address, self._patience.connect, context, proxy, self._proxy_headers())

    def _proxy_headers(self) -> dict[str, str]:
        """The headers for a proxy alone."""
        user = _credentials(urlsplit(self._options.proxy or ""))
        return {"Proxy-Authorization": user} if user else {}

    def _context(self, address: Address) -> ssl.SSLContext:
        options = self._options
        try:
            return client_context(options.ca_file, options.certificate_file, options.key_file)
        except (OSError, ValueError) as error:
            names = ", ".join(filter(None, (options.ca_file, options.certificate_file, options.key_file)))
            raise SourceError(
                Kind.UNTRUSTED, f"{address}: {names}: expected certificates and a key in PEM: {_told(error)}"
            ) from error

    def _redirected(self, response: http.client.HTTPResponse, address: Address) -> Address:
        """Where a redirect leads to."""
        response.close()
        self.close()
        location = response.headers.get("Location") or ""
        schemes = (address.scheme, "https")
        try:
            target = parse_address(urljoin(address.url, location))
            if target.scheme in schemes:
                return target
            why = ""
        except ValueError as error:
            why = f": {error}"
        names = ":// or ".join(dict.fromkeys(schemes))
        found = location.partition("?")[0].rpartition("@")[2]
        raise SourceError(
            Kind.REDIRECTED,
            f"{address}: expected the object, or a redirect to {names}://; found one to {found!r:.200}{why}",
        )

    def _checked(
        self,
        response: http.client.HTTPResponse,
        url: str,
        extent: Callable[[], tuple[int, int]],
        bytes_max: int | None = None,
    ) -> Stream:
        """The body of a reply whose headers say what was asked for: ``extent`` finds that, or raises SourceError.

        With ``bytes_max`` the body ends where it says so itself, after so many bytes at most.
        """
        try:
            return _Reply(self, response, url, *extent(), bytes_max)
        except SourceError as error:
            # Most files have no delta: that answer leaves the connection as it is.
            if error.kind is not Kind.REFUSED or not _is_drained(response):
                self.close()
            response.close()
            raise


class _Reply:
    """The body of a reply that was checked."""

    def __init__(
        self,
        server: WebServer,
        response: http.client.HTTPResponse,
        url: str,
        start: int,
        end: int,
        bytes_max: int | None,
    ) -> None:
        self.start = start
        self._server, self._response, self._url = server, response, url
        self._bytes_max = bytes_max
        # One more byte shows that it is too long.
        self._left = end - start if bytes_max is None else bytes_max + 1

    def read(self, count: int) -> bytes:
        if self._left == 0:
            return b""
        try:
            chunk = self._response.read1(min(count, self._left))
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise SourceError(Kind.INTERRUPTED, f"{self._url}: {_told(error)}") from error
        if not chunk and self._bytes_max is not None:
            self._left = 0
        elif not chunk:
            raise SourceError(Kind.INTERRUPTED, f"{self._url}: the connection ended {self._left} bytes too early")
        self._left -= len(chunk)
        if self._bytes_max is not None and self._left == 0 and chunk:
            raise SourceError(Kind.MISMATCH, f"{self._url}: expected at most {self._bytes_max} bytes; found more")
        return chunk

    def close(self) -> None:
        self._response.close()
        # What was not read would be taken for the next reply.
        if self._left or self._response.chunked or self._response.will_close:
            self._server.close()


def _extent(response: http.client.HTTPResponse, url: str, wanted: Wanted) -> tuple[int, int]:
    """First byte of the object in the reply, and the end."""
    _check_reply(response, url, (200, 206))
    status, headers = response.status, response.headers
    kind = headers.get_content_type()
    begin, end = (0, wanted.size) if status == 200 else _range(headers, url, wanted)
    length = headers.get("Content-Length")
    if length is not None and length.strip() != str(end - begin):
        raise SourceError(
            Kind.MISMATCH, f"{url}: expected {end - begin} bytes; found a Content-Length of {length!r:.80}"
        )
    if status == 200 and length is None and kind in _PAGES:
        raise SourceError(Kind.MISMATCH, f"{url}: expected {wanted.size} bytes; found a page ({kind})")
    if begin != wanted.start:
        raise SourceError(
            Kind.NO_RANGES, f"{url}: expected the bytes from {wanted.start} on; the server sends whole files only"
        )
    return begin, end


def _no_extent(response: http.client.HTTPResponse, url: str) -> tuple[int, int]:
    """Of a document whose size nobody says, and which is no page."""
    _check_reply(response, url, (200,))
    kind = response.headers.get_content_type()
    if kind in _PAGES:
        raise SourceError(Kind.MISMATCH, f"{url}: expected a file; found a page ({kind})")
    return 0, 0


def _document_bytes(response: http.client.HTTPResponse, url: str, bytes_max: int) -> int:
    """How many bytes a document has whose size nobody knew."""
    _check_reply(response, url, (200,))
    length = (response.headers.get("Content-Length") or "none").strip()
    if not (length.isascii() and length.isdigit() and len(length) < 20 and int(length) <= bytes_max):
        raise SourceError(
            Kind.MISMATCH, f"{url}: expected at most {bytes_max} bytes; found a Content-Length of {length!r:.80}"
        )
    return int(length)


def _is_drained(response: http.client.HTTPResponse) -> bool:
    """Whether all of an error's page was read, so that the connection can be used once more."""
    if response.length is None or response.length > _PAGE_BYTES_MAX or response.will_close:
        return False
    until = time.monotonic() + _DRAIN_SECONDS
    try:
        while response.length:
            # One read of the socket: who sends a byte now and then does not hold it for ever.
            if not response.read1(response.length) or time.monotonic() >= until:
                return False
        response.read()
    except (OSError, http.client.HTTPException):
        return False
    return True


def _check_reply(response: http.client.HTTPResponse, url: str, expected: Sequence[int]) -> None:
    """Raise SourceError for a reply without the bytes, or with other ones, by its status and headers."""
    status, headers = response.status, response.headers
    if status >= 500 or status in _TRIED_AGAIN:
        raise SourceError(
            Kind.BUSY, f"{url}: the server answers {status} {response.reason}", _wait(headers), status=status
        )
    if 400 <= status < 500 and status != 416:
        raise SourceError(Kind.REFUSED, f"{url}: the server answers {status} {response.reason}", status=status)
    if status not in expected:
        names = " or ".join(map(str, expected))
        raise SourceError(Kind.MISMATCH, f"{url}: expected {names}; found {status} {response.reason}")
    encoding = headers.get("Content-Encoding", "identity").strip().lower()
    if encoding not in ("", "identity"):
        raise SourceError(Kind.MISMATCH, f"{url}: expected no Content-Encoding; found {encoding!r:.80}")
    kind = headers.get_content_type()
    if kind.startswith("multipart/"):
        raise SourceError(Kind.MISMATCH, f"{url}: expected one range; found {kind}")


def _range(headers: Message, url: str, wanted: Wanted) -> tuple[int, int]:
    found = headers.get("Content-Range") or "none"
    match = _RANGE.fullmatch(found.strip())
    if match is not None:
        first, last, size = int(match[1]), int(match[2]), match[3]
        if first == wanted.start <= last < wanted.end and size in ("*", str(wanted.size)):
            return first, last + 1
    raise SourceError(
        Kind.MISMATCH,
        f"{url}: expected the range bytes {wanted.start}-{wanted.end - 1}/{wanted.size}; found {found!r:.80}",
    )


def _wait(headers: Message) -> float:
    """The seconds of Retry-After, which may also name a time: by the clock of the server, which its answer says. That
    of a device without a battery may be years behind."""
    text = (headers.get("Retry-After") or "").strip()
    if text.isascii() and text.isdigit():
        return min(float(text[:10]), _WAIT_SECONDS_MAX)
    when, now = _time(text), _time(headers.get("Date") or "")
    if when is None:
        return 0.0
    return min(max(when - (time.time() if now is None else now), 0.0), _WAIT_SECONDS_MAX)


def _time(text: str) -> float | None:
    """A time in a header, in seconds since 1970; None for what is none."""
    try:
        return email.utils.parsedate_to_datetime(text).timestamp()
    except (TypeError, ValueError, IndexError, OverflowError):
        return None


def _credentials(parts: SplitResult) -> str | None:
    """What an address says of who asks, for Authorization."""
    if parts.username is None:
        return None
    both = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    return f"Basic {base64.b64encode(both.encode()).decode()}"


def _token(path: str) -> str:
    try:
        with open(path, encoding="ascii") as file:
            token = file.read(_TOKEN_BYTES_MAX).strip()
    except (OSError, ValueError) as error:
        raise SourceError(Kind.REFUSED, f"{path}: expected a bearer token: {_told(error)}") from error
    if not token or any(not letter.isprintable() or letter == " " for letter in token):
        raise SourceError(Kind.REFUSED, f"{path}: expected a bearer token in one line; found something else")
    return token


def _hang_up(connection: http.client.HTTPConnection, late: threading.Event) -> None:
    late.set()
    with contextlib.suppress(OSError, AttributeError):
        connection.sock.shutdown(socket.SHUT_RDWR)


def _told(error: BaseException) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
