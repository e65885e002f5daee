# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Releases of LiteRT models and of ONNX Runtime's own form, and the smaller variants of LiteRT models."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from ai_edge_litert.interpreter import Interpreter
from ai_edge_quantizer import recipe
from ai_edge_quantizer.calibrator import Calibrator
from ai_edge_quantizer.recipe_manager import RecipeManager
from loud_levels import SAMPLES, levels, loudness
from publications import Case, answers, digits_model
from tflite_models import Graph, dense, plus_one

from ansible_collections.edgeml.fleet.plugins.plugin_utils._publish import tflite_variants
from ansible_collections.edgeml.fleet.plugins.plugin_utils._publish.model import Model, RefusedError, file_of
from ansible_collections.edgeml.fleet.plugins.plugin_utils._publish.variants import (
    Calibration,
    NothingToDoError,
    running,
)

Array = np.ndarray[Any, Any]


class Levels(Case):
    """A publication of the model of levels."""

    def __init__(self, directory: Path, *, loud_first: bool = True) -> None:
        super().__init__(directory, levels())
        values, labels = loudness(loud_first)
        self.samples = {"x": values, "labels": labels, "reference": run(self.model, values)}
        self.options.update(model="levels", source=str(directory / "levels.tflite"), variants=["int8", "fp16", "fp32"])


def run(content: bytes, values: Array) -> Array:
    found: Array = Interpreter(model_content=content).get_signature_runner()(x=values)["probabilities"]
    return found


def source(directory: Path, content: bytes) -> Model:
    path = directory / "model.tflite"
    path.write_bytes(content)
    return Model("tflite-fp32", "tflite", (file_of(str(path)),))


def test_a_tflite_model_is_published_in_three_variants(tmp_path: Path) -> None:
    case = Levels(tmp_path)
    case.options["required_variants"] = ["int8", "fp16"]
    published = case.publish()
    assert [row["variant"] for row in published.table] == ["tflite-int8", "tflite-fp16", "tflite-fp32"]
    assert [row["verdict"] for row in published.table] == ["pass"] * 3
    assert all(row["runtime"].startswith("ai-edge-litert ") for row in published.table)
    entries = {entry["name"]: entry for entry in published.document["variants"]}
    assert {entry["runtime"]["name"] for entry in entries.values()} == {"ai-edge-litert"}
    allowed = {name: entry["tolerances"]["probabilities"]["absolute"] for name, entry in entries.items()}
    assert allowed["tflite-fp32"] < allowed["tflite-int8"]


def test_a_tflite_file_that_computes_something_else_than_its_framework(tmp_path: Path) -> None:
    case = Levels(tmp_path)
    case.samples["reference"] = np.roll(case.samples["reference"], 1, axis=1)
    with pytest.raises(RefusedError, match="'probabilities' is not what the source framework computes, in 400 of 400"):
        case.publish()


def test_ranges_do_not_depend_on_the_order_of_the_samples(tmp_path: Path) -> None:
    files = []
    for loud_first in (True, False):
        values, _labels = loudness(loud_first)
        quantiser = tflite_variants.StaticQuantiser(source(tmp_path, levels()), str(tmp_path))
        calibration = quantiser.calibrate({"x": values}, SAMPLES, {"x": values})
        assert calibration.largest_cut_off[1] == 0
        files.append(quantiser.quantise().entrypoint.sha256)
    assert files[0] == files[1]


@pytest.mark.parametrize("loud_first", [True, False])
def test_the_quantizers_own_moving_average_loses_the_loud_ones_and_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, loud_first: bool
) -> None:
    """Calibrated as its documentation has it, one sample after the other."""

    def own(
        quantiser: tflite_variants.StaticQuantiser,
        inputs: Mapping[str, Array],
        _count: int,
        holdout: Mapping[str, Array],
    ) -> Calibration:
        settings = RecipeManager()
        settings.load_quantization_recipe(recipe.static_wi8_ai8())
        with running("ai-edge-quantizer"):
            calibrator = Calibrator(levels(), num_threads=1)
            calibrator.calibrate({"serving_default": [{"x": value[None]} for value in inputs["x"]]}, settings)
        return quantiser.take(calibrator.get_model_qsvs(), SAMPLES, holdout)

    monkeypatch.setattr(tflite_variants.StaticQuantiser, "calibrate", own)
    case = Levels(tmp_path, loud_first=loud_first)
    case.options.update(variants=["fp32", "int8"], required_variants=["int8"])
    with pytest.raises(RefusedError, match=r"tflite-int8: accuracy goes from 1\.0000 to 0\.9") as refused:
        case.publish()
    notes = next(row["notes"] for row in refused.value.table if row["variant"] == "tflite-int8")
    assert any("% of the holdout's values are cut off in " in note for note in notes)


def test_inputs_and_outputs_stay_float_and_layers_go_back_to_float(tmp_path: Path) -> None:
    values, _labels = loudness(loud_first=True)
    quantiser = tflite_variants.StaticQuantiser(source(tmp_path, levels()), str(tmp_path))
    assert quantiser.layers == ["layer0", "layer1"]
    quantiser.calibrate({"x": values}, 64, {"x": values})
    whole = quantiser.quantise()
    assert sorted(quantiser.worst_layers(whole, {"x": values})) == quantiser.layers
    types = tensor_types(whole)
    assert (types["x"], types["layer0"], types["layer1"], types["probabilities"]) == (
        np.float32, np.int8, np.int8, np.float32,
    )  # fmt: skip
    assert tensor_types(quantiser.quantise(["layer1"]))["layer1"] == np.float32


def tensor_types(model: Model) -> dict[str, Any]:
    interpreter = Interpreter(model_path=model.entrypoint.location)
    return {tensor["name"]: tensor["dtype"] for tensor in interpreter.get_tensor_details()}


def test_a_model_of_a_fixed_number_of_rows_is_calibrated_by_that_many(tmp_path: Path) -> None:
    weights = np.eye(3, 2)
    quantiser = tflite_variants.StaticQuantiser(
        source(tmp_path, dense([(weights, np.zeros(3))], rows=2)), str(tmp_path)
    )
    values = np.arange(14, dtype=np.float32).reshape(7, 2)
    calibration = quantiser.calibrate({"x": values}, 7, {"x": values})
    assert calibration.ranges["x"]["max"].item() == 11, "the seventh row fills no batch"


def test_int8_weights_alone_shrink_a_model(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    big = dense([(random.normal(size=(64, 64)), np.zeros(64)), (random.normal(size=(3, 64)), np.zeros(3))])
    values = random.normal(size=(50, 64)).astype(np.float32)
    made = tflite_variants.int8_dynamic(source(tmp_path, big), str(tmp_path))
    assert made.size < len(big) / 2
    found = run(Path(made.entrypoint.location).read_bytes(), values)
    assert 0 < np.abs(found - run(big, values)).mean() < 0.05


@pytest.mark.parametrize(
    ("content", "expected"),
    [(plus_one(), "the model has no layer of BATCH_MATMUL"), (b"", "expected a file with one graph and one signature")],
)
def test_models_of_which_nothing_smaller_is_made(tmp_path: Path, content: bytes, expected: str) -> None:
    if not content:
        graph = Graph()
        tensor = graph.tensor("x", 0, [1])
        content = graph.serialised([tensor], [tensor])
    with pytest.raises(NothingToDoError, match=expected):
        tflite_variants.float16(source(tmp_path, content), str(tmp_path))


def test_a_model_in_onnx_runtimes_own_form_is_published(tmp_path: Path) -> None:
    path = tmp_path / "digits.ort"
    settings = onnxruntime.SessionOptions()
    settings.optimized_model_filepath = str(path)
    settings.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    settings.add_session_config_entry("session.save_model_format", "ORT")
    onnxruntime.InferenceSession(digits_model(), settings, providers=["CPUExecutionProvider"])
    case = Case(tmp_path, path.read_bytes())
    case.options["source"] = str(path)
    case.samples["reference"] = answers(digits_model(), case.samples["image"])
    published = case.publish()
    (entry,) = published.document["variants"]
    assert (entry["entrypoint"], entry["format"], entry["runtime"]["name"]) == ("model.ort", "onnx", "onnxruntime")
    assert published.table[0]["verdict"] == "pass"
    case.samples["reference"] = answers(digits_model("1.2.0"), case.samples["image"])
    case.options["version"] = "1.1.1"
    with pytest.raises(RefusedError, match="is not what the source framework computes"):
        case.publish()
