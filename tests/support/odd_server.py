# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A small Open Inference Protocol server of another make, real on its socket, that can be told to misbehave."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import BaseServer, ThreadingTCPServer, ThreadingUnixStreamServer
from typing import Any

from ansible_collections.edgeml.fleet.plugins.module_utils._device.store import Store


@dataclass
class Answer:
    """An answer to a request. ``before`` is run first; without ``status`` the server hangs up, or, with ``body``, says
    that and nothing else; with ``acts``, what was asked for is done all the same."""

    status: int | None = 200
    body: bytes = b""
    before: Callable[[], Any] = lambda: None
    acts: bool = False


class OddServer:
    """Serves what ``store`` names as active, under the name ``naming`` gives that version.

    ``answers``: by path, or by the end of one, the answer instead of the right one. As a context manager it listens,
    at the Unix socket ``path``, or without one at a TCP port of this machine; ``address`` is where.
    """

    def __init__(self, store: Store, path: Path | None = None, naming: Callable[[str], str] = str) -> None:
        self.store = store
        self.naming = naming
        self.answers: dict[str, Answer] = {}
        self.serving: dict[str, str] = {}
        self.calls: list[str] = []
        self._path = path
        self._server: BaseServer | None = None
        self._thread: threading.Thread | None = None
        self.address = str(path or "")

    def __enter__(self) -> OddServer:
        self.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start to listen, and serve what the store names, as a server does when it is started."""
        for model in self.store.models():
            self.load(model)
        handler = type("Handler", (_Handler,), {"odd": self})
        if self._path is not None:
            self._path.unlink(missing_ok=True)
            self._server = _UnixServer(str(self._path), handler)
        else:
            tcp = _TcpServer(("127.0.0.1", 0), handler)
            self.address = f"http://127.0.0.1:{tcp.server_address[1]}"
            self._server = tcp
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    def stop(self) -> None:
        """Be gone, with the requests that it has not answered. Nothing where it is gone already."""
        server, self._server = self._server, None
        if server is not None:
            server.shutdown()
            server.server_close()

    def load(self, model: str) -> None:
        """Serve what the store names."""
        active = self.store.state(model).active
        if active is not None:
            self.serving[model] = self.naming(active)

    def answer(self, method: str, path: str) -> tuple[int, bytes]:
        """The right answer, with what it takes."""
        parts = path.strip("/").split("/")
        if parts[:3] == ["v2", "repository", "models"] and method == "POST":
            if parts[4] == "load":
                self.load(parts[3])
            else:
                self.serving.pop(parts[3], None)
            return 200, b"{}"
        if parts[:2] == ["v2", "health"]:
            return 200, b"{}"
        if parts[:2] == ["v2", "models"]:
            version = self.serving.get(parts[2])
            asked = parts[4] if parts[3:4] == ["versions"] else version
            if version is None or asked != version:
                return 404, b'{"error": "not served"}'
            return 200, json.dumps({"name": parts[2], "versions": [version], "platform": "other"}).encode()
        return 404, b'{"error": "no such page"}'


class _Handler(BaseHTTPRequestHandler):
    odd: OddServer

    def address_string(self) -> str:
        return "client"

    def log_message(self, *_message: Any) -> None:
        pass

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self._answer()

    def _answer(self) -> None:
        odd = self.odd
        odd.calls.append(f"{self.command} {self.path}")
        told = next((answer for end, answer in odd.answers.items() if self.path.endswith(end)), None)
        if told is None:
            status, body = odd.answer(self.command, self.path)
        else:
            told.before()
            if told.acts:
                odd.answer(self.command, self.path)
            if told.status is None:
                self.wfile.write(told.body)
                return
            status, body = told.status, told.body
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class _Quiet:
    def handle_error(self, _request: Any, _client_address: Any) -> None:
        """A client that does not wait any more is no error."""


class _UnixServer(_Quiet, ThreadingUnixStreamServer):
    daemon_threads = True
    block_on_close = False


class _TcpServer(_Quiet, ThreadingTCPServer):
    daemon_threads = True
    block_on_close = False
