# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""A web server of this device's verified blobs, for the other devices of its site: read-only, and bounded.

It serves ``blobs/sha256/<digest>`` of files that a manifest on this device names, and nothing else. Nobody has to trust
it: who fetches from it compares each block with its own manifest.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import socket
import ssl
import threading
from http.server import BaseHTTPRequestHandler
from socketserver import ThreadingTCPServer
from typing import Any, BinaryIO, NamedTuple

from .._common.errors import ArgumentError, StoreError
from .._common.records import build
from .._fetch.pace import Pace
from .._release.release import File
from .orders import Orders
from .store import Store

_PATH = re.compile(r"/blobs/sha256/([0-9a-f]{64})\Z")
_RANGE = re.compile(r"bytes=(\d{1,19})-(\d{1,19})?\Z")
# Who sends or reads nothing for so long is let go.
_IDLE_SECONDS = 30.0
# How long a device waits for one of the connections, and when it may ask again.
_WAIT_SECONDS = 15.0
_RETRY_SECONDS = 10


class ShareOptions(NamedTuple):
    """How a device shares: where it listens, how many bytes it sends in a second, and to how many devices at once.

    With ``certificate_file`` and ``key_file`` it speaks TLS, and with ``client_ca_file`` only to clients that have a
    certificate of these authorities.
    """

    address: str = "0.0.0.0"
    port: int = 8460
    bytes_per_second: int = 1_000_000
    connections_max: int = 4
    certificate_file: str | None = None
    key_file: str | None = None
    client_ca_file: str | None = None


def read_options(path: str) -> ShareOptions:
    """Read the options from a file in JSON. Raises ArgumentError, which names the file, for what is none."""
    try:
        with open(path, encoding="utf-8") as file:
            options: ShareOptions = build(ShareOptions, json.load(file))
    except (ValueError, TypeError, AttributeError) as error:
        raise ArgumentError(f"{path}: expected how this device shares, in JSON; found {error}") from error
    if options.bytes_per_second < 1 or options.connections_max < 1:
        raise ArgumentError(f"{path}: bytes_per_second and connections_max: expected a number from 1; found {options}")
    return options


class BlobServer(ThreadingTCPServer):
    """Serves the blobs of ``store``. Raises OSError where it cannot listen, or a file for TLS cannot be read."""

    allow_reuse_address = True
    daemon_threads = True

    def __init__(self, store: Store, options: ShareOptions) -> None:
        # What is wrong with the certificates is said now. Each connection reads them again: they are renewed.
        _tls(options)
        self.options = options
        self.store = store
        self._pace = Pace(options.bytes_per_second)
        self._pace_lock = threading.Lock()
        self.places = threading.BoundedSemaphore(options.connections_max)
        self.chunk_bytes = self._pace.chunk_bytes
        if ":" in options.address:
            self.address_family = socket.AF_INET6
        super().__init__((options.address, options.port), _Handler)

    def spend(self, count: int) -> None:
        """Wait until so many bytes may be sent, over all connections together."""
        with self._pace_lock:
            self._pace.spend(count)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is nothing to report."""


def find_file(store: Store, sha256: str) -> File | None:
    """The file with this digest that a version or an order on this device names."""
    for file in (*store.held_files(), *Orders(store).files()):
        if file.sha256 == sha256:
            return file
    return None


def open_file(store: Store, sha256: str) -> tuple[BinaryIO, int] | None:
    """The bytes of a file that is here, whole and verified, and their number; None for any other."""
    file = find_file(store, sha256)
    if file is None:
        return None
    for path in (store.blobs.path(file), os.path.join(store.fetched.directory, sha256)):
        with contextlib.suppress(OSError):
            source = io.FileIO(path)
            if os.fstat(source.fileno()).st_size == file.size:
                return source, file.size
            source.close()
    return None


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "edgeml", ""
    timeout = _IDLE_SECONDS
    server: BlobServer

    def setup(self) -> None:
        context = _tls(self.server.options)
        if context is not None:
            self.request.settimeout(_IDLE_SECONDS)
            self.request = context.wrap_socket(self.request, server_side=True)
        super().setup()

    def finish(self) -> None:
        super().finish()
        # The server knows the socket below TLS alone.
        self.request.close()

    def do_GET(self) -> None:
        """Send what is asked for."""
        self._answer(with_body=True)

    def do_HEAD(self) -> None:
        """Say what there is."""
        self._answer(with_body=False)

    def log_message(self, *_arguments: Any, **_named: Any) -> None:
        """Nothing: each device of a site asks often."""

    def _answer(self, with_body: bool) -> None:
        match = _PATH.match(self.path)
        try:
            found = open_file(self.server.store, match[1]) if match is not None else None
        except (StoreError, OSError):
            found = None
        if found is None:
            self._head(404, 0)
            return
        source, size = found
        with source:
            if not self.server.places.acquire(timeout=_WAIT_SECONDS):
                self._head(503, 0, Retry_After=_RETRY_SECONDS)
                return
            try:
                self._give(source, size, with_body)
            finally:
                self.server.places.release()

    def _give(self, source: BinaryIO, size: int, with_body: bool) -> None:
        """Send the range that is asked for, or all."""
        start, end = 0, size
        asked = self.headers.get("Range")
        if asked is None:
            self._head(200, size)
        else:
            parts = _RANGE.match(asked)
            if parts is not None:
                start, end = int(parts[1]), min(int(parts[2] or size), size - 1) + 1
            if parts is None or start >= end:
                self._head(416, 0, Content_Range=f"bytes */{size}")
                return
            self._head(206, end - start, Content_Range=f"bytes {start}-{end - 1}/{size}")
        if with_body:
            self._send(source, start, end)

    def _head(self, status: int, length: int, **headers: Any) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(length))
        self.send_header("Content-Type", "application/octet-stream")
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()

    def _send(self, source: BinaryIO, start: int, end: int) -> None:
        source.seek(start)
        while start < end:
            chunk = source.read(min(self.server.chunk_bytes, end - start))
            if not chunk:
                # The disk has less than it said: a shorter reply is an error for who reads it.
                self.close_connection = True
                return
            self.server.spend(len(chunk))
            self.wfile.write(chunk)
            start += len(chunk)


def _tls(options: ShareOptions) -> ssl.SSLContext | None:
    if options.certificate_file is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(options.certificate_file, options.key_file)
    if options.client_ca_file is not None:
        context.load_verify_locations(options.client_ca_file)
        context.verify_mode = ssl.CERT_REQUIRED
    return context
