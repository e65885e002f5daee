# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Servers beside each other: the edgeml server and what else a model is served with, each from packages of its own.

The packages are installed into virtual environments below ``.cache/peers``: no server shares a file with another, so
that none has a part of its memory counted for another.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from links import BYTE_COMPILED, REPOSITORY
from load import OK
from server_process import GUARD_SECONDS, Device, Lines

RECIPES = Path(__file__).with_name("peers")
VENVS = REPOSITORY / ".cache" / "peers"
ROLE_FILES = REPOSITORY / "roles" / "inference_service" / "files"
ONNXRUNTIME = "onnxruntime==1.32.0"
LOCK = ROLE_FILES / "requirements" / f"cp{sys.version_info[0]}{sys.version_info[1]}.txt"
PACKAGES: dict[str, list[str]] = {
    "edgeml": [f"--requirement={LOCK}"],
    # Its worker processes end at their start with a newer uvloop.
    "mlserver": ["mlserver==1.7.1", "uvloop==0.21.0", ONNXRUNTIME],
    "flask": ["flask==3.1.2", "gunicorn==23.0.0", ONNXRUNTIME],
}
# As the unit has it.
UNIT_ENVIRONMENT = {
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_THRESHOLD_": "1048576",
    "MALLOC_TRIM_THRESHOLD_": "8388608",
}
_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


def python_of(name: str) -> str:
    """The Python of a virtual environment with the packages called ``name``, installed now if they are not yet."""
    directory = VENVS / name
    python = directory / "bin" / "python"
    done = directory / "installed.json"
    wanted = [*PACKAGES[name], *([LOCK.read_text()] if name == "edgeml" else [])]
    if not done.exists() or json.loads(done.read_text()) != wanted:
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(directory)], check=True)
        options = ["--quiet", "--disable-pip-version-check", *(["--no-deps"] if name == "edgeml" else [])]
        subprocess.run([str(python), "-m", "pip", "install", *options, *PACKAGES[name]], check=True)
        done.write_text(json.dumps(wanted))
    return str(python)


class Server(ABC):
    """A server that serves one model, as a context manager: started, and stopped with whatever it started."""

    name: str
    path: str
    """The URL's path to send requests to."""
    port: int

    def __init__(self, directory: Path, model: Path) -> None:
        directory.mkdir()
        self.directory = directory
        self.model = model

    @property
    @abstractmethod
    def pid(self) -> int:
        """The first process."""

    @abstractmethod
    def __enter__(self) -> Server: ...

    @abstractmethod
    def __exit__(self, *_exception: object) -> None: ...

    def cpu_seconds(self) -> float:
        """Processor time that all its processes have used so far."""
        return sum(cpu_seconds(pid) for pid in self._pids())

    def pss_bytes(self) -> int:
        """Proportional set size of all its processes."""
        return sum(pss_bytes(pid) for pid in self._pids())

    def _pids(self) -> Iterator[int]:
        waiting = [self.pid]
        while waiting:
            pid = waiting.pop()
            yield pid
            for children in Path(f"/proc/{pid}/task").glob("*/children"):
                waiting += map(int, children.read_text().split())


def cpu_seconds(pid: int) -> float:
    """Processor time that a process has used so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_SECOND


def pss_bytes(pid: int) -> int:
    """Proportional set size of a process: its own memory, and its share of what it has in common with others."""
    with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("Pss:")) << 10


class EdgemlServer(Server):
    """This collection's server as the role sets it up: with a prediction log and a release that has a reference."""

    name = "edgeml"

    def __init__(self, directory: Path, model: Path, reference: Any) -> None:
        super().__init__(directory, model)
        self._device = Device(directory, python_of("edgeml"))
        self._device.publish("model", "1.0.0", model.read_bytes(), reference=reference)
        self.path = "/v2/models/model/infer"

    def __enter__(self) -> Server:
        # Of another start, it would say that this one is ready.
        self._device.log = Lines()
        try:
            self._device.start(
                {**UNIT_ENVIRONMENT, **BYTE_COMPILED}, prediction_log=str(self.directory / "predictions.db")
            )
        except BaseException:
            self._device.stop()
            raise
        self.port = self._device.port
        return self

    def __exit__(self, *_exception: object) -> None:
        self._device.stop()

    @property
    def pid(self) -> int:
        return self._device.pid


class Peer(Server):
    """A server that is started by a command and ready when it answers."""

    ready_path: str

    @abstractmethod
    def command(self) -> list[str]:
        """What starts it, on ``port``."""

    def environment(self) -> Mapping[str, str]:
        """What it needs in its environment."""
        return {}

    def __enter__(self) -> Server:
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            self.port = listener.getsockname()[1]
        # Its output is not wanted, unless it does not start.
        with open(self.directory / "output", "wb") as output:
            self._process = subprocess.Popen(
                self.command(),
                cwd=self.directory,
                env={**os.environ, **self.environment()},
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        try:
            self._wait_ready()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_exception: object) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    @property
    def pid(self) -> int:
        return self._process.pid

    def _wait_ready(self) -> None:
        deadline = time.monotonic() + GUARD_SECONDS
        while not self._answers():
            ended = self._process.poll() is not None or time.monotonic() > deadline
            assert not ended, (self.directory / "output").read_text()
            time.sleep(0.01)

    def _answers(self) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=GUARD_SECONDS)
        with contextlib.closing(connection), contextlib.suppress(OSError, http.client.HTTPException):
            connection.request("GET", self.ready_path)
            return connection.getresponse().status == OK
        return False


class MlServer(Peer):
    """MLServer, not debugging. ``workers`` processes run models (its default is 1); 0: the server itself does."""

    path = "/v2/models/model/infer"
    ready_path = "/v2/models/model/ready"

    def __init__(self, directory: Path, model: Path, workers: int) -> None:
        super().__init__(directory, model)
        self.name = "MLServer" if workers else "MLServer, 0 workers"
        free_ports = {"grpc_port": 0, "metrics_port": 0}
        self._settings = {"debug": False, "parallel_workers": workers, "host": "127.0.0.1", **free_ports}

    def command(self) -> list[str]:
        settings = {**self._settings, "http_port": self.port}
        (self.directory / "settings.json").write_text(json.dumps(settings))
        model = {"name": "model", "implementation": "mlserver_recipe.OnnxModel", "parameters": {"uri": str(self.model)}}
        (self.directory / "model-settings.json").write_text(json.dumps(model))
        return [str(Path(python_of("mlserver")).with_name("mlserver")), "start", str(self.directory)]

    def environment(self) -> Mapping[str, str]:
        return {"PYTHONPATH": str(RECIPES)}


class GunicornFlask(Peer):
    """Flask under gunicorn with one worker, of the usual kind ``sync``, or ``gthread`` with some threads."""

    path = "/infer"
    ready_path = "/ready"

    def __init__(self, directory: Path, model: Path, threads: int) -> None:
        super().__init__(directory, model)
        self.name = f"gunicorn, {threads} threads" if threads else "gunicorn, sync"
        self._kind = ["--worker-class=gthread", f"--threads={threads}"] if threads else ["--worker-class=sync"]

    def command(self) -> list[str]:
        options = ["--workers=1", *self._kind, f"--bind=127.0.0.1:{self.port}"]
        return [python_of("flask"), "-m", "gunicorn", *options, "flask_recipe:app"]

    def environment(self) -> Mapping[str, str]:
        return {"PYTHONPATH": str(RECIPES), "MODEL": str(self.model)}
