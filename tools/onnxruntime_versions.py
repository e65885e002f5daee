#!/usr/bin/env python3
# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Find by trying which ONNX Runtime is the first that loads an IR version, or an opset.

usage: onnxruntime_versions.py DIRECTORY...      (each made by `pip install --target DIRECTORY onnxruntime==VERSION …`)

Prints the tables of plugins/module_utils/_release/onnx_check.py. Each runtime loads a model of one node in a process of
its own; needs the package onnx in this Python.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from onnx import TensorProto, helper

IR_VERSIONS = range(8, 18)
OPSETS = range(13, 32)
PROGRAM = """
import json, sys
import onnxruntime
settings = onnxruntime.SessionOptions()
settings.log_severity_level = 4
loaded = []
for name in sys.argv[1:]:
    try:
        onnxruntime.InferenceSession(name, settings, providers=["CPUExecutionProvider"])
        loaded.append(name)
    except Exception:
        pass
print(json.dumps([onnxruntime.__version__, loaded]))
"""


def model(path: Path, ir_version: int, opset: int) -> str:
    """Write a model of one node."""
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Add", ["x", "x"], ["y"])], "model", ends[:1], ends[1:])
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir_version)
    path.write_bytes(proto.SerializeToString())
    return str(path)


def main() -> None:
    """Try them all."""
    first: dict[str, tuple[list[int], str]] = {}
    with tempfile.TemporaryDirectory() as work:
        names = [model(Path(work) / f"IR_VERSIONS-{number}", number, 13) for number in IR_VERSIONS]
        names += [model(Path(work) / f"OPSETS-{number}", 8, number) for number in OPSETS]
        for directory in sys.argv[1:]:
            done = subprocess.run(
                [sys.executable, "-c", PROGRAM, *names],
                env={**os.environ, "PYTHONPATH": directory},
                capture_output=True,
                text=True,
                check=False,
            )
            if done.returncode:
                print(f"{directory}: {(done.stderr.strip().splitlines() or ['?'])[-1]}", file=sys.stderr)
                continue
            version, loaded = json.loads(done.stdout)
            key = [int(part) for part in re.findall(r"[0-9]+", version)]
            for name in loaded:
                known = first.get(Path(name).name)
                if known is None or key < known[0]:
                    first[Path(name).name] = (key, version)
    for table in ("IR_VERSIONS", "OPSETS"):
        found = {int(name.split("-")[1]): version for name, (_key, version) in first.items() if name.startswith(table)}
        print(table, "=", dict(sorted(found.items())))


if __name__ == "__main__":
    main()
