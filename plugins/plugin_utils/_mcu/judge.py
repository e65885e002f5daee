# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""A judge of models for microcontrollers: TensorFlow Lite Micro's own interpreter, on this machine.

It runs as a program of its own, ``judge.py MODEL ARENA_BYTES``, with a Python that has the package tflite-micro: a
model that crashes the interpreter ends this program and no other. The samples come as JSON, a list of lists of numbers
as the model takes them; the answer is a line of JSON: ``arena``, the fewest bytes that the model works in, and
``outputs``.
"""

from __future__ import annotations

import json
import sys
from typing import Any, Sequence

# Arenas are aligned to this.
_STEP = 16


def main(arguments: Sequence[str]) -> int:
    """Judge a model. The exit code is 0 whatever the answer is: the answer says it."""
    path, limit = arguments[0], int(arguments[1])
    samples = json.load(sys.stdin)
    try:
        arena = fewest_bytes(path, limit)
        answer: dict[str, Any] = {"arena": arena, "outputs": outputs(path, limit, samples)}
    except (RuntimeError, ValueError, TypeError) as error:
        answer = {"error": str(error)}
    print(json.dumps(answer))
    return 0


def fewest_bytes(path: str, limit: int) -> int:
    """The size of the smallest arena, of at most ``limit`` bytes, in which the interpreter takes the model.

    Raises RuntimeError where it takes it in none of them.
    """
    if not _fits(path, limit):
        raise RuntimeError(f"the interpreter does not take it with an arena of {limit} bytes")
    least, most = 0, -(-limit // _STEP)
    while least < most:
        middle = (least + most) // 2
        if _fits(path, middle * _STEP):
            most = middle
        else:
            least = middle + 1
    return min(most * _STEP, limit)


def outputs(path: str, arena: int, samples: Sequence[Sequence[float]]) -> list[list[float]]:
    """What the model answers to each sample. Each has an interpreter of its own: a run may overwrite its input."""
    import numpy as np

    found = []
    for sample in samples:
        interpreter = _interpreter(path, arena)
        details = interpreter.get_input_details(0)
        interpreter.set_input(np.array(sample, dtype=details["dtype"]).reshape(details["shape"]), 0)
        interpreter.invoke()
        found.append(interpreter.get_output(0).reshape(-1).tolist())
    return found


def _fits(path: str, arena: int) -> bool:
    try:
        _interpreter(path, arena)
    except RuntimeError:
        return False
    return True


def _interpreter(path: str, arena: int) -> Any:
    from tflite_micro.python.tflite_micro import runtime

    return runtime.Interpreter.from_file(path, arena_size=arena)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
