# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""LiteRT models: loaded, served, swapped and refused like any other."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx_models
import pytest
import tflite_models
from edgeml_server.models.tflite_file import read_kept_state
from releases import make_pipeline
from server_process import Device, plus_input, wrong_answers_to_six_clients
from test_server_protocol import VALUES
from tritonclient import http as triton

SERVED = {name: VALUES[name] for name in tflite_models.ELEMENT_TYPES}


def model(name: str) -> bytes:
    return (tflite_models.DIRECTORY / f"{name}.tflite").read_bytes()


def golden(addend: float) -> dict[str, Any]:
    return {
        "inputs": [{**plus_input([1, 2], [3, 4]), "size_ranges": [[0, None], [2, 2]]}],
        "outputs": [
            {"name": "sum", "datatype": "FP32", "shape": [2, 2], "data": [addend + number for number in (1, 2, 3, 4)]}
        ],
        "tolerance": {"absolute": 1e-4, "relative": 1e-3},
    }


@pytest.fixture(scope="module")
def litert_device(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Device]:
    """A serving device: models ``plus``, ``identities``, ``gather``, all LiteRT's."""
    device = Device(tmp_path_factory.mktemp("device"))
    try:
        device.publish("plus", "1.0.0", model("plus_one"), golden(1), "tflite")
        device.publish("identities", "1.0.0", model("identities"), model_format="tflite")
        device.publish("gather", "1.0.0", model("gather"), model_format="tflite")
        device.start(workers=4)
        yield device
    finally:
        device.stop()


@pytest.mark.parametrize("name", tflite_models.MODELS)
def test_the_committed_files_are_what_their_script_makes(name: str) -> None:
    assert model(name) == tflite_models.MODELS[name]()


def test_metadata_with_a_signature(litert_device: Device) -> None:
    assert litert_device.get("/v2/models/plus").json() == {
        "name": "plus",
        "versions": ["1.0.0"],
        "platform": "tensorflowlite",
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 2]}],
        "outputs": [
            {"name": "sum", "datatype": "FP32", "shape": [-1, 2]},
            {"name": "twice", "datatype": "FP32", "shape": [-1, 2]},
        ],
    }


def test_metadata_without_a_signature_has_the_tensors_names(litert_device: Device) -> None:
    document = litert_device.get("/v2/models/gather").json()
    assert document["inputs"] == [{"name": "index", "datatype": "INT64", "shape": [-1]}]
    assert document["outputs"] == [{"name": "y", "datatype": "INT32", "shape": [-1]}]


def test_every_datatype_both_ways(litert_device: Device) -> None:
    inputs = [
        {"name": f"in_{name}", "datatype": name, "shape": [len(data)], "data": data} for name, data in SERVED.items()
    ]
    reply = litert_device.post("/v2/models/identities/infer", {"inputs": inputs})
    assert reply.status == 200, reply.body
    outputs = {output["name"]: output for output in reply.json()["outputs"]}
    for name, data in SERVED.items():
        output = outputs[f"out_{name}"]
        assert (output["datatype"], output["shape"], output["data"]) == (name, [len(data)], data)


def test_binary_data_both_ways(litert_device: Device) -> None:
    values = np.array([[1, 2], [3, 4], [5, 6]], "<f4")
    document = {
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [3, 2], "parameters": {"binary_data_size": 24}}],
        "outputs": [{"name": "sum", "parameters": {"binary_data": True}}],
    }
    header = json.dumps(document).encode("utf-8")
    headers = {"Inference-Header-Content-Length": str(len(header))}
    reply = litert_device.request("POST", "/v2/models/plus/infer", header + values.tobytes(), headers)
    tail = reply.body[int(reply.headers["inference-header-content-length"]) :]
    assert np.array_equal(np.frombuffer(tail, "<f4").reshape(3, 2), values + 1)


def test_the_number_of_rows_may_change_with_every_request(litert_device: Device) -> None:
    for rows in (1, 3, 0, 2, 2, 1):
        data = [float(number) for number in range(2 * rows)]
        document = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [rows, 2], "data": data}]}
        (output, _twice) = litert_device.post("/v2/models/plus/infer", document).json()["outputs"]
        assert (output["shape"], output["data"]) == ([rows, 2], [number + 1 for number in data])


def test_requests_at_once_do_not_meet_each_others_tensors(litert_device: Device) -> None:
    assert wrong_answers_to_six_clients(litert_device) == []


def test_a_failure_while_running_is_the_requests_alone(litert_device: Device) -> None:
    def pick(index: int) -> Any:
        document = {"inputs": [{"name": "index", "datatype": "INT64", "shape": [1], "data": [index]}]}
        return litert_device.post("/v2/models/gather/infer", document)

    failed = pick(7)
    assert failed.status == 500
    assert "gather index out of bounds" in failed.json()["error"]
    assert pick(2).json()["outputs"][0]["data"] == [2]


def numbers(*values: float) -> dict[str, Any]:
    return {"inputs": [{"name": "x", "datatype": "FP32", "shape": [len(values)], "data": list(values)}]}


def test_what_a_model_keeps_reaches_no_other_request(device: Device) -> None:
    test = {**numbers(5), "outputs": [{"name": "total", "datatype": "FP32", "shape": [1], "data": [5.0]}]}
    test["tolerance"] = {"absolute": 0, "relative": 0}
    device.publish("total", "1.0.0", model("running_total"), test, "tflite")
    device.start(workers=2)
    device.log.wait_for_text("info resource variables: a new interpreter for each request")
    for value in (249.0, 0.0, 1.0):
        (output,) = device.post("/v2/models/total/infer", numbers(value)).json()["outputs"]
        assert output["data"] == [value]


def test_each_signature_is_a_part_with_a_name_of_its_own(device: Device) -> None:
    made = make_pipeline("1.0.0", "pair", {"twice": model("two_signatures")}, model_format="tflite")
    document = made.document
    document["parts"]["more"] = {}
    document["variants"][0]["parts"] = {
        name: {"entrypoint": "twice.tflite", "signature": name} for name in ("more", "twice")
    }
    device.publish_release(made)
    device.start()
    for part, expected in (("twice", [2.0, 8.0]), ("more", [2.0, 5.0])):
        for values in ([1.0, 4.0], [1.0, 4.0]):
            reply = device.post(f"/v2/models/pair/{part}/infer", numbers(*values))
            assert reply.status == 200, reply.body
            assert reply.json()["outputs"] == [{"name": "y", "datatype": "FP32", "shape": [2], "data": expected}]


@pytest.mark.parametrize(("signature", "expected"), [("twice", [6.0]), ("more", [4.0])])
def test_the_manifest_chooses_a_signature(device: Device, signature: str, expected: list[float]) -> None:
    variant = {"signature": signature}
    device.publish("pair", "1.0.0", model("two_signatures"), model_format="tflite", variant=variant)
    device.start()
    assert device.post("/v2/models/pair/infer", numbers(3.0)).json()["outputs"][0]["data"] == expected


@pytest.mark.parametrize("signature", [None, "pick"])
def test_texts_of_any_bytes_pass_unchanged(device: Device, signature: str | None) -> None:
    """An element that is no UTF-8 and ends with a zero, and an empty one; with and without a signature's runner."""
    elements = [b"\xff\xd8\0\x10JFIF\0", "grüße".encode(), b""]
    variant = {} if signature is None else {"signature": signature}
    device.publish("texts", "1.0.0", model("picked_texts"), model_format="tflite", variant=variant)
    device.start()
    declared = {each["name"]: each["datatype"] for each in device.get("/v2/models/texts").json()["inputs"]}
    assert declared == {"texts": "BYTES", "index": "INT32"}
    texts, index = triton.InferInput("texts", [3], "BYTES"), triton.InferInput("index", [4], "INT32")
    texts.set_data_from_numpy(np.array(elements, object))
    index.set_data_from_numpy(np.array([2, 0, 1, 0], np.int32))
    with triton.InferenceServerClient(f"127.0.0.1:{device.port}") as client:
        for _turn in range(2):
            found = client.infer("texts", [texts, index]).as_numpy("picked")
            assert list(found) == [elements[place] for place in (2, 0, 1, 0)]


def test_a_signature_that_is_not_there_is_named(device: Device) -> None:
    variant = {"signature": "half"}
    device.publish("pair", "1.0.0", model("two_signatures"), model_format="tflite", variant=variant)
    device.start()
    error = device.get("/v2/models/pair/ready").json()["error"]
    assert "signature: expected one of twice, more; found 'half'" in error


def test_two_forms_of_a_model_have_one_set_of_names(device: Device) -> None:
    """The golden file is written once, in the public names; a swap between the forms changes nothing for clients."""
    question = {"inputs": [{"name": "values", "datatype": "FP32", "shape": [1, 2], "data": [1, 2]}]}
    outputs = [{"name": "more", "datatype": "FP32", "shape": [1, 2], "data": [2.0, 3.0]}]
    test = {**question, "outputs": outputs, "tolerance": {"absolute": 0, "relative": 0}}
    tensors = {"inputs": {"values": "x"}, "outputs": {"more": "sum"}}
    device.publish("plus", "1.0.0", onnx_models.plus(1), test, variant={"tensors": tensors})
    device.start()
    first = device.post("/v2/models/plus/infer", question)
    assert first.status == 200, first.body
    device.publish("plus", "1.1.0", model("plus_one"), test, "tflite", variant={"tensors": tensors})
    assert device.load("plus").status == 200
    second = device.post("/v2/models/plus/infer", question)
    assert first.json()["outputs"] == second.json()["outputs"]
    assert [item["name"] for item in second.json()["outputs"]] == ["more", "twice"]
    metadata = device.get("/v2/models/plus").json()
    assert (metadata["platform"], metadata["inputs"][0]["name"]) == ("tensorflowlite", "values")
    refused = device.infer("plus", [1, 2])
    assert (refused.status, "expected the names values" in refused.json()["error"]) == (400, True)


@pytest.mark.parametrize(
    ("tensors", "expected"),
    [
        ({"inputs": {"values": "z"}}, "tensors.inputs: expected the file's names, x; found 'z'"),
        ({"outputs": {"twice": "sum"}}, "tensors.outputs: expected each public name once; found twice, twice"),
    ],
)
def test_names_that_do_not_fit_the_file_are_refused(device: Device, tensors: Any, expected: str) -> None:
    device.publish("plus", "1.0.0", onnx_models.plus(1), variant={"tensors": tensors})
    device.start()
    assert expected in device.get("/v2/models/plus/ready").json()["error"]


# ---- sequences ----


def serve_totals(device: Device, most: int = 2, idle_seconds: float = 60) -> None:
    """Serve the running total with sequences."""
    test = {**numbers(5), "outputs": [{"name": "total", "datatype": "FP32", "shape": [1], "data": [5.0]}]}
    test["tolerance"] = {"absolute": 0, "relative": 0}
    sequences = {"most": most, "idle_seconds": idle_seconds}
    device.publish("total", "1.0.0", model("running_total"), test, "tflite", sequences=sequences)
    device.start(workers=2)


def add(device: Device, value: float, **parameters: Any) -> Any:
    """The total after ``value``, or the status and the reason."""
    reply = device.post("/v2/models/total/infer", {**numbers(value), "parameters": parameters})
    if reply.status != 200:
        return reply.status, reply.json()["error"]
    return reply.json()["outputs"][0]["data"][0]


def test_each_sequence_has_a_state_of_its_own(device: Device) -> None:
    serve_totals(device)
    assert add(device, 1, sequence_id=7, sequence_start=True) == 1
    assert add(device, 10, sequence_id="other", sequence_start=True) == 10
    assert [add(device, 1, sequence_id=7), add(device, 10, sequence_id="other")] == [2, 20]
    assert add(device, 100) == 100, "a request without a sequence is one of its own"
    assert add(device, 1, sequence_id=7, sequence_end=True) == 3
    assert add(device, 10, sequence_id="other") == 30
    status, reason = add(device, 1, sequence_id=7)
    assert (status, "7 is no open sequence" in reason) == (400, True)
    assert add(device, 1, sequence_id="other", sequence_start=True) == 1, "begun anew"


def test_there_are_only_so_many_sequences_and_idle_ones_end(device: Device) -> None:
    serve_totals(device, most=1, idle_seconds=5)
    assert add(device, 1, sequence_id=1, sequence_start=True) == 1
    status, reason = add(device, 1, sequence_id=2, sequence_start=True)
    assert (status, reason) == (503, "busy: 1 sequences are open; try again")
    while isinstance(add(device, 5, sequence_id=2, sequence_start=True), tuple):
        time.sleep(0.1)
    status, reason = add(device, 1, sequence_id=1)
    assert (status, "has been idle for 5 s" in reason) == (400, True)


def test_a_swap_ends_all_sequences(device: Device) -> None:
    serve_totals(device)
    assert add(device, 1, sequence_id=7, sequence_start=True) == 1
    device.publish("total", "1.1.0", model("running_total"), None, "tflite", sequences={"most": 1, "idle_seconds": 60})
    assert device.load("total").status == 200
    assert add(device, 1, sequence_id=7)[0] == 400
    assert add(device, 1, sequence_id=7, sequence_start=True) == 1


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ({"sequence_id": 1.5}, "sequence_id: expected a whole number, or a text"),
        ({"sequence_id": "x" * 129}, "sequence_id: expected a whole number, or a text of at most 128 characters"),
        ({"sequence_start": True}, "sequence_id: missing beside sequence_start or sequence_end"),
        ({"sequence_id": 1, "sequence_start": 1}, "sequence_start: expected true or false; found 1"),
    ],
)
def test_a_wrong_place_in_a_sequence_is_named(device: Device, parameters: Any, expected: str) -> None:
    serve_totals(device)
    status, reason = add(device, 1, **parameters)
    assert (status, expected in reason) == (400, True), reason


def test_sequences_are_asked_for_by_the_manifest_alone(device: Device) -> None:
    device.publish("total", "1.0.0", model("running_total"), model_format="tflite")
    sequences = {"most": 1, "idle_seconds": 60}
    device.publish("plus", "1.0.0", model("plus_one"), golden(1), "tflite", sequences=sequences)
    device.publish("other", "1.0.0", onnx_models.plus(1), sequences=sequences)
    device.start()
    status, reason = add(device, 1, sequence_id=1, sequence_start=True)
    assert (status, reason) == (400, "sequence_id: expected none: this model's release asks for no sequences")
    for name in ("plus", "other"):
        error = device.get(f"/v2/models/{name}/ready").json()["error"]
        assert "sequences: expected a LiteRT model that keeps state; this one keeps none" in error


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (model("running_total"), (True, False, False)),
        (model("two_signatures"), (False, False, False)),
        (tflite_models.variable_tensor(elsewhere=False), (False, True, False)),
        (tflite_models.variable_tensor(elsewhere=True), (False, False, True)),
    ],
)
def test_what_a_file_keeps_is_found_in_all_its_graphs(tmp_path: Path, content: bytes, expected: Any) -> None:
    path = tmp_path / "model.tflite"
    path.write_bytes(content)
    assert read_kept_state(str(path)) == expected


def test_a_file_that_is_none_keeps_nothing_that_could_be_read(tmp_path: Path) -> None:
    path = tmp_path / "model.tflite"
    path.write_bytes(b"\xff" * 16)
    with pytest.raises(ValueError, match="expected a TensorFlow Lite model"):
        read_kept_state(str(path))


def test_a_model_is_allocated_for_the_sizes_of_its_first_request(device: Device) -> None:
    test = {**numbers(1, 2, 3, 4), "outputs": [{"name": "y", "datatype": "FP32", "shape": [4], "data": [1, 2, 3, 4]}]}
    test["tolerance"] = {"absolute": 0, "relative": 0}
    device.publish("four", "1.0.0", model("four"), test, "tflite")
    device.start()
    for values, status in (((1, 2, 3), 400), ((4, 3, 2, 1), 200), ((1,), 400), ((1, 2, 3, 4), 200)):
        reply = device.post("/v2/models/four/infer", numbers(*values))
        assert (reply.status, "\n" in reply.body.decode()) == (status, False)


def test_a_model_changes_its_runtime(device: Device) -> None:
    device.publish("plus", "1.0.0", onnx_models.plus(5), golden(5))
    device.start()
    device.publish("plus", "1.1.0", model("plus_one"), golden(1), "tflite")
    assert device.load("plus").json()["version"] == "1.1.0"
    assert device.infer("plus", [1, 2]).json()["outputs"][0]["data"] == [2.0, 3.0]
    assert device.get("/v2/models/plus").json()["platform"] == "tensorflowlite"
    device.activate("plus", "1.0.0")
    assert device.load("plus").json()["version"] == "1.0.0"
    assert device.infer("plus", [1, 2]).json()["outputs"][0]["data"] == [6.0, 7.0]


@pytest.mark.parametrize(
    ("content", "golden_test", "expected"),
    [
        (b"not a model", None, "cannot load it: The model is not a valid Flatbuffer buffer"),
        (model("plus_one")[:400], None, "cannot load it"),
        (model("complex_output"), None, "input 'x': expected numbers, booleans or strings; found complex64"),
        (model("plus_one"), golden(10), "output 'sum' at [0, 0]: expected 11.0, found 2.0"),
    ],
)
def test_what_must_not_serve_is_refused_and_the_old_serves_on(
    device: Device, content: bytes, golden_test: Any, expected: str
) -> None:
    device.publish("plus", "1.0.0", model("plus_one"), golden(1), "tflite")
    device.start()
    device.publish("plus", "1.1.0", content, golden_test, "tflite")
    reply = device.load("plus")
    assert reply.status == 400
    assert expected in reply.json()["error"]
    assert device.infer("plus", [1, 2]).json()["model_version"] == "1.0.0"


def test_a_server_without_litert_says_so_and_serves_the_rest(device: Device, tmp_path: Path) -> None:
    hidden = tmp_path / "hidden" / "ai_edge_litert"
    hidden.mkdir(parents=True)
    (hidden / "__init__.py").write_text("raise ImportError('not on this device')")
    device.publish("plus", "1.0.0", model("plus_one"), golden(1), "tflite")
    device.publish("other", "1.0.0", onnx_models.plus(5))
    device.spawn(hidden_by=str(hidden.parent))
    device.wait_ready()
    assert device.infer("other", [1, 2]).status == 200
    ready = device.get("/v2/models/plus/ready")
    assert ready.status == 503
    assert "format 'tflite': its runtime is not installed: not on this device" in ready.json()["error"]
