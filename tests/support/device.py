# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Devices on this machine: each with the paths of a real one in its own mount namespace, and its own server."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from device_app import COMMAND, PYTHON, make_app, write_command
from links import PYTHON_PATH
from releases import Made, activate, put

from ansible_collections.edgeml.fleet.plugins.module_utils._common.errors import ServerError
from ansible_collections.edgeml.fleet.plugins.module_utils._device.client import Server
from ansible_collections.edgeml.fleet.plugins.module_utils._device.state import WATCHING
from ansible_collections.edgeml.fleet.plugins.module_utils._device.store import Store

GUARD_SECONDS = 240
APP = "/opt/edgeml/app-test"

_NEW_NAMESPACE = ("unshare", "--mount", "--propagation", "private")
# The namespace lives as long as its input is open, so not longer than the tests.
_HOLD_NAMESPACE = """
set -e
mount -t tmpfs tmpfs /var/lib
mkdir /var/lib/edgeml
mount --bind "$1/lib" /var/lib/edgeml
mount -t tmpfs tmpfs /run
mkdir /run/edgeml
mount --bind "$1/run" /run/edgeml
mount --bind "$1/opt" /opt
[ "$(readlink /usr/local/bin/edgeml)" = "$2" ] ||
    mount -t overlay -o "lowerdir=$1/bin:/usr/local/bin" overlay /usr/local/bin
echo ready
exec cat
"""


class Device:
    """A device called ``name`` whose files are below ``directory``. As a context manager it is up, with a server that
    listens on ``port`` (0: any)."""

    def __init__(self, directory: Path, name: str, device_class: str = "small", port: int = 0) -> None:
        self.directory = directory / name
        self.name = name
        self.port = port
        self.device_class = device_class
        for part in ("lib/store", "run", "bin", APP[1:], "opt/edgeml/venv-test/bin"):
            (self.directory / part).mkdir(parents=True)
        self._app = self.directory / APP[1:]
        make_app(self._app)
        (self.directory / "bin/edgeml").symlink_to(f"{APP}/edgeml")
        self.python = PYTHON
        python = self.directory / "opt/edgeml/venv-test/bin/python"
        python.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} "$@"\n')
        python.chmod(0o755)
        self.root = self.directory / "lib" / "store"
        self.store = Store(str(self.root))
        self.server = Server(str(self.directory / "run" / "server.sock"), look_seconds=GUARD_SECONDS)
        self._holder: subprocess.Popen[str] | None = None
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Device:
        self._holder = subprocess.Popen(
            [*_NEW_NAMESPACE, "sh", "-c", _HOLD_NAMESPACE, "sh", str(self.directory), f"{APP}/edgeml"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._holder.stdout is not None
        assert self._holder.stdout.readline() == "ready\n"
        for name, program in (("python", PYTHON), ("shell", "/bin/sh")):
            within = self.directory / name
            within.write_text(f'#!/bin/sh\nexec {shlex.join([*self.enter(), program])} "$@"\n')
            within.chmod(0o755)
        self.start_server()
        return self

    def __exit__(self, *_exception: object) -> None:
        self.stop_server()
        assert self._holder is not None
        with self._holder:
            self._holder.communicate()

    @staticmethod
    def command(*before: str) -> str:
        """A shell command that does what ``edgeml call`` does, started by the command ``before`` if given."""
        start = f"import sys; sys.path[0] = {APP!r}; from edgeml_device._device.call import main; sys.exit(main())"
        return shlex.join([*before, PYTHON, "-sSE", "-c", start])

    def install_command(self, code: str | None = None, program: str = COMMAND) -> None:
        """Install the command ``edgeml``, which says that its code has the digest ``code``, by default the true one."""
        write_command(self._app, code, program)

    def remove_command(self) -> None:
        """Have the device without the command ``edgeml``, as one that no role ever prepared."""
        (self._app / "edgeml").unlink(missing_ok=True)

    def has_process(self, number: int) -> bool:
        """Whether a process of this machine is one on the device."""
        assert self._holder is not None
        return os.readlink(f"/proc/{number}/ns/mnt") == os.readlink(f"/proc/{self._holder.pid}/ns/mnt")

    def calls(self) -> list[int]:
        """The processes of ``edgeml call`` that run on the device."""
        found = []
        for entry in Path("/proc").iterdir():
            with suppress(OSError):
                words = (entry / "cmdline").read_bytes().split(b"\0")
                if entry.name.isdigit() and words[-2:-1] == [b"call"] and self.has_process(int(entry.name)):
                    found.append(int(entry.name))
        return found

    def soaks(self, version: str) -> bool:
        """Whether the swap to the version has ended well, and nothing is done with it any more."""
        trial = self.store.state("digits").trial
        return self.live == version and trial is not None and trial.phase == WATCHING and not self.calls()

    def reset(self) -> None:
        """Make the device pristine: an empty store, a server that serves nothing, the command, and a Python."""
        self.install_command()
        self.python = PYTHON
        if self._process is None:
            self.start_server()
        # Until then it reads the store, and ends where it is not.
        self._wait_until(self.server.has_started)
        with suppress(ServerError):
            self.server.unload("digits")
        assert self.live is None
        shutil.rmtree(self.root, ignore_errors=True)
        self.root.mkdir()

    def start_server(self, model: str | None = None, **settings: Any) -> None:
        """Start the inference server and wait until it answers, and serves ``model`` if given. ``settings``: more of
        its configuration."""
        config = self.directory / "server.json"
        usual = {"store": "/var/lib/edgeml/store", "socket": "/run/edgeml/server.sock", "listen_port": self.port}
        config.write_text(json.dumps({**usual, **settings}))
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [*self.enter(), sys.executable, "-m", "edgeml_server", "--config", str(config)],
                env={"PATH": os.environ["PATH"], "PYTHONPATH": str(PYTHON_PATH)},
                stderr=log,
            )
        self._wait_until(
            lambda: self.server.is_live() and (model is None or self.server.serving_version(model) is not None)
        )

    def _wait_until(self, condition: Callable[[], bool]) -> None:
        """Wait for something of a server that runs."""
        deadline = time.monotonic() + GUARD_SECONDS
        while not condition():
            assert self._process is not None
            assert self._process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.02)

    def stop_server(self, number: int = signal.SIGKILL) -> None:
        """End the inference server, if it runs, with a signal, and wait for its end."""
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait()
            self._process = None

    def edgeml(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run the device's own command, as its units and its engineers do."""
        with self.start_edgeml(*arguments, **environment) as process:
            stdout, stderr = process.communicate()
        return subprocess.CompletedProcess(process.args, process.returncode, stdout, stderr)

    def start_edgeml(self, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        """Start the device's own command."""
        return subprocess.Popen(
            [*self.enter(), PYTHON, "-m", "edgeml_device._device.cli", *arguments],
            env={"PATH": os.environ["PATH"], "PYTHONPATH": str(PYTHON_PATH), **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    @property
    def server_pid(self) -> int:
        """The number of the server's process."""
        assert self._process is not None
        return self._process.pid

    def signal_server(self, number: int) -> None:
        """Send a signal to the inference server."""
        assert self._process is not None
        self._process.send_signal(number)

    def ask(self, model: str, **tensor: Any) -> int:
        """Ask the server as its clients do, unlike ``server``, whose questions are no traffic; return the status."""
        return self.post(f"/v2/models/{model}/infer", {"inputs": [tensor]})

    def post(self, path: str, document: Any) -> int:
        """Send the server a document as its clients do; return the status."""
        body = json.dumps(document).encode()
        request = f"POST {path} HTTP/1.1"
        head = "\r\n".join((request, "Host: x", "Connection: close", f"Content-Length: {len(body)}", "", ""))
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(self.server.address)
            connection.sendall(head.encode() + body)
            reply = b"".join(iter(lambda: connection.recv(65536), b""))
        return int(reply.split()[1])

    def serve(self, release: Made) -> None:
        """Make a release active and live, as a swap by hand would."""
        model, version = release.document["model"], release.document["version"]
        put(self.store, release)
        activate(self.store, model, version)
        self.server.load(model)

    @property
    def log(self) -> Path:
        """What the server said."""
        return self.directory / "server.log"

    @property
    def live(self) -> str | None:
        """The version of digits that the server answers with."""
        return self.server.serving_version("digits")

    def versions(self) -> tuple[str | None, str | None, str | None]:
        """What is live, active and previous."""
        state = self.store.state("digits")
        return self.live, state.active, state.previous

    def events(self) -> list[tuple[str, str | None, str | None]]:
        """The transitions of digits: event, from, to."""
        return [(entry["event"], entry["from"], entry["to"]) for entry in self.store.journal("digits").history()]

    def inventory(self) -> dict[str, Any]:
        """The host's variables for Ansible."""
        return {
            "ansible_connection": "local",
            "ansible_python_interpreter": self.python,
            "ansible_shell_executable": str(self.directory / "shell"),
            "ansible_become": False,
            "device_class": self.device_class,
        }

    def snapshot(self) -> dict[str, tuple[int, int, int]]:
        """Every file of the store with its inode, size and time of change, without the lock."""
        found = {}
        for path in self.root.rglob("*"):
            status = path.stat()
            if path.name != "lock":
                found[str(path.relative_to(self.root))] = (status.st_ino, status.st_size, status.st_mtime_ns)
        return found

    def enter(self) -> list[str]:
        """The command that starts another one within the device's mounts."""
        assert self._holder is not None
        return ["nsenter", f"--mount=/proc/{self._holder.pid}/ns/mnt"]
