# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What publishing a model of 100 MB costs, beside what is not to be avoided: quantising it by ONNX Runtime's own tool,
one run of the holdout for each variant, and one SHA-256.

Each of both runs in a process of its own, one after the other, ``--rounds`` times; the figures are the ratios of each
round. Memory is the most that one process has at a time, with what it has mapped of files, and what all processes of a
publication have for themselves together.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parents[1] / "support"))

import numpy as np
import onnx
from clone import PYTHON_PATH
from figures import spread
from onnx import TensorProto, helper, numpy_helper

from ansible_collections.edgeml.fleet.plugins.plugin_utils._publish.model import Progress
from ansible_collections.edgeml.fleet.plugins.plugin_utils._publish.options import read_options
from ansible_collections.edgeml.fleet.plugins.plugin_utils._publish.release import publish_release

WIDTH, LAYERS, CLASSES, ROWS, BATCH_ROWS = 2048, 6, 10, 512, 32
VARIANTS = ["fp32", "int8"]
_MIB = 1 << 20


def make_model(directory: Path) -> None:
    """A network of 100 MB, and a holdout whose labels are its own answers."""
    random = np.random.default_rng(1)
    nodes, weights = [], []
    shapes = [(WIDTH, WIDTH)] * LAYERS + [(WIDTH, CLASSES)]
    for number, shape in enumerate(shapes):
        values = (random.standard_normal(shape) / np.sqrt(shape[0]) * 1.4).astype(np.float32)
        weights.append(numpy_helper.from_array(values, f"weights{number}"))
        last = number == len(shapes) - 1
        before = f"relu{number - 1}" if number else "x"
        nodes.append(helper.make_node("MatMul", [before, f"weights{number}"], ["y" if last else f"sum{number}"]))
        if not last:
            nodes.append(helper.make_node("Relu", [f"sum{number}"], [f"relu{number}"]))
    graph = helper.make_graph(
        nodes,
        "large",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", WIDTH])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", CLASSES])],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, directory / "large.onnx")
    rows = random.standard_normal((ROWS, WIDTH)).astype(np.float32)
    scores = rows
    for array in weights[:-1]:
        scores = np.maximum(scores @ numpy_helper.to_array(array), 0)
    scores = scores @ numpy_helper.to_array(weights[-1])
    np.savez(directory / "holdout.npz", x=rows, labels=scores.argmax(axis=1), reference=scores)


def unavoidable(directory: Path) -> None:
    """Quantise as ONNX Runtime's own tool does, run the holdout once for each variant, and take one SHA-256."""
    import onnxruntime
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    source, made = directory / "large.onnx", directory / "int8.onnx"
    hashlib.sha256(source.read_bytes())
    with np.load(directory / "holdout.npz") as holdout:
        rows = holdout["x"]

    # onnxruntime has no types.
    class Reader(CalibrationDataReader):  # type: ignore[misc]
        """The holdout in batches."""

        def __init__(self) -> None:
            self._batches = (rows[start : start + BATCH_ROWS] for start in range(0, len(rows), BATCH_ROWS))

        def get_next(self) -> dict[str, Any] | None:
            """The next batch, or None."""
            batch = next(self._batches, None)
            return None if batch is None else {"x": batch}

    quantize_static(
        str(source),
        str(made),
        Reader(),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        weight_type=QuantType.QInt8,
        activation_type=QuantType.QInt8,
    )
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = 1
    for path in (source, made):
        session = onnxruntime.InferenceSession(str(path), settings, providers=["CPUExecutionProvider"])
        for start in range(0, len(rows), BATCH_ROWS):
            session.run(None, {"x": rows[start : start + BATCH_ROWS]})


def publication(directory: Path) -> None:
    """Publish the model."""
    options = {
        "model": "large",
        "version": "1.0.0",
        "source": str(directory / "large.onnx"),
        "samples": str(directory / "holdout.npz"),
        "repository": str(directory / "repository"),
        "variants": VARIANTS,
        "device_image": "none",
        "measure_again": True,
        # What is measured is what it costs, not whether this network suits int8.
        "accuracy_drop_max": 0.99,
        "drift_reference": False,
    }
    publish_release(read_options(options), Progress())


def measured(task: str, directory: Path) -> dict[str, float]:
    """Run a task in a process of its own: its time, and the memory of it and its children."""
    began = time.monotonic()
    command = [sys.executable, __file__, "--task", task, str(directory)]
    environment = {**os.environ, "PYTHONPATH": str(PYTHON_PATH)}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, env=environment)
    together, one, done = 0, 0, threading.Event()

    def watch() -> None:
        nonlocal together, one
        while not done.wait(0.02):
            processes = _descendants(process.pid)
            together = max(together, sum(_status_bytes(pid, "RssAnon") for pid in processes))
            # The kernel's own ru_maxrss begins with what the process had before it was another program.
            one = max(one, *(_status_bytes(pid, "VmHWM") for pid in processes))

    watcher = threading.Thread(target=watch)
    watcher.start()
    stdout, _ = process.communicate()
    done.set()
    watcher.join()
    if process.returncode:
        raise SystemExit(f"{task}: ended with code {process.returncode}")
    used = json.loads(stdout.splitlines()[-1])
    return {"seconds": time.monotonic() - began, "together": together, "one": one, **used}


def _descendants(process: int) -> list[int]:
    found = [process]
    try:
        for thread in os.listdir(f"/proc/{process}/task"):
            for child in Path(f"/proc/{process}/task/{thread}/children").read_text().split():
                found += _descendants(int(child))
    except OSError:
        pass  # It has ended meanwhile.
    return found


def _status_bytes(process: int, name: str) -> int:
    """A number of a process's status: ``RssAnon``, what it has for itself, or ``VmHWM``, the most that it ever had."""
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) << 10 for line in lines if line.startswith(f"{name}:"))


def main() -> None:
    """Measure both, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--task", choices=("unavoidable", "publication"), help=argparse.SUPPRESS)
    parser.add_argument("directory", nargs="?", type=Path, help=argparse.SUPPRESS)
    parsed = parser.parse_args()
    if parsed.task:
        {"unavoidable": unavoidable, "publication": publication}[parsed.task](parsed.directory)
        used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        print(json.dumps({"processor": sum(usage.ru_utime + usage.ru_stime for usage in used)}))
        return
    rounds: list[dict[str, Any]] = []
    for _round in range(parsed.rounds):
        with tempfile.TemporaryDirectory(prefix="edgeml-benchmark-") as work:
            make_model(Path(work))
            size = (Path(work) / "large.onnx").stat().st_size
            least, found = (measured(task, Path(work)) for task in ("unavoidable", "publication"))
        rounds.append(
            {
                "time": found["seconds"] / least["seconds"],
                "processor time": found["processor"] / least["processor"],
                "memory of one process / model": found["one"] / size,
                "memory of all together / model": found["together"] / size,
                "unavoidable memory / model": least["one"] / size,
                "seconds": found["seconds"],
                "unavoidable seconds": least["seconds"],
            }
        )
        print(f"model {size / _MIB:.0f} MiB", {name: round(value, 2) for name, value in rounds[-1].items()})
    for name in rounds[0]:
        print(f"{name}: {spread([entry[name] for entry in rounds])}")


if __name__ == "__main__":
    main()
