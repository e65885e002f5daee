# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A candidate beside the active version: what it is compared by, and that no client ever notices it."""

from __future__ import annotations

from typing import Any

import onnx_models
import pytest
from edgeml_server.observe.shadow import PENDING_MAX
from server_process import Device, Reply, repeat_request


def shadow(device: Device, model: str, version: Any, local: bool = True, **more: Any) -> Reply:
    return device.post(f"/v2/repository/models/{model}/shadow", {"version": version, **more}, local=local)


def unshadow(device: Device, model: str) -> Reply:
    return device.post(f"/v2/repository/models/{model}/unshadow", local=True)


def publish(device: Device, model: str, active: bytes, candidate: bytes) -> None:
    device.publish(model, "1.0.0", active)
    device.publish(model, "1.1.0", candidate)
    device.activate(model, "1.0.0")


def outcomes(device: Device) -> dict[str, float]:
    """The rows that were counted by outcome, of the one shadow."""
    return {key[1]: value for key, value in device.series("edgeml_shadow_rows_total").items()}


def wait_outcomes(device: Device, wanted: dict[str, float]) -> None:
    while outcomes(device) != wanted:
        pass


def pick(device: Device, index: int) -> Any:
    document = {"inputs": [{"name": "index", "datatype": "INT64", "shape": [1], "data": [index]}]}
    return device.post("/v2/models/gather/infer", document).json()["outputs"][0]["data"]


def test_a_candidate_of_the_same_mind(device: Device) -> None:
    publish(device, "plus", onnx_models.plus(1), onnx_models.plus(1.5))
    device.start()
    reply = shadow(device, "plus", "1.1.0")
    assert (reply.status, reply.json()["version"]) == (200, "1.1.0")
    for count in (1, 2, 3):
        answer = device.infer("plus", [1, 2]).json()
        assert (answer["model_version"], answer["outputs"][0]["data"]) == ("1.0.0", [2.0, 3.0])
        wait_outcomes(device, {"agreed": count})
    labels = {"model": "plus", "version": "1.1.0"}
    # The scores differ by a half; the class is the same.
    assert device.metric("edgeml_shadow_output_distance_sum", **labels) == 1.5
    assert device.metric("edgeml_shadow_output_distance_count", **labels) == 3
    for role in ("active", "candidate"):
        assert (device.metric("edgeml_shadow_run_duration_seconds_sum", role=role, **labels) or 0) > 0
    ended = unshadow(device, "plus").json()
    assert ended == {
        "name": "plus",
        "version": "1.1.0",
        "active_version": "1.0.0",
        "agreed": 3,
        "disagreed": 0,
        "failed": 0,
        "dropped": 0,
        "requests": 3,
    }
    device.infer("plus", [1, 2])
    assert outcomes(device) == {"agreed": 3}
    assert unshadow(device, "plus").status == 404


def test_the_rows_of_a_batch_count_one_by_one(device: Device) -> None:
    # The candidate adds so much that no difference of its scores is left: its answer is always the first class.
    publish(device, "plus", onnx_models.plus(1), onnx_models.plus(1e9))
    device.start()
    assert shadow(device, "plus", "1.1.0").status == 200
    device.infer("plus", *[[2.0, 1.0]] * 31, [1, 2])
    wait_outcomes(device, {"agreed": 31, "disagreed": 1})
    # More than a label can speak of.
    device.infer("plus", *[[2.0, 1.0]] * 100)
    wait_outcomes(device, {"agreed": 131, "disagreed": 1})
    ended = unshadow(device, "plus").json()
    assert (ended["agreed"], ended["disagreed"], ended["requests"]) == (131, 1, 2)


def test_a_batch_that_fails_counts_as_its_rows(device: Device) -> None:
    publish(device, "gather", onnx_models.gather(), onnx_models.gather(first=-1))
    device.start()
    assert shadow(device, "gather", "1.1.0").status == 200
    indices = {"inputs": [{"name": "index", "datatype": "INT64", "shape": [3], "data": [1, 2, 1]}]}
    assert device.post("/v2/models/gather/infer", indices).status == 200
    wait_outcomes(device, {"failed": 3})


def test_a_shadow_ends_by_itself(device: Device) -> None:
    """Whoever began it may be gone."""
    publish(device, "plus", onnx_models.plus(1), onnx_models.plus(1.5))
    device.start()
    for seconds in (0, -1, "long", True, 1e9):
        refused = shadow(device, "plus", "1.1.0", seconds=seconds)
        assert (refused.status, "seconds: expected a number above 0" in refused.json()["error"]) == (400, True)
    assert shadow(device, "plus", "1.1.0", seconds=0.1).status == 200
    device.log.wait_for_text("shadow ended")
    assert unshadow(device, "plus").status == 404
    # The time of one that was replaced ends no other.
    assert shadow(device, "plus", "1.1.0", seconds=0.1).status == 200
    assert shadow(device, "plus", "1.1.0", seconds=3600).status == 200
    device.infer("plus", [1, 2])
    wait_outcomes(device, {"agreed": 1})
    assert unshadow(device, "plus").status == 200


def test_a_candidate_that_disagrees_or_fails(device: Device) -> None:
    publish(device, "gather", onnx_models.gather(), onnx_models.gather(first=-1))
    device.start()
    assert shadow(device, "gather", "1.1.0").status == 200
    assert pick(device, 1) == [1.0]
    wait_outcomes(device, {"disagreed": 1})
    assert pick(device, 2) == [2.0]
    wait_outcomes(device, {"disagreed": 1, "failed": 1})
    assert "model=gather version=1.1.0" in device.log.wait_for_text("warning shadow fails")


def test_a_candidate_that_hangs_costs_copies_and_nothing_else(device: Device) -> None:
    publish(device, "repeat", onnx_models.repeat(), onnx_models.repeat(times=2**62))
    # The golden test is not of use here, and zeros are no work: the candidate is loaded.
    device.start(drain_seconds=0)
    assert shadow(device, "repeat", "1.1.0").status == 200
    for _ in range(PENDING_MAX + 5):
        assert device.post("/v2/models/repeat/infer", repeat_request(1)).json()["outputs"][0]["data"] == [1.0]
    assert outcomes(device)["dropped"] >= 4
    assert device.get("/v2/health/ready").status == 200
    # It does not hold up a swap either.
    device.publish("repeat", "1.2.0", onnx_models.repeat())
    assert device.load("repeat").json()["version"] == "1.2.0"
    assert "freed=False" in device.log.wait_for_text("shadow ended")
    assert unshadow(device, "repeat").status == 404


def test_a_swap_ends_the_shadow(device: Device) -> None:
    publish(device, "plus", onnx_models.plus(1), onnx_models.plus(2))
    device.start()
    assert shadow(device, "plus", "1.1.0").status == 200
    device.activate("plus", "1.1.0")
    assert device.load("plus").json()["version"] == "1.1.0"
    assert "freed=True" in device.log.wait_for_text("shadow ended")
    assert device.infer("plus", [1, 2]).json()["model_version"] == "1.1.0"
    assert outcomes(device) == {}


def test_another_candidate_takes_the_place_of_the_first(device: Device) -> None:
    publish(device, "plus", onnx_models.plus(1), onnx_models.plus(2))
    device.publish("plus", "1.2.0", onnx_models.plus(3))
    device.activate("plus", "1.0.0")
    device.start()
    assert shadow(device, "plus", "1.1.0").status == 200
    assert shadow(device, "plus", "1.2.0").status == 200
    assert unshadow(device, "plus").json()["version"] == "1.2.0"


@pytest.mark.parametrize(
    ("version", "status", "expected"),
    [
        ("1.0.0", 400, "1.0.0 is what serves; expected another version"),
        ("9.9.9", 400, "the store does not hold plus 9.9.9"),
        ("other", 400, "expected the inputs of 1.0.0, x FP32 [-1, 2]; other has index INT64 [-1]"),
        ("broken", 400, "cannot load it"),
        (1, 400, "version: expected the version that is to be the shadow; found 1"),
        (None, 400, "version: expected the version"),
    ],
)
def test_what_cannot_be_a_shadow(device: Device, version: Any, status: int, expected: str) -> None:
    device.publish("plus", "other", onnx_models.gather())
    device.publish("plus", "broken", b"not a model")
    device.publish("plus", "1.0.0", onnx_models.plus(1))
    device.start()
    reply = shadow(device, "plus", version)
    assert reply.status == status
    assert expected in reply.json()["error"]
    assert device.infer("plus", [1, 2]).status == 200
    assert unshadow(device, "plus").status == 404


def test_only_the_unix_socket_and_only_served_models(shared_device: Device) -> None:
    assert shadow(shared_device, "plus", "1.1.0", local=False).status == 403
    assert shared_device.post("/v2/repository/models/plus/unshadow").status == 403
    assert shadow(shared_device, "absent", "1.0.0").status == 404
