# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The prediction log, and what is collected of it for retraining, on a filesystem that is nearly full, and on one that
is."""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx_models
import pytest
from edgeml_device._release.collected_input import unpack
from edgeml_server.common.errors import UnavailableError
from edgeml_server.observe.prediction_log import LogOptions, PredictionLog, Record
from server_process import Device

from .loop_image import make_image, mounted

MEGABYTES = 64
FLOOR = (MEGABYTES << 20) // 20
"""A little more than what the log must leave free: a filesystem is smaller than its image."""


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A small filesystem."""
    image = tmp_path / "image"
    make_image(image, MEGABYTES, "-m", "0")
    with mounted(image, tmp_path / "disk") as directory:
        yield directory


def free_bytes(disk: Path) -> int:
    found = os.statvfs(disk)
    return found.f_bavail * found.f_frsize


def fill(disk: Path, left: int) -> Path:
    """Fill the disk until so many bytes are left; return the file that does it."""
    filler = disk / "filler"
    with filler.open("wb") as file, contextlib.suppress(OSError):
        while (size := free_bytes(disk) - left) > 0:
            os.posix_fallocate(file.fileno(), os.fstat(file.fileno()).st_size, max(4096, min(size, 1 << 20)))
    return filler


def record(request_id: str) -> Record:
    inputs = {"x": np.zeros((64, 16), np.float32)}
    return Record(time.time(), "plus", "1.0.0", request_id, 200, 0.001, inputs, {"y": np.array([1.0])}, None)


def open_log(disk: Path) -> PredictionLog:
    options = LogOptions(path=str(disk / "predictions.db"), rows=10_000, bytes=32 << 20, full_inputs=True)
    return PredictionLog(options)


def append_until_refused(log: PredictionLog) -> tuple[int, str]:
    """Write records until the log refuses one; return how many it took, and why it refused."""
    for written in itertools.count():
        try:
            log.append([record(str(written))])
        except UnavailableError as error:
            return written, str(error)
    raise AssertionError


def rows(disk: Path) -> list[str]:
    with contextlib.closing(sqlite3.connect(f"file:{disk}/predictions.db?mode=ro", uri=True)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        return [row[0] for row in connection.execute("SELECT request_id FROM predictions ORDER BY id")]


def test_the_log_leaves_a_part_of_the_disk_free(disk: Path) -> None:
    log = open_log(disk)
    fill(disk, left=4 * FLOOR)
    written, reason = append_until_refused(log)
    assert re.search(r"predictions\.db: expected \d+ free bytes on its filesystem; found \d+", reason)
    # A batch, and the write-ahead log that holds it, may still come out of that part.
    assert FLOOR // 2 < free_bytes(disk) < FLOOR
    (disk / "filler").unlink()
    log.append([record("after")])
    log.close()
    assert rows(disk) == [*map(str, range(written)), "after"]


def test_a_full_disk_damages_nothing_and_is_survived(disk: Path) -> None:
    log = open_log(disk)
    log.append([record("before")])
    filler = fill(disk, left=0)
    assert free_bytes(disk) < 4096
    for _ in range(3):
        with pytest.raises(UnavailableError):
            log.append([record("lost")])
    with pytest.raises(UnavailableError):
        log.label("plus", "before", 1.0)
    filler.unlink()
    log.append([record("after")])
    assert log.label("plus", "before", 1.5).absolute_errors == [0.5]
    log.close()
    assert rows(disk) == ["before", "after"]


def test_a_server_on_a_full_disk_answers_and_says_so_once(disk: Path, tmp_path: Path) -> None:
    (tmp_path / "device").mkdir()
    device = Device(tmp_path / "device")
    try:
        device.publish("plus", "1.0.0", onnx_models.plus(1))
        device.start(prediction_log=str(disk / "predictions.db"), prediction_log_sample_percent=100)
        filler = fill(disk, left=0)
        for number in range(250):
            assert device.infer("plus", [1, 2], id=str(number)).status == 200
        while (device.metric("edgeml_prediction_log_dropped_total") or 0) < 200:
            pass
        feedback = device.post("/v2/models/plus/feedback", {"id": "0", "label": 1})
        assert (feedback.status, "free bytes" in feedback.json()["error"]) == (503, True)
        filler.unlink()
        device.infer("plus", [1, 2], id="after")
        device.log.wait_for_text("prediction log can be written again")
        assert sum("prediction log cannot be written" in line for line in device.log.all()) == 1
    finally:
        device.stop()
    assert "after" in rows(disk)


def test_inputs_that_a_full_disk_has_no_room_for_are_counted_and_cost_no_request(disk: Path, tmp_path: Path) -> None:
    (tmp_path / "device").mkdir()
    device = Device(tmp_path / "device")
    try:
        device.publish("plus", "1.0.0", onnx_models.plus(1))
        device.start(
            prediction_log=str(disk / "predictions.db"),
            prediction_log_sample_percent=100,
            collect_inputs=[{"model": "plus", "reasons": ["low_confidence"], "margin": 0.5}],
        )
        device.infer("plus", [1, 1.25])
        while (device.metric("edgeml_collected_inputs_waiting", model="plus") or 0) < 1:
            pass
        filler = fill(disk, left=0)
        for number in range(20):
            assert device.infer("plus", [number, number + 0.125]).status == 200
        while (device.metric("edgeml_collected_inputs_dropped_total", model="plus", reason="disk") or 0) < 20:
            pass
        filler.unlink()
        device.infer("plus", [3, 3.25])
        while (device.metric("edgeml_collected_inputs_waiting", model="plus") or 0) < 2:
            pass
        assert sum("inputs cannot be collected" in line for line in device.log.all()) == 1
    finally:
        device.stop()
    files = list((disk / "collected" / "plus").iterdir())
    # Those of before and of after, whole, and nothing that was begun.
    assert sorted(unpack(path.read_bytes()).tensors[0].data for path in files) == sorted(
        np.array(values, "<f4").tobytes() for values in ([1, 1.25], [3, 3.25])
    )
