# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The Open Inference Protocol's checklist, asked of a real server."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import onnx_models
import pytest
from server_process import Device, Reply, plus_input, read_reply, repeat_request

VALUES: dict[str, list[Any]] = {
    "BOOL": [True, False],
    "UINT8": [0, 2**8 - 1],
    "UINT16": [0, 2**16 - 1],
    "UINT32": [0, 2**32 - 1],
    "UINT64": [0, 2**64 - 1],
    "INT8": [-(2**7), 2**7 - 1],
    "INT16": [-(2**15), 2**15 - 1],
    "INT32": [-(2**31), 2**31 - 1],
    "INT64": [-(2**63), 2**63 - 1],
    "FP16": [-0.5, 65504.0],
    "FP32": [-0.5, 1.0],
    "FP64": [-0.1, 1e300],
    "BYTES": ["", "grüße\n"],
}
NUMPY_TYPES = {"BOOL": "?", "FP16": "<f2", "FP32": "<f4", "FP64": "<f8"}


def error_of(reply: Reply) -> str:
    document = reply.json()
    assert list(document) == ["error"]
    assert isinstance(document["error"], str)
    return str(document["error"])


# ---- server and health ----


@pytest.mark.parametrize("path", ["/v2", "/v2/"])
def test_server_metadata(shared_device: Device, path: str) -> None:
    document = shared_device.get(path).json()
    assert document["name"] == "edgeml"
    assert document["extensions"] == [
        "binary_tensor_data",
        "classification",
        "sequence",
        "model_repository",
        "edgeml_feedback",
    ]
    assert document["version"]


@pytest.mark.parametrize("local", [True, False])
def test_health(shared_device: Device, local: bool) -> None:
    live = shared_device.get("/v2/health/live", local)
    assert (live.status, live.json()) == (200, {"live": True})
    ready = shared_device.get("/v2/health/ready", local)
    assert (ready.status, ready.json()) == (200, {"live": True, "ready": True})


def test_head_answers_like_get_without_a_body(shared_device: Device) -> None:
    reply = shared_device.request("HEAD", "/v2/health/ready")
    assert (reply.status, reply.body) == (200, b"")


# ---- models ----


@pytest.mark.parametrize("path", ["/v2/models/plus", "/v2/models/plus/versions/1.0.0"])
def test_model_metadata(shared_device: Device, path: str) -> None:
    assert shared_device.get(path).json() == {
        "name": "plus",
        "versions": ["1.0.0"],
        "platform": "onnx_onnxv1",
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 2]}],
        "outputs": [
            {"name": "sum", "datatype": "FP32", "shape": [-1, 2]},
            {"name": "twice", "datatype": "FP32", "shape": [-1, 2]},
        ],
    }


@pytest.mark.parametrize("path", ["/v2/models/plus/ready", "/v2/models/plus/versions/1.0.0/ready"])
def test_model_ready(shared_device: Device, path: str) -> None:
    reply = shared_device.get(path)
    assert (reply.status, reply.json()) == (200, {"name": "plus", "ready": True})


@pytest.mark.parametrize("rest", ["", "/ready", "/infer"])
@pytest.mark.parametrize("model", ["absent", "plus/versions/9", "%2e%2e", "plus%20"])
def test_unknown_model_or_version_is_404(shared_device: Device, model: str, rest: str) -> None:
    method = "POST" if rest == "/infer" else "GET"
    reply = shared_device.request(method, f"/v2/models/{model}{rest}", {"inputs": []} if rest == "/infer" else None)
    assert reply.status == 404
    assert "is not served" in error_of(reply)


# ---- inference ----


@pytest.mark.parametrize("data", [[[1, 2], [3, 4.5]], [1, 2, 3, 4.5]])
@pytest.mark.parametrize("path", ["/v2/models/plus/infer", "/v2/models/plus/versions/1.0.0/infer"])
def test_infer_with_nested_or_flat_data(shared_device: Device, path: str, data: list[Any]) -> None:
    reply = shared_device.post(path, {"inputs": [{**plus_input([0, 0], [0, 0]), "data": data}]})
    assert (reply.status, reply.json()) == (
        200,
        {
            "model_name": "plus",
            "model_version": "1.0.0",
            "outputs": [
                {"name": "sum", "datatype": "FP32", "shape": [2, 2], "data": [2.0, 3.0, 4.0, 5.5]},
                {"name": "twice", "datatype": "FP32", "shape": [2, 2], "data": [2.0, 4.0, 6.0, 9.0]},
            ],
        },
    )


def test_infer_echoes_the_id_and_returns_the_outputs_asked_for(shared_device: Device) -> None:
    reply = shared_device.infer("plus", [1, 2], id="request 7", outputs=[{"name": "twice"}], parameters={"any": 1})
    document = reply.json()
    assert document["id"] == "request 7"
    assert [output["name"] for output in document["outputs"]] == ["twice"]


def test_infer_with_a_chunked_body(shared_device: Device) -> None:
    connection = shared_device.connect()
    body = json.dumps({"inputs": [plus_input([1, 2])]}).encode("utf-8")
    connection.request("POST", "/v2/models/plus/infer", iter([body[:10], body[10:]]), encode_chunked=True)
    assert read_reply(connection).status == 200
    connection.close()


def identity_request(values: dict[str, list[Any]]) -> dict[str, Any]:
    inputs = [
        {"name": f"in_{name}", "datatype": name, "shape": [len(data)], "data": data} for name, data in values.items()
    ]
    return {"inputs": inputs}


def test_every_datatype_passes_unchanged(shared_device: Device) -> None:
    reply = shared_device.post("/v2/models/identities/infer", identity_request(VALUES))
    assert reply.status == 200, reply.body
    outputs = {output["name"]: output for output in reply.json()["outputs"]}
    assert {name: outputs[f"out_{name}"]["data"] for name in VALUES} == VALUES
    assert {output["datatype"] for output in outputs.values()} == set(onnx_models.ELEMENT_TYPES)


def test_class_names_are_the_manifests_or_the_files(device: Device) -> None:
    named = {"names": "{0: 'cat', 1: 'dog', 2: 'tea'}"}
    device.publish("file", "1.0.0", onnx_models.scores({**named, "author": "x" * 2000}))
    device.publish("manifest", "1.0.0", onnx_models.scores(named), classes={"y": ["d", "e", "f"]})
    device.publish("none", "1.0.0", onnx_models.scores({"names": "['too', 'few']"}))
    device.start()
    for model, classes in (("file", ["cat", "dog", "tea"]), ("manifest", ["d", "e", "f"]), ("none", None)):
        document = device.get(f"/v2/models/{model}").json()
        assert document["outputs"][0].get("parameters") == (classes and {"classes": classes})
        assert "parameters" not in document["outputs"][1]
    assert device.get("/v2/models/file").json()["parameters"] == {**named, "author": "x" * 1000}
    wrong = (({"z": ["a"]}, "expected the names of outputs, y, best"), ({"y": ["a"]}, "expected 3 names"))
    for number, (declared, expected) in enumerate(wrong):
        device.publish("file", f"1.1.{number}", onnx_models.scores(), classes=declared)
        reply = device.load("file")
        assert (reply.status, expected in reply.json()["error"]) == (400, True)


@pytest.mark.parametrize("wanted", [-1, 1.5, "2", True])
def test_a_wrong_classification_is_400(shared_device: Device, wanted: Any) -> None:
    outputs = [{"name": "sum", "parameters": {"classification": wanted}}]
    reply = shared_device.infer("plus", [1, 2], outputs=outputs)
    assert reply.status == 400
    assert "classification: expected a whole number of classes" in reply.json()["error"]


INDEX = {"name": "index", "datatype": "INT64", "shape": [1], "data": [0]}


@pytest.mark.parametrize("datatype", ["FP16", "FP32", "FP64"])
def test_null_is_taken_as_it_is_answered(shared_device: Device, datatype: str) -> None:
    request = identity_request({**VALUES, datatype: [1.0, None]})
    outputs = shared_device.post("/v2/models/identities/infer", request).json()["outputs"]
    (found,) = [output["data"] for output in outputs if output["name"] == f"out_{datatype}"]
    assert found == [1.0, None]


@pytest.mark.parametrize("shape", [[], [1], [2], [2, 3, 1]])
def test_an_input_without_a_declared_rank_takes_any_shape(device: Device, shape: list[int]) -> None:
    device.publish("any", "1.0.0", onnx_models.any_rank())
    device.start()
    data = [float(number) for number in range(math.prod(shape))]
    request = {"inputs": [{"name": "x", "datatype": "FP32", "shape": shape, "data": data}]}
    (output,) = device.post("/v2/models/any/infer", request).json()["outputs"]
    assert (output["shape"], output["data"]) == (shape, data)
    scalar = {"name": "x", "datatype": "FP32", "shape": shape, "data": data}
    device.publish("scalar", "1.0.0", onnx_models.scalar())
    assert device.load("scalar").status == 200
    assert device.post("/v2/models/scalar/infer", {"inputs": [scalar]}).status == (400 if shape else 200)


@pytest.mark.parametrize(
    ("datatype", "value"),
    [
        ("BOOL", 1),
        ("BOOL", "true"),
        ("UINT8", 256),
        ("UINT8", -1),
        ("UINT64", 2**64),
        ("UINT64", -1),
        ("INT8", -129),
        ("INT64", 2**63),
        ("INT32", 1.5),
        ("INT32", "1"),
        ("INT32", None),
        ("FP16", 65520.0),
        ("FP32", 1e39),
        ("FP32", "1.0"),
        ("FP32", {}),
        ("FP64", [1.0]),
        ("BYTES", 1),
        ("BYTES", None),
    ],
)
def test_a_value_that_does_not_fit_its_datatype_is_400(shared_device: Device, datatype: str, value: Any) -> None:
    reply = shared_device.post("/v2/models/identities/infer", identity_request({**VALUES, datatype: [value, value]}))
    assert reply.status == 400
    assert f"in_{datatype}" in error_of(reply)


def test_a_number_that_json_cannot_hold_comes_back_as_null(shared_device: Device) -> None:
    reply = shared_device.infer("plus", [3e38, -3e38], outputs=[{"name": "twice"}])
    assert reply.json()["outputs"][0]["data"] == [None, None]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"shape": [2, 3]}, "expected [-1, 2]"),
        ({"shape": [4]}, "expected [-1, 2]"),
        ({"shape": [-1, 2]}, "expected a list of sizes"),
        ({"shape": [True, 2]}, "expected a list of sizes"),
        ({"shape": "1,2"}, "expected a list of sizes"),
        ({"shape": None}, "expected a list of sizes"),
        ({"shape": [2**70, 2]}, "expected a list of sizes"),
        ({"shape": [2**40, 2]}, "nested as shape [1099511627776, 2]"),
        ({"datatype": "FP64"}, "expected FP32"),
        ({"datatype": "fp32"}, "expected FP32"),
        ({"datatype": None}, "expected FP32"),
        ({"data": [1]}, "expected 2 elements"),
        ({"data": [[1, 2], [3]]}, "of one length"),
        ({"data": [[1], [2]]}, "nested as shape [1, 2]"),
        ({"data": "text"}, "expected a list"),
        ({"data": None}, "expected a list"),
        ({"name": "y"}, "expected the names x"),
        ({"name": ["x"]}, "expected the names x"),
        ({"parameters": []}, "expected an object"),
        ({"parameters": {"binary_data_size": 8}}, "found both"),
    ],
)
def test_a_wrong_input_is_400(shared_device: Device, change: dict[str, Any], expected: str) -> None:
    reply = shared_device.post("/v2/models/plus/infer", {"inputs": [{**plus_input([1, 2]), **change}]})
    assert reply.status == 400
    assert expected in error_of(reply)


@pytest.mark.parametrize(
    ("request_body", "expected"),
    [
        (b"", "expected JSON"),
        (b"{", "expected JSON"),
        (b"\xff", "expected JSON"),
        (b"[" * 50_000, "expected JSON"),
        (b'{"inputs": [NaN]}', "expected JSON"),
        ([], "expected a JSON object"),
        ({}, "inputs: expected a list"),
        ({"inputs": []}, "missing x"),
        ({"inputs": [1]}, "expected the names x"),
        ({"inputs": [plus_input([1, 2]), plus_input([1, 2])]}, "given twice"),
        ({"inputs": [plus_input([1, 2])], "id": 7}, "id: expected a text"),
        ({"inputs": [plus_input([1, 2])], "parameters": 7}, "expected an object"),
        ({"inputs": [plus_input([1, 2])], "outputs": 7}, "outputs: expected a list"),
        ({"inputs": [plus_input([1, 2])], "outputs": [{"name": "z"}]}, "expected names among sum, twice"),
        ({"inputs": [plus_input([1, 2])], "outputs": [{"name": "sum"}] * 2}, "asked for twice"),
    ],
)
def test_a_wrong_request_is_400(shared_device: Device, request_body: Any, expected: str) -> None:
    reply = shared_device.post("/v2/models/plus/infer", request_body)
    assert reply.status == 400
    assert expected in error_of(reply)


def test_deeply_nested_data_is_400(shared_device: Device) -> None:
    data = b"[" * 900 + b"]" * 900
    body = b'{"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 2], "data": %b}]}' % data
    reply = shared_device.post("/v2/models/plus/infer", body)
    assert reply.status == 400
    assert "nested as shape" in error_of(reply)


def test_an_input_that_fails_while_the_model_runs_is_an_error_of_the_request(shared_device: Device) -> None:
    body = {"inputs": [{"name": "index", "datatype": "INT64", "shape": [1], "data": [9]}]}
    reply = shared_device.post("/v2/models/gather/infer", body)
    assert reply.status == 400
    assert "out of data bounds" in error_of(reply)


def test_a_clients_mistakes_do_not_fill_the_journal(device: Device) -> None:
    device.publish("gather", "1.0.0", onnx_models.gather())
    device.start()
    before = device.log.all()
    for body in (b"{", {"inputs": [{"name": "index", "datatype": "INT64", "shape": [1], "data": [9]}]}):
        assert device.post("/v2/models/gather/infer", body).status == 400
    assert device.get("/none").status == 404
    device.terminate()
    assert device.wait() == 0
    assert [line.split()[1] for line in device.log.all()[len(before) :]] == ["stopping", "stopped"]


def test_a_compressed_body_is_refused(shared_device: Device) -> None:
    reply = shared_device.request("POST", "/v2/models/plus/infer", b"...", {"Content-Encoding": "gzip"})
    assert reply.status == 400
    assert "Content-Encoding" in error_of(reply)


# ---- binary tensor data ----


def binary_reply(reply: Reply) -> tuple[dict[str, Any], bytes]:
    assert reply.headers["content-type"] == "application/octet-stream", reply.body
    length = int(reply.headers["inference-header-content-length"])
    return json.loads(reply.body[:length]), reply.body[length:]


def binary_request(document: Any, data: bytes, header_length: int | None = None) -> tuple[bytes, dict[str, str]]:
    header = json.dumps(document).encode("utf-8")
    length = len(header) if header_length is None else header_length
    return header + data, {"Inference-Header-Content-Length": str(length)}


def binary_plus_input(size: int) -> dict[str, Any]:
    return {"name": "x", "datatype": "FP32", "shape": [1, 2], "parameters": {"binary_data_size": size}}


def as_bytes(datatype: str, values: list[Any]) -> bytes:
    if datatype == "BYTES":
        texts = [value.encode("utf-8") for value in values]
        return b"".join(len(text).to_bytes(4, "little") + text for text in texts)
    numpy_type = NUMPY_TYPES.get(datatype) or f"<{datatype[0].lower()}{int(datatype.lstrip('UINT')) // 8}"
    return np.array(values, numpy_type).tobytes()


def test_every_datatype_passes_unchanged_as_binary_data(shared_device: Device) -> None:
    data = {name: as_bytes(name, values) for name, values in VALUES.items()}
    inputs = [
        {"name": f"in_{name}", "datatype": name, "shape": [2], "parameters": {"binary_data_size": len(content)}}
        for name, content in data.items()
    ]
    body, headers = binary_request(
        {"id": "b", "inputs": inputs, "parameters": {"binary_data_output": True}}, b"".join(data.values())
    )
    document, tail = binary_reply(shared_device.request("POST", "/v2/models/identities/infer", body, headers))
    assert document["id"] == "b"
    assert [output["parameters"]["binary_data_size"] for output in document["outputs"]] == [
        len(content) for content in data.values()
    ]
    assert tail == b"".join(data.values())


def test_binary_data_of_one_output_overrides_the_request(shared_device: Device) -> None:
    outputs = [{"name": "twice", "parameters": {"binary_data": False}}, {"name": "sum"}]
    body = {"inputs": [plus_input([1, 2])], "outputs": outputs, "parameters": {"binary_data_output": True}}
    document, tail = binary_reply(shared_device.post("/v2/models/plus/infer", body))
    assert document["outputs"] == [
        {"name": "twice", "datatype": "FP32", "shape": [1, 2], "data": [2.0, 4.0]},
        {"name": "sum", "datatype": "FP32", "shape": [1, 2], "parameters": {"binary_data_size": 8}},
    ]
    assert np.frombuffer(tail, "<f4").tolist() == [2.0, 3.0]


def test_header_length_0_is_one_raw_input(shared_device: Device) -> None:
    body = np.array([1, 2, 3, 4], "<f4").tobytes()
    headers = {"Inference-Header-Content-Length": "0"}
    document, tail = binary_reply(shared_device.request("POST", "/v2/models/plus/infer", body, headers))
    assert document["outputs"][0]["shape"] == [2, 2]
    assert np.frombuffer(tail, "<f4").tolist() == [2, 3, 4, 5, 2, 4, 6, 8]


@pytest.mark.parametrize(
    ("document", "data", "header_length", "expected"),
    [
        ({"inputs": [binary_plus_input(8)]}, b"1234", None, "binary_data_size: expected 0 to 4"),
        ({"inputs": [binary_plus_input(4)]}, b"1234", None, "expected 8 bytes"),
        ({"inputs": [binary_plus_input(-1)]}, b"1234", None, "binary_data_size: expected"),
        ({"inputs": [binary_plus_input(8)]}, b"123456789", None, "expected 8 bytes of binary data; found 9"),
        ({"inputs": [binary_plus_input(8)]}, b"12345678", 10_000, "expected at most the body's"),
        ({"inputs": [binary_plus_input(8)]}, b"12345678", -1, "expected a number"),
        ({}, b"1", 0, "expected 0 bytes for shape"),
    ],
)
def test_wrong_binary_data_is_400(
    shared_device: Device, document: Any, data: bytes, header_length: int | None, expected: str
) -> None:
    body, headers = binary_request(document, data, header_length)
    reply = shared_device.request("POST", "/v2/models/plus/infer", body, headers)
    assert reply.status == 400
    assert expected in error_of(reply)


def test_an_answer_does_not_depend_on_where_the_body_lies_in_memory(device: Device) -> None:
    # Runtimes add numbers in an order that depends on their address, and the data's is behind a JSON of any length.
    numbers = np.random.default_rng(1).normal(size=1001).astype("<f4").tobytes()
    device.publish("mean", "1.0.0", onnx_models.mean(1001))
    device.start()
    answers = set()
    for length in range(16):
        given = {"name": "x", "datatype": "FP32", "shape": [1001], "parameters": {"binary_data_size": len(numbers)}}
        document = {"id": "i" * length, "inputs": [given], "parameters": {"binary_data_output": True}}
        body, headers = binary_request(document, numbers)
        _document, answer = binary_reply(device.request("POST", "/v2/models/mean/infer", body, headers))
        answers.add(answer)
    assert len(answers) == 1


def test_binary_data_size_without_the_header_is_400(shared_device: Device) -> None:
    reply = shared_device.post("/v2/models/plus/infer", {"inputs": [binary_plus_input(8)]})
    assert reply.status == 400
    assert "needs the header" in error_of(reply)


@pytest.mark.parametrize("data", [b"\x05\0\0\0abc", b"\x01"])
def test_wrong_binary_texts_are_400(shared_device: Device, data: bytes) -> None:
    values = {name: value for name, value in VALUES.items() if name != "BYTES"}
    texts = {"name": "in_BYTES", "datatype": "BYTES", "shape": [1], "parameters": {"binary_data_size": len(data)}}
    document = {"inputs": [*identity_request(values)["inputs"], texts]}
    body, headers = binary_request(document, data)
    reply = shared_device.request("POST", "/v2/models/identities/infer", body, headers)
    assert reply.status == 400
    assert "in_BYTES" in error_of(reply)


# ---- what no handler sees ----


@pytest.mark.parametrize("path", ["/", "/v3", "/v2x", "/v2/none", "/v2/models", "/v2/models/plus/none/of/it", "/%ff"])
def test_unknown_url_is_404(shared_device: Device, path: str) -> None:
    reply = shared_device.get(path)
    assert reply.status == 404
    assert "no such URL" in error_of(reply)


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("POST", "/v2", "GET, HEAD"),
        ("DELETE", "/v2/health/live", "GET, HEAD"),
        ("PUT", "/v2/models/plus", "GET, HEAD"),
        ("GET", "/v2/models/plus/infer", "POST"),
        ("GET", "/v2/repository/index", "POST"),
        ("POST", "/metrics", "GET, HEAD"),
    ],
)
def test_wrong_method_is_405(shared_device: Device, method: str, path: str, allowed: str) -> None:
    reply = shared_device.request(method, path)
    assert (reply.status, reply.headers["allow"]) == (405, allowed)
    assert method in error_of(reply)


@pytest.mark.parametrize("declared", [True, False])
def test_too_large_a_body_is_413_and_the_connection_lives(shared_device: Device, declared: bool) -> None:
    connection = shared_device.connect()
    body = b" " * 100_001
    if declared:
        connection.request("POST", "/v2/models/plus/infer", body)
    else:
        connection.request("POST", "/v2/models/plus/infer", iter([body]), encode_chunked=True)
    reply = read_reply(connection)
    assert reply.status == 413
    assert "at most 100000 bytes" in error_of(reply)
    connection.request("GET", "/v2/health/live")
    assert read_reply(connection).status == 200
    connection.close()


def test_a_client_that_leaves_early_disturbs_nobody(shared_device: Device) -> None:
    connection = shared_device.connect()
    connection.putrequest("POST", "/v2/models/plus/infer")
    connection.putheader("Content-Length", "1000")
    connection.endheaders(b"{")
    connection.close()
    assert shared_device.infer("plus", [1, 2]).status == 200


def test_repeat_counts(shared_device: Device) -> None:
    reply = shared_device.post("/v2/models/repeat/infer", repeat_request(5))
    assert reply.json()["outputs"][0]["data"] == [5.0]
