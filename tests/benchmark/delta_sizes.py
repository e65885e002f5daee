# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How much of a model's file comes to a device that holds the version before, beside other tools, and what that costs.

Synthetic pairs, and those that ``delta_pairs.py`` made.
"""

from __future__ import annotations

import argparse
import io
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

sys.path.extend(str(Path(__file__).resolve().parents[1] / name) for name in ("support", "integration/server"))

import numpy as np
from clone import REPOSITORY
from delta_peers import Peers, best
from onnx import TensorProto, helper, numpy_helper
from releases import sha256

from ansible_collections.edgeml.fleet.plugins.module_utils._common.table import text_table
from ansible_collections.edgeml.fleet.plugins.module_utils._release.delta import apply_delta
from ansible_collections.edgeml.fleet.plugins.module_utils._release.release import File
from ansible_collections.edgeml.fleet.plugins.plugin_utils._publish.alignment import Source
from ansible_collections.edgeml.fleet.plugins.plugin_utils._publish.delta_file import write_delta
from ansible_collections.edgeml.fleet.plugins.plugin_utils._publish.deltas import LARGE_BYTES
from ansible_collections.edgeml.fleet.plugins.plugin_utils._publish.tensors import find_tensors

APPLY = Path(__file__).with_name("apply_delta_cost.py")
# Without the instructions for SHA-256, as a Raspberry Pi 4 is.
NO_SHA = {"OPENSSL_ia32cap": "~0:~0x20000000", "OPENSSL_armcap": "0"}
# Debian's Python is what devices have; one that was built without its optimisations takes up to half as much again.
PYTHON = "/usr/bin/python3"
EMULATED = {"QEMU_CPU": "cortex-a72", **NO_SHA}
SPREAD = 0.05
Arrays = dict[str, Any]


def model(arrays: Arrays) -> bytes:
    """An ONNX file with these weights, as exporters write them."""
    nodes = [helper.make_node("MatMul", ["x", name], [f"y{name}"], name=f"node/{name}") for name in arrays]
    outputs = [helper.make_tensor_value_info(f"y{name}", TensorProto.FLOAT, None) for name in arrays]
    constants = [numpy_helper.from_array(values, name) for name, values in arrays.items()]
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, None)]
    graph = helper.make_graph(nodes, "graph", inputs, outputs, constants)
    content: bytes = helper.make_model(graph).SerializeToString()
    return content


def pairs(megabytes: int) -> Iterator[tuple[str, bytes, bytes]]:
    """A name, and the older and the newer file."""
    random = np.random.default_rng(1)
    side = 512
    layers = max(4, (megabytes << 20) // (4 * side * side))
    old: Arrays = {
        f"layer{number}": (random.standard_normal((side, side)) * SPREAD).astype(np.float32) for number in range(layers)
    }

    def tuned(share: float, which: Callable[[int], bool] = lambda _number: True) -> Arrays:
        return {
            name: (values + random.standard_normal(values.shape) * SPREAD * share).astype(np.float32)
            if which(number)
            else values
            for number, (name, values) in enumerate(old.items())
        }

    def quantised(arrays: Arrays, scale: float) -> bytes:
        return model(
            {name: np.clip(np.round(values / scale), -127, 127).astype(np.int8) for name, values in arrays.items()}
        )

    whole = model(old)
    dense = tuned(0.001)
    yield "metadata changed", whole, whole + b"\x72\x0b\x0a\x01a\x12\x061.1.00"
    more = {"first": (random.standard_normal(4096) * SPREAD).astype(np.float32)}
    yield "a tensor put in front", whole, model({**more, **old})
    yield "tensors renamed", whole, model({f"model/{name}/kernel": values for name, values in old.items()})
    last = layers - max(1, layers // 20)
    yield f"last {(layers - last) / layers:.0%} tuned", whole, model(tuned(0.01, lambda number: number >= last))
    yield "all fp32 tuned, 0.1%", whole, model(dense)
    halves = [model({name: values.astype(np.float16) for name, values in arrays.items()}) for arrays in (old, dense)]
    yield "the same, fp16", halves[0], halves[1]
    fixed = SPREAD * 5 / 127
    yield "the same, int8", quantised(old, fixed), quantised(dense, fixed)
    yield "tuned by 1%, int8", quantised(old, fixed), quantised(tuned(0.01), fixed)
    yield "int8 of another scale", quantised(old, fixed), quantised(dense, fixed * 1.01)


def made_pairs(directory: Path) -> Iterator[tuple[str, Path, Path]]:
    """A name, and the older and the newer file, of what ``delta_pairs.py`` made; the smallest first."""
    found = sorted(directory.glob("*/new/*"), key=lambda path: path.stat().st_size)
    for new in found:
        if new.name != "model.onnx" or not (new.parent / "weights.bin").exists():
            name = new.parents[1].name
            yield f"real: {name}", directory / name / "old" / new.name, new


def source(path: Path) -> Source:
    """A file with its tensors; of external weights, as the model beside them says."""
    files = {file.name: str(file) for file in path.parent.iterdir()}
    return Source(np.memmap(path, np.uint8, "r"), find_tensors(files)[path.name])


def bases_tried(size: int, sha256: str, old: Path) -> Iterator[list[tuple[str, Source]]]:
    """What a release is published with: a delta, and of a file that is not large the compressed one."""
    yield [(sha256, source(old))]
    if size < LARGE_BYTES:
        yield []


def runners(work: Path, image: str | None) -> dict[str, list[str]]:
    """What runs a program with and without SHA instructions here, and in an emulated device of an image."""
    found = {"SHA": ["env"], "no SHA": ["env", *(f"{name}={value}" for name, value in NO_SHA.items())]}
    if image is not None:
        # The same paths as here, for the links between them.
        places = [f"--volume={path}:{path}:ro" for path in (REPOSITORY, work)]
        settings = [f"--env={name}={value}" for name, value in EMULATED.items()]
        options = ["--rm", "--network=none", "--platform=linux/arm64", *places, *settings]
        found["ARM"] = ["docker", "run", *options, image]
    return found


def measure(name: str, old: Path, new: Path, directory: Path, peers: Peers | None, image: str | None) -> dict[str, str]:
    """One row: bytes as parts of the newer file's."""
    old_bytes, new_bytes = old.read_bytes(), new.read_bytes()
    began = time.process_time()
    delta = min(
        (b"".join(write_delta(source(new), bases)) for bases in bases_tried(len(new_bytes), sha256(old_bytes), old)),
        key=len,
    )
    built = time.process_time() - began
    made = io.BytesIO()
    file = File("m", len(new_bytes), sha256(new_bytes))
    apply_delta(io.BytesIO(delta), file, lambda *_base: io.BytesIO(old_bytes), made.write)
    assert made.getvalue() == new_bytes
    path = directory / "delta"
    path.write_bytes(delta)
    size = len(new_bytes)
    row = {"pair": name, "MB": f"{size / 1e6:.1f}", "edgeml": f"{len(delta) / size:.5f}"}
    others = peers.sizes(old, new) if peers is not None else {}
    row.update({peer: "-" if found is None else f"{found / size:.5f}" for peer, found in others.items()})
    least = best(others)
    row["smallest"] = (
        "edgeml" if least is None or len(delta) <= least else min(others, key=lambda peer: others[peer] or size)
    )
    row["build, s/MB"] = f"{built / size * 1e6:.1f}"
    for title, runner in runners(Path(directory), image).items():
        paths = [str(REPOSITORY / ".cache" / "python"), *(str(file.resolve()) for file in (path, old, new))]
        command = [*runner, PYTHON, "-I", str(APPLY), *paths]
        cpu, wall, floor, memory = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
        row[f"apply, {title}"] = f"{float(cpu):.1f}"
        row[f"elapsed, {title}"] = f"{float(wall):.1f}"
        row[f"floor, {title}"] = f"{float(floor):.1f}"
        row[f"MiB, {title}"] = f"{int(memory) / 1024:.0f}"
    return row


def main() -> None:
    """Measure all pairs and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=int, default=8, help="size of the synthetic model in fp32")
    parser.add_argument("--peer-seconds", type=int, default=60, help="limit of each other tool; 0: without them")
    parser.add_argument("--pairs", type=Path, help="directory that delta_pairs.py wrote")
    parser.add_argument("--only", default="", help="pairs whose name has this")
    parser.add_argument("--image", help="a device's image for arm64: measure applying there, too, by its emulator")
    options = parser.parse_args()
    peers = Peers(options.peer_seconds) if options.peer_seconds else None
    rows = []
    with tempfile.TemporaryDirectory() as work:

        def write(name: str, content: bytes) -> Path:
            path = Path(work) / name / "model.onnx"
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(content)
            return path

        def all_pairs() -> Iterator[tuple[str, Path, Path]]:
            for name, old, new in pairs(options.megabytes):
                yield name, write("old", old), write("new", new)
            if options.pairs:
                yield from made_pairs(options.pairs)

        for name, old, new in all_pairs():
            if options.only in name:
                rows.append(measure(name, old, new, Path(work), peers, options.image))
                print(rows[-1], file=sys.stderr, flush=True)
    for line in text_table(rows):
        print(line)


if __name__ == "__main__":
    main()
