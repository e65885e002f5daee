# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Versions that cannot be asked the probe set of a new release, as the repository and the plan show it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from onnx import TensorProto, helper
from releases import make_release, publish, variant_entry
from rollout_stage import Stage

from ansible_collections.edgeml.fleet.plugins.module_utils._release.repository import Repository
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.comparable import missing_outputs, why_unasked
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.steps.power import COUNTED

ROWS = 4
OLDER: dict[str, Any] = {"inputs": {"x": ("FP32", 3)}, "output": "scores", "classes": 3}


def put(
    repository: Path,
    version: str,
    inputs: dict[str, tuple[str, int]],
    output: str,
    classes: int,
    label: int = 0,
    **changes: Any,
) -> None:
    """Publish a version: a classifier with these inputs, an output with so many scores, and a class as a label."""
    tensors = [
        {"name": name, "datatype": datatype, "shape": [ROWS, size], "data": [0] * (ROWS * size)}
        for name, (datatype, size) in inputs.items()
    ]
    scores = {"name": output, "datatype": "FP32", "shape": [ROWS, classes], "data": [0] * (ROWS * classes)}
    golden = {"inputs": tensors, "outputs": [scores], "tolerance": {"absolute": 0, "relative": 0}}
    probe = {"task": "class_scores", "inputs": tensors, "output": output, "labels": [0, 1, 0, label]}
    release = make_release(version, golden=json.dumps(golden).encode(), probe=json.dumps(probe).encode(), **changes)
    publish(release, repository)


def asked(path: Path, older: str = "1.0.0") -> str:
    """Why the older version in this repository cannot be asked the probe set of 1.1.0."""
    repository = Repository(str(path))
    before, release = (repository.release("digits", version) for version in (older, "1.1.0"))
    return why_unasked(before, release, lambda file: repository.blob_path(file.sha256))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({}, ""),
        ({"inputs": {"pixels": ("FP32", 3)}}, "has the input x (FP32 [3]), and the probe set pixels (FP32 [3])"),
        ({"inputs": {"x": ("FP32", 4)}}, "has the input x (FP32 [3]), and the probe set x (FP32 [4])"),
        ({"inputs": {"x": ("INT8", 3)}}, "has the input x (FP32 [3]), and the probe set x (INT8 [3])"),
        (
            {"inputs": {**OLDER["inputs"], "age": ("FP32", 1)}},
            "has no input age (FP32 [1]), which the probe set has",
        ),
        ({"output": "probabilities"}, "has the output scores, and the probe set probabilities"),
        # A class that is not asked for changes nothing.
        ({"classes": 4}, ""),
    ],
)
def test_what_differs_is_told(tmp_path: Path, changes: dict[str, Any], reason: str) -> None:
    put(tmp_path, "1.0.0", **OLDER)
    put(tmp_path, "1.1.0", **{**OLDER, **changes})
    assert asked(tmp_path) == reason


def test_an_input_that_the_new_version_no_longer_has(tmp_path: Path) -> None:
    put(tmp_path, "1.0.0", **{**OLDER, "inputs": {**OLDER["inputs"], "age": ("FP32", 1)}})
    put(tmp_path, "1.1.0", **OLDER)
    assert asked(tmp_path) == "has the input age (FP32 [1]), which the probe set lacks"


@pytest.mark.parametrize(
    ("shape", "is_asked"),
    [(["N", "L"], True), ([None, None], True), (["L"], True), (None, True), (["N", 3], False), (["N", "L", 1], False)],
)
def test_a_model_that_takes_inputs_of_any_size_is_asked_longer_ones(tmp_path: Path, shape: Any, is_asked: bool) -> None:
    nodes = [helper.make_node("Identity", ["tokens"], ["scores"])]
    tensors = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in ("tokens", "scores")]
    graph = helper.make_graph(nodes, "graph", tensors[:1], tensors[1:])
    files = {"model.onnx": helper.make_model(graph).SerializeToString()}
    variant = variant_entry(files, tensors={"inputs": {"x": "tokens"}})
    put(tmp_path, "1.0.0", **OLDER, files=files, variants=[variant])
    put(tmp_path, "1.1.0", **{**OLDER, "inputs": {"x": ("FP32", 5)}})
    assert asked(tmp_path) == ("" if is_asked else "has the input x (FP32 [3]), and the probe set x (FP32 [5])")


def test_a_class_that_the_version_before_lacks(tmp_path: Path) -> None:
    put(tmp_path, "1.0.0", **OLDER)
    put(tmp_path, "1.1.0", **{**OLDER, "classes": 4, "label": 3})
    assert asked(tmp_path).startswith("has another output scores: labels: expected places from 0 to 2 and")


def test_outputs_that_clients_lose(tmp_path: Path) -> None:
    put(tmp_path, "1.0.0", **OLDER)
    put(tmp_path, "1.1.0", **{**OLDER, "output": "probabilities"})
    publish(make_release("1.2.0"), tmp_path)
    publish(make_release("1.3.0", golden=b"{"), tmp_path)
    repository = Repository(str(tmp_path))
    releases = {version: repository.release("digits", version) for version in repository.versions("digits")}

    def lost(before: str, after: str) -> list[str]:
        return missing_outputs(releases[before], releases[after], lambda file: repository.blob_path(file.sha256))

    assert lost("1.0.0", "1.1.0") == ["scores"]
    assert lost("1.0.0", "1.0.0") == []
    # Without a golden file, or with one that cannot be read, nobody knows.
    assert [lost(*pair) for pair in (("1.0.0", "1.2.0"), ("1.2.0", "1.0.0"), ("1.0.0", "1.3.0"))] == [[], [], []]


@pytest.mark.parametrize("name", ["x", "pixels"])
def test_the_plan_foresees_it(tmp_path: Path, name: str) -> None:
    (tmp_path / "scratch").mkdir()
    repository = tmp_path / "repository"
    put(repository, "1.0.0", **OLDER)
    put(repository, "1.1.0", **{**OLDER, "inputs": {name: ("FP32", 3)}})
    stage = Stage(
        tmp_path, model_repository=str(repository), rollout_plan_only=True, rollout_soak_seconds=60, rollout_limits={}
    )
    stage.step("plan")
    found = {"model": {"active": "1.0.0", "live": "1.0.0", "active_seconds": 86400.0}}
    stage.register(COUNTED, dict.fromkeys(stage.hosts, found))
    result = stage.step("power")
    drops = [item["cause"] for item in result["power"][0]["checks"] if item["check"] == "accuracy drop"]
    text = "\n".join(result["msg"])
    if name == "x":
        assert result["unasked"] == {}
        assert "not comparable" not in drops
    else:
        assert result["unasked"] == {"1.0.0": "has the input x (FP32 [3]), and the probe set pixels (FP32 [3])"}
        assert set(drops) == {"not comparable"}
        assert "Versions that serve cannot be asked the probe set of digits 1.1.0: 1.0.0 (edge-l1, " in text
        assert "cannot be seen: the version before could not be asked the probe set" in text
        assert "tensors in its manifest" in text
