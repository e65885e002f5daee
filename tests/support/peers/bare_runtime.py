# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""ONNX Runtime without any server: ``python bare_runtime.py MODEL`` loads a model and says so.

Each line ``infer SHAPE COUNT`` or ``parse FILE COUNT`` on standard input repeats a step: an inference on the one input,
or the parsing of a file with JSON. The answer is one JSON list: the median of the seconds that it took, and the mean of
the seconds of processor time, as of a server the mean is what the kernel counts.
"""

from __future__ import annotations

import functools
import json
import statistics
import sys
import time
from pathlib import Path

import onnxruntime

settings = onnxruntime.SessionOptions()
settings.intra_op_num_threads = 1
settings.inter_op_num_threads = 1
settings.add_session_config_entry("session.intra_op.allow_spinning", "0")
session = onnxruntime.InferenceSession(sys.argv[1], settings, providers=["CPUExecutionProvider"])
print("ready", flush=True)

for line in sys.stdin:
    import numpy as np
    import orjson

    step, argument, count = line.split()
    if step == "infer":
        (given,) = session.get_inputs()
        inputs = {given.name: np.ones([int(size) for size in argument.split(",")], np.float32)}
        act = functools.partial(session.run, None, inputs)
    else:
        act = functools.partial(orjson.loads, Path(argument).read_bytes())
    walls, processor = [], []
    for _turn in range(int(count)):
        wall, cpu = time.perf_counter(), time.process_time()
        act()
        walls.append(time.perf_counter() - wall)
        processor.append(time.process_time() - cpu)
    print(json.dumps([statistics.median(walls), statistics.fmean(processor)]), flush=True)
