# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""NVIDIA's own client for Triton talks to this server: over plain HTTP, over TLS, with credentials."""

from __future__ import annotations

import base64
import json
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx_models
import pytest
from certificates import Authority
from server_process import GUARD_SECONDS, Device
from tritonclient import http as triton
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

from ansible_collections.edgeml.fleet.plugins.module_utils._common.credentials import make_document

ROWS = np.array([[1, 2], [3, 4], [5, 6]], np.float32)


@pytest.fixture
def client(shared_device: Device) -> Iterator[Any]:
    with triton.InferenceServerClient(f"127.0.0.1:{shared_device.port}", network_timeout=GUARD_SECONDS) as client:
        yield client


def plus_input(rows: Any = ROWS, binary: bool = True) -> list[Any]:
    item = triton.InferInput("x", list(rows.shape), "FP32")
    item.set_data_from_numpy(rows, binary_data=binary)
    return [item]


def test_health_and_metadata(client: Any) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("plus")
    assert client.is_model_ready("plus", "1.0.0")
    assert not client.is_model_ready("plus", "9.9.9")
    assert not client.is_model_ready("absent")
    assert {"binary_tensor_data", "model_repository"} <= set(client.get_server_metadata()["extensions"])
    metadata = client.get_model_metadata("plus")
    assert metadata["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [-1, 2]}]


@pytest.mark.parametrize("sends_binary", [True, False])
@pytest.mark.parametrize("takes_binary", [True, False])
def test_inference(client: Any, sends_binary: bool, takes_binary: bool) -> None:
    outputs = [triton.InferRequestedOutput(name, binary_data=takes_binary) for name in ("twice", "sum")]
    inputs = plus_input(binary=sends_binary)
    result = client.infer("plus", inputs, "1.0.0", outputs, request_id="7", timeout=60_000_000, priority=1)
    assert np.array_equal(result.as_numpy("sum"), ROWS + 1)
    assert np.array_equal(result.as_numpy("twice"), ROWS * 2)
    reply = result.get_response()
    assert (reply["id"], reply["model_name"], reply["model_version"]) == ("7", "plus", "1.0.0")


def test_outputs_that_are_not_asked_for_come_as_well(client: Any) -> None:
    result = client.infer("plus", plus_input())
    assert np.array_equal(result.as_numpy("sum"), ROWS + 1)
    assert np.array_equal(result.as_numpy("twice"), ROWS * 2)


@pytest.mark.parametrize("binary", [True, False])
def test_every_datatype(client: Any, binary: bool) -> None:
    values: dict[str, Any] = {
        "BOOL": np.array([True, False]),
        "FP16": np.array([0.5, -1], np.float16),
        "BYTES": np.array(["", "Gr\u00fc\u00dfe"], object),
    }
    for name in ("UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64"):
        limits = np.iinfo(name.lower())
        values[name] = np.array([limits.min, limits.max], name.lower())
    for name, dtype in (("FP32", np.float32), ("FP64", np.float64)):
        values[name] = np.array([np.finfo(dtype).max, -0.25], dtype)
    inputs = []
    for name, array in values.items():
        assert name == np_to_triton_dtype(array.dtype)
        inputs.append(triton.InferInput(f"in_{name}", [2], name))
        # The client cannot write FP16 as JSON.
        inputs[-1].set_data_from_numpy(array, binary_data=binary or name == "FP16")
    outputs = [triton.InferRequestedOutput(f"out_{name}", binary_data=binary or name == "FP16") for name in values]
    result = client.infer("identities", inputs, outputs=outputs)
    for name, array in values.items():
        found = result.as_numpy(f"out_{name}")
        if name == "BYTES":
            found = [item.decode("utf-8") if isinstance(item, bytes) else item for item in found]
        assert list(found) == list(array), name


@pytest.mark.parametrize("binary", [True, False])
def test_classification(device: Device, binary: bool) -> None:
    device.publish("scores", "1.0.0", onnx_models.scores(), classes={"y": ["cat", "dog", "tea: black"]})
    device.start()
    given = triton.InferInput("x", [2, 2], "FP32")
    given.set_data_from_numpy(np.array([[1, 0], [0, 1]], np.float32))
    with triton.InferenceServerClient(f"127.0.0.1:{device.port}") as client:
        best = client.infer(
            "scores", [given], outputs=[triton.InferRequestedOutput("y", binary_data=binary, class_count=2)]
        )
        found = [[item.decode() if isinstance(item, bytes) else item for item in row] for row in best.as_numpy("y")]
        scores = client.infer("scores", [given]).as_numpy("y")
        assert client.get_model_metadata("scores")["outputs"][0]["parameters"]["classes"][1] == "dog"
    assert found == [
        [f"{scores[0, 2]:f}:2:tea: black", f"{scores[0, 0]:f}:0:cat"],
        [f"{scores[1, 0]:f}:0:cat", f"{scores[1, 1]:f}:1:dog"],
    ]


def test_requests_at_once(shared_device: Device) -> None:
    url = f"127.0.0.1:{shared_device.port}"
    with triton.InferenceServerClient(url, concurrency=8, network_timeout=GUARD_SECONDS) as client:
        pending = [client.async_infer("plus", plus_input(ROWS + number)) for number in range(100)]
        for number, request in enumerate(pending):
            assert np.array_equal(request.get_result().as_numpy("sum"), ROWS + number + 1)


def test_errors_are_the_clients_own(client: Any) -> None:
    hurry = {"Inference-Timeout-Ms": "50"}
    for message, status, call in (
        ("is not served", "404", lambda: client.infer("absent", plus_input())),
        ("expected [-1, 2]", "400", lambda: client.infer("plus", plus_input(ROWS.reshape(2, 3)))),
        ("Unix socket only", "403", lambda: client.load_model("plus")),
        ("Unix socket only", "403", lambda: client.unload_model("plus")),
        ("Unix socket only", "403", client.get_model_repository_index),
        (
            "the deadline came",
            "504",
            lambda: client.infer("repeat", repeat(3_000_000), headers=hurry),
        ),
        ("Content-Encoding", "400", lambda: client.infer("plus", plus_input(), request_compression_algorithm="gzip")),
    ):
        with pytest.raises(InferenceServerException) as caught:
            call()
        assert (caught.value.status(), message in caught.value.message()) == (status, True), caught.value


def repeat(count: int) -> list[Any]:
    inputs = [triton.InferInput("count", [], "INT64"), triton.InferInput("x", [1], "FP32")]
    inputs[0].set_data_from_numpy(np.array(count, np.int64))
    inputs[1].set_data_from_numpy(np.zeros(1, np.float32))
    return inputs


def test_a_client_that_compresses_replies_gets_them_as_they_are(client: Any) -> None:
    result = client.infer("plus", plus_input(), response_compression_algorithm="gzip")
    assert np.array_equal(result.as_numpy("sum"), ROWS + 1)


def test_over_tls_with_a_certificate_and_a_credential(device: Device, tmp_path: Path) -> None:
    authority = Authority(tmp_path, "authority")
    certificate, key = authority.issue("server")
    client_certificate, client_key = authority.issue("client")
    secret = "correct horse battery staple"
    credentials = tmp_path / "credentials.json"
    credentials.write_text(json.dumps(make_document([{"name": "line-3", "secret": secret}], "device")))
    device.publish("plus", "1.0.0", onnx_models.plus(1))
    device.start(
        tls_certificate=str(certificate),
        tls_key=str(key),
        tls_client_ca=str(authority.path),
        credentials=str(credentials),
    )

    def context() -> ssl.SSLContext:
        made = ssl.create_default_context(cafile=str(authority.path))
        made.load_cert_chain(client_certificate, client_key)
        return made

    basic = base64.b64encode(f"line-3:{secret}".encode()).decode("ascii")
    with triton.InferenceServerClient(
        f"127.0.0.1:{device.port}", ssl=True, ssl_context_factory=context, network_timeout=GUARD_SECONDS
    ) as client:
        for authorization in (f"Basic {basic}", f"Bearer {secret}"):
            result = client.infer("plus", plus_input(), headers={"Authorization": authorization})
            assert np.array_equal(result.as_numpy("sum"), ROWS + 1)
        with pytest.raises(InferenceServerException) as caught:
            client.infer("plus", plus_input())
        assert caught.value.status() == "401"
        assert client.is_server_ready()
