# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Write the model repository of the scenarios that ask more of a server than the digits do.

usage: make_releases.py DIRECTORY     (with the tests' modules in PYTHONPATH; DIRECTORY is made anew)

plus 1.0.0: LiteRT, ``sum`` = ``x`` + 1 for rows of two numbers; also for 32-bit ARM; with a reference for drift.
plus 1.1.0: ONNX, ``sum`` = ``x`` + 1.5: the same places of the highest scores.
plus 1.2.0: ONNX, ``sum`` = ``x`` + 1, with a reference for drift.
repeat 1.0.0, 1.1.0, 1.2.0: ONNX, run for as long as a request says, for twice as long, for three times.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import onnx_models
import tflite_models
from releases import make_release, publish, variant_entry

MEMORY_BYTES = 1 << 20


def write(directory: Path) -> None:
    """Write all releases into ``directory``."""
    tflite = {"model.tflite": tflite_models.plus_one()}
    common = {"format": "tflite", "memory_bytes": MEMORY_BYTES}
    variants = [
        variant_entry(tflite, "litert", runtime={"name": "ai-edge-litert", "minimum": "1.2.0"}, **common),
        variant_entry(
            tflite,
            "litert-32bit",
            architectures=["armv7l"],
            runtime={"name": "tflite-runtime", "minimum": "2.14.0"},
            **common,
        ),
    ]
    series = {"name": "first", "tensor": "x", "statistic": 0, "edges": [0.25, 0.5, 0.75], "counts": [250] * 4}
    reference = json.dumps({"schema": 1, "series": [series]}).encode()
    releases = [
        make_release(
            "1.0.0",
            "plus",
            tflite,
            golden=_golden(1),
            reference=reference,
            variants=variants,
        ),
        make_release("1.1.0", "plus", {"model.onnx": onnx_models.plus(1.5)}, golden=_golden(1.5)),
        make_release("1.2.0", "plus", {"model.onnx": onnx_models.plus(1)}, golden=_golden(1), reference=reference),
        *(make_release(f"1.{minor}.0", "repeat", {"model.onnx": onnx_models.repeat(minor + 1)}) for minor in range(3)),
    ]
    shutil.rmtree(directory, ignore_errors=True)
    for release in releases:
        publish(release, directory)


def _golden(addend: float) -> bytes:
    """What a model that adds ``addend`` answers."""
    rows = [1.0, 2.0, 3.0, 4.0]
    document = {
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [2, 2], "data": rows}],
        "outputs": [{"name": "sum", "datatype": "FP32", "shape": [2, 2], "data": [row + addend for row in rows]}],
        "tolerance": {"absolute": 1e-4, "relative": 1e-3},
    }
    return json.dumps(document).encode()


if __name__ == "__main__":
    write(Path(sys.argv[1]))
