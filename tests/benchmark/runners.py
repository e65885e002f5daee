# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What each way to run the service costs, beside the native service: time, memory, latency, swaps.

On whole machines, which the roles provision; or on this machine, by the roles' own units and definitions, where
the images' programs are this machine's: there is nothing pristine there.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

sys.path.extend(str(Path(__file__).resolve().parents[1] / name) for name in ("support", "integration/server"))

import onnx_models
from clone import PYTHON_PATH
from container_device import COMMAND
from docker_service import DOCKER, PODMAN, loaded_image, running_service
from figures import percentile, spread
from load import OK, Load, Request
from machine_controller import MachineController
from machine_images import MachineImages, roles_of
from machine_model import ACTIVATE, NEW, OLD, REQUESTS_PER_SECOND, request
from server_process import Device, plus_input
from server_unit import running_unit
from supervised_service import running_supervised
from whole_machine import WholeMachine, architecture_of

from ansible_collections.edgeml.fleet.plugins.module_utils._common.table import text_table

RUNNERS = ("native", "podman", "docker")
HERE = (*RUNNERS, "supervisor")
SETTLE_SECONDS = 1.0
RATE = 100
# The proportional set sizes of the service's processes, and of those that only the runner needs, in kB. With arguments,
# only processes count that have one of them in their command line.
MEMORY = """
import json, pathlib, sys
found = {"server": 0, "runner": 0}
engines = {"podman", "conmon", "docker", "dockerd", "containerd", "containerd-shim-runc-v2", "supervisord"}
for process in pathlib.Path("/proc").glob("[0-9]*"):
    try:
        words = (process / "cmdline").read_bytes().decode(errors="replace").split("\\0")
        lines = (process / "smaps_rollup").read_text().splitlines()
    except OSError:
        continue
    name = words[0].rsplit("/", 1)[-1]
    if sys.argv[1:] and not any(mark in " ".join(words) for mark in sys.argv[1:]):
        continue
    pss = next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    passes_on = {"relay", "supervised", "listen-supervisor", "supervisor.supervisord"} & set(words)
    if "edgeml_server" in words and name.startswith("python") and not passes_on:
        found["server"] += pss
    elif passes_on or name in engines:
        found["runner"] += pss
print(json.dumps(found))
"""


class Served(NamedTuple):
    """A service that serves: its port, a model and a request of it, how its version is changed, and its memory."""

    port: int
    model: str
    request: dict[str, Any]
    versions: tuple[str, str]
    activate: Callable[[str], object]
    memory: Callable[[], dict[str, int]]


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


def provide(controller: MachineController, runner: str, images: MachineImages) -> float:
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


def on_machine(machine: WholeMachine) -> Served:
    """The service of a whole machine."""
    return Served(
        machine.port,
        "digits",
        request(),
        (OLD, NEW),
        lambda version: machine.shell(ACTIVATE.format(version)),
        lambda: json.loads(machine.shell("python3 -", stdin=MEMORY).stdout),
    )


@contextmanager
def here(runner: str, directory: Path) -> Iterator[Served]:
    """The service on this machine."""
    if runner == "native":
        device = Device(directory)
        device.publish("plus", OLD, onnx_models.plus(1))
        with running_unit(device, directory):
            yield _here(device, [str(directory)])
    elif runner == "supervisor":
        with running_supervised(directory) as supervised:
            yield _here(supervised.device, [str(directory)])
    else:
        engine = {"docker": DOCKER, "podman": PODMAN}[runner]
        with loaded_image(engine, directory) as image, running_service(image, directory, engine, 240) as service:
            identifier = service.engine("inspect", "--format={{.Id}}", service.container.name)
            daemons = ["/dockerd ", "containerd --config "] if engine == DOCKER else []
            yield _here(service.device, [str(directory), service.container.name, identifier, *daemons])


def _here(device: Device, marks: list[str]) -> Served:
    """A device whose service runs here; it gets two versions of a model."""
    versions = ("2.0.0", "3.0.0")
    edgeml = [sys.executable, str(COMMAND), "activate", "plus"]
    options = [
        "--trial-seconds=0",
        "--min-ready-seconds=0",
        f"--store={device.store.root}",
        f"--server={device.socket_path}",
    ]
    before = device.store.state("plus").active
    for number, version in enumerate(versions):
        device.publish("plus", version, onnx_models.plus(number))
    device.activate("plus", before)

    def activate(version: str) -> None:
        environment = {"PYTHONPATH": str(PYTHON_PATH)}
        subprocess.run([*edgeml, version, *options], check=True, env=environment, stdout=subprocess.DEVNULL)

    def memory() -> dict[str, int]:
        command = [sys.executable, "-", *marks]
        told = subprocess.run(command, input=MEMORY, capture_output=True, text=True, check=True).stdout
        found: dict[str, int] = json.loads(told)
        return found

    for version in reversed(versions):
        activate(version)
    return Served(device.port, "plus", {"inputs": [plus_input([1, 2])]}, versions, activate, memory)


def measure(served: Served, measured: Measured, seconds: float, swaps: int, rate: float) -> None:
    """One round: requests while nothing changes, the memory, and swaps there and back."""
    old, new = served.versions
    with (
        tempfile.TemporaryDirectory() as name,
        Load(Path(name), served.port, f"/v2/models/{served.model}/infer", served.request, rate) as load,
    ):
        time.sleep(SETTLE_SECONDS)
        begin = time.monotonic()
        time.sleep(seconds)
        end = time.monotonic()
        memory = served.memory()
        intervals = []
        for _number in range(swaps):
            for version in (new, old):
                began = time.monotonic()
                served.activate(version)
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
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument(
        "--machine", type=Path, help="on whole machines, from this directory that tools/machine has made"
    )
    where.add_argument("--here", action="store_true", help="on this machine")
    parser.add_argument("--runners", nargs="+", default=None, help="native, which has to be the first, and others")
    parser.add_argument("--rounds", type=int, default=5, help="rounds, in each of which all runners are measured")
    parser.add_argument(
        "--seconds", type=float, default=10, help="how long requests are measured while nothing changes"
    )
    parser.add_argument("--swaps", type=int, default=3, help="swaps to another version and back in a round")
    parser.add_argument(
        "--rate", type=float, default=None, help=f"requests a second; {RATE} here, {REQUESTS_PER_SECOND} on a machine"
    )
    options = parser.parse_args()
    rate = options.rate or (RATE if options.here else REQUESTS_PER_SECOND)
    runners = options.runners or (HERE if options.here else RUNNERS)
    found = {runner: Measured() for runner in runners}
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="edgeml-benchmark-")))
        served: dict[str, Served] = {}
        if options.here:
            for runner in runners:
                (directory / runner).mkdir()
                served[runner] = stack.enter_context(here(runner, directory / runner))
        else:
            (directory / "images").mkdir()
            images = MachineImages.build(architecture_of(options.machine), directory / "images")
            for runner in runners:
                machine = stack.enter_context(WholeMachine(options.machine, directory / runner))
                controller = MachineController(directory / f"{runner}-ansible", machine)
                found[runner].serving_seconds = provide(controller, runner, images)
                print(f"{runner}: serves after {found[runner].serving_seconds:.0f} s", flush=True)
                served[runner] = on_machine(machine)
        for number in range(options.rounds):
            for runner in runners:
                measure(served[runner], found[runner], options.seconds, options.swaps, rate)
            print(f"round {number + 1} of {options.rounds}", file=sys.stderr, flush=True)
    native = found["native"]
    rows = [
        {
            "runner": runner,
            **(
                {"pristine to serving / native": f"{measured.serving_seconds / native.serving_seconds:.2f}"}
                if native.serving_seconds
                else {}
            ),
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
