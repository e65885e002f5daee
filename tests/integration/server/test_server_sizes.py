# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Sizes that do not fit: whose mistake it is, and what a runtime must not see."""

from __future__ import annotations

from typing import Any

import onnx_models
import pytest
from server_process import Device, Reply, plus_input

GOLDEN_SIZES = 4


def numbers(name: str, *shape: int) -> dict[str, Any]:
    count = 1
    for size in shape:
        count *= size
    return {"name": name, "datatype": "FP32", "shape": list(shape), "data": [1.0] * count}


def golden(given: dict[str, Any], output: str, **more: Any) -> dict[str, Any]:
    outputs = [{**given, "name": output}]
    return {
        "inputs": [{**given, **more}],
        "outputs": outputs,
        "tolerance": {"absolute": 0, "relative": 0},
    }


def infer(device: Device, model: str, *inputs: dict[str, Any]) -> Reply:
    return device.post(f"/v2/models/{model}/infer", {"inputs": list(inputs)})


def refusal(reply: Reply) -> str:
    """The one line of an answer with 400."""
    assert reply.status == 400, reply
    error: str = reply.json()["error"]
    assert "\n" not in error
    assert len(error) < 700
    return error


def counts(device: Device, model: str) -> dict[str, float]:
    series = device.series("edgeml_inference_requests_total")
    return {code: value for (code, name, _version), value in series.items() if name == model}


# ---- whose mistake ----


def test_sizes_of_one_name_are_compared_before_the_model_runs(device: Device) -> None:
    device.publish("pair", "1.0.0", onnx_models.pair())
    device.start()
    assert infer(device, "pair", numbers("a", 3, 2), numbers("b", 3, 2)).status == 200
    # A kernel would take this: it adds the one row to each of the others.
    for rows in ((3, 1), (3, 2)):
        error = refusal(infer(device, "pair", numbers("a", rows[0], 2), numbers("b", rows[1], 2)))
        assert error == (
            f"input 'b': shape: expected the size 'N' to be 3, as in the shape of input 'a'; found {rows[1]}"
        )


def test_sizes_that_an_exporter_did_not_know_may_differ(device: Device) -> None:
    device.publish("unnamed", "1.0.0", onnx_models.unnamed_sizes())
    device.start()
    assert infer(device, "unnamed", numbers("x", 2, 3)).json()["outputs"][0]["shape"] == [2, 3]


def test_sizes_that_only_the_kernel_knows_to_be_wrong_are_the_clients_mistake(device: Device) -> None:
    given = numbers("x", GOLDEN_SIZES)
    device.publish("reshape", "1.0.0", onnx_models.reshape(GOLDEN_SIZES), golden(given, "y"))
    device.start()
    for size in (3, 5):
        error = refusal(infer(device, "reshape", numbers("x", size)))
        assert error.startswith(f"the model cannot run on inputs of these sizes: 'x' [{size}]: ONNX Runtime: ")
    assert infer(device, "reshape", given).status == 200
    assert counts(device, "reshape") == {"200": 1, "400": 2}
    # No traceback: any client could fill the journal.
    assert not [line for line in device.log.all() if line.startswith("error")]


def test_a_failure_without_any_evidence_is_the_servers_until_a_request_is_answered(device: Device) -> None:
    device.publish("reshape", "1.0.0", onnx_models.reshape(GOLDEN_SIZES))
    device.start()
    failed = infer(device, "reshape", numbers("x", 3))
    assert (failed.status, "\n" in failed.json()["error"]) == (500, False)
    assert infer(device, "reshape", numbers("x", GOLDEN_SIZES)).status == 200
    refusal(infer(device, "reshape", numbers("x", 3)))
    assert counts(device, "reshape") == {"200": 1, "400": 1, "500": 1}


@pytest.mark.parametrize("batch_rows", [1, 8])
def test_a_model_that_fails_on_what_it_has_answered_is_an_internal_error(device: Device, batch_rows: int) -> None:
    given = {"name": "count", "datatype": "INT64", "shape": [1], "data": [4]}
    expected = {"name": "y", "datatype": "FP32", "shape": [4], "data": [1.0] * 4}
    document = {"inputs": [given], "outputs": [expected], "tolerance": {"absolute": 0, "relative": 0}}
    device.publish("expand", "1.0.0", onnx_models.expand(4), document)
    device.start(batch_rows=batch_rows)
    reply = device.post("/v2/models/expand/infer", {"inputs": [{**given, "data": [3]}]})
    assert reply.status == 500
    assert "\n" not in reply.json()["error"]
    device.log.wait_for_text("error internal error")


# ---- unusual sizes ----


def serve_plus(device: Device, **more: Any) -> None:
    given = plus_input([1, 2], [3, 4])
    document = golden(given, "sum", **more)
    document["outputs"][0]["data"] = [2, 3, 4, 5]
    device.publish("plus", "1.0.0", onnx_models.plus(1), document)
    device.start()


def test_no_rows_and_far_too_many_are_refused(device: Device) -> None:
    serve_plus(device)
    expected = "expected 1 to 1024 at place 0, as the release says or its golden inputs show; found"
    for rows in (0, 1025):
        assert f"input 'x': shape: {expected} [{rows}, 2]" in refusal(infer(device, "plus", numbers("x", rows, 2)))
    for rows in (1, 1024):
        assert infer(device, "plus", numbers("x", rows, 2)).status == 200


def test_the_release_may_allow_other_sizes(device: Device) -> None:
    serve_plus(device, size_ranges=[[0, 3], [2, None]])
    no_rows = infer(device, "plus", numbers("x", 0, 2))
    assert no_rows.json()["outputs"][0] == {"name": "sum", "datatype": "FP32", "shape": [0, 2], "data": []}
    assert infer(device, "plus", numbers("x", 3, 2)).status == 200
    assert "expected 0 to 3 at place 0" in refusal(infer(device, "plus", numbers("x", 4, 2)))


def test_without_golden_inputs_only_nothing_is_refused(device: Device) -> None:
    device.publish("plus", "1.0.0", onnx_models.plus(1))
    device.start()
    assert "expected 1 or more at place 0" in refusal(infer(device, "plus", numbers("x", 0, 2)))
    assert infer(device, "plus", numbers("x", 3000, 2)).status == 200


@pytest.mark.parametrize(
    "ranges", [[[0, 3]], [[0, 3], [2]], [[-1, 3], [2, 2]], [[None, 3], [2, 2]], [["a", 3], [2, 2]]]
)
def test_wrong_size_ranges_are_named(device: Device, ranges: Any) -> None:
    serve_plus(device)
    document = golden(plus_input([1, 2]), "sum", size_ranges=ranges)
    device.publish("plus", "1.1.0", onnx_models.plus(1), document)
    reply = device.load("plus")
    assert reply.status == 400
    assert "not a golden test for this model" in reply.json()["error"]
    assert device.infer("plus", [1, 2]).json()["model_version"] == "1.0.0"
