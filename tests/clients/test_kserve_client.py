# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""KServe's own client talks to this server. Run by ``make kserve-client``: kserve brings 47 packages along."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import httpx
import kserve
import numpy as np
import onnx_models
import pytest
from server_process import Device

ROWS = np.array([[1, 2], [3, 4], [5, 6]], np.float32)


@pytest.fixture(scope="module")
def device(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Device]:
    device = Device(tmp_path_factory.mktemp("device"))
    try:
        device.publish("plus", "1.0.0", onnx_models.plus(1))
        device.start()
        yield device
    finally:
        device.stop()


def ask(device: Device, call: Callable[[Any, str], Coroutine[Any, Any, Any]]) -> Any:
    """Return what ``call`` gets, with KServe's client and the server's URL."""

    async def asked() -> Any:
        client = kserve.InferenceRESTClient(kserve.inference_client.RESTConfig(protocol="v2", retries=0))
        try:
            return await call(client, f"http://127.0.0.1:{device.port}")
        finally:
            await client.close()

    return asyncio.run(asked())


def request(binary: bool, model: str = "plus", rows: Any = ROWS) -> Any:
    item = kserve.InferInput("x", list(rows.shape), "FP32")
    item.set_data_from_numpy(rows, binary_data=binary)
    return kserve.InferRequest(model_name=model, infer_inputs=[item], request_id="7")


def test_health(device: Device) -> None:
    assert ask(device, lambda client, url: client.is_server_live(url))
    assert ask(device, lambda client, url: client.is_server_ready(url))
    assert ask(device, lambda client, url: client.is_model_ready(url, "plus"))
    assert not ask(device, lambda client, url: client.is_model_ready(url, "absent"))


@pytest.mark.parametrize("binary", [True, False])
def test_inference(device: Device, binary: bool) -> None:
    reply = ask(device, lambda client, url: client.infer(url, request(binary), model_name="plus"))
    # This client does not pass on model_version.
    assert (reply.id, reply.model_name) == ("7", "plus")
    outputs = {output.name: output.as_numpy() for output in reply.outputs}
    assert np.array_equal(outputs["sum"], ROWS + 1)
    assert np.array_equal(outputs["twice"], ROWS * 2)


@pytest.mark.parametrize(("model", "rows", "status"), [("absent", ROWS, 404), ("plus", ROWS.reshape(2, 3), 400)])
def test_errors(device: Device, model: str, rows: Any, status: int) -> None:
    with pytest.raises(httpx.HTTPStatusError) as caught:
        ask(device, lambda client, url: client.infer(url, request(True, model, rows), model_name=model))
    assert caught.value.response.status_code == status
