# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The command in this process: its exit codes, what it prints, recipes, other tasks and other runtimes."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper
from publications import Case

from ansible_collections.edgeml.fleet.plugins.module_utils._common.errors import EdgemlError
from ansible_collections.edgeml.fleet.plugins.plugin_utils._publish.cli import main
from ansible_collections.edgeml.fleet.plugins.plugin_utils._publish.model import PublishError
from ansible_collections.edgeml.fleet.plugins.plugin_utils._publish.source import run_recipe
from ansible_collections.edgeml.fleet.plugins.plugin_utils._publish.words import bytes_text, seconds_text

RECIPE = """
import shutil
import onnxruntime

def export(directory):
    shutil.copy({model!r}, directory + "/digits.onnx")

def reference(inputs):
    session = onnxruntime.InferenceSession({model!r}, providers=["CPUExecutionProvider"])
    return {{"probabilities": session.run(None, inputs)[0]}}
"""


def test_the_command_publishes_says_nothing_to_do_and_refuses(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    case = Case(tmp_path)
    case.write()
    (tmp_path / "options.json").write_text(json.dumps({**case.options, "report": str(tmp_path / "report.html")}))
    # Where this is, people sign.
    Path(case.options["repository"], "metadata").mkdir(parents=True)
    command = ["release", "--options", str(tmp_path / "options.json")]
    assert main(command) == 0
    said = capsys.readouterr().out
    assert "digits 1.1.0 is published in" in said
    assert "next: edgeml-publish sign" in said
    assert "onnx-fp32" in (tmp_path / "report.html").read_text()
    assert main([*command, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["changed"] is False
    assert main([*command, "--description", "another"]) == 2
    assert "edgeml-publish: refused: description: expected ''; found 'another'" in capsys.readouterr().err
    assert "Refused" in (tmp_path / "report.html").read_text()
    assert main([*command, "--json", "--samples", str(tmp_path / "none.npz")]) == 2
    assert json.loads(capsys.readouterr().out)["failed"] is True
    assert main(["release", "--options", str(tmp_path / "none.json")]) == 2
    assert "expected a JSON object" in capsys.readouterr().err


def test_a_recipe_runs_in_a_python_of_its_own_and_says_what_is_right(tmp_path: Path) -> None:
    case = Case(tmp_path)
    case.write()
    recipe = tmp_path / "recipe.py"
    recipe.write_text(RECIPE.format(model=case.options["source"]))
    case.model, case.options["source"], case.options["recipe_python"] = recipe.read_bytes(), str(recipe), sys.executable
    published = case.publish()
    assert not any("no reference outputs" in note for note in published.notes)
    assert [item["path"] for item in published.facts["materials"]] == ["recipe.py", "model.onnx"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("def export(directory):\n    raise OSError('no disk')\n", "OSError: no disk"),
        ("def export(directory):\n    pass\n", r"expected export\(directory\) to write one model"),
        ("value = 1\n", r"expected a function export\(directory\)"),
    ],
)
def test_a_recipe_that_makes_no_model(tmp_path: Path, text: str, expected: str) -> None:
    case = Case(tmp_path, text.encode())
    case.options["source"] = str(tmp_path / "recipe.py")
    with pytest.raises(EdgemlError, match=expected):
        case.publish()


@pytest.mark.parametrize(
    ("values", "found"),
    [
        ("numpy.ma.masked_greater([[1.0, 9.0], [8.0, 2.0]], 5)", "expected no masked values; found 2, behind which"),
        ("[numpy.ma.masked_equal([1, 2], 2), numpy.ma.masked_equal([3, 4], 5)]", "no masked values; found 1, behind"),
        ("numpy.array(['a', None], object)", "expected numbers or texts; found an array of objects with None"),
        ("numpy.array([b'a'], object)", "expected numbers or texts; found an array of objects with b'a'"),
    ],
)
def test_reference_outputs_that_would_become_others_are_refused(tmp_path: Path, values: str, found: str) -> None:
    recipe = tmp_path / "recipe.py"
    export = "def export(directory):\n    pass\n"
    recipe.write_text(f"import numpy\n{export}def reference(inputs):\n    return {{'scores': {values}}}\n")
    np.savez(tmp_path / "samples.npz", x=np.zeros(1))
    with pytest.raises(PublishError, match=f"reference: scores: .*{found}"):
        run_recipe(str(recipe), str(tmp_path), python=None, samples=str(tmp_path / "samples.npz"))


@pytest.mark.parametrize(
    ("values", "array"),
    [
        ("numpy.ma.masked_greater([1.0, 2.0], 5)", [1.0, 2.0]),
        ("numpy.array(['a', 'bc'], object)", ["a", "bc"]),
        ("[[1], [2]]", [[1], [2]]),
    ],
)
def test_reference_outputs_of_other_kinds_are_arrays(tmp_path: Path, values: str, array: list[Any]) -> None:
    case = Case(tmp_path)
    case.write()
    recipe = tmp_path / "recipe.py"
    export, _reference = RECIPE.format(model=case.options["source"]).split("def reference")
    recipe.write_text(f"{export}def reference(inputs):\n    import numpy\n    return {{'scores': {values}}}\n")
    source = run_recipe(str(recipe), str(tmp_path), python=None, samples=case.options["samples"])
    assert source.reference["scores"].tolist() == array


def linear() -> bytes:
    """``y`` = the mean of 64 numbers."""
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", size]) for name, size in (("x", 64), ("y", 1))]
    weight = numpy_helper.from_array(np.full((64, 1), 1 / 64, np.float32), "weight")
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "weight"], ["y"])], "mean", ends[:1], ends[1:], [weight]
    )
    content: bytes = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8
    ).SerializeToString()
    return content


def test_a_regression_is_judged_by_its_errors_and_a_large_probe_set_is_an_archive(tmp_path: Path) -> None:
    case = Case(tmp_path, linear())
    random = np.random.default_rng(3)
    x = random.uniform(0, 10, (8000, 64)).astype(np.float32)
    case.samples = {"x": x, "labels": x.mean(axis=1) + random.normal(0, 0.5, len(x))}
    case.options.update(task="regression", variants=["fp32", "fp16"])
    published = case.publish()
    assert [row["judgement"]["metric"] for row in published.table] == ["mae", "mae"]
    assert [row["published"] for row in published.table] == [True, True]
    assert published.document["probe"]["path"] == "probe.npz"


def test_without_labels_the_variants_are_compared_with_the_sources_outputs(tmp_path: Path) -> None:
    case = Case(tmp_path)
    del case.samples["labels"]
    case.options["variants"] = ["fp32", "fp16"]
    published = case.publish()
    assert published.facts["task"] == "reference"
    assert [row["judgement"]["metric"] for row in published.table] == ["agreement", "agreement"]


def test_a_model_from_texts_to_texts_has_no_drift_reference(tmp_path: Path) -> None:
    words = {"red": "rouge", "green": "vert"}
    ends = [helper.make_tensor_value_info(name, TensorProto.STRING, ["n"]) for name in ("word", "answer")]
    node = helper.make_node(
        "LabelEncoder",
        ["word"],
        ["answer"],
        domain="ai.onnx.ml",
        keys_strings=[*words],
        values_strings=[*words.values()],
    )
    graph = helper.make_graph([node], "words", ends[:1], ends[1:])
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    case = Case(tmp_path, helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString())
    asked = np.array([*words] * 200)
    case.samples = {"word": asked, "labels": np.array([words[word].encode() for word in asked])}
    published = case.publish()
    assert published.facts["metric"] == "accuracy"
    assert published.facts["source_metric"] == 1.0
    assert "reference" not in published.document
    assert "no drift reference: neither an input nor an output has numbers" in published.notes


def test_other_runtimes_are_tried(tmp_path: Path) -> None:
    case = Case(tmp_path)
    case.options["runtime_pythons"] = [sys.executable]
    assert case.publish().table[0]["runtime_minimum"] == "1.15.1"
    case.options.update(version="2", runtime_pythons=[str(tmp_path / "none")])
    with pytest.raises(EdgemlError, match=r"runtime_pythons: .*none"):
        case.publish()


def test_sizes_and_times_for_people() -> None:
    assert [bytes_text(value) for value in (None, 5, 2048, 300 << 20, 5 << 30)] == [
        "-", "5 B", "2.0 KiB", "300 MiB", "5.0 GiB",
    ]  # fmt: skip
    assert [seconds_text(value) for value in (None, 0.0123, 2)] == ["-", "12.30 ms", "2.00 s"]
