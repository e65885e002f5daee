# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What provisioning costs an emulated ARM device, pristine and again, beside an earlier commit of this clone."""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import docker

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))

from clone import REPOSITORY

from ansible_collections.edgeml.fleet.plugins.module_utils._common.table import text_table

# The last one whose roles start a module for each thing that differs.
BEFORE = "2118a80"
SHARED = REPOSITORY / "molecule" / "shared"


@dataclass(frozen=True)
class Cost:
    """Seconds that a playbook took, and seconds of processor that the device spent on it."""

    wall: float
    device: float


class Collection:
    """The collection as a commit has it, or as it is in this clone, installed below ``directory``."""

    def __init__(self, name: str, source: Path, directory: Path) -> None:
        self.name = name
        self._path = directory / name
        built = directory / f"{name}-built"
        _run("ansible-galaxy", "collection", "build", "--output-path", built, source)
        (tarball,) = built.glob("*.tar.gz")
        options = ("--offline", "--no-deps", "--force", "--collections-path", self._path)
        _run("ansible-galaxy", "collection", "install", *options, tarball)

    def provision(self, device: str) -> Cost:
        """Run the playbook on a device and measure it."""
        path = os.pathsep.join([str(self._path), str(REPOSITORY / ".ansible" / "collections")])
        spent, began = _device_seconds(device), time.monotonic()
        _run("ansible-playbook", "edgeml.fleet.provision", "--limit", device, ANSIBLE_COLLECTIONS_PATH=path)
        return Cost(time.monotonic() - began, _device_seconds(device) - spent)


def main() -> None:
    """Measure some rounds and print them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="pristine devices that each of the two provisions")
    parser.add_argument("--device", default="edge-s1", help="the one of the inventory that is made and provisioned")
    parser.add_argument("--before", default=BEFORE, help="the commit to compare with")
    parser.add_argument("--no-warm-up", action="store_true", help="the controller has the archives for both already")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="edgeml-provision-") as scratch, _worktree(arguments.before) as worktree:
        collections = [Collection("before", worktree, Path(scratch)), Collection("now", REPOSITORY, Path(scratch))]
        costs: dict[tuple[str, str], list[Cost]] = {}
        try:
            # Round 0 is not counted: in it, the controller makes the archives.
            for round_ in range(1 if arguments.no_warm_up else 0, arguments.rounds + 1):
                for collection in collections:
                    _run("ansible-playbook", SHARED / "create.yml", "--limit", arguments.device)
                    for kind in ("pristine", "nothing to change"):
                        cost = collection.provision(arguments.device)
                        print(f"{round_} {collection.name}, {kind}: {cost.wall:.1f} s, {cost.device:.1f} s", flush=True)
                        if round_:
                            costs.setdefault((kind, collection.name), []).append(cost)
        finally:
            _run("ansible-playbook", SHARED / "destroy.yml")
    print(
        text_table(
            [_row(kind, costs[kind, "before"], costs[kind, "now"]) for kind in ("pristine", "nothing to change")]
        )
    )


def _row(kind: str, before: Sequence[Cost], now: Sequence[Cost]) -> dict[str, str]:
    return {
        "device": kind,
        "time, now / before": _ratios([b.wall for b in before], [n.wall for n in now]),
        "device's processor, now / before": _ratios([b.device for b in before], [n.device for n in now]),
        "before, s": f"{statistics.median(b.wall for b in before):.1f}",
        "now, s": f"{statistics.median(n.wall for n in now):.1f}",
    }


def _ratios(before: Sequence[float], now: Sequence[float]) -> str:
    """The median of the ratios round by round, with the least and the greatest."""
    ratios = sorted(n / b for b, n in zip(before, now, strict=True))
    return f"{statistics.median(ratios):.2f} ({ratios[0]:.2f}-{ratios[-1]:.2f})"


@contextmanager
def _worktree(commit: str) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="edgeml-before-") as directory:
        path = Path(directory) / "clone"
        _run("git", "-C", REPOSITORY, "worktree", "add", "--detach", path, commit)
        try:
            yield path
        finally:
            _run("git", "-C", REPOSITORY, "worktree", "remove", "--force", path)


def _device_seconds(device: str) -> float:
    """Seconds of processor that a device's container has spent."""
    engine = docker.from_env()
    try:
        stats = engine.containers.get(f"edgeml-{device}").stats(stream=False)
    finally:
        engine.close()
    assert isinstance(stats, dict)
    return int(stats["cpu_stats"]["cpu_usage"]["total_usage"]) / 1e9


def _run(*command: str | Path, **environment: str) -> None:
    """Run a command in this clone. Raises CalledProcessError when it fails, after what it printed."""
    done = subprocess.run(
        [str(part) for part in command],
        cwd=REPOSITORY,
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        print(done.stdout)
        done.check_returncode()


if __name__ == "__main__":
    main()
