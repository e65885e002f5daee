# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a plan of a large fleet costs, beside one SHA-256 of each host's name."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))

from clone import PYTHON_PATH
from figures import spread
from measure import measured, read_costs

from ansible_collections.edgeml.fleet.plugins.module_utils._common.table import text_table

# Each round in a process of its own: the hosts of four classes, their hashes, and the plan. The last two are timed.
CODE = """
import hashlib, json, sys, time
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.waves import Host, plan
size, targets, limit = json.loads(sys.argv[1])
hosts = {f"edge-{number:06}": Host(("a", "b", "c", "d")[number % 4]) for number in range(size)}
groups = {"canary": [f"edge-{number:06}" for number in range(0, size, 1000)]}
started = time.process_time()
for name in hosts:
    hashlib.sha256(name.encode()).digest()
hashed = time.process_time()
found = plan(hosts, targets, "digits", groups, limit) if targets else None
ended = time.process_time()
print(json.dumps([hashed - started, ended - hashed, len(found.waves) if found else 0]))
"""
WAYS = {
    "canary, 10%, 50%, 100%": (["canary", "10%", "50%", "100%"], None),
    "the same, at most 5% of a class": (["canary", "10%", "50%", "100%"], "5%"),
    "20 percentages": ([f"{5 * number}%" for number in range(1, 21)], None),
    "no plan": ([], None),
}


def measure(size: int, targets: list[str], limit: str | None, log: Path) -> tuple[float, float, int, int]:
    """Processor seconds of the hashes and of the plan, the number of waves, and the process's most memory in bytes."""
    code = measured(log, sys.executable, "-c", CODE, json.dumps([size, targets, limit]))
    done = subprocess.run(code, env={"PYTHONPATH": str(PYTHON_PATH)}, check=True, capture_output=True, text=True)
    hashes, planned, waves = json.loads(done.stdout)
    return hashes, planned, waves, read_costs(log)[-1].resident_bytes


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as directory:
        for size in options.sizes:
            for name, (targets, limit) in WAYS.items():
                found = [measure(size, targets, limit, Path(directory) / "costs") for _round in range(options.rounds)]
                rows.append(
                    {
                        "hosts": size,
                        "waves": name,
                        "number": found[0][2],
                        "time / SHA-256 of the names": spread(planned / hashes for hashes, planned, _n, _m in found),
                        "under 1 s": f"{sum(planned < 1 for _h, planned, _n, _m in found)} of {len(found)}",
                        "memory": f"{max(memory for _h, _p, _n, memory in found) / 1e6:.0f} MB",
                    }
                )
    sys.stdout.write("\n".join(text_table(rows)) + "\n")


if __name__ == "__main__":
    main()
