# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Loading, swapping and unloading models, with requests under way."""

from __future__ import annotations

import collections
import json
import re
import threading
from pathlib import Path
from typing import Any

import onnx_models
import pytest
from networks import Network
from server_process import GUARD_SECONDS, Device, plus_input, read_reply, repeat_request

FOREVER = 2**62
SWAPS = 20
REQUESTS = 5


def golden(addend: float, **change: Any) -> dict[str, Any]:
    output = {"name": "sum", "datatype": "FP32", "shape": [1, 2], "data": [1 + addend, 2 + addend], **change}
    return {
        "inputs": [plus_input([1, 2])],
        "outputs": [output],
        "tolerance": {"absolute": 1e-4, "relative": 1e-3},
    }


def serve_plus(device: Device, **config: Any) -> None:
    device.publish("plus", "1.0.0", onnx_models.plus(1), golden(1))
    device.start(**config)


def assert_still_serves_1_0_0(device: Device) -> None:
    reply = device.infer("plus", [1, 2])
    assert reply.status == 200
    assert reply.json()["model_version"] == "1.0.0"
    assert reply.json()["outputs"][0]["data"] == [2.0, 3.0]
    assert device.get("/v2/health/ready").status == 200


# ---- the repository extension ----


@pytest.mark.parametrize("path", ["index", "models/plus/load", "models/plus/unload"])
def test_the_repository_is_closed_on_tcp(shared_device: Device, path: str) -> None:
    reply = shared_device.post(f"/v2/repository/{path}", {})
    assert reply.status == 403
    assert "Unix socket" in reply.json()["error"]
    assert shared_device.infer("plus", [1, 2]).status == 200


@pytest.mark.parametrize("options", [None, {}, {"ready": True}])
def test_index_lists_the_models(shared_device: Device, options: Any) -> None:
    reply = shared_device.post("/v2/repository/index", options, local=True)
    entry = {"version": "1.0.0", "state": "READY", "reason": ""}
    assert reply.json() == [{"name": name, **entry} for name in ("gather", "identities", "plus", "repeat")]


@pytest.mark.parametrize("options", [b"{", [], {"unknown": 1}])
def test_wrong_repository_options_are_400(shared_device: Device, options: Any) -> None:
    for path in ("index", "models/plus/load", "models/plus/unload"):
        assert shared_device.post(f"/v2/repository/{path}", options, local=True).status == 400


def test_the_first_model_of_a_running_server(device: Device) -> None:
    device.start()
    assert device.get("/v2/health/ready").status == 200
    assert device.infer("plus", [1, 2]).status == 404
    assert device.load("plus").status == 404
    device.publish("plus", "1.0.0", onnx_models.plus(1))
    reply = device.load("plus")
    version = device.store.version("plus", "1.0.0")
    assert reply.json() == {"name": "plus", "version": "1.0.0", "digest": version.digest}
    assert_still_serves_1_0_0(device)


def test_loading_what_serves_already_changes_nothing(device: Device) -> None:
    serve_plus(device)
    assert device.load("plus").status == 200
    assert device.metric("edgeml_model_swaps_total", model="plus", outcome="succeeded") == 1


def test_unload(device: Device) -> None:
    serve_plus(device)
    path = "/v2/repository/models/plus/unload"
    assert device.post(path, {"parameters": {"unload_dependents": False}}, local=True).status == 200
    assert device.infer("plus", [1, 2]).status == 404
    assert device.get("/v2/models/plus/ready").status == 404
    index = device.post("/v2/repository/index", local=True).json()
    assert index == [{"name": "plus", "version": "1.0.0", "state": "UNAVAILABLE", "reason": "not loaded"}]
    assert device.post("/v2/repository/index", {"ready": True}, local=True).json() == []
    assert device.series("edgeml_model_info") == {}
    assert device.post(path, local=True).status == 200
    assert device.post("/v2/repository/models/absent/unload", local=True).status == 404
    assert device.load("plus").status == 200
    assert_still_serves_1_0_0(device)


# ---- swaps ----


def test_swap_answers_with_the_new_version(device: Device) -> None:
    serve_plus(device)
    device.publish("plus", "1.1.0", onnx_models.plus(10), golden(10))
    assert device.infer("plus", [1, 2]).json()["model_version"] == "1.0.0"
    assert device.load("plus").json()["version"] == "1.1.0"
    reply = device.infer("plus", [1, 2]).json()
    assert (reply["model_version"], reply["outputs"][0]["data"]) == ("1.1.0", [11.0, 12.0])
    assert device.get("/v2/models/plus/versions/1.0.0/ready").status == 404
    assert device.get("/v2/models/plus/versions/1.1.0/ready").status == 200


def test_no_request_fails_while_versions_are_swapped(device: Device) -> None:
    clients = 3
    addends = {f"1.{number}.0": float(number) for number in range(SWAPS + 1)}
    for version, addend in addends.items():
        device.publish("plus", version, onnx_models.plus(addend), golden(addend))
    device.activate("plus", "1.0.0")
    device.start()
    condition = threading.Condition()
    answered = [0] * clients
    by_version = collections.Counter[str]()
    wrong: list[str] = []
    stop = threading.Event()

    def client(number: int) -> None:
        while not stop.is_set():
            reply = device.infer("plus", [0, 0])
            document = reply.json()
            if reply.status != 200 or document["outputs"][0]["data"][0] != addends[document["model_version"]]:
                wrong.append(f"{reply.status} {document}")
            with condition:
                answered[number] += 1
                by_version[document["model_version"]] += 1
                condition.notify_all()

    threads = [threading.Thread(target=client, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    for version in list(addends)[1:]:
        device.activate("plus", version)
        assert device.load("plus").json()["version"] == version
        with condition:
            target = [count + 2 for count in answered]
            while not all(count >= least for count, least in zip(answered, target, strict=True)):
                assert condition.wait(GUARD_SECONDS)
    stop.set()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert sum(by_version.values()) == sum(answered)
    # Each request is counted once; the series of versions that serve no more are gone.
    last = f"1.{SWAPS}.0"
    assert device.series("edgeml_inference_requests_total") == {("200", "plus", last): by_version[last]}
    assert device.metric("edgeml_model_swaps_total", model="plus", outcome="succeeded") == SWAPS + 1


def test_a_request_that_does_not_end_does_not_hold_up_a_swap(device: Device) -> None:
    device.publish("repeat", "1.0.0", onnx_models.repeat())
    device.publish("repeat", "1.1.0", onnx_models.plus(1))
    device.activate("repeat", "1.0.0")
    device.start(workers=2, drain_seconds=0)
    hanging = device.connect()
    hanging.request("POST", "/v2/models/repeat/infer", json.dumps(repeat_request(FOREVER)))
    device.wait_in_flight(1)
    device.activate("repeat", "1.1.0")
    assert device.load("repeat").json()["version"] == "1.1.0"
    device.log.wait_for_text("the old version is still in use model=repeat version=1.0.0")
    assert device.infer("repeat", [1, 2]).json()["model_version"] == "1.1.0"
    hanging.close()


def test_a_request_in_flight_is_answered_by_the_version_that_it_met(device: Device) -> None:
    device.publish("repeat", "1.0.0", onnx_models.repeat())
    device.publish("repeat", "1.1.0", onnx_models.plus(1))
    device.activate("repeat", "1.0.0")
    device.start(workers=2)
    early = device.connect()
    early.request("POST", "/v2/models/repeat/infer", json.dumps(repeat_request(1_000_000)))
    device.wait_in_flight(1)
    device.activate("repeat", "1.1.0")
    assert device.load("repeat").json()["version"] == "1.1.0"
    reply = read_reply(early).json()
    early.close()
    assert reply["model_version"] == "1.0.0"
    assert reply["outputs"][0]["data"] == [1_000_000.0]


def test_memory_is_back_where_it_was_after_20_swaps(device: Device) -> None:
    network = Network(megabytes=10)
    for number in range(SWAPS + 1):
        device.publish(network.name, f"1.{number}.0", network.content(number))
    device.activate(network.name, "1.0.0")
    device.start()
    resident = []
    for number in range(SWAPS + 1):
        device.activate(network.name, f"1.{number}.0")
        assert device.load(network.name).json()["version"] == f"1.{number}.0"
        for _request in range(REQUESTS):
            reply = device.post(f"/v2/models/{network.name}/infer", network.request)
            assert reply.json()["outputs"][0]["data"] == pytest.approx(network.answer(number), abs=1e-3)
        resident.append(device.resident_bytes())
    assert max(resident[1:]) <= 1.15 * resident[0], resident


def test_nan_is_what_a_golden_test_may_expect(device: Device) -> None:
    inputs = [plus_input([-1, 4])]
    for number, (expected, status) in enumerate([([None, 2.0], 200), ([None, 2.1], 400), ([1.0, 2.0], 400)]):
        outputs = [{"name": "y", "datatype": "FP32", "shape": [1, 2], "data": expected}]
        test = {"inputs": inputs, "outputs": outputs, "tolerance": {"absolute": 1e-4, "relative": 0}}
        device.publish("root", f"1.{number}.0", onnx_models.root(), test)
        if number == 0:
            device.start()
        assert device.load("root").status == status


def index_test(steps: Any, expected: list[int], datatype: str = "INT64") -> dict[str, Any]:
    return {
        "inputs": [{"name": "in", "datatype": datatype, "shape": [2], "data": [7, 9]}],
        "outputs": [
            {"name": "out", "datatype": datatype, "shape": [2], "data": expected, "tolerance": {"steps": steps}}
        ],
        "tolerance": {"absolute": 0, "relative": 0},
    }


@pytest.mark.parametrize("datatype", ["INT64", "UINT8"])
@pytest.mark.parametrize(
    ("steps", "expected", "error"),
    [
        (2, [5, 11], None),
        (1, [5, 9], "output 'out' at [0]: expected 5, found 7 (tolerance 1 steps); 1 of 2 values differ"),
        (0, [7, 8], "output 'out' at [1]: expected 8, found 9 (tolerance 0 steps)"),
        (-1, [7, 9], "expected absolute and relative, or steps of a whole number"),
        (0.5, [7, 9], "expected absolute and relative, or steps of a whole number"),
    ],
)
def test_whole_numbers_may_be_off_by_steps(
    device: Device, steps: Any, expected: list[int], error: str | None, datatype: str
) -> None:
    device.start()
    device.publish("same", "1.0.0", onnx_models.identity(datatype), index_test(steps, expected, datatype))
    reply = device.load("same")
    assert reply.status == (200 if error is None else 400)
    assert error is None or error in reply.json()["error"]


def test_series_leave_with_their_version(device: Device) -> None:
    serve_plus(device)
    device.infer("plus", [1, 2])
    device.infer("plus", [1, 2, 3])
    device.publish("plus", "1.1.0", onnx_models.plus(2))
    assert device.load("plus").status == 200
    assert 'version="1.0.0"' not in device.get("/metrics").body.decode()
    device.infer("plus", [1, 2])
    assert device.series("edgeml_inference_requests_total") == {("200", "plus", "1.1.0"): 1}
    assert device.post("/v2/repository/models/plus/unload", local=True).status == 200
    assert 'version="1.1.0"' not in device.get("/metrics").body.decode()


# ---- releases that must not serve ----


@pytest.mark.parametrize(
    ("content", "golden_test", "expected"),
    [
        (b"not a model", None, "cannot load it: "),
        (onnx_models.sequence_output(), None, "output 'y': expected one of"),
        (onnx_models.plus(1), golden(10), "output 'sum' at [0, 0]: expected 11.0, found 2.0"),
        (onnx_models.plus(1), golden(1, data=[2, 3.1]), "output 'sum' at [0, 1]: expected 3.1, found 3.0 "),
        (onnx_models.plus(1), golden(1, shape=[2, 1]), "output 'sum': expected FP32 [2, 1]; found FP32 [1, 2]"),
        (onnx_models.plus(1), golden(1, datatype="FP64"), "output 'sum': expected FP64 [1, 2]; found FP32 [1, 2]"),
        (onnx_models.plus(1), golden(1, name="none"), "outputs: expected names among sum, twice; found ['none']"),
        (onnx_models.plus(1), {"inputs": []}, "not a golden test for this model"),
        (onnx_models.gather(), golden(1), "not a golden test for this model"),
    ],
)
def test_a_release_that_fails_is_refused_and_the_old_serves_on(
    device: Device, content: bytes, golden_test: Any, expected: str
) -> None:
    serve_plus(device)
    device.publish("plus", "1.1.0", content, golden_test)
    reply = device.load("plus")
    assert reply.status == 400
    assert expected in reply.json()["error"]
    assert_still_serves_1_0_0(device)
    assert device.metric("edgeml_model_swaps_total", model="plus", outcome="failed") == 1
    assert "swap failed, the old version serves on" in device.log.wait_for_text("swap failed")


def test_a_format_without_a_runtime_is_refused(device: Device) -> None:
    serve_plus(device)
    device.publish("plus", "1.1.0", onnx_models.plus(1), model_format="paper")
    reply = device.load("plus")
    assert reply.status == 400
    assert "format 'paper': expected ncnn, onnx, tflite" in reply.json()["error"]
    assert_still_serves_1_0_0(device)


def test_a_damaged_file_is_refused(device: Device) -> None:
    serve_plus(device)
    device.publish("plus", "1.1.0", onnx_models.plus(2))
    path = Path(device.store.version("plus", "1.1.0").entrypoint_path)
    size = path.stat().st_size
    path.unlink()
    path.write_bytes(b"cut short")
    reply = device.load("plus")
    assert reply.status == 400
    assert f"expected {size} bytes; found 9" in reply.json()["error"]
    assert_still_serves_1_0_0(device)


def test_a_version_that_does_not_fit_into_the_memory_is_refused_with_the_numbers(device: Device) -> None:
    serve_plus(device)
    device.publish("plus", "1.1.0", onnx_models.plus(2), memory_bytes=1 << 40)
    reply = device.load("plus")
    assert reply.status == 400
    pattern = r"model 'plus': 1\.1\.0 needs 1099511627776 bytes of memory beside what serves now; \d+ are left \(.+\)"
    assert re.fullmatch(pattern, reply.json()["error"])
    assert_still_serves_1_0_0(device)
    shadow = device.post("/v2/repository/models/plus/shadow", {"version": "1.1.0"}, local=True)
    assert re.fullmatch(pattern, shadow.json()["error"])
    assert 0 < (device.metric("edgeml_memory_available_bytes") or 0) < 1 << 40


def test_one_bad_model_at_the_start_stops_neither_the_others_nor_the_server(device: Device) -> None:
    device.publish("bad", "2.0.0", b"not a model")
    device.publish("never", "1.0.0", onnx_models.plus(1))
    device.activate("never", None)
    serve_plus(device)
    assert device.infer("plus", [1, 2]).status == 200
    ready = device.get("/v2/health/ready")
    assert (ready.status, ready.json()["live"], ready.json()["ready"]) == (503, True, False)
    assert "bad" in ready.json()["error"]
    model_ready = device.get("/v2/models/bad/ready")
    assert (model_ready.status, model_ready.json()["name"], model_ready.json()["ready"]) == (503, "bad", False)
    assert device.infer("bad", [1, 2]).status == 503
    assert device.infer("never", [1, 2]).status == 404
    index = {entry["name"]: entry for entry in device.post("/v2/repository/index", local=True).json()}
    assert (index["bad"]["state"], index["bad"]["version"]) == ("UNAVAILABLE", "2.0.0")
    assert "cannot load it" in index["bad"]["reason"]
    device.publish("bad", "2.0.1", onnx_models.plus(1))
    assert device.load("bad").status == 200
    assert device.get("/v2/health/ready").status == 200
