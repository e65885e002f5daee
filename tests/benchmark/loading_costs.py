# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a load costs those who wait: requests, the start, the memory; beside another tree (--baseline).

Each build has a server of its own, of the same releases. Those of this tree are prepared, as a swap does it.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))

from clone import PYTHON_PATH
from figures import percentile, spread
from links import BYTE_COMPILED
from load import OK, Load, Request
from networks import Convolutions, Digits, Network
from releases import Made, activate, put

from ansible_collections.edgeml.fleet.plugins.module_utils._common.table import text_table
from ansible_collections.edgeml.fleet.plugins.module_utils._device.client import Server
from ansible_collections.edgeml.fleet.plugins.module_utils._device.preparation import note_smoke_test, prepare
from ansible_collections.edgeml.fleet.plugins.module_utils._device.runtime import Runtime
from ansible_collections.edgeml.fleet.plugins.module_utils._device.smoke_test import SmokeTest
from ansible_collections.edgeml.fleet.plugins.module_utils._device.store import Store

GUARD_SECONDS = 300
STEADY_SECONDS = 2.0
RATE = 200
KINDS = ("Pss", "Anonymous")
VERSIONS = ("1.1.0", "1.2.0")
OTHER = "the other tree"


@dataclass
class Measured:
    """What was measured of one build, by round."""

    start: list[float] = field(default_factory=list)
    stall: list[float] = field(default_factory=list)
    during: list[float] = field(default_factory=list)
    two_versions: dict[str, list[float]] = field(default_factory=lambda: {kind: [] for kind in KINDS})
    failed: int = 0


class Build:
    """A tree of this collection with a Python that has its runtime, and a store with two versions of a model."""

    def __init__(self, name: str, directory: Path, path: Path, python: str) -> None:
        self.name = name
        self.directory = directory
        self._path = path
        self._python = python
        (directory / "store").mkdir(parents=True)
        self.store = Store(str(directory / "store"))
        self.measured = Measured()
        self.forms: list[str] = []
        self.port = 0
        self.server = Server(str(directory / "server.sock"), look_seconds=GUARD_SECONDS)

    def hold(self, releases: Sequence[Made], prepared: bool) -> None:
        """Bring the releases into the store, each model's first one active, and prepare them."""
        for made in releases:
            release = made.release
            put(self.store, made)
            if self.store.state(release.model).active is None:
                activate(self.store, release.model, release.version)
            version = self.store.version(release.model, release.version)
            if self.name == OTHER:
                make_old(Path(version.directory, "version.json"))
            if prepared:
                runtime = Runtime("venv app", self._python, str(self._path))
                with SmokeTest(version, runtime) as test:
                    result = test.result()
                assert result is not None
                note_smoke_test(self.store, version, result)
                prepare(self.store, version, runtime)
                noted = (self.store.tested(version) or {}).get("prepared", {})
                if noted:
                    self.forms.append(f"{release.model} {release.version}: {noted.get('settings', noted)}")

    @contextlib.contextmanager
    def serving(self) -> Iterator[int]:
        """Have the server run; yields its process id."""
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            self.port = listener.getsockname()[1]
        config = {"store": self.store.root, "socket": str(self.directory / "server.sock"), "listen_port": self.port}
        (self.directory / "server.json").write_text(json.dumps(config))
        began = time.monotonic()
        process = subprocess.Popen(
            [self._python, "-m", "edgeml_server", "--config", str(self.directory / "server.json")],
            env={**os.environ, **BYTE_COMPILED, "PYTHONPATH": str(self._path), "MALLOC_ARENA_MAX": "1"},
            stderr=subprocess.DEVNULL,
        )
        try:
            while not self._is_ready():
                assert process.poll() is None, f"{self.name}: the server ended"
                if time.monotonic() > began + GUARD_SECONDS:
                    raise TimeoutError(f"{self.name}: the server is not ready after {GUARD_SECONDS} s")
                time.sleep(0.005)
            self.measured.start.append(time.monotonic() - began)
            yield process.pid
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait()

    def _is_ready(self) -> bool:
        try:
            return self.server.has_started()
        except OSError:
            return False

    def swap(self, model: str, version: str) -> tuple[float, float]:
        """Have another version served; returns when that began and when it had ended."""
        began = time.monotonic()
        activate(self.store, model, version, self.store.state(model).active)
        self.server.load(model)
        ended = time.monotonic()
        assert self.server.serving_version(model) == version
        return began, ended


def make_old(path: Path) -> None:
    """Have a version's record as commit 2118a80 reads it: schema 1, and no digests of blocks."""
    record = json.loads(path.read_text())
    record["release"]["schema"] = 1
    for variant in record["release"]["variants"]:
        for file in variant["files"]:
            file.pop("blocks", None)
    path.chmod(0o640)
    path.write_text(json.dumps(record))


def memory(pid: int, kind: str) -> int:
    """Memory of a process in KiB: ``Pss`` (what several map counts for each in part) or ``Anonymous`` (no file's)."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{kind}:"))


def within(requests: Sequence[Request], windows: Sequence[tuple[float, float]]) -> list[float]:
    """How long the requests took that were under way in one of the windows."""
    return [
        request.seconds
        for request in requests
        if any(request.sent < end and request.ended > begin for begin, end in windows)
    ]


def measure(build: Build, model: str, load_on: str, document: object, rate: float, swaps: int) -> None:
    """One round of a build: its start, swaps of ``model`` under load on ``load_on``, and two versions at once."""
    with build.serving() as pid:
        windows, steady = [], []
        with Load(build.directory, build.port, f"/v2/models/{load_on}/infer", document, rate) as load:
            for number in range(swaps):
                begin = time.monotonic()
                time.sleep(STEADY_SECONDS)
                steady.append((begin, time.monotonic()))
                windows.append(build.swap(model, VERSIONS[(number + 1) % 2]))
        build.measured.failed += sum(request.status != OK for request in load.requests)
        during = within(load.requests, windows)
        build.measured.stall.append(max(during))
        build.measured.during.append(percentile(during, 99) / percentile(within(load.requests, steady), 99))
        one = [memory(pid, kind) for kind in KINDS]
        served = build.server.serving_version(model)
        other = next(version for version in VERSIONS if version != served)
        build.server._expect_ok("POST", f"/v2/repository/models/{model}/shadow", {"version": other})
        for kind, before in zip(KINDS, one, strict=True):
            build.measured.two_versions[kind].append(memory(pid, kind) / before)


def compare(builds: Sequence[Build], title: str) -> list[dict[str, object]]:
    """The rows of a table: each build beside the last one."""
    base = builds[-1].measured
    return [
        {
            "model": title,
            "build": build.name,
            "longest stall": spread(a / b for a, b in zip(build.measured.stall, base.stall, strict=True)),
            "stall, ms": spread(1000 * value for value in build.measured.stall),
            "p99 during / steady": spread(build.measured.during),
            "start to ready": spread(a / b for a, b in zip(build.measured.start, base.start, strict=True)),
            "PSS, 2 versions / 1": spread(build.measured.two_versions["Pss"]),
            "anonymous, 2 / 1": spread(build.measured.two_versions["Anonymous"]),
            "failed": build.measured.failed,
        }
        for build in builds
    ]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--baseline", type=Path, required=True, help="a git worktree of the commit to compare with")
    parser.add_argument("--baseline-python", default=sys.executable, help="a Python with the runtime of that commit")
    parser.add_argument("--rounds", type=int, default=5, help="how often everything is measured")
    parser.add_argument("--swaps", type=int, default=4, help="swaps in a round")
    parser.add_argument("--megabytes", type=int, default=100, help="size of the model of convolutions")
    parser.add_argument("--small-megabytes", type=int, default=40, help="size of the perceptron")
    options = parser.parse_args()
    digits = Digits()
    large, perceptron = Convolutions(options.megabytes), Network(options.small_megabytes)
    retrained = Convolutions(options.megabytes, seed=1)
    # The convolutions take too long to be asked all the time: clients of the small model notice their loads.
    cases: list[tuple[str, Sequence[Convolutions | Network], Digits | Network, float]] = [
        (f"convolutions, {options.megabytes} MB", (large, large), digits, RATE),
        ("all weights retrained", (large, retrained), digits, RATE),
        (f"perceptron, {options.small_megabytes} MB", (perceptron, perceptron), perceptron, 0),
    ]
    rows = []
    for title, (model, newer), asked, rate in cases:
        with tempfile.TemporaryDirectory(prefix="edgeml-benchmark-") as name:
            other = Path(name) / "path"
            other.mkdir()
            files = options.baseline / "roles" / "inference_service" / "files"
            (other / "edgeml_server").symlink_to((files / "edgeml_server").resolve())
            (other / "edgeml_device").symlink_to((options.baseline / "plugins" / "module_utils").resolve())
            builds = [
                Build("this tree", Path(name) / "now", PYTHON_PATH, sys.executable),
                Build("this tree, not prepared", Path(name) / "plain", PYTHON_PATH, sys.executable),
                Build(OTHER, Path(name) / "before", other, options.baseline_python),
            ]
            for build in builds:
                releases = [digits.release(0), model.release(1), newer.release(2)]
                build.hold(releases, prepared=build is builds[0])
                with build.serving():
                    build.measured.start.clear()
            for round_ in range(options.rounds):
                for build in builds if round_ % 2 else reversed(builds):
                    measure(build, model.name, asked.name, asked.request, rate, options.swaps)
            rows += compare(builds, title)
            print("\n".join([*builds[0].forms, *text_table(rows)]), flush=True)


if __name__ == "__main__":
    main()
