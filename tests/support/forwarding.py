# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Devices that forward their metrics by clocks that a test sets, and a receiver that does what a test wants.

The receiver speaks as much of VictoriaMetrics as a device asks of it; tests/watch has these devices with the real one.
"""

from __future__ import annotations

import json
import re
import threading
import zlib
from collections import defaultdict
from collections.abc import Callable
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from urllib.parse import parse_qs, urlsplit

from ansible_collections.edgeml.fleet.plugins.module_utils._forward.clock import Reading
from ansible_collections.edgeml.fleet.plugins.module_utils._forward.config import ForwardConfig
from ansible_collections.edgeml.fleet.plugins.module_utils._forward.forwarder import Forwarder
from ansible_collections.edgeml.fleet.plugins.module_utils._forward.spool import Spool, read_batch

MINUTE = 60


class SimulatedClock:
    """The clocks of a device: ``true_ms`` is the time; what the device believes differs by ``error_ms``."""

    def __init__(self, true_ms: int) -> None:
        self.true_ms = true_ms
        self.error_ms = 0
        self.trusted = True
        self._starts = 0
        self._started_ms = true_ms - 1000

    def __call__(self) -> Reading:
        passed = self.true_ms - self._started_ms
        return Reading(self.true_ms + self.error_ms, passed, f"boot{self._starts}", self.trusted)

    def pass_time(self, seconds: float) -> None:
        """Let time pass."""
        self.true_ms += round(seconds * 1000)

    def set_to(self, time_ms: int) -> None:
        """Have the device believe that it is then, without a reason to trust that."""
        self.error_ms = time_ms - self.true_ms
        self.trusted = False

    def restart(self) -> None:
        """Start the device anew."""
        self._starts += 1
        self._started_ms = self.true_ms


class ForwardingDevice:
    """A device that runs ``edgeml forward`` each minute. ``recorded`` has all that it recorded, by its true time."""

    def __init__(
        self, directory: Path, url: str, clock: SimulatedClock, name: str = "edge-1", **config: object
    ) -> None:
        self.directory = directory
        self.clock = clock
        paths = {part: str(directory / part) for part in ("state", "runtime", "store", "server", "pull_state")}
        paths["textfile"] = str(directory / "node-exporter" / "edgeml.prom")
        self.config: ForwardConfig = ForwardConfig(**{"device": name, "url": url, **paths, **config})  # type: ignore[arg-type]
        self.lines: list[str] = []
        self.recorded: dict[int, list[str]] = {}

    @property
    def spool(self) -> Spool:
        """What is not known to be stored."""
        return Spool(self.config.state, self.config.batches_max)

    def minute(self, **options: bool) -> int:
        """Let a minute pass, and run once; return the exit code."""
        self.clock.pass_time(MINUTE)
        return self.run(**options)

    def run(self, **options: bool) -> int:
        """Run once; return the exit code."""
        forwarder = Forwarder(self.config, self.clock)
        before = {batch.sequence for batch in self.spool.batches()}
        reading = self.clock()
        code = forwarder.run(**options)
        self.lines = forwarder.lines
        for batch in self.spool.batches():
            if batch.sequence not in before and batch.reading.boot_ms == reading.boot_ms:
                self.recorded[self.clock.true_ms] = read_batch(self.spool.read(batch))
        return code

    def minutes(self, number: int) -> None:
        """Run for so many minutes."""
        for _minute in range(number):
            self.minute()

    def restart(self) -> None:
        """Start anew, which empties what is in memory."""
        self.clock.restart()
        for path in (self.directory / "runtime").glob("*"):
            path.unlink()


class MetricsReceiver(ThreadingHTTPServer):
    """Takes and returns samples. ``stored`` has the values by series and time.

    ``status``: what it answers to everything instead; ``drops``: which lines it drops, though it says that it took
    them; ``time``: what time it is, in seconds since 1970.
    """

    daemon_threads = True
    # A fleet comes at once.
    request_queue_size = 512

    def __init__(self, clock: SimulatedClock) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.clock = clock
        self.status: int | None = None
        self.drops: Callable[[str], bool] = lambda _line: False
        self.has_date = True
        self.stored: dict[str, dict[int, str]] = defaultdict(dict)
        self.posts: list[list[str]] = []
        self.requests: list[tuple[str, str]] = []
        self.headers: list[dict[str, str]] = []
        self._thread = threading.Thread(target=self.serve_forever, args=(0.01,))

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.server_port}"

    def __enter__(self) -> MetricsReceiver:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.shutdown()
        self._thread.join()
        self.server_close()

    def moments(self, device: str = "edge-1") -> dict[int, set[str]]:
        """What is stored of a device: the samples of each time."""
        found: dict[int, set[str]] = defaultdict(set)
        for series, values in self.stored.items():
            if f'device="{device}"' in series:
                for time_ms, value in values.items():
                    found[time_ms].add(f"{series} {value}")
        return dict(found)


class _Handler(BaseHTTPRequestHandler):
    server: MetricsReceiver

    def log_message(self, *_message: object) -> None:
        pass

    def date_time_string(self, timestamp: float | None = None) -> str:
        return formatdate((timestamp or self.server.clock.true_ms) // 1000, usegmt=True)

    def send_response(self, code: int, message: str | None = None) -> None:
        self.send_response_only(code, message)
        if self.server.has_date:
            self.send_header("Date", self.date_time_string())

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        body = b"OK"
        if url.path == "/api/v1/export":
            body = self._export(parse_qs(url.query))
        self._answer(200, body)

    def do_POST(self) -> None:
        content = self.rfile.read(int(self.headers["Content-Length"]))
        if self.server.status is None:
            lines = _gunzipped(content).decode().splitlines()
            self.server.posts.append(lines)
            for line in lines:
                if not self.server.drops(line):
                    series, value, time_ms = line.rsplit(" ", 2)
                    self.server.stored[series][int(time_ms)] = value
        self._answer(204, b"")

    def _export(self, query: dict[str, list[str]]) -> bytes:
        (device,) = re.findall(r'device="([^"]*)"', query["match[]"][0])
        first, last = (round(float(query[name][0]) * 1000) for name in ("start", "end"))
        lines = []
        for series, values in self.server.stored.items():
            times = [time_ms for time_ms in values if first <= time_ms <= last]
            if times and f'device="{device}"' in series:
                lines.append(json.dumps({"metric": {"series": series}, "timestamps": times}))
        return "\n".join(lines).encode()

    def _answer(self, status: int, body: bytes) -> None:
        self.server.requests.append((self.command, urlsplit(self.path).path))
        self.server.headers.append(dict(self.headers))
        self.send_response(self.server.status or status)
        if body and self.server.status is None:
            packed = zlib.compressobj(6, zlib.DEFLATED, 31)
            body = packed.compress(body) + packed.flush()
            self.send_header("Content-Encoding", "gzip")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def _gunzipped(content: bytes) -> bytes:
    """Several files of gzip, one after the other."""
    found = b""
    while content:
        one = zlib.decompressobj(31)
        found += one.decompress(content)
        content = one.unused_data
    return found
