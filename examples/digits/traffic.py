# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Send real digit images to inference servers at a steady, modest rate and count what comes back.

One thread and one keep-alive connection per target, one image per request, and never more than one request at a time:
a target that answers more slowly than the rate asks for gets fewer requests, not a queue of them.

Standard library only. As a class: `Traffic(targets, rate=5).start()` … `.stop()`; as a command: see --help.
"""

from __future__ import annotations

import argparse
import http.client
import itertools
import json
import math
import select
import signal
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Self

REPOSITORY = Path(__file__).resolve().parent / "repository"
MODEL = "digits"
OUTPUT = "probabilities"
CLASSES = 10
FIRST_ERRORS = 5
JSON_HEADERS = {"Content-Type": "application/json"}


class ReplyError(Exception):
    """A server answered, but not with a valid prediction."""


@dataclass(frozen=True)
class Target:
    """A server to send requests to; `name` is how reports call it."""

    name: str
    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Target:
        """Make a target from `name=host:port`; raises ValueError when it is not of this form."""
        name, _, address = text.partition("=")
        host, _, port = address.rpartition(":")
        if not name or not host or not port.isdecimal():
            raise ValueError(f"expected name=host:port, found {text!r}")
        return cls(name, host.strip("[]"), int(port))


@dataclass(frozen=True)
class Image:
    """A labelled image as a ready request; `request_id` must come back in the reply."""

    request_id: str
    body: bytes
    label: int


@dataclass(frozen=True)
class Report:
    """What one target did with its requests; sent = ok + failed (+ 1 while a request is under way).

    `versions` and `correct_by_version` count the good replies, and those with the right digit, by model version.
    `reconnects` counts how often a connection that the server had closed was opened again, and `resent` how many
    requests were sent a second time for that reason (see `Connection`). Latencies are in milliseconds, of good
    replies only, None without any.
    """

    sent: int
    ok: int
    failed: int
    reconnects: int
    resent: int
    versions: dict[str, int]
    correct: int
    correct_by_version: dict[str, int]
    latency_p50_ms: float | None
    latency_p95_ms: float | None
    first_errors: list[str]


def default_probe() -> Path:
    """The committed probe set, which all digits releases share."""
    manifest = json.loads((REPOSITORY / MODEL / "1.0.0" / "manifest.json").read_text(encoding="utf-8"))
    digest: str = manifest["probe"]["sha256"]
    return REPOSITORY / "blobs" / "sha256" / digest


def load_images(probe: Path) -> list[Image]:
    """Make one request of each row of a probe.json."""
    document = json.loads(probe.read_text(encoding="utf-8"))
    (batch,) = document["inputs"]
    shape = [1, *batch["shape"][1:]]
    size = math.prod(shape)
    images = []
    for row, label in enumerate(document["labels"]):
        data = batch["data"][row * size : (row + 1) * size]
        tensor = {"name": batch["name"], "shape": shape, "datatype": batch["datatype"], "data": data}
        request = {"id": str(row), "inputs": [tensor]}
        images.append(Image(str(row), json.dumps(request, separators=(",", ":")).encode(), label))
    return images


class Connection:
    """A keep-alive HTTP connection that is opened again when the server has closed it, as any HTTP client does.

    Before each request it looks whether the server closed the idle connection; if so, nothing was sent yet and
    nothing can be lost. If the server closes it in the moment the request goes out, the request is sent once more on
    a new connection, but only if the connection had served before and not one byte of a reply was read. That is
    safe, as inference changes nothing on the server; still it could hide a server that died over a request, so these
    are counted apart, in `resent`. Every other error is raised, and the next request opens a new connection.
    """

    def __init__(self, host: str, port: int, timeout: float) -> None:
        self.reconnects = 0
        self.resent = 0
        self._http = http.client.HTTPConnection(host, port, timeout=timeout)
        self._served = False

    def post(self, path: str, body: bytes) -> tuple[int, bytes]:
        """Send one request; returns status and body. Raises OSError or http.client.HTTPException."""
        try:
            response = self._send(path, body)
            content = response.read()
        except (OSError, http.client.HTTPException):
            self.close()
            raise
        self._served = True
        return response.status, content

    def close(self) -> None:
        """Close the connection; the next request opens a new one, which is no reconnect."""
        self._http.close()
        self._served = False

    def _send(self, path: str, body: bytes) -> http.client.HTTPResponse:
        if self._http.sock is not None and _closed_by_peer(self._http.sock):
            self._http.close()
        reused = self._http.sock is not None
        if not reused:
            self._connect()
        try:
            self._http.request("POST", path, body, JSON_HEADERS)
        except (BrokenPipeError, ConnectionResetError):
            if not reused:
                raise
        else:
            try:
                return self._http.getresponse()
            except http.client.RemoteDisconnected:  # closed before the first byte of a reply
                if not reused:
                    raise
        self._http.close()
        self._connect()
        self.resent += 1
        self._http.request("POST", path, body, JSON_HEADERS)
        return self._http.getresponse()

    def _connect(self) -> None:
        self._http.connect()
        self.reconnects += self._served


def _closed_by_peer(connection: socket.socket) -> bool:
    # No reply is outstanding, so that an idle connection is readable only when it was closed.
    poller = select.poll()
    poller.register(connection, select.POLLIN)
    return bool(poller.poll(0))


def read_prediction(status: int, content: bytes, model: str, image: Image) -> tuple[str, int]:
    """Version and predicted digit of a reply; raises ReplyError when it is not a valid prediction for the image."""
    if status != 200:
        raise ReplyError(f"HTTP {status}: {_excerpt(content)}")
    try:
        reply = json.loads(content)
        name, version, request_id = reply["model_name"], reply["model_version"], reply["id"]
        (probabilities,) = (output["data"] for output in reply["outputs"] if output["name"] == OUTPUT)
        valid = len(probabilities) == CLASSES and all(math.isfinite(value) for value in probabilities)
    except (ValueError, LookupError, TypeError, ArithmeticError) as error:
        raise ReplyError(f"malformed reply ({error!r}): {_excerpt(content)}") from error
    if not valid or not isinstance(version, str) or not version:
        raise ReplyError(f"malformed reply: {_excerpt(content)}")
    if (name, request_id) != (model, image.request_id):
        raise ReplyError(f"expected a reply of {model} to request {image.request_id}, found: {_excerpt(content)}")
    return version, probabilities.index(max(probabilities))


def _excerpt(content: bytes) -> str:
    return content[:200].decode("utf-8", "replace")


class Worker:
    """Sends requests to one target until `stop` is set."""

    def __init__(self, target: Target, model: str, images: Sequence[Image], interval: float, timeout: float) -> None:
        self.stop = threading.Event()
        self._model = model
        self._images = images
        self._interval = interval
        self._connection = Connection(target.host, target.port, timeout)
        self._lock = threading.Lock()
        self._sent = 0
        self._failed = 0
        self._versions: Counter[str] = Counter()
        self._correct: Counter[str] = Counter()
        self._latencies_ms: list[float] = []
        self._first_errors: list[str] = []
        self._started = 0.0
        self.thread = threading.Thread(target=self._run, name=f"traffic to {target.name}", daemon=True)

    def _run(self) -> None:
        self._started = due = time.monotonic()
        for image in itertools.cycle(self._images):
            self._request(image)
            due = max(due + self._interval, time.monotonic())  # what a slow reply delayed is not caught up with
            if self.stop.wait(due - time.monotonic()):
                break
        self._connection.close()

    def _request(self, image: Image) -> None:
        with self._lock:
            self._sent += 1
        begin = time.monotonic()
        try:
            status, content = self._connection.post(f"/v2/models/{self._model}/infer", image.body)
            latency_ms = (time.monotonic() - begin) * 1000
            version, digit = read_prediction(status, content, self._model, image)
        except (OSError, http.client.HTTPException, ReplyError) as error:
            text = str(error) if isinstance(error, ReplyError) else repr(error)
            with self._lock:
                self._failed += 1
                if len(self._first_errors) < FIRST_ERRORS:
                    self._first_errors.append(f"after {begin - self._started:.1f} s: {text}")
            return
        with self._lock:
            self._versions[version] += 1
            self._correct[version] += digit == image.label
            self._latencies_ms.append(latency_ms)

    def report(self) -> Report:
        """The counts up to now."""
        with self._lock:
            latencies = sorted(self._latencies_ms)
            return Report(
                sent=self._sent,
                ok=len(latencies),
                failed=self._failed,
                reconnects=self._connection.reconnects,
                resent=self._connection.resent,
                versions=dict(self._versions),
                correct=self._correct.total(),
                correct_by_version=dict(self._correct),
                latency_p50_ms=percentile(latencies, 50),
                latency_p95_ms=percentile(latencies, 95),
                first_errors=list(self._first_errors),
            )


def percentile(ordered: Sequence[float], percent: int) -> float | None:
    """Nearest-rank percentile of values in ascending order, rounded to hundredths; None when there is none."""
    if not ordered:
        return None
    return round(ordered[math.ceil(len(ordered) * percent / 100) - 1], 2)


class Traffic:
    """Live requests to every target, until stopped.

    `images` are by default those of the committed probe set; every target gets them in the same order, again and
    again. `rate` is in requests per second and target, `timeout` in seconds per request. Also a context manager.
    """

    def __init__(
        self,
        targets: Sequence[Target],
        images: Sequence[Image] | None = None,
        rate: float = 5.0,
        timeout: float = 10.0,
        model: str = MODEL,
    ) -> None:
        if images is None:
            images = load_images(default_probe())
        if not targets or not images or rate <= 0:
            raise ValueError("expected at least one target, at least one image and a rate above 0")
        if len({target.name for target in targets}) < len(targets):
            raise ValueError("expected each target's name once")
        self._workers = {target.name: Worker(target, model, images, 1 / rate, timeout) for target in targets}

    def start(self) -> Self:
        """Begin to send; returns itself."""
        for worker in self._workers.values():
            worker.thread.start()
        return self

    def report(self) -> dict[str, Report]:
        """The counts up to now, by target name."""
        return {name: worker.report() for name, worker in self._workers.items()}

    def stop(self) -> dict[str, Report]:
        """Let the requests under way finish, send no more, and return the final counts by target name.

        Raises RuntimeError when a thread died over an error that is not the server's, as its counts prove nothing.
        """
        for worker in self._workers.values():
            worker.stop.set()
        for worker in self._workers.values():
            worker.thread.join()
        reports = self.report()
        dead = [name for name, report in reports.items() if report.sent != report.ok + report.failed]
        if dead:
            raise RuntimeError(f"the load generator's threads died for {', '.join(dead)}; see standard error")
        return reports

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()


def table(reports: dict[str, Report]) -> str:
    """The reports as a table, with each target's first errors below it."""
    width = max(len("target"), *(len(name) for name in reports))
    lines = [f"{'target':{width}}    sent      ok  failed  reconnects  p50 ms  p95 ms  versions (correct/replies)"]
    for name, report in reports.items():
        versions = ", ".join(
            f"{version} ({report.correct_by_version[version]}/{count})" for version, count in report.versions.items()
        )
        p50, p95 = (
            "-" if value is None else f"{value:.1f}" for value in (report.latency_p50_ms, report.latency_p95_ms)
        )
        lines.append(
            f"{name:{width}}  {report.sent:6}  {report.ok:6}  {report.failed:6}  {report.reconnects:10}"
            f"  {p50:>6}  {p95:>6}  {versions or '-'}"
        )
    for name, report in reports.items():
        lines += [f"{name}: {error}" for error in report.first_errors]
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Send until SIGINT, SIGTERM or --seconds; returns 0 when requests were answered and none failed, else 1."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("targets", nargs="+", metavar="name=host:port")
    parser.add_argument("--rate", type=float, default=5.0, help="requests per second and target (default: %(default)s)")
    parser.add_argument("--seconds", type=float, help="stop after this time (default: when interrupted)")
    parser.add_argument("--timeout", type=float, default=10.0, help="seconds per request (default: %(default)s)")
    parser.add_argument("--probe", type=Path, help="probe.json with the images (default: the committed one)")
    parser.add_argument("--json", action="store_true", help="print the counts as JSON")
    options = parser.parse_args(arguments)
    try:
        targets = [Target.parse(text) for text in options.targets]
        images = load_images(options.probe or default_probe())
        traffic = Traffic(targets, images, options.rate, options.timeout)
    except (OSError, ValueError) as error:
        parser.error(str(error))

    interrupted = threading.Event()

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        interrupted.set()

    signal.signal(signal.SIGINT, interrupt)
    signal.signal(signal.SIGTERM, interrupt)
    traffic.start()
    interrupted.wait(options.seconds)
    reports = traffic.stop()
    shown: dict[str, Any] = {name: asdict(report) for name, report in reports.items()}
    print(json.dumps(shown, indent=2) if options.json else table(reports))
    return int(any(report.failed or not report.ok for report in reports.values()))


if __name__ == "__main__":
    sys.exit(main())
