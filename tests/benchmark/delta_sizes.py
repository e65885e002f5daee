# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How much of a model's file comes to a device that holds the version before, beside other tools, and what that costs.

The tools are Debian's packages, unpacked below ``.cache/peers``; one that is not to be had has no figures.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import os
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
from onnx import TensorProto, helper, numpy_helper
from publications import digits_holdout
from releases import sha256

from ansible_collections.edgeml.fleet.plugins.module_utils._common.table import text_table
from ansible_collections.edgeml.fleet.plugins.module_utils._release.delta import apply_delta
from ansible_collections.edgeml.fleet.plugins.module_utils._release.release import File
from ansible_collections.edgeml.fleet.plugins.plugin_utils._publish.alignment import Source
from ansible_collections.edgeml.fleet.plugins.plugin_utils._publish.delta_file import write_delta
from ansible_collections.edgeml.fleet.plugins.plugin_utils._publish.tensors import find_tensors

PEERS = REPOSITORY / ".cache" / "peers" / "deltas"
PACKAGES = ("bsdiff", "xdelta3", "zstd", "rsync", "libpopt0")
# Of a 100 MB model bsdiff takes minutes.
GUARD_SECONDS = 1200
SPREAD = 0.05
Arrays = dict[str, Any]

# In a process of its own: applies a delta and says the time, that of one SHA-256 of the result, and the memory.
APPLY = """
import hashlib, sys, time
sys.path.insert(0, sys.argv[1])
from ansible_collections.edgeml.fleet.plugins.module_utils._release.delta import apply_delta
from ansible_collections.edgeml.fleet.plugins.module_utils._release.release import File
delta, base, result = sys.argv[2:5]
def hashed():
    digest, size = hashlib.sha256(), 0
    with open(result, "rb") as source:
        while chunk := source.read(1 << 20):
            digest.update(chunk)
            size += len(chunk)
    return size, digest.hexdigest()
def timed(what):
    began = time.process_time()
    what()
    return time.process_time() - began
def apply():
    with open(delta, "rb") as source:
        apply_delta(source, file, lambda _sha256, _size: open(base, "rb"), lambda _block: None)
file = File("model", *hashed())
hashing = min(timed(hashed) for _round in range(3))
def most_kib():
    # Unlike ru_maxrss it knows nothing of the process that started this one.
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM:"))
before = most_kib()
applying = min(timed(apply) for _round in range(3))
print(applying / hashing, most_kib() - before)
"""


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
    first, second = trained()
    yield "real: trained on", model(first), model(second)
    scales = {name: float(np.abs(values).max()) / 127 for name, values in first.items()}

    def with_scales(arrays: Arrays) -> bytes:
        steps = {name: np.clip(np.round(values / scales[name]), -127, 127) for name, values in arrays.items()}
        return model({name: values.astype(np.int8) for name, values in steps.items()})

    yield "real: that, int8", with_scales(first), with_scales(second)


def trained() -> tuple[Arrays, Arrays]:
    """A perceptron that learned the digits' images, and the same after two more epochs with other images."""
    images, labels = digits_holdout()
    images = images.reshape(len(images), -1).astype(np.float32)
    images /= max(1.0, float(np.abs(images).max()))
    random = np.random.default_rng(2)
    shapes = {"a": (images.shape[1], 512), "b": (512, 512), "c": (512, 10)}
    weights = {
        name: (random.standard_normal(shape) * np.sqrt(2 / shape[0])).astype(np.float32)
        for name, shape in shapes.items()
    }

    def learn(which: slice, epochs: int, rate: float) -> Arrays:
        for _epoch in range(epochs):
            for start in range(0, len(images[which]), 32):
                x, y = images[which][start : start + 32], labels[which][start : start + 32]
                first = np.maximum(x @ weights["a"], 0)
                second = np.maximum(first @ weights["b"], 0)
                scores = second @ weights["c"]
                shares = np.exp(scores - scores.max(axis=1, keepdims=True))
                shares /= shares.sum(axis=1, keepdims=True)
                shares[np.arange(len(y)), y] -= 1
                shares /= len(y)
                back = (shares @ weights["c"].T) * (second > 0)
                deep = (back @ weights["b"].T) * (first > 0)
                weights["c"] -= rate * second.T @ shares
                weights["b"] -= rate * first.T @ back
                weights["a"] -= rate * x.T @ deep
        return {name: values.astype(np.float32) for name, values in weights.items()}

    half = len(images) // 2
    return learn(slice(0, half), 30, 0.05), learn(slice(half, None), 2, 0.005)


def unpack() -> dict[str, str]:
    """The environment in which the peers run, after they were unpacked."""
    if not PEERS.exists():
        with tempfile.TemporaryDirectory() as directory:
            for package in PACKAGES:
                subprocess.run(["apt-get", "download", package], cwd=directory, check=False, capture_output=True)
            PEERS.mkdir(parents=True)
            for archive in Path(directory).glob("*.deb"):
                subprocess.run(["dpkg", "-x", str(archive), str(PEERS)], check=True)
    libraries = ":".join(str(path) for path in (PEERS / "usr" / "lib").glob("*-linux-gnu"))
    return {"PATH": f"{PEERS}/usr/bin:{os.environ['PATH']}", "LD_LIBRARY_PATH": libraries}


def peers(old: Path, new: Path, directory: Path, environment: dict[str, str]) -> dict[str, int | None]:
    """How many bytes each peer sends; None for one that cannot be run."""
    out = directory / "out"
    copied = directory / "copied"
    commands = {
        "bsdiff": ["bsdiff", old, new, out],
        "xdelta3": ["xdelta3", "-9", "-f", "-e", "-B", str(max(1 << 20, old.stat().st_size)), "-s", old, new, out],
        "zstd": ["zstd", "-q", "-f", "-19", "--long=27", f"--patch-from={old}", new, "-o", out],
        "rsync": ["rsync", "--no-whole-file", "-z", "--stats", new, copied],
        "zstd alone": ["zstd", "-q", "-f", "-19", new, "-o", out],
    }
    found: dict[str, int | None] = {}
    for name, command in commands.items():
        out.unlink(missing_ok=True)
        copied.write_bytes(old.read_bytes())
        os.utime(copied, (1, 1))
        try:
            done = subprocess.run(
                [str(part) for part in command], env=environment, capture_output=True, text=True, timeout=GUARD_SECONDS
            )
        except (OSError, subprocess.TimeoutExpired):
            found[name] = None
            continue
        if done.returncode != 0:
            found[name] = None
        elif name == "rsync":
            sent = next(line for line in done.stdout.splitlines() if line.startswith("Total bytes sent"))
            found[name] = int(sent.split(":")[1].replace(",", ""))
        else:
            found[name] = out.stat().st_size
    return found


def measure(name: str, old: bytes, new: bytes, directory: Path, environment: dict[str, str]) -> dict[str, str]:
    """One row: bytes as parts of the newer file's."""
    paths = [directory / "old.onnx", directory / "new.onnx"]
    for path, content in zip(paths, (old, new), strict=True):
        path.write_bytes(content)
    sources = [
        Source(np.frombuffer(content, np.uint8), find_tensors({"m.onnx": str(path)})["m.onnx"])
        for path, content in zip(paths, (old, new), strict=True)
    ]
    began = time.process_time()
    delta = b"".join(write_delta(sources[1], [(sha256(old), sources[0])]))
    built = time.process_time() - began
    made = io.BytesIO()
    apply_delta(io.BytesIO(delta), File("m", len(new), sha256(new)), lambda *_base: io.BytesIO(old), made.write)
    assert made.getvalue() == new
    path = directory / "delta"
    path.write_bytes(delta)
    links = str(REPOSITORY / ".cache" / "python")
    arguments = [sys.executable, "-I", "-c", APPLY, links, str(path), *map(str, paths)]
    cost, memory = subprocess.run(arguments, check=True, capture_output=True, text=True).stdout.split()
    began = time.process_time()
    hashlib.sha256(new).digest()
    hashing = time.process_time() - began
    row = {"pair": name, "edgeml": f"{len(delta) / len(new):.4f}"}
    for peer, size in peers(paths[0], paths[1], directory, environment).items():
        row[peer] = "-" if size is None else f"{size / len(new):.4f}"
    row["build / SHA-256"] = f"{built / hashing:.0f}"
    row["apply / SHA-256"] = f"{float(cost):.1f}"
    row["apply, MiB more"] = f"{int(memory) / 1024:.0f}"
    return row


def main() -> None:
    """Measure all pairs and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=int, default=46, help="size of the synthetic model in fp32")
    megabytes = parser.parse_args().megabytes
    environment = unpack()
    rows = []
    for name, old, new in pairs(megabytes):
        with tempfile.TemporaryDirectory() as directory:
            rows.append(measure(name, old, new, Path(directory), environment))
        print(rows[-1], file=sys.stderr, flush=True)
    for line in text_table(rows):
        print(line)


if __name__ == "__main__":
    main()
