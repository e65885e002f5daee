# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Thousands of devices on this machine: each has a store and the paths of its own, where the real modules run.

Only what answers at a device's socket is simulated. It serves the version that the device's store names, and what it
says of a version is what the real server said of it: each request is passed on once, and its answer kept.
"""

from __future__ import annotations

import asyncio
import ctypes
import http.client
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from device import Device
from device_app import make_app
from releases import Made, activate, put

from ansible_collections.edgeml.fleet.plugins.module_utils._device.store import Store

CLASSES = ("gateway", "pi4", "pi5")
# A reply: its status, its body, and the headers that say how to read it.
Reply = tuple[int, bytes, dict[str, str]]
# How much of a body is JSON; binary data follows it.
JSON_LENGTH = "Inference-Header-Content-Length"
PASSED_ON = ("Content-Type", JSON_LENGTH)
WARM_REQUESTS = 300
# unshare(2)
CLONE_NEWNS, CLONE_NEWNET = 0x00020000, 0x40000000

_DEVICE_SHELL = """\
#!/bin/bash
unshare --mount --propagation private /bin/sh -c '
    mount --bind {directory}/lib /var/lib/edgeml && mount --bind {directory}/run /run/edgeml && exec /bin/sh "$@"
' sh "$@"
code=$?
times >>{directory}/costs
exit $code
"""


def leave_the_machine() -> None:
    """Give this process and its children a network and mounts of their own, with the directories that devices have.

    Nothing of them is seen by the machine, and all of it ends with them. Call it before any thread is started.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNS | CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "unshare")
    _run("mount", "--make-rprivate", "/")
    for path in ("/var/lib", "/run", "/opt"):
        _run("mount", "-t", "tmpfs", "tmpfs", path)
    for path in ("/var/lib/edgeml", "/run/edgeml"):
        os.mkdir(path)
    # All of them have the same app, and the command where a device has it.
    app, commands = Path("/opt/edgeml/app-test"), Path("/opt/bin")
    for directory in (app, commands):
        directory.mkdir(parents=True)
    make_app(app)
    (commands / "edgeml").symlink_to(app / "edgeml")
    _run("mount", "-t", "overlay", "-o", f"lowerdir={commands}:/usr/local/bin", "overlay", "/usr/local/bin")
    _run("ip", "link", "set", "lo", "up")


@dataclass(frozen=True)
class Place:
    """A simulated device: its files are below ``directory``, and ``shell`` runs what is sent to it, within them."""

    name: str
    directory: Path
    address: str
    device_class: str

    @property
    def shell(self) -> Path:
        """Its shell: every command is run in the device's mounts, and what it cost noted."""
        return self.directory / "shell"

    @property
    def costs(self) -> Path:
        """The processor time of each command, as bash's times tells it."""
        return self.directory / "costs"

    @property
    def socket(self) -> Path:
        """Where its inference server answers."""
        return self.directory / "run" / "server.sock"

    @property
    def store(self) -> Store:
        """Its store."""
        return Store(str(self.directory / "lib" / "store"))

    def cpu_seconds(self) -> float:
        """The processor time of all commands that it ran, with their children."""
        if not self.costs.exists():
            return 0.0
        return sum(_seconds(word) for word in self.costs.read_text().split())

    def variables(self) -> dict[str, Any]:
        """The host's variables for Ansible, but for its connection."""
        return {
            "ansible_become": False,
            "ansible_python_interpreter": sys.executable,
            "ansible_shell_executable": str(self.shell),
            "device_class": self.device_class,
        }


class SimulatedFleet:
    """``count`` devices below ``directory`` that serve the release ``before``, and may be told to serve ``after``.

    As a context manager it answers at the devices' sockets. Needs ``leave_the_machine``.
    """

    def __init__(self, directory: Path, count: int, before: Made, after: Made) -> None:
        self._directory = directory
        self._releases = (before, after)
        self._ended = ExitStack()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self.places = [self._make(number) for number in range(count)]

    def __enter__(self) -> SimulatedFleet:
        with ExitStack() as started:
            backends = {}
            for made in self._releases:
                version = made.document["version"]
                real = started.enter_context(Device(self._directory, f"real-{version}"))
                real.serve(made)
                backends[version] = _Backend(real.directory / "run" / "server.sock")
            _warm(backends, self._releases)
            self._thread.start()
            started.callback(self._stop)
            for place in self.places:
                server = _DeviceServer(place, backends)
                asyncio.run_coroutine_threadsafe(server.start(), self._loop).result()
            self._ended = started.pop_all()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._ended.close()

    def _stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def _make(self, number: int) -> Place:
        """A device: what it holds is a copy of what the first one holds."""
        device_class = CLASSES[number % len(CLASSES)]
        name = f"edge-{number:06}"
        directory = self._directory / name
        address = f"127.1.{number // 250}.{number % 250 + 1}"
        place = Place(name, directory, address, device_class)
        (directory / "run").mkdir(parents=True)
        if number:
            # With its hard links: a blob with one name is used by no version, and a swap removes it.
            _run("cp", "-a", str(self._directory / "edge-000000" / "lib"), str(directory / "lib"))
        else:
            (directory / "lib" / "store").mkdir(parents=True)
            before = self._releases[0]
            put(place.store, before)
            activate(place.store, before.document["model"], before.document["version"])
        place.shell.write_text(_DEVICE_SHELL.format(directory=directory))
        place.shell.chmod(0o755)
        return place


class _Backend:
    """A real server, asked the same thing once."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._answers: dict[tuple[str, str, bytes], Reply] = {}

    def answer(self, method: str, path: str, body: bytes, headers: Mapping[str, str]) -> Reply:
        """What it answers."""
        key = (method, path, body)
        if key not in self._answers:
            self._answers[key] = self._ask(method, path, body, headers)
        return self._answers[key]

    def forget(self) -> None:
        """Ask everything anew."""
        self._answers.clear()

    def _ask(self, method: str, path: str, body: bytes, headers: Mapping[str, str]) -> Reply:
        connection = http.client.HTTPConnection("localhost")
        connection.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.sock.connect(str(self._path))
        try:
            connection.request(method, path, body, {"Content-Type": "application/json", **headers})
            response = connection.getresponse()
            length = response.getheader(JSON_LENGTH)
            return response.status, response.read(), {JSON_LENGTH: length} if length else {}
        finally:
            connection.close()


class _DeviceServer:
    """What answers at a device's socket."""

    def __init__(self, place: Place, backends: Mapping[str, _Backend]) -> None:
        self._place = place
        self._backends = backends
        self._serving: dict[str, str] = {}

    async def start(self) -> None:
        """Listen, and serve what the store names."""
        for model in self._place.store.models():
            self._load(model)
        await asyncio.start_unix_server(self._serve, str(self._place.socket), backlog=16)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("ascii").split("\r\n")
            method, path, _protocol = head[0].split(" ")
            headers = {key.lower(): value for key, _colon, value in (line.partition(": ") for line in head[1:])}
            body = await reader.readexactly(int(headers.get("content-length", "0")))
            asked = {name: headers[name.lower()] for name in PASSED_ON if name.lower() in headers}
            status, reply, answered = self._answer(method, path, body, asked)
            lines = [f"HTTP/1.1 {status} -", f"Content-Length: {len(reply)}", "Connection: close"]
            lines += [f"{name}: {value}" for name, value in answered.items()]
            writer.write("\r\n".join([*lines, "", ""]).encode())
            writer.write(reply)
            await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    def _answer(self, method: str, path: str, body: bytes, headers: Mapping[str, str]) -> Reply:
        parts = path.strip("/").split("/")
        if parts[:3] == ["v2", "repository", "models"]:
            model, verb = parts[3:5]
            if verb == "load":
                self._load(model)
            else:
                self._serving.pop(model, None)
            return 200, b"{}", {}
        if parts[:2] == ["v2", "models"] and parts[2] not in self._serving:
            return 404, b'{"error": "not served"}', {}
        version = next(iter(self._serving.values()), next(iter(self._backends)))
        return self._backends[version].answer(method, path, body, headers)

    def _load(self, model: str) -> None:
        active = self._place.store.state(model).active
        if active is not None:
            self._serving[model] = active


def _warm(backends: Mapping[str, _Backend], releases: tuple[Made, Made]) -> None:
    """Have the real servers count requests, so that their metrics are those of servers that are asked."""
    for made in releases:
        backend = backends[made.document["version"]]
        golden = _golden_request(made)
        for _number in range(WARM_REQUESTS):
            backend.forget()
            status, reply, _headers = backend.answer("POST", f"/v2/models/{made.document['model']}/infer", golden, {})
            assert status == 200, reply
        backend.forget()


def _golden_request(made: Made) -> bytes:
    golden = json.loads(made.blobs[made.document["golden"]["sha256"]])
    return json.dumps({"inputs": golden["inputs"]}).encode()


def _seconds(text: str) -> float:
    """Seconds from bash's notation, such as 0m0.012s."""
    minutes, seconds = text.rstrip("s").split("m")
    return 60 * int(minutes) + float(seconds)


def _run(*command: str) -> None:
    subprocess.run(command, check=True)
