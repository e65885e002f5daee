# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Releases of several models: each part has a name of its own, and all of them are switched at once."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import closing
from typing import Any

import onnx_models
import pytest
from releases import Made, make_pipeline
from server_process import Device, plus_input

PARTS = ("classifier", "detector", "recogniser")
VERSION_LABELS = {"model": "reader", "version": "1.0.0"}


def golden(addend: float) -> bytes:
    output = {"name": "sum", "datatype": "FP32", "shape": [1, 2], "data": [1 + addend, 2 + addend]}
    tolerance = {"absolute": 1e-4, "relative": 1e-3}
    return json.dumps({"inputs": [plus_input([1, 2])], "outputs": [output], "tolerance": tolerance}).encode()


def reader(version: str, addend: float, parts: tuple[str, ...] = PARTS, **options: Any) -> Made:
    """A release whose parts all add ``addend``."""
    models = {name: onnx_models.plus(addend) for name in parts}
    return make_pipeline(version, "reader", models, {name: golden(addend) for name in parts}, **options)


def served(device: Device, made: Made) -> Device:
    device.publish_release(made)
    device.start()
    return device


def ask(device: Device, part: str, version: str | None = None, **more: Any) -> Any:
    path = f"/v2/models/reader/{part}{f'/versions/{version}' if version else ''}/infer"
    return device.post(path, {"inputs": [plus_input([1, 2])], **more})


def answered(device: Device) -> Mapping[str, tuple[str, float]]:
    """The version and the first number that each part answers with."""
    replies = {part: ask(device, part).json() for part in PARTS}
    return {part: (reply["model_version"], reply["outputs"][0]["data"][0]) for part, reply in replies.items()}


def test_each_part_answers_under_its_own_name(device: Device) -> None:
    served(device, reader("1.0.0", 1))
    for part in PARTS:
        reply = ask(device, part)
        assert reply.status == 200, reply.body
        assert reply.json()["model_name"] == f"reader/{part}"
        assert reply.json()["model_version"] == "1.0.0"
        assert reply.json()["outputs"][0]["data"] == [2.0, 3.0]
        assert device.get(f"/v2/models/reader/{part}/ready").json() == {"name": f"reader/{part}", "ready": True}
        metadata = device.get(f"/v2/models/reader/{part}/versions/1.0.0").json()
        assert (metadata["name"], metadata["versions"]) == (f"reader/{part}", ["1.0.0"])
        assert [item["name"] for item in metadata["inputs"]] == ["x"]


def test_the_pipeline_itself_has_a_version_and_names_its_parts(device: Device) -> None:
    served(device, reader("1.0.0", 1))
    assert device.get("/v2/models/reader").json() == {
        "name": "reader",
        "versions": ["1.0.0"],
        "platform": "edgeml_pipeline",
        "inputs": [],
        "outputs": [],
        "parameters": {"parts": "reader/classifier,reader/detector,reader/recogniser"},
    }
    assert device.get("/v2/models/reader/versions/1.0.0/ready").status == 200
    index = device.post("/v2/repository/index", local=True).json()
    assert [(entry["name"], entry["version"], entry["state"]) for entry in index] == [
        ("reader", "1.0.0", "READY"),
        *[(f"reader/{part}", "1.0.0", "READY") for part in PARTS],
    ]


@pytest.mark.parametrize(
    ("path", "status", "text"),
    [
        ("reader/infer", 400, "is a pipeline: expected one of its parts, reader/classifier, reader/detector"),
        ("reader/translator/infer", 404, "model 'reader/translator' is not served; reader/classifier"),
        ("reader/detector/versions/0.9.0/infer", 404, "version '0.9.0' is not served; 1.0.0 is"),
        ("plus/detector/infer", 404, "model 'plus' has no parts; found the part 'detector'"),
        ("reader/detector/classifier/infer", 404, "no such URL"),
        ("reader//infer", 404, "no such URL"),
    ],
)
def test_what_is_no_part_is_named(device: Device, path: str, status: int, text: str) -> None:
    device.publish("plus", "1.0.0", onnx_models.plus(1))
    served(device, reader("1.0.0", 1))
    reply = device.post(f"/v2/models/{path}", {"inputs": [plus_input([1, 2])]})
    assert (reply.status, text in reply.json()["error"]) == (status, True), reply.body


def test_all_parts_are_switched_at_once(device: Device) -> None:
    served(device, reader("1.0.0", 1))
    assert set(answered(device).values()) == {("1.0.0", 2.0)}
    device.publish_release(reader("2.0.0", 10))
    assert device.load("reader").json()["version"] == "2.0.0"
    assert set(answered(device).values()) == {("2.0.0", 11.0)}


def test_a_part_that_fails_its_test_leaves_all_parts_as_they_were(device: Device) -> None:
    served(device, reader("1.0.0", 1))
    models = {name: onnx_models.plus(10 if name != "recogniser" else 11) for name in PARTS}
    device.publish_release(make_pipeline("2.0.0", "reader", models, {name: golden(10) for name in PARTS}))
    reply = device.load("reader")
    assert reply.status == 400
    assert "part 'recogniser'" in reply.json()["error"]
    assert "golden test: output 'sum' at [0, 0]: expected 11.0, found 12.0" in reply.json()["error"]
    assert set(answered(device).values()) == {("1.0.0", 2.0)}


def test_a_client_that_began_with_the_old_version_ends_with_it(device: Device) -> None:
    """After the switch the old version answers who asks for it by its version, until nobody has for a second."""
    served(device, reader("1.0.0", 1))
    began = ask(device, "detector").json()["model_version"]
    device.publish_release(reader("2.0.0", 10))
    with closing(device.connect(local=True)) as connection:
        connection.request("POST", "/v2/repository/models/reader/load", b"{}")
        while ask(device, "detector").json()["model_version"] == began:
            pass
        # The old version is still loaded: the call that switches returns when it is freed.
        assert ask(device, "classifier", version=began).json()["outputs"][0]["data"] == [2.0, 3.0]
        assert ask(device, "recogniser", version=began).json()["model_version"] == "1.0.0"
        assert ask(device, "recogniser").json()["model_version"] == "2.0.0"
        assert connection.getresponse().status == 200
    gone = ask(device, "recogniser", version=began)
    assert gone.status == 404
    assert "version '1.0.0' is not served; 2.0.0 is" in gone.json()["error"]


def test_requests_count_for_the_release_and_for_the_part(device: Device) -> None:
    served(device, reader("1.0.0", 1))
    for part in PARTS:
        assert ask(device, part).status == 200
    assert device.post("/v2/models/reader/detector/infer", {"inputs": []}).status == 400
    assert device.metric("edgeml_inference_requests_total", **VERSION_LABELS, code="200") == 3
    assert device.metric("edgeml_inference_duration_seconds_count", **VERSION_LABELS) == 3
    assert device.series("edgeml_part_requests_total") == {
        ("200", "reader", "classifier", "1.0.0"): 1,
        ("200", "reader", "detector", "1.0.0"): 1,
        ("200", "reader", "recogniser", "1.0.0"): 1,
        ("400", "reader", "detector", "1.0.0"): 1,
    }
    assert device.metric("edgeml_part_duration_seconds_count", **VERSION_LABELS, part="detector") == 1
    device.publish_release(reader("2.0.0", 10))
    device.load("reader")
    assert {version for *_, version in device.series("edgeml_part_requests_total")} == set()


def test_a_shadow_mirrors_each_part(device: Device) -> None:
    served(device, reader("1.0.0", 1))
    device.publish_release(reader("2.0.0", 10))
    device.activate("reader", "1.0.0")
    started = device.post("/v2/repository/models/reader/shadow", {"version": "2.0.0"}, local=True)
    assert started.json()["version"] == "2.0.0", started.body
    for part in PARTS:
        assert ask(device, part).status == 200
    while sum(device.series("edgeml_shadow_rows_total").values()) < 3:
        pass
    # The larger of both numbers is in the same place: for scores of classes that is the same answer.
    assert device.series("edgeml_shadow_rows_total") == {("reader", "agreed", "2.0.0"): 3}
    assert device.metric("edgeml_shadow_output_distance_sum", model="reader", version="2.0.0") == 27
    ended = device.post("/v2/repository/models/reader/unshadow", {}, local=True).json()
    assert (ended["active_version"], ended["agreed"], ended["failed"]) == ("1.0.0", 3, 0)


def test_a_shadow_with_other_parts_is_refused(device: Device) -> None:
    served(device, reader("1.0.0", 1))
    device.publish_release(reader("2.0.0", 10, parts=PARTS[:2]))
    device.activate("reader", "1.0.0")
    reply = device.post("/v2/repository/models/reader/shadow", {"version": "2.0.0"}, local=True)
    assert reply.status == 400
    assert "expected the parts of 1.0.0, classifier, detector, recogniser; 2.0.0 has" in reply.json()["error"]


def test_labels_and_drift_belong_to_the_part(device: Device) -> None:
    series = [{"name": "first", "tensor": "x", "statistic": 0, "edges": [0.5], "counts": [500, 500]}]
    reference = json.dumps({"schema": 1, "series": series}).encode()
    device.publish_release(reader("1.0.0", 1, reference={"recogniser": reference}))
    device.start(prediction_log=str(device.directory / "log.db"), prediction_log_sample_percent=100, drift_window=500)
    rows = {"inputs": [plus_input(*([[1.0, 2.0]] * 500))]}
    assert device.post("/v2/models/reader/recogniser/infer", {**rows, "id": "a"}).status == 200
    assert device.post("/v2/models/reader/detector/infer", {"inputs": [plus_input([1, 2])], "id": "b"}).status == 200
    assert device.post("/v2/models/reader/detector/feedback", {"id": "a", "label": 1}).status == 404
    reply = device.post("/v2/models/reader/detector/feedback", {"id": "b", "label": 1})
    assert (reply.status, reply.json()["model_name"]) == (200, "reader/detector"), reply.body
    right = device.series("edgeml_feedback_labels_total")
    assert set(right) == {("reader", outcome, "1.0.0") for outcome in ("right", "wrong")}
    assert device.series("edgeml_drift_windows_total") == {("reader", "recogniser/first", "1.0.0"): 1}
