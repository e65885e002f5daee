# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a process for each model would cost, beside the threads of the server: time, memory, start, and a crash.

A prototype that is not in the product: a child loads the model with the server's own code and runs it; tensors go
through shared memory, and names and shapes as JSON through a pipe. Started in two ways: as a new Python, and forked
from a process that has imported the runtime and done nothing else.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path
from typing import Any

import numpy as np

sys.path.extend(str(Path(__file__).resolve().parents[1] / name) for name in ("support", "integration/server"))

import clone
import onnx_models
from edgeml_server.models.backend import BackendOptions
from edgeml_server.models.loading import LoadedModel, ModelFiles, load
from figures import spread
from networks import IMAGE_SHAPE, Digits, mobilenet
from peer_servers import pss_bytes

from ansible_collections.edgeml.fleet.plugins.module_utils._common.table import text_table

_ALIGNMENT_BYTES = 64
_STARTS = {"new process": "spawn", "forked": "forkserver"}
_MIB = 1 << 20


class Worker:
    """A model in a child process, with shared memory for its inputs and another for its outputs."""

    def __init__(self, method: str, path: Path, size: int) -> None:
        self._inputs, self._outputs = (SharedMemory(create=True, size=size) for _ in range(2))
        context: Any = get_context(method)
        self._pipe, theirs = context.Pipe()
        arguments = (theirs, str(path), self._inputs.name, self._outputs.name)
        self.process: Any = context.Process(target=work, args=arguments, daemon=True)
        self.process.start()
        theirs.close()
        self._pipe.recv_bytes()

    def run(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """The outputs for the inputs. Raises EOFError when the process has ended."""
        self._pipe.send_bytes(json.dumps(_place(self._inputs, inputs)).encode())
        answer = json.loads(self._pipe.recv_bytes())
        # The memory is written again by the next run.
        return {name: values.copy() for name, values in _placed(self._outputs, answer).items()}

    def close(self) -> None:
        """End the process and free the memory."""
        self.process.kill()
        self.process.join()
        for memory in (self._inputs, self._outputs):
            memory.close()
            memory.unlink()


def work(pipe: Connection, path: str, inputs_name: str, outputs_name: str) -> None:
    """What the child does: load the model, say so, and answer until the pipe is closed."""
    backend = load_model(Path(path)).backend
    inputs, outputs = SharedMemory(inputs_name), SharedMemory(outputs_name)
    names = [spec.name for spec in backend.outputs]
    pipe.send_bytes(b"ready")
    while True:
        given = _placed(inputs, json.loads(pipe.recv_bytes()))
        results = backend.run(given, names)
        pipe.send_bytes(json.dumps(_place(outputs, dict(zip(names, results, strict=True)))).encode())


def load_model(path: Path) -> LoadedModel:
    """The model, as the server loads it."""
    return load(ModelFiles("onnx", str(path), golden=None, reference=None, classes={}), BackendOptions(threads=1))


def _place(memory: SharedMemory, arrays: Mapping[str, Any]) -> list[list[Any]]:
    position = 0
    described = []
    for name, values in arrays.items():
        target: Any = np.ndarray(values.shape, values.dtype, memory.buf, position)
        target[...] = values
        described.append([name, values.dtype.str, list(values.shape), position])
        position += -(-values.nbytes // _ALIGNMENT_BYTES) * _ALIGNMENT_BYTES
    return described


def _placed(memory: SharedMemory, described: Sequence[Sequence[Any]]) -> dict[str, Any]:
    return {name: np.ndarray(shape, dtype, memory.buf, position) for name, dtype, shape, position in described}


# ---- what is measured ----


@dataclass(frozen=True)
class Model:
    """A model's file and what it is asked."""

    name: str
    path: Path
    inputs: Mapping[str, Any]


@dataclass
class Costs:
    """What was measured in each round."""

    added_seconds: list[float] = field(default_factory=list)
    run_seconds: list[float] = field(default_factory=list)
    cpu_ratio: list[float] = field(default_factory=list)
    start_seconds: list[float] = field(default_factory=list)
    crash_seconds: list[float] = field(default_factory=list)
    memory_bytes: list[float] = field(default_factory=list)


def models(directory: Path) -> list[Model]:
    """The models of the server's benchmark, from the smallest to MobileNet."""
    rows = np.ones((1, 2), np.float32)
    digits = Digits()
    image = np.random.default_rng(1).uniform(0, 1, IMAGE_SHAPE).astype(np.float32)
    made = [
        ("two additions", onnx_models.plus(1), {"x": rows}),
        ("digits", digits.content(0), {name: values[:1] for name, values in digits.rows.items()}),
        ("MobileNet", mobilenet(), {}),
    ]
    found = []
    for name, content, inputs in made:
        path = directory / f"{name.replace(' ', '-')}.onnx"
        path.write_bytes(content)
        found.append(Model(name, path, inputs or {load_model(path).backend.inputs[0].name: image}))
    return found


def measure(model: Model, method: str, rounds: int, seconds: float, costs: Costs) -> None:
    """Measure a worker beside the same backend in this process, turn by turn."""
    backend = load_model(model.path).backend
    names = [spec.name for spec in backend.outputs]
    size = 2 * sum(values.nbytes for values in model.inputs.values()) + _MIB
    for _round in range(rounds):
        started = time.perf_counter()
        worker = Worker(method, model.path, size)
        costs.start_seconds.append(time.perf_counter() - started)
        try:
            expected = dict(zip(names, backend.run(model.inputs, names), strict=True))
            answered = worker.run(model.inputs)
            assert all((answered[name] == expected[name]).all() for name in names)
            inside = _times(lambda: backend.run(model.inputs, names), seconds)
            child = _cpu_seconds(worker.process.pid)
            own = time.process_time()
            outside = _times(functools.partial(worker.run, model.inputs), seconds)
            spent = time.process_time() - own + _cpu_seconds(worker.process.pid) - child
            costs.run_seconds.append(statistics.median(inside[0]))
            costs.added_seconds.append(statistics.median(outside[0]) - statistics.median(inside[0]))
            costs.cpu_ratio.append(spent / len(outside[0]) / (inside[1] / len(inside[0])))
            costs.memory_bytes.append(pss_bytes(worker.process.pid))
            started = time.perf_counter()
            os.kill(worker.process.pid, signal.SIGKILL)
            try:
                worker.run(model.inputs)
            except (EOFError, OSError):
                worker.close()
                worker = Worker(method, model.path, size)
                worker.run(model.inputs)
            costs.crash_seconds.append(time.perf_counter() - started)
        finally:
            worker.close()
    backend.close()


def _times(call: Callable[[], object], seconds: float) -> tuple[list[float], float]:
    """The seconds of each call, and the processor time of all in this process."""
    call()
    cpu = time.process_time()
    walls = []
    until = time.perf_counter() + seconds
    while (started := time.perf_counter()) < until:
        call()
        walls.append(time.perf_counter() - started)
    return walls, time.process_time() - cpu


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main() -> int:
    """Measure and print. Exit code: 0."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0, help="that each of the two is asked for in a round")
    arguments = parser.parse_args()
    # The child finds the server's packages as this process does.
    os.environ["PYTHONPATH"] = os.pathsep.join(sys.path)
    get_context("forkserver").set_forkserver_preload(["onnxruntime", "numpy", "edgeml_server.models.loading"])
    rows: list[dict[str, str]] = []
    with tempfile.TemporaryDirectory() as directory:
        for model in models(Path(directory)):
            for name, method in _STARTS.items():
                costs = Costs()
                measure(model, method, arguments.rounds, arguments.seconds, costs)
                rows.append(
                    {
                        "model": model.name,
                        "worker": name,
                        "run, ms": spread(1e3 * value for value in costs.run_seconds),
                        "added, ms": spread(1e3 * value for value in costs.added_seconds),
                        "processor": spread(costs.cpu_ratio),
                        "start, s": spread(costs.start_seconds),
                        "after a crash, s": spread(costs.crash_seconds),
                        "PSS, MiB": spread(value / _MIB for value in costs.memory_bytes),
                    }
                )
    print("\n".join(text_table(rows)))
    return 0


if __name__ == "__main__":
    assert clone.PYTHON_PATH
    sys.exit(main())
