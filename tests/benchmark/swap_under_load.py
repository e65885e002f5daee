# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What clients notice of a new version: of a swap, of a copied file and a restart, of a new container."""

from __future__ import annotations

import argparse
import contextlib
import io
import itertools
import json
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))

from clone import PYTHON_PATH, REPOSITORY
from device import GUARD_SECONDS, Device
from figures import percentile, spread
from load import NO_CONNECTION, OK, Load, Request
from module_process import ModuleProcess, write_blobs
from networks import FILE, Digits, Network
from releases import Made, activate, put

from ansible_collections.edgeml.fleet.plugins.module_utils._common.table import text_table
from ansible_collections.edgeml.fleet.plugins.module_utils._device.client import Server

CONTAINER = IMAGE = "edgeml-benchmark-server"
STEADY_SECONDS = 1.0
SETTLE_SECONDS = 0.2


class Way(ABC):
    """A way to have another version of a model served, on a device of its own that serves version 0."""

    def __init__(self, directory: Path, model: Network | Digits) -> None:
        self.directory = directory
        self.model = model
        self.port = _free_port()
        self.device = Device(directory, "device", port=self.port)

    def wait_ready(self) -> None:
        """Wait until the server serves the model."""
        server = Server(f"http://127.0.0.1:{self.port}")
        deadline = time.monotonic() + GUARD_SECONDS
        while server.serving_version(self.model.name) is None:
            assert time.monotonic() < deadline
            time.sleep(0.02)

    @abstractmethod
    def start(self, stack: contextlib.ExitStack) -> None:
        """Serve version 0."""

    @abstractmethod
    def prepare(self, number: int) -> None:
        """Have the files of version ``number`` on the device, as after a transfer; not part of the change."""

    @abstractmethod
    def change(self, number: int) -> None:
        """Serve version ``number``."""

    def numbers(self, version: str, changes: int) -> Sequence[int]:
        """The versions that an answer may be of."""
        return range(changes + 1)


class SwapWay(Way):
    """The module, whole: the blobs into the store, smoke test, verification, switch, load, first look."""

    def start(self, stack: contextlib.ExitStack) -> None:
        stack.enter_context(self.device)
        self._module = ModuleProcess(self.directory, self.device)
        self.prepare(0)
        self.change(0)

    def prepare(self, number: int) -> None:
        made = self.model.release(number)
        self._module.prepare(made, write_blobs(made, self.directory / "blobs"))

    def change(self, number: int) -> None:
        result, _cost = self._module.run()
        assert result["live"] == f"1.{number}.0", result

    def numbers(self, version: str, changes: int) -> Sequence[int]:
        return [int(version.split(".")[1])]


class CopyWay(Way):
    """The new file is copied over the one that serves, and the server restarted."""

    def __init__(self, directory: Path, model: Network | Digits) -> None:
        super().__init__(directory, model)
        # Who copies files has neither golden inputs nor a probe set.
        made = model.release(0)
        document = {name: value for name, value in made.document.items() if name not in ("golden", "probe")}
        put(self.device.store, Made(document, made.blobs))
        activate(self.device.store, model.name, document["version"])
        self._serving = self.device.store.version(model.name, document["version"]).entrypoint_path

    def prepare(self, number: int) -> None:
        (self.directory / FILE).write_bytes(self.model.content(number))

    def change(self, number: int) -> None:
        shutil.copyfile(self.directory / FILE, self._serving)
        self.restart()
        self.wait_ready()

    @abstractmethod
    def restart(self) -> None:
        """End the server and start it again."""


class RestartWay(CopyWay):
    """As ``systemctl restart`` does it: SIGTERM, wait for the end, start, wait until it is ready."""

    def start(self, stack: contextlib.ExitStack) -> None:
        stack.enter_context(self.device)
        self.wait_ready()

    def restart(self) -> None:
        self.device.stop_server(signal.SIGTERM)
        self.device.start_server()


class ContainerWay(CopyWay):
    """The same server in a container on the host's network, stopped, removed and run anew."""

    def start(self, stack: contextlib.ExitStack) -> None:
        _docker("import", "-", IMAGE, stdin=_empty_root())
        stack.callback(_docker, "rmi", "--force", IMAGE)
        config = {"store": self.device.store.root, "socket": "/tmp/server.sock", "listen_port": self.port}
        (self.directory / "server.json").write_text(json.dumps(config))
        stack.callback(_docker, "rm", "--force", CONTAINER)
        self._run()
        self.wait_ready()

    def restart(self) -> None:
        _docker("stop", CONTAINER)
        _docker("rm", CONTAINER)
        self._run()

    def _run(self) -> None:
        venv = Path(sys.prefix).resolve()
        paths = {"/usr", sys.base_prefix, str(venv), str(REPOSITORY), str(self.directory)}
        mounts = [f"--volume={path}:{path}:ro" for path in sorted(paths)]
        command = [str(venv / "bin" / "python"), "-m", "edgeml_server", "--config", str(self.directory / "server.json")]
        options = ["--detach", "--network=host", "--tmpfs=/tmp", f"--env=PYTHONPATH={PYTHON_PATH}"]
        _docker("run", f"--name={CONTAINER}", *options, *mounts, IMAGE, *command)


def _docker(*arguments: str, stdin: bytes = b"") -> None:
    done = subprocess.run(["docker", *arguments], input=stdin, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()


def _empty_root() -> bytes:
    """A root file system, as a tar archive, that finds everything below the host's /usr."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        for name in ("usr", "tmp"):
            directory = tarfile.TarInfo(name)
            directory.type, directory.mode = tarfile.DIRTYPE, 0o755
            archive.addfile(directory)
        for name in ("bin", "lib", "lib64"):
            link = tarfile.TarInfo(name)
            link.type, link.linkname = tarfile.SYMTYPE, f"usr/{name}"
            archive.addfile(link)
    return content.getvalue()


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


@dataclass(frozen=True)
class Noticed:
    """What the clients noticed: the requests that were under way while nothing changed and during the changes, and the
    longest time in which none was answered well."""

    steady: list[Request]
    during: list[Request]
    longest_gap: float

    @property
    def failed(self) -> int:
        """Requests that were answered with an error."""
        return sum(request.status not in (OK, NO_CONNECTION) for request in (*self.steady, *self.during))

    @property
    def unconnected(self) -> int:
        """Requests whose connection was refused, reset or closed before the answer."""
        return sum(request.status == NO_CONNECTION for request in (*self.steady, *self.during))

    def ratio(self, percent: float) -> float:
        """A percentile of the times of good answers during the changes, to the one while nothing changed."""
        during, steady = (
            percentile([request.seconds for request in requests if request.status == OK], percent)
            for requests in (self.during, self.steady)
        )
        return during / steady


def measure(way: Way, changes: int) -> Noticed:
    """Change the version ``changes`` times under load; before each, nothing changes for STEADY_SECONDS."""
    steady, during = [], []
    with contextlib.ExitStack() as stack:
        way.start(stack)
        with Load(way.directory, way.port, f"/v2/models/{way.model.name}/infer", way.model.request) as load:
            for number in range(1, changes + 1):
                way.prepare(number)
                time.sleep(SETTLE_SECONDS)
                begin = time.monotonic()
                time.sleep(STEADY_SECONDS)
                change = time.monotonic()
                way.change(number)
                steady.append((begin, change))
                during.append((change, time.monotonic()))
            time.sleep(STEADY_SECONDS)
    for answer in map(json.loads, load.bodies):
        (values,) = (output["data"] for output in answer["outputs"])
        expected = [way.model.answer(number) for number in way.numbers(answer["model_version"], changes)]
        assert any(np.allclose(values, right, atol=1e-4) for right in expected), answer
    good = [request.ended for request in load.requests if request.status == OK]
    gap = max(after - before for before, after in itertools.pairwise(good))
    return Noticed(_within(load.requests, steady), _within(load.requests, during), gap)


def _within(requests: Sequence[Request], windows: Sequence[tuple[float, float]]) -> list[Request]:
    """The requests that were under way in one of the windows."""
    return [request for begin, end in windows for request in requests if request.sent < end and request.ended > begin]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=3, help="how often everything is measured")
    parser.add_argument("--swaps", type=int, default=20, help="swaps of each model in a run")
    parser.add_argument("--restarts", type=int, default=5, help="restarts, and new containers, of each model in a run")
    parser.add_argument("--megabytes", type=int, default=40, help="size of the large model")
    options = parser.parse_args()
    ways: list[tuple[str, Callable[[Path, Network | Digits], Way], int]] = [
        ("model_swap", SwapWay, options.swaps),
        ("copy, restart", RestartWay, options.restarts),
        ("copy, new container", ContainerWay, options.restarts),
    ]
    models = (Digits(), Network(options.megabytes))
    found: dict[tuple[str, str], list[Noticed]] = {
        (model.name, name): [] for model in models for name, _make, _changes in ways
    }
    for _ in range(options.runs):
        rows = []
        for model in models:
            swaps = found[model.name, "model_swap"]
            for name, make, changes in ways:
                runs = found[model.name, name]
                with tempfile.TemporaryDirectory(prefix="edgeml-benchmark-") as directory:
                    runs.append(measure(make(Path(directory), model), changes))
                rows.append(
                    {
                        "model": f"{len(model.content(0)) / 1e6:.2g} MB",
                        "way": name,
                        "changes": changes * len(runs),
                        "requests": sum(len(run.steady) + len(run.during) for run in runs),
                        "failed": sum(run.failed for run in runs),
                        "connection errors": sum(run.unconnected for run in runs),
                        "p50 during / steady": spread(run.ratio(50) for run in runs),
                        "p99 during / steady": spread(run.ratio(99) for run in runs),
                        "longest gap / a swap's": spread(
                            run.longest_gap / swap.longest_gap for run, swap in zip(runs, swaps, strict=True)
                        ),
                    }
                )
        print("\n".join(text_table(rows)), flush=True)


if __name__ == "__main__":
    main()
