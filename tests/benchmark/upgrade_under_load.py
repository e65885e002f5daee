# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What clients notice of an upgrade of the server, by a new process that takes over and by a restart, under systemd."""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))

from clone import PYTHON_PATH
from figures import percentile, spread
from load import NO_CONNECTION, OK, Load, Request
from networks import Network
from releases import activate, put
from server_unit import ServerUnit
from user_manager import UserManager

from ansible_collections.edgeml.fleet.plugins.module_utils._common.table import text_table
from ansible_collections.edgeml.fleet.plugins.module_utils._device.store import Store

STEADY_SECONDS = 1.0
SAMPLE_SECONDS = 0.02


@dataclass
class Noticed:
    """The requests, the intervals of the upgrades, and the memory of the unit's processes, in bytes."""

    requests: list[Request]
    upgrades: list[tuple[float, float]]
    steady_bytes: int
    most_bytes: int

    def times(self, during: bool) -> list[float]:
        """The times of the good answers under way during an upgrade, or not."""
        return [
            request.seconds
            for request in self.requests
            if request.status == OK
            and during == any(request.sent < end and request.ended > begin for begin, end in self.upgrades)
        ]

    @property
    def longest_gap(self) -> float:
        """The longest time in which no request was answered well."""
        ended = sorted(request.ended for request in self.requests if request.status == OK)
        return max(after - before for before, after in itertools.pairwise(ended))


class Memory(threading.Thread):
    """Notes the most memory that the processes of a server have at once: their proportional set sizes."""

    def __init__(self, mark: str) -> None:
        super().__init__()
        self._mark = mark.encode()
        self._end = threading.Event()
        self.most = 0

    def run(self) -> None:
        """Look until it is told to stop."""
        while not self._end.wait(SAMPLE_SECONDS):
            self.most = max(self.most, self.now())

    def stop(self) -> int:
        """Stop, and return the most that was seen."""
        self._end.set()
        self.join()
        return self.most

    def now(self) -> int:
        """The bytes at this moment."""
        total = 0
        for process in Path("/proc").glob("[0-9]*"):
            try:
                if self._mark in (process / "cmdline").read_bytes():
                    lines = (process / "smaps_rollup").read_text().splitlines()
                    total += next(int(line.split()[1]) << 10 for line in lines if line.startswith("Pss:"))
            except (OSError, StopIteration):
                continue
        return total


def measure(verb: str, model: Network, upgrades: int) -> Noticed:
    """Upgrade a server under load so many times by ``verb`` of its unit."""
    with tempfile.TemporaryDirectory(prefix="edgeml-benchmark-") as name, UserManager(Path(name)) as manager:
        directory = Path(name)
        (directory / "store").mkdir()
        store, made = Store(str(directory / "store")), model.release(0)
        put(store, made)
        activate(store, model.name, made.document["version"])
        config = {"store": store.root, "socket": f"{directory}/server.sock", "listen_port": 0}
        (directory / "server.json").write_text(json.dumps(config))
        unit = ServerUnit(manager, directory)
        unit.install("first", str(PYTHON_PATH))
        assert unit.call("start") == 0
        # A restart must find the same port.
        (directory / "server.json").write_text(json.dumps({**config, "listen_port": unit.port}))
        assert unit.call("restart") == 0
        memory, intervals = Memory(f"{directory}/server.json"), []
        with Load(directory, unit.port, f"/v2/models/{model.name}/infer", model.request) as load:
            time.sleep(STEADY_SECONDS)
            steady = memory.now()
            memory.start()
            for number in range(upgrades):
                unit.install(f"upgrade {number}", str(PYTHON_PATH))
                begin = time.monotonic()
                assert unit.call(verb) == 0
                intervals.append((begin, time.monotonic()))
                time.sleep(STEADY_SECONDS)
        unit.call("stop")
        return Noticed(load.requests, intervals, steady, memory.stop())


def main() -> None:
    """Print a table of both ways."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--upgrades", type=int, default=10, help="of each way, each size and each run")
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--megabytes", type=int, nargs="+", default=[1, 42], help="sizes of the model")
    options = parser.parse_args()
    rows = []
    for megabytes in options.megabytes:
        model = Network(megabytes)
        found = {
            verb: [measure(verb, model, options.upgrades) for _run in range(options.runs)]
            for verb in ("reload", "restart")
        }
        for verb, runs in found.items():
            requests = [request for run in runs for request in run.requests]
            rows.append(
                {
                    "model": f"{megabytes} MB",
                    "way": {"reload": "new process takes over", "restart": "restart"}[verb],
                    "upgrades": options.upgrades * options.runs,
                    "requests": len(requests),
                    "failed": sum(request.status not in (OK, NO_CONNECTION) for request in requests),
                    "connection errors": sum(request.status == NO_CONNECTION for request in requests),
                    "p99 during / steady": spread(
                        percentile(run.times(during=True), 99) / percentile(run.times(during=False), 99) for run in runs
                    ),
                    "longest gap / a handover's": spread(
                        run.longest_gap / other.longest_gap for run, other in zip(runs, found["reload"], strict=True)
                    ),
                    "memory at most / steady": spread(run.most_bytes / run.steady_bytes for run in runs),
                }
            )
    print("\n".join(text_table(rows)))


if __name__ == "__main__":
    main()
