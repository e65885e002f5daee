# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A model behind Flask, as it is usually done; gunicorn runs it. The model is the file that MODEL names."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import onnxruntime
from flask import Flask, jsonify, request

settings = onnxruntime.SessionOptions()
settings.intra_op_num_threads = 1
settings.inter_op_num_threads = 1
settings.add_session_config_entry("session.intra_op.allow_spinning", "0")
session = onnxruntime.InferenceSession(os.environ["MODEL"], settings, providers=["CPUExecutionProvider"])
names = [output.name for output in session.get_outputs()]

app = Flask(__name__)


@app.get("/ready")
def ready() -> str:
    """The model is loaded, or this would not run."""
    return ""


@app.post("/infer")
def infer() -> Any:
    """Answer a request in the protocol's JSON."""
    inputs = {
        item["name"]: np.array(item["data"], dtype=np.float32).reshape(item["shape"])
        for item in request.get_json()["inputs"]
    }
    results = session.run(names, inputs)
    outputs = [
        {"name": name, "datatype": "FP32", "shape": list(values.shape), "data": values.ravel().tolist()}
        for name, values in zip(names, results, strict=True)
    ]
    return jsonify(outputs=outputs)
