# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""An HTTP server on a Unix socket that answers what a test wants, or echoes inputs as outputs."""

from __future__ import annotations

import json
from http.server import BaseHTTPRequestHandler
from socketserver import ThreadingUnixStreamServer
from typing import Any


class Handler(BaseHTTPRequestHandler):
    """Answers with what the server was told to, or echoes inputs as outputs."""

    server: FakeServer

    def address_string(self) -> str:
        return "unix"

    def log_message(self, *_message: Any) -> None:
        pass

    def do_GET(self) -> None:
        self._answer(b"")

    def do_POST(self) -> None:
        self._answer(self.rfile.read(int(self.headers.get("Content-Length", 0))))

    def _answer(self, body: bytes) -> None:
        self.server.requests.append((self.command, self.path, body))
        told = self.server.replies.get(self.path, self.server.reply)
        status, reply = told or (200, json.dumps(echo(json.loads(body))).encode() if body else b"{}")
        if status == 0:
            return
        self.send_response(status)
        self.send_header("Content-Length", str(len(reply)))
        self.end_headers()
        self.wfile.write(reply)


class FakeServer(ThreadingUnixStreamServer):
    """A server on a Unix socket; ``reply`` (status, body) is its answer to everything but what ``replies`` has by its
    path; a status of 0 hangs up."""

    daemon_threads = True

    def __init__(self, path: str) -> None:
        super().__init__(path, Handler)
        self.path = path
        self.reply: tuple[int, bytes] | None = None
        self.replies: dict[str, tuple[int, bytes]] = {}
        self.requests: list[tuple[str, str, bytes]] = []


def echo(request: Any) -> Any:
    (tensor,) = request["inputs"]
    return {"model_version": "1.0.0", "outputs": [{**tensor, "name": "scores"}]}
