# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Inputs that a real server keeps for retraining: by consent only, for their reasons, within bounds, and until when."""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
from pathlib import Path
from typing import Any

import numpy as np
import onnx_models
from edgeml_device._release.collected_input import CollectedInput, digest_of, unpack
from server_process import Device
from test_server_drift import make_reference, send_window, wait_windows
from test_server_shadow import publish, shadow, wait_outcomes

RULE = {"model": "plus", "reasons": ["low_confidence"], "margin": 0.5}


def start(device: Device, *rules: dict[str, Any], **config: Any) -> None:
    # What an earlier one said is no news.
    device.log = type(device.log)()
    log = {"prediction_log": str(device.directory / "predictions.db"), "prediction_log_sample_percent": 100}
    device.start(**{**log, "collect_inputs": list(rules), **config})


def spool(device: Device) -> Path:
    return device.directory / "collected"


def kept(device: Device, model: str = "plus") -> list[CollectedInput]:
    """What the server keeps, by time, each verified by its name."""
    found = []
    for path in spool(device).joinpath(model).glob("*.input"):
        item = unpack(path.read_bytes())
        assert item.digest == digest_of(path.name)
        assert path.stat().st_mode & 0o777 == 0o640
        found.append(item)
    return sorted(found, key=lambda item: item.time)


def values(item: CollectedInput) -> list[float]:
    (tensor,) = item.tensors
    assert (tensor.name, tensor.datatype, tensor.shape) == ("x", "FP32", (2,))
    found: list[float] = np.frombuffer(tensor.data, "<f4").tolist()
    return found


def wait_logged(device: Device, count: int) -> None:
    while (device.metric("edgeml_prediction_log_rows_total") or 0) < count:
        pass


def stop(device: Device) -> None:
    """End the server, which writes what it was offered."""
    device.terminate()
    assert device.wait() == 0


def label(device: Device, identity: str, value: Any) -> None:
    assert device.post("/v2/models/plus/feedback", {"id": identity, "label": value}).status == 200


def awaiting(device: Device) -> int:
    uri = f"file:{device.directory / 'predictions.db'}?mode=ro"
    with contextlib.closing(sqlite3.connect(uri, uri=True)) as connection:
        (count,) = connection.execute("SELECT count(*) FROM awaiting_label").fetchone()
    return int(count)


def test_without_consent_nothing_is_kept(device: Device) -> None:
    device.publish("plus", "1.0.0", onnx_models.plus(1))
    device.publish("other", "1.0.0", onnx_models.plus(1))
    start(device, {**RULE, "model": "other", "reasons": ["low_confidence", "disagreeing"]})
    device.infer("plus", [1, 1], id="1")
    label(device, "1", 1)
    stop(device)
    assert kept(device) == []
    assert not spool(device).joinpath("plus").exists()
    assert awaiting(device) == 0


def test_low_confidence_is_kept_row_by_row(device: Device) -> None:
    device.publish("plus", "1.0.0", onnx_models.plus(1))
    start(device, RULE)
    device.infer("plus", [1, 2], [3, 3.25], [4, 9])
    device.infer("plus", [5, 5.25])
    # The same again is one input.
    device.infer("plus", [5, 5.25])
    stop(device)
    first, second = kept(device)
    assert (values(first), values(second)) == ([3, 3.25], [5, 5.25])
    assert first[:2] == ("plus", "1.0.0")
    assert first[3] == ("low_confidence",)
    assert (first.predicted, first.label) == (1, None)


def test_a_label_that_says_otherwise_keeps_its_row_and_a_right_one_is_noted(device: Device) -> None:
    device.publish("plus", "1.0.0", onnx_models.plus(1))
    start(device, {**RULE, "reasons": ["disagreeing", "low_confidence"]})
    device.infer("plus", [1, 2], [7, 3], id="wrong")
    device.infer("plus", [5, 5.25], id="right")
    device.infer("plus", [1, 9], id="unlabelled")
    wait_logged(device, 3)
    assert awaiting(device) == 3
    label(device, "wrong", [1, 1])
    label(device, "right", 1)
    assert awaiting(device) == 1
    found = {tuple(values(item)): item for item in kept(device)}
    assert {key: (item.reasons, item.predicted, item.label) for key, item in found.items()} == {
        (7, 3): (("disagreeing",), 0, 1),
        (5, 5.25): (("low_confidence",), 1, 1),
    }
    assert device.metric("edgeml_collected_inputs_total", model="plus", reason="disagreeing") == 1
    assert device.metric("edgeml_collected_inputs_waiting", model="plus") == 2
    size = sum(path.stat().st_size for path in spool(device).glob("plus/*"))
    assert device.metric("edgeml_collected_inputs_waiting_bytes", model="plus") == size


def test_a_label_finds_its_inputs_after_a_kill(device: Device) -> None:
    device.publish("plus", "1.0.0", onnx_models.plus(1))
    start(device, {**RULE, "reasons": ["disagreeing"]})
    device.infer("plus", [7, 3], id="late")
    wait_logged(device, 1)
    os.kill(device.pid, signal.SIGKILL)
    device.wait()
    start(device, {**RULE, "reasons": ["disagreeing"]})
    label(device, "late", 1)
    assert [(values(item), item.label) for item in kept(device)] == [([7, 3], 1)]


def test_what_drift_consists_of_is_kept(device: Device, tmp_path: Path) -> None:
    generator = np.random.default_rng(3)
    device.publish("plus", "1.0.0", onnx_models.plus(1), reference=make_reference(device, tmp_path))
    start(device, {**RULE, "reasons": ["drifting"]}, drift_window=500)
    send_window(device, generator)
    wait_windows(device, 1)
    send_window(device, generator, shift=9.0)
    wait_windows(device, 2)
    assert device.infer("plus", [9.5, 9.25], [0, 0.125]).status == 200
    stop(device)
    found = {tuple(values(item)): item.reasons for item in kept(device)}
    assert found[9.5, 9.25] == ("drifting",)
    # Neither the window before the alarm nor what looks as it did there.
    assert min(sum(key) for key in found) > 4


def test_what_a_shadow_answers_otherwise_is_kept(device: Device) -> None:
    # The candidate adds so much that no difference is left.
    publish(device, "plus", onnx_models.plus(1), onnx_models.plus(1e9))
    start(device, {**RULE, "reasons": ["shadow"]})
    assert shadow(device, "plus", "1.1.0").status == 200
    device.infer("plus", [1, 2])
    wait_outcomes(device, {"disagreed": 1})
    device.infer("plus", [2, 1])
    wait_outcomes(device, {"disagreed": 1, "agreed": 1})
    # Of a batch, the rows that are.
    device.infer("plus", [4, 3], [3, 4], [5, 1])
    wait_outcomes(device, {"disagreed": 2, "agreed": 3})
    stop(device)
    found = kept(device)
    assert sorted(values(item) for item in found) == [[1, 2], [3, 4]]
    assert {(item.reasons, item.version) for item in found} == {(("shadow",), "1.0.0")}


def test_the_bounds_hold_and_each_class_keeps_a_share(device: Device) -> None:
    device.publish("plus", "1.0.0", onnx_models.plus(1))
    start(device, {**RULE, "rows": 20})
    for number in range(300):
        device.infer("plus", [number, number + 0.25])
    for number in range(10):
        device.infer("plus", [number + 0.25, number])
    wait_logged(device, 310)
    while device.metric("edgeml_collected_inputs_dropped_total", model="plus", reason="full") != 290:
        pass
    assert len(kept(device)) == 20
    assert [item.predicted for item in kept(device)].count(0) >= 9
    assert device.metric("edgeml_collected_inputs_waiting", model="plus") == 20


def test_what_is_taken_makes_room(device: Device) -> None:
    device.publish("plus", "1.0.0", onnx_models.plus(1))
    start(device, {**RULE, "rows": 2})
    for round_ in range(3):
        for number in range(2):
            device.infer("plus", [10 * round_ + number, 10 * round_ + number + 0.25])
        while len(kept(device)) < 2:
            pass
        for path in spool(device).glob("plus/*.input"):
            path.unlink()
    assert device.metric("edgeml_collected_inputs_total", model="plus", reason="low_confidence") == 6


def test_a_start_removes_what_is_damaged_old_or_no_longer_allowed(device: Device) -> None:
    for model in ("plus", "other"):
        device.publish(model, "1.0.0", onnx_models.plus(1))
    start(device, RULE, {**RULE, "model": "other"})
    for number in range(4):
        device.infer("plus", [number, number + 0.25])
        device.infer("other", [number, number + 0.25])
    stop(device)
    torn, renamed, empty, _whole = sorted(spool(device).glob("plus/*.input"))
    torn.write_bytes(torn.read_bytes()[:-1])
    renamed.rename(renamed.with_name(f"{'0' * 64}.input"))
    empty.write_bytes(b"")
    spool(device).joinpath("plus", f"{'1' * 64}.tmp").write_bytes(b"half")
    start(device, RULE)
    while device.metric("edgeml_collected_inputs_waiting", model="plus") != 1:
        pass
    assert len(list(spool(device).glob("plus/*"))) == 1
    assert not spool(device).joinpath("other").exists()
    stop(device)
    start(device, {**RULE, "days": 1e-6})
    while list(spool(device).glob("plus/*")):
        pass
    stop(device)
    start(device)
    while spool(device).exists():
        pass


def test_a_kill_at_any_time_leaves_whole_files(device: Device) -> None:
    device.publish("plus", "1.0.0", onnx_models.plus(1))
    rule = {**RULE, "reasons": ["disagreeing"]}
    for attempt in range(3):
        start(device, rule)
        for number in range(10 * attempt + 1):
            device.infer("plus", [number + attempt / 8, number], id=f"{attempt} {number}")
            label(device, f"{attempt} {number}", 1)
        os.kill(device.pid, signal.SIGKILL)
        device.wait()
        # Each has the digest that it is called by.
        assert len(kept(device)) >= 10 * attempt
    start(device, rule)
    stop(device)
    assert all(path.suffix == ".input" for path in spool(device).glob("plus/*"))
