# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A LiteRT model from the desk to a client: published in int8, proved by its golden file, served and swapped."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter
from loud_levels import levels, loudness
from publications import Case, serve
from server_process import Device


@pytest.mark.parametrize("variants", [["int8"], ["fp32"]])
def test_a_published_litert_model_is_served(tmp_path: Path, device: Device, variants: list[str]) -> None:
    values, labels = loudness(loud_first=True)
    case = Case(tmp_path, levels())
    right = Interpreter(model_content=case.model).get_signature_runner()(x=values)["probabilities"]
    case.samples = {"x": values, "labels": labels, "reference": right}
    case.options.update(model="levels", source=str(tmp_path / "levels.tflite"), variants=variants)
    serve(device, case.publish(), Path(case.options["repository"]))
    device.start()
    assert device.get("/v2/models/levels").json()["platform"] == "tensorflowlite"
    tensor = {"name": "x", "datatype": "FP32", "shape": list(values.shape), "data": values[:, 0].tolist()}
    (output,) = device.post("/v2/models/levels/infer", {"inputs": [tensor]}).json()["outputs"]
    assert output["shape"] == [len(values), 3]
    np.testing.assert_array_equal(np.reshape(output["data"], (-1, 3)).argmax(axis=1), labels)
