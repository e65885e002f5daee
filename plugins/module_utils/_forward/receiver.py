# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.
"""The client of a VictoriaMetrics, which stores what devices forward, and says what it has stored.

It answers that it took samples also where it drops some of them: so what it has is asked for. Each reply has its time.
"""

from __future__ import annotations

import json
import socket
import zlib
from datetime import datetime, timezone
from typing import Any, Iterator

from .._common.errors import EdgemlError
from .._device.http import HttpError, exchange
from .clock import Reading
from .config import ForwardConfig

# A link that brings nothing for so long brings nothing.
SILENCE_SECONDS = 30.0
# Of a reply, compressed.
REPLY_BYTES_MAX = 8 << 20
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_TOO_MANY_REQUESTS = 429


class LinkError(EdgemlError):
    """The receiver cannot be reached now, or has no room. The device tries again."""


class RefusedError(EdgemlError):
    """The receiver refuses, or is none; the text says what was expected and found."""


class Receiver:
    """The receiver that a configuration names. Its methods raise LinkError and RefusedError."""

    def __init__(self, config: ForwardConfig) -> None:
        # The import takes its time on a small board, and is only needed here.
        from urllib.parse import urlsplit

        parts = urlsplit(config.url.rstrip("/"))
        self._url = config.url.rstrip("/")
        self._device = config.device
        try:
            self._name = parts.hostname or ""
            # As bytes: a text would have the tables of all the world's letters imported.
            self._address: Any = (self._name.encode("ascii"), parts.port or (443 if parts.scheme == "https" else 80))
        except ValueError as error:
            raise RefusedError(f"{config.url}: expected an address such as https://metrics.example: {error}") from error
        self._path = parts.path
        self._host = parts.netloc.rpartition("@")[2]
        self._context = _tls_context(config) if parts.scheme == "https" else None
        self._headers = {"User-Agent": "edgeml", "Accept-Encoding": "gzip", "Host": self._host}
        if config.username:
            # As above.
            from base64 import b64encode

            pair = b64encode(f"{config.username}:{config.password}".encode()).decode("ascii")
            self._headers["Authorization"] = f"Basic {pair}"
        # The receiver's time of its last reply, in milliseconds since 1970; None before there was one.
        self.time_ms: int | None = None

    def ask_time(self) -> None:
        """Have a reply, for its time."""
        self._ask("GET", "/health")

    def store(self, content: bytes) -> None:
        """Have samples stored: Prometheus' text format with times in milliseconds, compressed by gzip."""
        self._ask("POST", "/api/v1/import/prometheus", content)

    def stored(self, first_ms: int, last_ms: int) -> dict[int, int]:
        """How many series of this device it has a sample of, by the sample's time, from ``first_ms`` to ``last_ms``."""
        # It takes its bounds in seconds; a cached answer would be one of before.
        query = f"start={first_ms / 1000:.3f}&end={last_ms / 1000:.3f}&nocache=1"
        found: dict[int, int] = {}
        for line in self._ask("GET", f"/api/v1/export?match[]={_quoted(self._device)}&{query}").splitlines():
            for time_ms in _times(line, self._url):
                found[time_ms] = found.get(time_ms, 0) + 1
        return found

    def _ask(self, method: str, path: str, content: bytes = b"") -> bytes:
        headers = {**self._headers, "Content-Encoding": "gzip"} if content else self._headers
        try:
            with self._connect() as connection:
                limits = (REPLY_BYTES_MAX, SILENCE_SECONDS)
                status, body, answered = exchange(connection, method, self._path + path, headers, content, limits)
        except (OSError, HttpError, ValueError) as error:
            raise LinkError(f"{self._url}: cannot be reached: {error or type(error).__name__}") from error
        if status >= 500 or status == _TOO_MANY_REQUESTS:
            raise LinkError(f"{self._url}: has no room now: HTTP status {status}")
        if not 200 <= status < 300:
            said = body[:200].decode("utf-8", "replace").strip()
            raise RefusedError(f"{self._url}: {method} {path.partition('?')[0]}: HTTP status {status}: {said}")
        self.time_ms = _reply_time(answered.get("date", ""), self._url)
        return _decompressed(body, self._url) if answered.get("content-encoding") == "gzip" else body

    def _connect(self) -> Any:
        plain = socket.create_connection(self._address, SILENCE_SECONDS)
        if self._context is None:
            return plain
        try:
            return self._context.wrap_socket(plain, server_hostname=self._name)
        except BaseException:
            plain.close()
            raise


def offset_ms(receiver: Receiver, now: Reading) -> int | None:
    """What has to be added to the time since the device's start, by the receiver's last reply; None without one."""
    return None if receiver.time_ms is None else receiver.time_ms - now.boot_ms


def _tls_context(config: ForwardConfig) -> Any:
    from .._common.tls import client_context

    try:
        return client_context(config.ca_file, config.certificate, config.key)
    except (OSError, ValueError) as error:
        raise RefusedError(
            f"{config.url}: {config.certificate or ''} {config.ca_file or ''}: cannot be used for TLS: {error}"
        ) from error


def _quoted(device: str) -> str:
    """The selector of a device's series, as a part of a URL."""
    text = f'{{device="{device}"}}'.encode()
    return "".join(chr(byte) if chr(byte).isalnum() and byte < 128 else f"%{byte:02X}" for byte in text)


def _reply_time(date: str, url: str) -> int:
    """The middle of the second that a reply's header ``Date`` names, in milliseconds since 1970."""
    try:
        _weekday, day, month, year, clock, zone = date.split()
        hour, minute, second = map(int, clock.split(":"))
        moment = datetime(int(year), _MONTHS.index(month) + 1, int(day), hour, minute, second, tzinfo=timezone.utc)
        if zone != "GMT":
            raise ValueError(zone)
    except ValueError as error:
        raise RefusedError(
            f"{url}: expected a reply with a Date, by which a wrong clock is found; found {date!r}"
        ) from error
    return int(moment.timestamp()) * 1000 + 500


def _decompressed(body: bytes, url: str) -> bytes:
    try:
        return zlib.decompress(body, 31)
    except zlib.error as error:
        raise LinkError(f"{url}: the reply is damaged: {error}") from error


def _times(line: bytes, url: str) -> Iterator[int]:
    """The times of one series. The same one twice is one: what was sent again may be stored twice."""
    if line.strip():
        try:
            yield from set(map(int, json.loads(line)["timestamps"]))
        except (ValueError, KeyError, TypeError) as error:
            raise RefusedError(f"{url}: expected series in lines of JSON; found {line[:80]!r}") from error
