# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the inference server costs, beside MLServer, gunicorn with Flask, and the runtime by itself."""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

sys.path.extend(str(Path(__file__).resolve().parents[1] / name) for name in ("support", "integration/server"))

import onnx_models
from clone import REPOSITORY
from edgeml_server.tools.drift_reference import reference_of
from figures import percentile, spread
from load import OK, Load
from networks import IMAGE_SHAPE, Digits, mobilenet
from peer_servers import PACKAGES, EdgemlServer, GunicornFlask, MlServer, Server, cpu_seconds, python_of
from server_process import GUARD_SECONDS

from ansible_collections.edgeml.fleet.plugins.module_utils._common.table import text_table

OURS = EdgemlServer.name
BARE_RUNTIME = REPOSITORY / "tests" / "support" / "peers" / "bare_runtime.py"
WARM_UP_SECONDS = 2.0
SETTLE_SECONDS = 1.0
# As many as the edgeml server's inferences at once, with its default of one thread for each.
THREADS = len(os.sched_getaffinity(0))


@dataclass(frozen=True)
class Model:
    """A model's file, a request for it, and what its live tensors are compared with."""

    name: str
    file: Path
    request: Any
    reference: Any


def plus(directory: Path) -> Model:
    """Two additions: all that a request costs is the server's."""
    rows = np.random.default_rng(1).normal(0, 1, (5000, 2)).astype(np.float32)
    given = {"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [1.0, 2.0]}
    reference = reference_of({"x": rows}, {"sum": rows + 1, "twice": rows * 2})
    return _model(directory, "two additions", onnx_models.plus(1), {"inputs": [given]}, reference)


def digits(directory: Path) -> Model:
    """The example's convolutional network of 57 KB, for an image of 8 x 8."""
    digits = Digits()
    content = digits.content(0)
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    outputs = dict(zip(names, session.run(names, digits.rows), strict=True))
    return _model(directory, "digits", content, digits.request, reference_of(digits.rows, outputs))


def images(directory: Path) -> Model:
    """MobileNet, for an image of 224 x 224."""
    return _model(directory, "MobileNet", mobilenet(), None, None)


def _model(directory: Path, name: str, content: bytes, request: Any, reference: Any) -> Model:
    file = directory / f"{name.replace(' ', '-')}.onnx"
    file.write_bytes(content)
    return Model(name, file, request, reference)


def servers(directory: Path, model: Model) -> list[Server]:
    """All servers, none of them started."""
    return [
        EdgemlServer(directory / "edgeml", model.file, model.reference),
        MlServer(directory / "mlserver-0", model.file, workers=0),
        MlServer(directory / "mlserver-1", model.file, workers=1),
        GunicornFlask(directory / "gunicorn-sync", model.file, threads=0),
        GunicornFlask(directory / "gunicorn-threads", model.file, threads=THREADS),
    ]


# ---- requests beside each other ----


@dataclass
class Measured:
    """What was measured of one server, once in each round, except ``pss`` (once) and ``starts``."""

    pss: float = 0
    starts: list[float] = field(default_factory=list)
    cpu_full: list[float] = field(default_factory=list)
    cpu_rate: list[float] = field(default_factory=list)
    p50: list[float] = field(default_factory=list)
    p99: list[float] = field(default_factory=list)
    failed: int = 0
    requests: int = 0


def send(server: Server, model: Model, seconds: float, rate: float, found: Measured | None = None) -> None:
    """Send requests for some time, at a rate or (0) without a pause, and note what they cost."""
    with Load(server.directory, server.port, server.path, model.request, rate) as load:
        # The processor time counts from here on, the requests that end from here on as well.
        time.sleep(SETTLE_SECONDS)
        began, cpu = time.monotonic(), server.cpu_seconds()
        time.sleep(seconds)
        used, ended = server.cpu_seconds() - cpu, time.monotonic()
    requests = [request for request in load.requests if began <= request.ended < ended]
    if found is None:
        return
    found.failed += sum(request.status != OK for request in requests)
    found.requests += len(requests)
    if rate:
        times = [request.seconds for request in requests]
        found.cpu_rate.append(used / len(requests))
        found.p50.append(percentile(times, 50))
        found.p99.append(percentile(times, 99))
    else:
        found.cpu_full.append(used / len(requests))


def measure_servers(model: Model, directory: Path, rounds: int, seconds: float, rate: float) -> dict[str, Measured]:
    """Measure all servers; the rounds go from one to the other."""
    found: dict[str, Measured] = {}
    everyone = servers(directory, model)
    for server in everyone:
        noted = found[server.name] = Measured()
        # By itself: what several have mapped would count for each in part.
        with server:
            send(server, model, WARM_UP_SECONDS, rate)
            time.sleep(SETTLE_SECONDS)
            noted.pss = server.pss_bytes()
    for _round in range(rounds):
        for server in everyone:
            began = time.monotonic()
            with server:
                found[server.name].starts.append(time.monotonic() - began)
    with contextlib.ExitStack() as stack:
        for server in everyone:
            stack.enter_context(server)
            send(server, model, WARM_UP_SECONDS, 0)
        for _round in range(rounds):
            for server in everyone:
                send(server, model, seconds, 0, found[server.name])
            for server in everyone:
                send(server, model, seconds, rate, found[server.name])
    return found


def rows_of(model: Model, found: dict[str, Measured]) -> list[dict[str, object]]:
    """Ours in multiples of each other server's."""
    ours = found[OURS]

    def ratios(values: Callable[[Measured], Sequence[float]], other: Measured) -> str:
        return spread(mine / its for mine, its in zip(values(ours), values(other), strict=True))

    return [
        {
            "model": model.name,
            "edgeml to": name,
            "CPU/request, no pause": ratios(lambda measured: measured.cpu_full, other),
            "CPU/request, at the rate": ratios(lambda measured: measured.cpu_rate, other),
            "p50": ratios(lambda measured: measured.p50, other),
            "p99": ratios(lambda measured: measured.p99, other),
            "idle PSS": f"{ours.pss / other.pss:.2f}",
            "start": ratios(lambda measured: measured.starts, other),
            "failed": f"{ours.failed}, {other.failed}",
        }
        for name, other in found.items()
        if name != OURS
    ]


# ---- the runtime by itself ----


class Runtime:
    """ONNX Runtime without any server, with the server's packages and settings, as a context manager."""

    def __init__(self, model: Path) -> None:
        self._command = [python_of("edgeml"), str(BARE_RUNTIME), str(model)]

    def __enter__(self) -> Runtime:
        self._process = subprocess.Popen(self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._line() == "ready\n"
        return self

    def __exit__(self, *_exception: object) -> None:
        self._process.communicate()

    def cpu_seconds(self) -> float:
        """Processor time that it has used so far."""
        return cpu_seconds(self._process.pid)

    def repeat(self, step: str, argument: str, count: int) -> Any:
        """Do a step ``count`` times and return the seconds that it took, and those of processor time, as an array."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{step} {argument} {count}\n")
        self._process.stdin.flush()
        return np.array(json.loads(self._line()))

    def _line(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline()


def measure_start(model: Model, directory: Path, rounds: int) -> dict[str, object]:
    """From the start of the process to its readiness, ours to the runtime's without a server."""
    times, processor = [], []
    server = EdgemlServer(directory / "start", model.file, model.reference)
    with server:
        # The first start compiles.
        pass
    for _round in range(rounds):
        costs = []
        for process in (server, Runtime(model.file)):
            began = time.monotonic()
            with process:
                costs.append((time.monotonic() - began, process.cpu_seconds()))
        times.append(costs[0][0] / costs[1][0])
        processor.append(costs[0][1] / costs[1][1])
    title = "start to ready / import and load"
    return {"model": model.name, f"{title}, time": spread(times), "processor": spread(processor)}


def measure_images(directory: Path, rounds: int, count: int) -> list[dict[str, object]]:
    """One client that sends an image after the other, as JSON and as binary data."""
    model = images(directory)
    image = np.random.default_rng(1).random(IMAGE_SHAPE, np.float32)
    (name,) = (given.name for given in onnxruntime.InferenceSession(model.file).get_inputs())
    given = {"name": name, "datatype": "FP32", "shape": list(IMAGE_SHAPE)}
    body = json.dumps({"inputs": [{**given, "data": image.ravel().tolist()}]}).encode()
    nested = json.dumps({"inputs": [{**given, "data": image.tolist()}]}).encode()
    (directory / "body.json").write_bytes(body)
    (directory / "nested.json").write_bytes(nested)
    parameters = {"binary_data_size": image.nbytes}
    head = {"inputs": [{**given, "parameters": parameters}], "parameters": {"binary_data_output": True}}
    header = json.dumps(head).encode()
    ways = {
        "JSON": (body, {}),
        "JSON, nested": (nested, {}),
        "binary": (header + image.tobytes(), {"Inference-Header-Content-Length": str(len(header))}),
    }
    ratios: dict[str, list[Any]] = {way: [] for way in ways}
    shares = []
    with (
        EdgemlServer(directory / "images", model.file, reference_of({name: image}, {})) as server,
        Runtime(model.file) as runtime,
        contextlib.closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=GUARD_SECONDS)) as connection,
    ):
        shape = ",".join(map(str, IMAGE_SHAPE))
        for _round in range(rounds):
            inference = runtime.repeat("infer", shape, count)
            parsing = {
                "JSON": runtime.repeat("parse", str(directory / "body.json"), count),
                "JSON, nested": runtime.repeat("parse", str(directory / "nested.json"), count),
                "binary": np.zeros(2),
            }
            for way, (content, headers) in ways.items():
                costs = _ask(server, connection, content, headers, count)
                ratios[way].append(costs / (inference + parsing[way]))
            shares.append(parsing["JSON"][0] / inference[0])
    print(f"\nparsing the image as JSON took {spread(shares)} times an inference")
    return [
        {
            "image as": way,
            "to": "inference" if way == "binary" else "parsing and inference",
            "time": spread(found[0] for found in ratios[way]),
            "processor": spread(found[1] for found in ratios[way]),
        }
        for way in ways
    ]


def _ask(
    server: Server, connection: http.client.HTTPConnection, body: bytes, headers: dict[str, str], count: int
) -> Any:
    """Send a request ``count`` times; the median of the seconds to the end of its answer, and the mean of the server's
    processor time, as an array."""
    seconds = []
    cpu = server.cpu_seconds()
    for _turn in range(count):
        began = time.perf_counter()
        connection.request("POST", server.path, body, headers)
        response = connection.getresponse()
        response.read()
        seconds.append(time.perf_counter() - began)
        assert response.status == OK
    return np.array([statistics.median(seconds), (server.cpu_seconds() - cpu) / count])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="how often everything is measured")
    parser.add_argument("--seconds", type=float, default=4, help="how long each server is measured in a round")
    parser.add_argument("--rate", type=float, default=100, help="requests a second, where they come at a rate")
    parser.add_argument("--images", type=int, default=30, help="images of each kind in a round")
    parser.add_argument("--only-additions", action="store_true", help="leave out the servers' costs of digits")
    options = parser.parse_args()
    for name in PACKAGES:
        python_of(name)
    with tempfile.TemporaryDirectory(prefix="edgeml-benchmark-") as name:
        directory = Path(name)
        models = [plus(directory), digits(directory)]
        rows = []
        for model in models[:1] if options.only_additions else models:
            of_model = directory / model.file.stem
            of_model.mkdir()
            found = measure_servers(model, of_model, options.rounds, options.seconds, options.rate)
            rows += rows_of(model, found)
        print("\n".join(text_table(rows)), flush=True)
        print()
        print("\n".join(text_table([measure_start(models[1], directory, options.rounds)])), flush=True)
        print()
        print("\n".join(text_table(measure_images(directory, options.rounds, options.images))), flush=True)
        print(f"\nload average: {', '.join(f'{load:.1f}' for load in os.getloadavg())}")


if __name__ == "__main__":
    main()
