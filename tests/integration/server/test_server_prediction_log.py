# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The prediction log of a real server: what it keeps, its bounds, kills in the middle, its export."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import onnx_models
import pytest
from edgeml_server.observe.observer import BATCH_RECORDS
from links import PYTHON_PATH
from server_process import Device, plus_input

MEGABYTE = 1 << 20


@pytest.fixture
def log_path(tmp_path: Path) -> Path:
    return tmp_path / "predictions.db"


def start(device: Device, log_path: Path, **config: Any) -> None:
    device.publish("plus", "1.0.0", onnx_models.plus(1))
    device.start(**{"prediction_log": str(log_path), "prediction_log_sample_percent": 100, **config})


def query(log_path: Path, statement: str) -> list[Any]:
    with contextlib.closing(sqlite3.connect(f"file:{log_path}?mode=ro", uri=True)) as connection:
        return connection.execute(statement).fetchall()


def wait_logged(device: Device, count: int) -> None:
    while (device.metric("edgeml_prediction_log_rows_total") or 0) < count:
        pass


def export(log_path: Path, *options: str) -> str:
    command = [sys.executable, "-m", "edgeml_server.tools.export", str(log_path), *options]
    environment = {**os.environ, "PYTHONPATH": str(PYTHON_PATH)}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout


def test_a_row_says_what_was_asked_and_answered(device: Device, log_path: Path) -> None:
    start(device, log_path)
    assert device.infer("plus", [1, 2], id="request 7").status == 200
    wait_logged(device, 1)
    ((*row, seconds),) = query(
        log_path,
        "SELECT model, version, request_id, code, inputs, outputs, prediction, label, error, seconds FROM predictions",
    )
    model, version, request_id, code, inputs, outputs, prediction, label, error = row
    assert (model, version, request_id, code, label, error) == ("plus", "1.0.0", "request 7", 200, None, None)
    assert seconds > 0
    summary = {"datatype": "FP32", "shape": [1, 2], "minimum": 1.0, "maximum": 2.0, "mean": 1.5}
    assert json.loads(inputs) == {"x": summary}
    assert json.loads(outputs)["sum"] == {"datatype": "FP32", "shape": [1, 2], "data": [2.0, 3.0]}
    assert json.loads(prediction) == [1]
    assert log_path.stat().st_mode & 0o777 == 0o640


def test_inputs_are_stored_only_by_choice(device: Device, log_path: Path) -> None:
    start(device, log_path, prediction_log_inputs="full")
    device.infer("plus", [1, 2])
    wait_logged(device, 1)
    ((inputs,),) = query(log_path, "SELECT inputs FROM predictions")
    assert json.loads(inputs) == {"x": {"datatype": "FP32", "shape": [1, 2], "data": [1.0, 2.0]}}


def test_failures_are_logged_whatever_the_rate(device: Device, log_path: Path) -> None:
    start(device, log_path, prediction_log_sample_percent=0)
    for _ in range(20):
        assert device.infer("plus", [1, 2]).status == 200
    assert device.post("/v2/models/plus/infer", {"inputs": []}).status == 400
    assert device.infer("absent", [1, 2]).status == 404
    wait_logged(device, 2)
    rows = query(log_path, "SELECT model, version, code, error, inputs FROM predictions ORDER BY id")
    assert [row[:3] for row in rows] == [("plus", "1.0.0", 400), ("", "", 404)]
    assert rows[0][3:] == ("inputs: missing x", None)


def test_a_rate_samples(device: Device, log_path: Path) -> None:
    start(device, log_path, prediction_log_sample_percent=50)
    for _ in range(200):
        device.infer("plus", [1, 2])
    assert device.post("/v2/models/plus/infer", {"inputs": []}).status == 400
    device.terminate()
    assert device.wait() == 0
    ((sampled,),) = query(log_path, "SELECT count(*) FROM predictions WHERE code = 200")
    # Ten standard deviations: 50 samples more or less than 100 do not happen.
    assert 50 < sampled < 150


def test_the_number_of_rows_is_bounded(device: Device, log_path: Path) -> None:
    start(device, log_path, prediction_log_rows=120)
    for number in range(300):
        device.infer("plus", [number, 0], id=str(number))
    device.terminate()
    assert device.wait() == 0
    rows = [int(row[0]) for row in query(log_path, "SELECT request_id FROM predictions ORDER BY id")]
    assert rows == list(range(180, 300))


def test_the_bytes_are_bounded_and_the_newest_rows_stay(device: Device, log_path: Path) -> None:
    start(device, log_path, prediction_log_bytes=MEGABYTE, prediction_log_inputs="full")
    rows = [[0.123, 0.456]] * 1000
    for number in range(150):
        assert device.infer("plus", *rows, id=str(number)).status == 200
    device.terminate()
    assert device.wait() == 0
    assert log_path.stat().st_size <= MEGABYTE
    kept = [int(row[0]) for row in query(log_path, "SELECT request_id FROM predictions ORDER BY id")]
    assert kept
    assert kept == list(range(150 - len(kept), 150))
    assert query(log_path, "PRAGMA integrity_check") == [("ok",)]


def test_kill_9_loses_at_most_what_was_not_written_and_the_next_server_goes_on(device: Device, log_path: Path) -> None:
    start(device, log_path)
    for number in range(2 * BATCH_RECORDS):
        device.infer("plus", [number, 0], id=str(number))
    wait_logged(device, BATCH_RECORDS)
    written = int(device.metric("edgeml_prediction_log_rows_total") or 0)
    os.kill(device.pid, signal.SIGKILL)
    device.wait()
    rows = [int(row[0]) for row in query(log_path, "SELECT request_id FROM predictions ORDER BY id")]
    assert len(rows) >= written
    assert rows == list(range(len(rows)))
    assert query(log_path, "PRAGMA integrity_check") == [("ok",)]
    device.log = type(device.log)()
    device.start(prediction_log=str(log_path), prediction_log_sample_percent=100)
    device.infer("plus", [1, 2], id="after")
    wait_logged(device, 1)
    assert query(log_path, "SELECT count(*) FROM predictions") == [(len(rows) + 1,)]


def test_a_damaged_log_is_moved_aside(device: Device, log_path: Path) -> None:
    log_path.write_bytes(b"not a database, and longer than a header of one hundred bytes " * 100)
    start(device, log_path)
    device.infer("plus", [1, 2])
    wait_logged(device, 1)
    assert log_path.with_name("predictions.db.damaged").read_bytes().startswith(b"not a database")
    assert "prediction log damaged" in device.log.wait_for_text("prediction log damaged")


def test_a_log_that_cannot_be_written_stops_nobody(device: Device, tmp_path: Path) -> None:
    start(device, tmp_path / "absent" / "predictions.db")
    device.log.wait_for_text("prediction log cannot be opened, serving without")
    assert device.infer("plus", [1, 2]).status == 200


def test_a_full_disk_stops_nobody_and_is_said_once(device: Device, log_path: Path) -> None:
    start(device, log_path)
    with contextlib.closing(sqlite3.connect(log_path, isolation_level=None)) as other:
        # A lock that does not end stands for every error of the file.
        other.execute("BEGIN EXCLUSIVE")
        for _ in range(2 * BATCH_RECORDS):
            assert device.infer("plus", [1, 2]).status == 200
        device.log.wait_for_text("prediction log cannot be written")
        while (device.metric("edgeml_prediction_log_dropped_total") or 0) < BATCH_RECORDS:
            pass
    device.infer("plus", [1, 2])
    device.log.wait_for_text("prediction log can be written again")


def test_export_while_the_server_runs(device: Device, log_path: Path) -> None:
    start(device, log_path)
    device.infer("plus", [1, 2], id='a "quoted", id')
    device.post("/v2/models/plus/infer", {"inputs": [plus_input([1, 2]), plus_input([1, 2])]})
    wait_logged(device, 2)
    first, second = [json.loads(line) for line in export(log_path).splitlines()]
    assert (first["request_id"], first["code"], first["prediction"]) == ('a "quoted", id', 200, [1])
    assert first["outputs"]["twice"]["data"] == [2.0, 4.0]
    assert (second["code"], second["error"]) == (400, "inputs: 'x' is given twice")
    table = list(csv.DictReader(io.StringIO(export(log_path, "--format", "csv"))))
    assert [row["request_id"] for row in table] == ['a "quoted", id', ""]
    assert [row["code"] for row in csv.DictReader(io.StringIO(export(log_path, "--format", "csv", "--failures")))] == [
        "400"
    ]
    assert export(log_path, "--model", "absent") == ""
    assert export(log_path, "--since", str(first["time"] + 3600)) == ""


def test_export_of_no_log_fails_with_its_path(tmp_path: Path) -> None:
    with pytest.raises(subprocess.CalledProcessError) as caught:
        export(tmp_path / "absent.db")
    assert caught.value.returncode == 1
    assert "absent.db: unable to open database file" in caught.value.stderr
