# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Calls without another thread: only of models whose time is bounded, after many quick ones, until one takes longer."""

from __future__ import annotations

import time
from pathlib import Path

import onnx
import pytest
from edgeml_device._release.onnx_file import OnnxFile, read_onnx
from edgeml_server.models.backend import BackendOptions
from edgeml_server.models.backend_onnx import OnnxBackend, has_bounded_time
from edgeml_server.models.quick_calls import CALLS, SECONDS_MAX, QuickCalls
from links import REPOSITORY
from onnx import TensorProto, helper

DIGITS = REPOSITORY / "examples" / "digits" / "repository"


def compute() -> str:
    """Take more processor time than a quick call may."""
    until = time.thread_time() + 2 * SECONDS_MAX
    while time.thread_time() < until:
        pass
    return "slow"


def quick(calls: QuickCalls, count: int, size: int = 100) -> None:
    for _call in range(count):
        assert calls.run(lambda: "quick", size) == "quick"


def test_after_enough_quick_calls_another_is_expected_to_be_quick() -> None:
    calls = QuickCalls(bounded=True)
    quick(calls, CALLS - 1)
    assert not calls.expects_quick(100)
    quick(calls, 1)
    assert calls.expects_quick(100)
    assert not calls.expects_quick(101), "larger than any that was quick"


def test_one_slow_call_ends_it_and_it_is_earned_again() -> None:
    calls = QuickCalls(bounded=True)
    quick(calls, CALLS)
    assert calls.run(compute, 50) == "slow"
    assert not calls.expects_quick(50)
    quick(calls, CALLS, size=80)
    assert calls.expects_quick(80)
    assert not calls.expects_quick(100), "what was quick before the slow one proves nothing"


def test_a_call_that_fails_counts_by_its_time() -> None:
    def fail() -> None:
        raise ValueError("the request's fault")

    calls = QuickCalls(bounded=True)
    for _call in range(CALLS):
        with pytest.raises(ValueError, match="fault"):
            calls.run(fail, 100)
    assert calls.expects_quick(100)


def test_waiting_takes_no_processor_time() -> None:
    calls = QuickCalls(bounded=True)
    quick(calls, CALLS)
    calls.run(lambda: time.sleep(0.01), 100)
    assert calls.expects_quick(100)


def test_an_unbounded_model_is_never_expected_to_be_quick() -> None:
    calls = QuickCalls(bounded=False)
    quick(calls, 2 * CALLS)
    assert not calls.expects_quick(0)


def save(tmp_path: Path, operator: str, domain: str = "", functions: bool = False) -> Path:
    node = helper.make_node(operator, ["x"], ["y"], domain=domain)
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N"]) for name in "xy")
    model = helper.make_model(helper.make_graph([helper.make_node("Abs", ["x"], ["z"]), node], "graph", [x], [y]))
    if functions:
        body = [helper.make_node("Abs", ["x"], ["y"])]
        function = helper.make_function("custom", "F", ["x"], ["y"], body, [helper.make_opsetid("", 17)])
        model.functions.append(function)
    path = tmp_path / "model.onnx"
    onnx.save(model, str(path))
    return path


@pytest.mark.parametrize(
    ("operator", "domain", "functions", "bounded"),
    [
        ("Relu", "", False, True),
        ("Scaler", "ai.onnx.ml", False, True),
        ("Loop", "", False, False),
        ("Range", "", False, False),
        ("Relu", "com.example", False, False),
        ("Relu", "", True, False),
    ],
)
def test_which_graphs_are_bounded(tmp_path: Path, operator: str, domain: str, functions: bool, bounded: bool) -> None:
    assert has_bounded_time(read_onnx(str(save(tmp_path, operator, domain, functions)))) == bounded


def test_a_file_that_is_no_model_is_not(tmp_path: Path) -> None:
    (tmp_path / "text").write_bytes(b"this is no model at all")
    with pytest.raises(ValueError, match=r"field|number"):
        read_onnx(str(tmp_path / "text"))
    assert not has_bounded_time(OnnxFile())


def test_a_real_model_that_runs_in_its_callers_thread_is_and_in_others_is_not(tmp_path: Path) -> None:
    path = save(tmp_path, "Relu")
    assert OnnxBackend(str(path), BackendOptions(threads=1)).bounded
    assert not OnnxBackend(str(path), BackendOptions(threads=2)).bounded
    assert not OnnxBackend(str(path), BackendOptions(1, {"prepacking": "no"})).bounded


def test_the_example_is() -> None:
    blobs = sorted((DIGITS / "blobs" / "sha256").iterdir())
    models = [blob for blob in blobs if blob.read_bytes()[:1] == b"\x08"]
    assert models
    assert all(has_bounded_time(read_onnx(str(blob))) for blob in models)
