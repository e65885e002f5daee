# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What each way to run the service costs a whole machine, beside the native service: time, memory, latency, swaps."""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))

from figures import percentile, spread
from load import OK, Load, Request
from machine_controller import MachineController
from machine_images import MachineImages, roles_of
from machine_model import ACTIVATE, NEW, OLD, request
from whole_machine import WholeMachine, architecture_of

from ansible_collections.edgeml.fleet.plugins.module_utils._common.table import text_table

RUNNERS = ("native", "podman", "docker")
SETTLE_SECONDS = 1.0
# The proportional set sizes of the service's processes, and of those that only the runner needs, in kB.
MEMORY = """
import json, pathlib
found = {"server": 0, "runner": 0}
engines = {b"podman", b"conmon", b"docker", b"dockerd", b"containerd", b"containerd-shim-runc-v2"}
for process in pathlib.Path("/proc").glob("[0-9]*"):
    try:
        words = (process / "cmdline").read_bytes().split(b"\\0")
        lines = (process / "smaps_rollup").read_text().splitlines()
    except OSError:
        continue
    pss = next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    name = words[0].rsplit(b"/", 1)[-1]
    if b"edgeml_server" in words and name.startswith(b"python") and b"relay" not in words:
        found["server"] += pss
    elif b"relay" in words or name in engines:
        found["runner"] += pss
print(json.dumps(found))
"""


@dataclass
class Measured:
    """What was measured of one runner, a figure a round."""

    serving_seconds: float = 0.0
    p50: list[float] = field(default_factory=list)
    p99: list[float] = field(default_factory=list)
    gap: list[float] = field(default_factory=list)
    server_kb: list[int] = field(default_factory=list)
    runner_kb: list[int] = field(default_factory=list)
    requests: int = 0
    lost: int = 0


def provide(machine: WholeMachine, controller: MachineController, runner: str, images: MachineImages) -> float:
    """Have a pristine machine serve a model by ``runner``. Returns the seconds that it took."""
    play, values = roles_of(runner, images.archive)
    play["roles"].insert(0, {"role": "edgeml.fleet.provision"})
    began = time.monotonic()
    controller.play(play, **values)
    swap = {"model": "digits", "repository": "{{ model_repository }}", "trial_seconds": 0}
    controller.tasks({"name": "Serve", "edgeml.fleet.model_swap": {**swap, "version": OLD}})
    seconds = time.monotonic() - began
    controller.tasks({"name": "Hold", "edgeml.fleet.model_swap": {**swap, "version": NEW, "state": "present"}})
    return seconds


def measure(machine: WholeMachine, measured: Measured, seconds: float, swaps: int, rate: float) -> None:
    """One round: requests while nothing changes, the memory, and swaps there and back."""
    with (
        tempfile.TemporaryDirectory() as name,
        Load(Path(name), machine.port, "/v2/models/digits/infer", request(), rate) as load,
    ):
        time.sleep(SETTLE_SECONDS)
        begin = time.monotonic()
        time.sleep(seconds)
        end = time.monotonic()
        memory = json.loads(machine.shell("python3 -", stdin=MEMORY).stdout)
        intervals = []
        for _number in range(swaps):
            for version in (NEW, OLD):
                began = time.monotonic()
                machine.shell(ACTIVATE.format(version))
                intervals.append((began, time.monotonic()))
                time.sleep(SETTLE_SECONDS)
    steady = [sent.seconds for sent in load.requests if sent.status == OK and begin < sent.sent and sent.ended < end]
    measured.p50.append(percentile(steady, 50))
    measured.p99.append(percentile(steady, 99))
    measured.gap.append(statistics.median(_gap(load.requests, *interval) for interval in intervals))
    measured.server_kb.append(memory["server"])
    measured.runner_kb.append(memory["runner"])
    measured.requests += len(load.requests)
    measured.lost += sum(sent.status != OK for sent in load.requests)


def _gap(requests: list[Request], begin: float, end: float) -> float:
    """The longest time without a good answer."""
    ended = sorted(sent.ended for sent in requests if sent.status == OK and begin <= sent.ended <= end)
    return max(after - before for before, after in itertools.pairwise([begin, *ended, end]))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("machine", type=Path, help="the directory of a machine that tools/machine has made")
    parser.add_argument("--rounds", type=int, default=5, help="rounds, in each of which all runners are measured")
    parser.add_argument(
        "--seconds", type=float, default=10, help="how long requests are measured while nothing changes"
    )
    parser.add_argument("--swaps", type=int, default=3, help="swaps to another version and back in a round")
    parser.add_argument("--rate", type=float, default=100, help="requests a second")
    options = parser.parse_args()
    found = {runner: Measured() for runner in RUNNERS}
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="edgeml-benchmark-")))
        (directory / "images").mkdir()
        images = MachineImages.build(architecture_of(options.machine), directory / "images")
        machines = {}
        for runner in RUNNERS:
            machine = stack.enter_context(WholeMachine(options.machine, directory / runner))
            controller = MachineController(directory / f"{runner}-ansible", machine)
            found[runner].serving_seconds = provide(machine, controller, runner, images)
            print(f"{runner}: serves after {found[runner].serving_seconds:.0f} s", flush=True)
            machines[runner] = machine
        for _round in range(options.rounds):
            for runner, machine in machines.items():
                measure(machine, found[runner], options.seconds, options.swaps, options.rate)
    native = found["native"]
    rows = [
        {
            "runner": runner,
            "pristine to serving / native": f"{measured.serving_seconds / native.serving_seconds:.2f}",
            "p50 / native": _ratio(measured.p50, native.p50),
            "p99 / native": _ratio(measured.p99, native.p99),
            "swap gap / native": _ratio(measured.gap, native.gap),
            "server's memory / native": _ratio(measured.server_kb, native.server_kb),
            "runner's own / native": _ratio(measured.runner_kb, native.server_kb),
            "requests": measured.requests,
            "lost": measured.lost,
        }
        for runner, measured in found.items()
    ]
    print("\n".join(text_table(rows)))
    gap, p50, memory = (statistics.median(values) for values in (native.gap, native.p50, native.server_kb))
    print(f"native: swap gap {gap * 1000:.1f} ms, p50 {p50 * 1000:.2f} ms, memory {memory / 1000:.1f} MB")


def _ratio(values: list[float] | list[int], native: list[float] | list[int]) -> str:
    return spread(value / beside for value, beside in zip(values, native, strict=True))


if __name__ == "__main__":
    main()
