# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Run models by TensorFlow Lite Micro: for each NAME.tflite of a directory, NAME.inputs.npy to NAME.outputs.npy.

A program for the environment of tools/mcu: `python tflite_micro_outputs.py DIRECTORY`.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from tflite_micro.python.tflite_micro import runtime


def main() -> None:
    """Run every model of the directory."""
    for model in sorted(Path(sys.argv[1]).glob("*.tflite")):
        interpreter = runtime.Interpreter.from_file(str(model))
        shape = interpreter.get_input_details(0)["shape"]
        outputs = []
        for values in np.load(model.with_suffix(".inputs.npy")):
            interpreter.set_input(values.reshape(shape), 0)
            interpreter.invoke()
            outputs.append(interpreter.get_output(0).reshape(-1))
        np.save(model.with_suffix(".outputs.npy"), np.array(outputs))


if __name__ == "__main__":
    main()
