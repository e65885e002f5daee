# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Load on a server from a process of its own: by connections that send one request after the other without a pause, or
at a rate, whether the answers before have come or not.

``python load.py PORT PATH CONNECTIONS RATE FILE`` sends the body in FILE until its standard input ends, and then writes
what became of each request to its standard output. With a RATE, in requests a second, there are as many connections
as it takes, at most CONNECTIONS; with 0, each of CONNECTIONS sends its next request when it has its answer.
"""

from __future__ import annotations

import json
import selectors
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

CONNECTIONS = 4
MOST_CONNECTIONS = 64
RETRY_SECONDS = 0.01
ANSWER_SECONDS = 60
OK = 200
NO_CONNECTION = 0


@dataclass(frozen=True)
class Request:
    """One request: when it was sent, or had to be by the rate, and when it ended, by the machine's monotonic clock, and
    its HTTP status.

    NO_CONNECTION stands for a connection that was refused, reset or closed, or that brought no answer in time.
    """

    sent: float
    ended: float
    status: int

    @property
    def seconds(self) -> float:
        """How long it took."""
        return self.ended - self.sent


class Load:
    """The load on a server, as a context manager; afterwards ``requests`` in the order in which they ended, and
    ``bodies``: each good answer, and how often it came. ``rate`` is in requests a second; 0: without a pause."""

    def __init__(self, directory: Path, port: int, path: str, document: object, rate: float = 0) -> None:
        self.requests: list[Request] = []
        self.bodies: dict[str, int] = {}
        body = directory / "request.json"
        body.write_text(json.dumps(document))
        connections = MOST_CONNECTIONS if rate else CONNECTIONS
        self._command = [sys.executable, __file__, str(port), path, str(connections), str(rate), str(body)]
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Load:
        self._process = subprocess.Popen(self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        return self

    def __exit__(self, *_exception: object) -> None:
        assert self._process is not None
        with self._process:
            told = json.loads(self._process.communicate()[0])
        self.requests = [Request(*request) for request in told["requests"]]
        self.bodies = told["bodies"]


class _Connection:
    """One connection, opened again whenever it broke. ``answered`` is called with it when it is free again."""

    def __init__(
        self, port: int, request: bytes, selector: selectors.BaseSelector, answered: Callable[[_Connection], None]
    ) -> None:
        self._answered = answered
        self._port = port
        self._request = request
        self._selector = selector
        self._socket: socket.socket | None = None
        self._received = b""
        self._sent: float | None = None
        self.retry_at: float | None = None
        self.requests: list[tuple[float, float, int]] = []
        self.bodies: Counter[str] = Counter()

    def send(self, due: float) -> None:
        """Send the next request, which is due since ``due``."""
        self.retry_at = None
        self._received = b""
        self._sent = due
        try:
            if self._socket is None:
                self._socket = socket.create_connection(("127.0.0.1", self._port), ANSWER_SECONDS)
                self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._selector.register(self._socket, selectors.EVENT_READ, self.receive)
            self._socket.sendall(self._request)
        except OSError:
            self._broke()

    def receive(self) -> None:
        """Take what came of the answer; send the next request when it is complete."""
        assert self._socket is not None
        try:
            received = self._socket.recv(1 << 20)
        except OSError:
            received = b""
        if self._sent is None:
            # Nothing was asked: the server closes what is idle.
            self._close()
            return
        if not received:
            self._broke()
            return
        self._received += received
        head, separator, body = self._received.partition(b"\r\n\r\n")
        if not separator:
            return
        status, *headers = head.lower().split(b"\r\n")
        length = next(int(line[len(b"content-length:") :]) for line in headers if line.startswith(b"content-length:"))
        if len(body) < length:
            return
        code = int(status.split()[1])
        self._end(code)
        if code == OK:
            self.bodies[body.decode()] += 1
        if b"connection: close" in headers:
            self._close()
        self._answered(self)

    def look(self, now: float) -> None:
        """Give up an answer that does not come; try again when it is time."""
        if self.retry_at is not None and now >= self.retry_at:
            self.send(now)
        elif self._sent is not None and now - self._sent > ANSWER_SECONDS:
            self._broke()

    def _broke(self) -> None:
        self._end(NO_CONNECTION)
        self._close()
        self.retry_at = time.monotonic() + RETRY_SECONDS

    def _end(self, status: int) -> None:
        assert self._sent is not None
        self.requests.append((self._sent, time.monotonic(), status))
        self._sent = None

    def _close(self) -> None:
        if self._socket is not None:
            self._selector.unregister(self._socket)
            self._socket.close()
            self._socket = None


class _Feed:
    """Gives the connections their next requests: at a rate, or without one whenever a connection is free."""

    def __init__(self, rate: float) -> None:
        self._interval = 1 / rate if rate else 0.0
        self._due = time.monotonic()
        self._free: list[_Connection] = []

    def add(self, connection: _Connection) -> None:
        """Take a connection that is free. The one that became so last is used first, so that few are open."""
        self._free.append(connection)

    def send_due(self) -> float:
        """Send what is due. Return the seconds until more may be."""
        now = time.monotonic()
        while self._free and (self._due <= now or not self._interval):
            self._free.pop().send(self._due if self._interval else now)
            self._due += self._interval
        return max(0.0, self._due - time.monotonic()) if self._interval and self._free else RETRY_SECONDS


def _main() -> None:
    port, path, connections, rate, file = sys.argv[1:]
    body = Path(file).read_bytes()
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    request = f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
    stop = False

    def end() -> None:
        nonlocal stop
        stop = True

    # epoll would wake it up to 1 ms too late.
    with selectors.SelectSelector() as selector:
        selector.register(sys.stdin, selectors.EVENT_READ, end)
        feed = _Feed(float(rate))
        clients = [_Connection(int(port), request, selector, feed.add) for _ in range(int(connections))]
        for client in clients:
            feed.add(client)
        while not stop:
            for key, _events in selector.select(min(feed.send_due(), RETRY_SECONDS)):
                act: Callable[[], None] = key.data
                act()
            now = time.monotonic()
            for client in clients:
                client.look(now)
    bodies: Counter[str] = Counter()
    for client in clients:
        bodies += client.bodies
    requests = sorted((request for client in clients for request in client.requests), key=lambda request: request[1])
    json.dump({"requests": requests, "bodies": bodies}, sys.stdout)


if __name__ == "__main__":
    _main()
