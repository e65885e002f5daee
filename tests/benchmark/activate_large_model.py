# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the activation of a staged model costs, beside one SHA-256 of its file and the runtime's own load of it."""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))

from clone import PYTHON_PATH
from device import Device
from figures import spread
from measure import Cost
from module_process import ModuleProcess, write_blobs
from networks import FILE, Convolutions, Network
from releases import Made

from ansible_collections.edgeml.fleet.plugins.module_utils._common.table import text_table
from ansible_collections.edgeml.fleet.plugins.module_utils._device.metrics import parse_metrics

# Each in a process of its own, as the module is one; only what is asked for is timed.
HASH = """
import hashlib, sys, time
wall, cpu = time.perf_counter(), time.process_time()
digest = hashlib.sha256()
with open(sys.argv[1], "rb") as file:
    while chunk := file.read(1 << 20):
        digest.update(chunk)
print(time.perf_counter() - wall, time.process_time() - cpu)
"""
LOAD = """
import sys, time
from edgeml_server.models.backend import BackendOptions
from edgeml_server.models.backend_onnx import OnnxBackend
wall, cpu = time.perf_counter(), time.process_time()
OnnxBackend(sys.argv[1], BackendOptions(threads=1))
print(time.perf_counter() - wall, time.process_time() - cpu)
"""


@dataclass(frozen=True)
class Seconds:
    """The time that something took, and the processor time in it."""

    wall: float
    cpu: float


@dataclass(frozen=True)
class Round:
    """One measurement of everything, side by side. Of the activation, the server's part is included."""

    hashing: Seconds
    loading: Seconds
    activation: Seconds
    by_hand: Seconds
    nothing: Seconds
    ping: Seconds
    resident_bytes: int


def measure_round(device: Device, module: ModuleProcess, made: Made, other: Made) -> Round:
    """Activate a staged release by the module and another by the device's command, and measure the rest beside it."""
    path = device.root / "models" / made.release.model / "versions" / made.release.version / FILE
    module.prepare(made)
    hashing, loading = (_run(script, path) for script in (HASH, LOAD))
    before = _server_cpu(device)
    result, cost = module.run()
    served = _server_cpu(device) - before
    assert result["changed"]
    assert result["live"] == made.release.version
    again, nothing = module.run()
    assert not again["changed"]
    ping = module.ping()
    before = _server_cpu(device)
    no_waiting = ("--min-ready-seconds", "0", "--trial-seconds", "0")
    by_hand = module.edgeml("activate", other.release.model, other.release.version, *no_waiting)
    by_hand_served = _server_cpu(device) - before
    assert device.server.serving_version(other.release.model) == other.release.version
    return Round(
        hashing,
        loading,
        Seconds(cost.wall_seconds, cost.cpu_seconds + served),
        Seconds(by_hand.wall_seconds, by_hand.cpu_seconds + by_hand_served),
        Seconds(nothing.wall_seconds, nothing.cpu_seconds),
        Seconds(ping.wall_seconds, ping.cpu_seconds),
        cost.resident_bytes,
    )


def _run(script: str, path: Path) -> Seconds:
    done = subprocess.run(
        [sys.executable, "-c", script, str(path)],
        env={"PYTHONPATH": str(PYTHON_PATH)},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return Seconds(*(float(number) for number in done.stdout.split()))


def _server_cpu(device: Device) -> float:
    values = {name: value for name, _labels, value in parse_metrics(device.server.metrics())}
    return values["process_cpu_seconds_total"]


def _ratios(name: str, rounds: Sequence[Round], clock: Callable[[Seconds], float]) -> dict[str, str]:
    """A row of the table; everything as multiples of one SHA-256 and one load."""
    work = [clock(round_.hashing) + clock(round_.loading) for round_ in rounds]

    def column(seconds: Callable[[Round], float]) -> str:
        return spread(seconds(round_) / unit for round_, unit in zip(rounds, work, strict=True))

    return {
        "model": name,
        "SHA-256": column(lambda round_: clock(round_.hashing)),
        "load": column(lambda round_: clock(round_.loading)),
        "activation": column(lambda round_: clock(round_.activation)),
        "edgeml activate": column(lambda round_: clock(round_.by_hand)),
        "the module with nothing to do": column(lambda round_: clock(round_.nothing)),
        "Ansible's ping": column(lambda round_: clock(round_.ping)),
        "activation without nothing": column(lambda round_: clock(round_.activation) - clock(round_.nothing)),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=int, nargs="+", default=[1, 100, 1000], help="sizes of the models")
    parser.add_argument("--convolutions", action="store_true", help="models of convolutions, not of perceptrons")
    parser.add_argument("--rounds", type=int, default=9, help="how often each is measured")
    options = parser.parse_args()
    times, sizes = [], []
    with tempfile.TemporaryDirectory(prefix="edgeml-benchmark-") as name:
        directory = Path(name)
        with Device(directory, "device") as device:
            module = ModuleProcess(directory, device)
            for megabytes in options.megabytes:
                network = Convolutions(megabytes) if options.convolutions else Network(megabytes)
                staged = [_stage(network, number, module, directory) for number in (1, 2)]
                rounds = [measure_round(device, module, staged[0][0], staged[1][0]) for _round in range(options.rounds)]
                times.append(_ratios(f"{megabytes} MB, time", rounds, lambda seconds: seconds.wall))
                times.append(_ratios(f"{megabytes} MB, processor", rounds, lambda seconds: seconds.cpu))
                work = statistics.median(round_.hashing.wall + round_.loading.wall for round_ in rounds)
                sizes.append(
                    {
                        "model": f"{megabytes} MB",
                        "memory, activation": f"{max(round_.resident_bytes for round_ in rounds) / 1e6:.1f} MB",
                        "memory, staging": f"{max(cost.resident_bytes for _made, cost in staged) / 1e6:.1f} MB",
                        "time of staging": spread(cost.wall_seconds / work for _made, cost in staged),
                    }
                )
                device.server.unload(network.name)
                device.reset()
    print("\n".join([*text_table(times), "", *text_table(sizes)]))


def _stage(network: Network | Convolutions, number: int, module: ModuleProcess, directory: Path) -> tuple[Made, Cost]:
    """Have the device hold a version, tested; returns its manifest, and what that cost."""
    made = network.release(number)
    module.prepare(made, write_blobs(made, directory / "blobs"), state="present")
    return Made(made.document, {}), module.run()[1]


if __name__ == "__main__":
    main()
