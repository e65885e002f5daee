# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A real server process with a real store, a client for it, and a stand-in for systemd's notification socket."""

from __future__ import annotations

import contextlib
import http.client
import io
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from edgeml_device._device.state import State
from edgeml_device._device.store import Store
from edgeml_device._release.manifest import parse_release
from links import PYTHON_PATH
from prometheus_client.parser import text_string_to_metric_families
from releases import Made, make_release, variant_entry

GUARD_SECONDS = 240
"""How long to wait for what must come, before the test is given up."""
# Another Python than that of the tests, with the packages that a device with it gets (tools/matrix).
SERVER_PYTHON = os.environ.get("EDGEML_TEST_SERVER_PYTHON") or sys.executable


@dataclass(frozen=True)
class Reply:
    """An HTTP reply."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """The body, which must be JSON and say so."""
        assert self.headers["content-type"] == "application/json", (self.headers, self.body)
        return json.loads(self.body)


class Lines:
    """What something says, one message after the other; ``wait_for`` blocks until it has said a certain thing."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._lines: list[str] = []
        self._ended = False

    def add(self, line: str) -> None:
        """Note a message."""
        with self._condition:
            self._lines.append(line)
            self._condition.notify_all()

    def end(self) -> None:
        """Nothing more will come."""
        with self._condition:
            self._ended = True
            self._condition.notify_all()

    def all(self) -> list[str]:
        """The messages so far."""
        with self._condition:
            return list(self._lines)

    def wait_for(self, wanted: Callable[[list[str]], Any]) -> list[str]:
        """Wait until ``wanted(messages so far)`` is true and return the messages."""
        with self._condition:
            came = self._condition.wait_for(lambda: self._ended or wanted(self._lines), GUARD_SECONDS)
            came = came and wanted(self._lines)
            assert came, "\n".join(["did not come; what came:", *self._lines])
            return list(self._lines)

    def wait_for_text(self, text: str) -> str:
        """Wait for a message with ``text`` in it and return the message."""
        lines = self.wait_for(lambda lines: any(text in line for line in lines))
        return next(line for line in lines if text in line)


class NotifySocket:
    """Receives what a service tells systemd. ``address`` is the value for NOTIFY_SOCKET."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.messages = Lines()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind("\0" + address[1:] if address.startswith("@") else address)
        self._thread = threading.Thread(target=self._receive)
        self._thread.start()

    def close(self) -> None:
        """Stop receiving."""
        self._socket.shutdown(socket.SHUT_RD)
        self._thread.join()
        self._socket.close()

    def _receive(self) -> None:
        while message := self._socket.recv(4096):
            self.messages.add(message.decode("utf-8"))


class Device:
    """A directory with a store and, when started, a server that serves from it, run by the Python ``python``."""

    def __init__(self, directory: Path, python: str = SERVER_PYTHON) -> None:
        self.directory = directory
        self.python = python
        self.socket_path = str(directory / "server.sock")
        self.log = Lines()
        self.new_log = Lines()
        self.port = 0
        self._process: subprocess.Popen[str] | None = None
        self._reader: threading.Thread | None = None
        self._successors: list[int] = []
        root = directory / "store"
        root.mkdir()
        self.store = Store(str(root))

    # ---- the store ----

    def publish(
        self,
        model: str,
        version: str,
        content: bytes,
        golden: Any = None,
        model_format: str = "onnx",
        reference: Any = None,
        memory_bytes: int = 1 << 20,
        variant: Mapping[str, Any] | None = None,
        files: Mapping[str, bytes] | None = None,
        **manifest: Any,
    ) -> None:
        """Put a release into the store and make it active there; the server is not told.

        ``manifest`` are further fields of its manifest, ``variant`` of its variant, ``files`` further files of that.
        """
        files = {"model.onnx": content, **(files or {})}
        golden_content = None if golden is None else json.dumps(golden).encode("utf-8")
        reference_content = None if reference is None else json.dumps(reference).encode("utf-8")
        entry = variant_entry(
            files, name=f"{model_format}-fp32", format=model_format, memory_bytes=memory_bytes, **(variant or {})
        )
        made = make_release(
            version, model, files, golden_content, reference=reference_content, variants=[entry], **manifest
        )
        self.publish_release(made)

    def publish_release(self, made: Made) -> None:
        """Put a release into the store and make it active there; the server is not told."""
        # The store's own classes: tests import the collection's by another name.
        release = parse_release(made.document)
        with self.store.lock():
            for file in self.store.blobs.missing(release.all_files()):
                self.store.blobs.add(file, io.BytesIO(made.blobs[file.sha256]), "test")
            self.store.install(release, release.variants[0])
            self.activate(release.model, release.version)

    def activate(self, model: str, version: str | None) -> None:
        """Make a version that the store holds the active one."""
        self.store.transition(model, State(active=version, previous=self.store.state(model).active), {"event": "test"})

    # ---- the process ----

    def start(self, environment: Mapping[str, str] | None = None, **config: Any) -> None:
        """Start the server with ``config`` (its defaults changed) and wait until it is ready."""
        self.spawn(environment, **config)
        self.wait_ready()

    def wait_ready(self) -> None:
        """Wait until the server, once spawned, is ready."""
        self.wait_listening()
        self.log.wait_for_text("info ready")

    def wait_listening(self) -> None:
        """Wait until the server, once spawned, answers; maybe that it is not ready."""
        listening = self.log.wait_for_text("info listening")
        self.port = int(dict(part.split("=", 1) for part in listening.split()[2:])["port"])

    @property
    def config_path(self) -> Path:
        """The server's configuration."""
        return self.directory / "server.json"

    def configure(self, **config: Any) -> None:
        """Write the server's configuration, its defaults changed by ``config``."""
        settings = {"store": self.store.root, "socket": self.socket_path, "listen_port": 0, **config}
        self.config_path.write_text(json.dumps(settings))

    def spawn(self, environment: Mapping[str, str] | None = None, hidden_by: str | None = None, **config: Any) -> None:
        """Start the server and wait for nothing. Packages in the directory ``hidden_by`` hide installed ones."""
        self.configure(**config)
        clean = {key: value for key, value in os.environ.items() if key not in ("JOURNAL_STREAM", "NOTIFY_SOCKET")}
        self._process = subprocess.Popen(
            [self.python, "-m", "edgeml_server", "--config", str(self.config_path)],
            stderr=subprocess.PIPE,
            text=True,
            env={
                **clean,
                "PYTHONPATH": _python_path(hidden_by),
                **(environment or {}),
            },
        )
        assert self._process.stderr is not None
        self._reader = threading.Thread(target=_read_log, args=(self._process.stderr, self.log))
        self._reader.start()

    def hide(self, *packages: str) -> str:
        """Make packages that cannot be imported; the directory is for ``hidden_by``."""
        directory = self.directory / "hidden"
        for package in packages:
            (directory / package).mkdir(parents=True)
            (directory / package / "__init__.py").write_text("raise ImportError('not on this device')")
        return str(directory)

    def terminate(self) -> None:
        """Send SIGTERM."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)

    def reload(self) -> str:
        """Send SIGHUP and return what the server logs about it."""
        assert self._process is not None
        count = len(self._reloads(self.log.all()))
        self._process.send_signal(signal.SIGHUP)
        return self._reloads(self.log.wait_for(lambda lines: len(self._reloads(lines)) > count))[-1]

    def reload_as_unit(self) -> str:
        """Reload as its unit does, and return what the server logs about it: the command fails where it failed."""
        assert self._process is not None
        count = len(self._reloads(self.log.all()))
        command = [self.python, "-m", "edgeml_server.tools.reload", "--config", str(self.config_path), str(self.pid)]
        environment = {**os.environ, "PYTHONPATH": str(PYTHON_PATH)}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        said = self._reloads(self.log.wait_for(lambda lines: len(self._reloads(lines)) > count))[-1]
        expected = (0, "") if said == "info reloaded" else (1, "the old certificates and credentials stay in use")
        assert (done.returncode, expected[1] in done.stderr) == (expected[0], True), done.stderr
        return said

    def replace(self, hidden_by: str | None = None, **config: Any) -> int:
        """Configure the server anew, reload as its unit does, and return the exit code of that. ``new_log`` is what
        the new process says, which is the device's server if the code is 0."""
        self.configure(**config)
        command = [self.python, "-m", "edgeml_server.tools.reload", "--config", str(self.config_path), str(self.pid)]
        reads, writes = os.pipe()
        with os.fdopen(writes) as stderr:
            reload = subprocess.Popen(command, stderr=stderr, env={**os.environ, "PYTHONPATH": _python_path(hidden_by)})
        log = Lines()
        threading.Thread(target=_read_log, args=(os.fdopen(reads), log)).start()
        code = reload.wait(GUARD_SECONDS)
        if code == 0:
            ready = log.wait_for_text("info listening")
            self._successors.append(int(dict(part.split("=", 1) for part in ready.split()[2:])["pid"]))
        self.new_log = log
        return code

    def join(self, environment: Mapping[str, str] | None = None, **config: Any) -> subprocess.Popen[str]:
        """Start one more server process beside the one that serves, as the next container of a service does, and wait
        until it has taken over. The process before is ``wait``'s, the new one the caller's."""
        self.configure(**config)
        process = subprocess.Popen(
            [self.python, "-m", "edgeml_server", "--config", str(self.config_path), "--join"],
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": _python_path(None), **(environment or {})},
        )
        assert process.stderr is not None
        self.new_log = Lines()
        threading.Thread(target=_read_log, args=(process.stderr, self.new_log)).start()
        self.new_log.wait_for_text("info ready")
        listening = self.new_log.wait_for_text("info listening")
        self.port = int(dict(part.split("=", 1) for part in listening.split()[2:])["port"])
        self._successors.append(process.pid)
        return process

    @staticmethod
    def _reloads(lines: list[str]) -> list[str]:
        return [line for line in lines if line.startswith(("info reloaded", "error reload failed"))]

    def wait(self) -> int:
        """Wait for the server's end and return its exit code."""
        assert self._process is not None
        assert self._reader is not None
        code = self._process.wait(GUARD_SECONDS)
        self._reader.join()
        return code

    def stop(self) -> None:
        """End the server, if it runs."""
        for pid in self._successors:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if self._process is not None:
            self._process.kill()
            self.wait()

    @property
    def pid(self) -> int:
        """The process id of the server, which is the newest that has taken over."""
        assert self._process is not None
        return self._successors[-1] if self._successors else self._process.pid

    def resident_bytes(self) -> int:
        """The memory that the server has now."""
        lines = Path(f"/proc/{self.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:")) << 10

    # ---- the client ----

    def connect(self, local: bool = False) -> http.client.HTTPConnection:
        """Open a connection: over TCP, or over the Unix socket if ``local``."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=GUARD_SECONDS)
        if local:
            connection.sock = socket.socket(socket.AF_UNIX)
            connection.sock.settimeout(GUARD_SECONDS)
            connection.sock.connect(self.socket_path)
        else:
            connection.connect()
        return connection

    def request(
        self,
        method: str,
        path: str,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        local: bool = False,
    ) -> Reply:
        """Send one request on its own connection. A ``body`` that is not bytes is sent as JSON."""
        connection = self.connect(local)
        try:
            content = body if body is None or isinstance(body, bytes) else json.dumps(body).encode("utf-8")
            connection.request(method, path, content, dict(headers or {}))
            return read_reply(connection)
        finally:
            connection.close()

    def get(self, path: str, local: bool = False) -> Reply:
        """GET."""
        return self.request("GET", path, local=local)

    def post(self, path: str, body: Any = None, local: bool = False) -> Reply:
        """POST."""
        return self.request("POST", path, body, local=local)

    def load(self, model: str) -> Reply:
        """Tell the server to serve the store's active version."""
        return self.post(f"/v2/repository/models/{model}/load", local=True)

    def infer(self, model: str, *rows: list[float], **more: Any) -> Reply:
        """Ask an ``onnx_models.plus`` for the results of ``rows``."""
        return self.post(f"/v2/models/{model}/infer", {"inputs": [plus_input(*rows)], **more})

    def metric(self, name: str, **labels: str) -> float | None:
        """The value of a series, or None if there is no such series."""
        page = self.get("/metrics", local=True).body.decode("utf-8")
        for family in text_string_to_metric_families(page):
            for sample in family.samples:
                if sample.name == name and sample.labels == labels:
                    return float(sample.value)
        return None

    def series(self, name: str) -> dict[tuple[str, ...], float]:
        """The values of all series of one name, by their labels' values in the order of the labels' names."""
        page = self.get("/metrics", local=True).body.decode("utf-8")
        return {
            tuple(value for _label, value in sorted(sample.labels.items())): float(sample.value)
            for family in text_string_to_metric_families(page)
            for sample in family.samples
            if sample.name == name
        }

    def wait_in_flight(self, count: int) -> None:
        """Wait until ``count`` inferences are in flight."""
        while self.metric("edgeml_inference_in_flight_requests") != count:
            pass


def _python_path(hidden_by: str | None) -> str:
    return os.pathsep.join(filter(None, [hidden_by, str(PYTHON_PATH)]))


def _read_log(stderr: IO[str], log: Lines) -> None:
    with stderr:
        for line in stderr:
            log.add(line.rstrip("\n"))
    log.end()


def read_reply(connection: http.client.HTTPConnection) -> Reply:
    """Read the reply to what was sent on ``connection``."""
    response = connection.getresponse()
    return Reply(response.status, {key.lower(): value for key, value in response.getheaders()}, response.read())


def parse_replies(received: bytes) -> list[Reply]:
    """The replies in what a server sent on one connection, interim ones included."""
    replies = []
    while received:
        head, _, rest = received.partition(b"\r\n\r\n")
        status, *lines = head.decode("ascii").split("\r\n")
        headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
        length = int(headers.get("content-length", "0"))
        replies.append(Reply(int(status.split()[1]), headers, rest[:length]))
        received = rest[length:]
    return replies


def plus_input(*rows: list[float]) -> dict[str, Any]:
    """The input of ``onnx_models.plus`` for ``rows`` of two numbers."""
    return {"name": "x", "datatype": "FP32", "shape": [len(rows), 2], "data": list(rows)}


def repeat_request(count: int) -> dict[str, Any]:
    """A request for ``onnx_models.repeat``."""
    return {
        "inputs": [
            {"name": "count", "datatype": "INT64", "shape": [], "data": [count]},
            {"name": "x", "datatype": "FP32", "shape": [1], "data": [0.0]},
        ]
    }


def wrong_answers_to_six_clients(device: Device) -> list[Any]:
    """Ask the model ``plus``, which adds 1, from six threads, 50 times each, for 1 to 3 rows; return what was wrong."""
    wrong: list[Any] = []

    def client(number: int) -> None:
        for turn in range(50):
            rows = [[float(number), float(turn)]] * (1 + turn % 3)
            data = device.infer("plus", *rows).json()["outputs"][0]["data"]
            if data != [value + 1 for row in rows for value in row]:
                wrong.append(data)

    threads = [threading.Thread(target=client, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return wrong
