# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The probe set, asked of an HTTP server on a Unix socket that can also answer nonsense."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from fake_server import FakeServer
from releases import NO_DOCUMENTS

from ansible_collections.edgeml.fleet.plugins.module_utils._common.errors import ServerError, StoreError
from ansible_collections.edgeml.fleet.plugins.module_utils._device.client import Server
from ansible_collections.edgeml.fleet.plugins.module_utils._device.probe_set import (
    BATCH_ROWS,
    Batching,
    measure_probe,
    plan_batches,
    probe_result,
)
from ansible_collections.edgeml.fleet.plugins.module_utils._release.probe_set_file import read_probe_set


def write_probe(path: Path, rows: list[list[float]], labels: list[int], **changes: Any) -> str:
    data = [value for row in rows for value in row]
    tensor = {"name": "x", "datatype": "FP32", "shape": [len(rows), len(rows[0])], "data": data}
    path.write_text(json.dumps({"inputs": [tensor], "output": "scores", "labels": labels, **changes}))
    return str(path)


@pytest.mark.parametrize("count", [1, 2, BATCH_ROWS - 1, BATCH_ROWS, BATCH_ROWS + 1, 3 * BATCH_ROWS + 5])
def test_accuracy_is_the_share_of_rows_that_are_right(
    tmp_path: Path, fake: FakeServer, server: Server, count: int
) -> None:
    rows = [[0.0, 1.0, 0.5] if number % 2 else [2.0, 1.0, -1.0] for number in range(count)]
    labels = [number % 2 for number in range(count)]
    labels[0] = 2
    measured = measure_probe(server, "digits", write_probe(tmp_path / "probe.json", rows, labels))
    assert measured["version"] == "1.0.0"
    assert (measured["samples"], measured["correct"]) == (count, count - 1)
    assert measured["accuracy"] == pytest.approx((count - 1) / count, abs=1e-6)
    assert measured["latency_seconds"] > 0
    bodies = [json.loads(body) for _method, path, body in fake.requests if path == "/v2/models/digits/infer"]
    assert [body["inputs"][0]["shape"] for body in bodies[:-1]] == [[BATCH_ROWS, 3]] * (len(bodies) - 1)
    assert sum(body["inputs"][0]["shape"][0] for body in bodies) == count
    assert all(body["outputs"] == [{"name": "scores"}] for body in bodies)


@pytest.mark.parametrize(
    "text",
    [
        *NO_DOCUMENTS,
        '{"inputs": [], "output": "scores", "labels": [1]}',
        '{"inputs": [{"shape": [1, 1], "data": [1.0]}], "output": "scores", "labels": []}',
        '{"inputs": [{"shape": [2, 1], "data": [1.0, 2.0]}], "output": "scores", "labels": [1]}',
        '{"inputs": [{"shape": [2, 1], "data": [1.0, 2.0, 3.0]}], "output": "scores", "labels": [1, 0]}',
        '{"inputs": [{"shape": [], "data": [1.0]}], "output": "scores", "labels": [1]}',
        '{"inputs": [{"shape": 1, "data": [1.0]}], "output": "scores", "labels": [1]}',
        '{"inputs": [{"shape": [1], "data": {"0": 1.0}}], "output": "scores", "labels": [1]}',
        '{"inputs": [{"shape": [1, 1], "data": []}], "output": "scores", "labels": [1]}',
        '{"inputs": {"0": {}}, "output": "scores", "labels": [1]}',
        '{"inputs": [{"shape": [1], "data": [1.0]}], "labels": [1]}',
        '{"inputs": [{"shape": [1], "data": [1.0]}], "output": "scores", "labels": {"0": 1}}',
        '{"inputs": [{"shape": [1], "data": [1.0]}], "output": "scores", "labels": 1}',
    ],
    ids=lambda text: text[:60],
)
def test_a_damaged_probe_set_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "probe.json"
    path.write_text(text)
    with pytest.raises(StoreError, match=f"^{path}: not a probe set: "):
        measure_probe(Server("/nowhere"), "digits", str(path))


def test_a_missing_probe_set_is_named(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"probe.json: not a probe set: FileNotFoundError"):
        measure_probe(Server("/nowhere"), "digits", str(tmp_path / "probe.json"))


@pytest.mark.parametrize(
    "reply",
    [
        {},
        {"outputs": []},
        {"outputs": [{}]},
        {"outputs": [{"name": "scores", "datatype": "FP32", "data": []}]},
        {"outputs": [{"name": "scores", "datatype": "FP32", "data": [0.5]}]},
        {"outputs": [{"name": "scores", "datatype": "FP32", "data": [None, None, None, None]}]},
        {"outputs": [{"name": "scores", "datatype": "FP32", "data": ["a", 1, 2.0, None]}]},
        {"outputs": {"name": "scores", "datatype": "FP32", "data": [1, 2]}},
        {"outputs": [{"name": "scores", "datatype": "FP32", "data": 3}]},
        {"outputs": [{"name": "scores", "datatype": "FP32", "data": [0.1, 0.2, 0.3]}]},
    ],
    ids=json.dumps,
)
def test_an_answer_that_does_not_fit_the_probe_set_is_the_servers_error(
    tmp_path: Path, fake: FakeServer, server: Server, reply: Any
) -> None:
    fake.reply = (200, json.dumps(reply).encode())
    probe = write_probe(tmp_path / "probe.json", [[0.0, 1.0], [1.0, 0.0]], [0, 1])
    with pytest.raises(ServerError, match="output 'scores': expected values for 2 samples; found none"):
        measure_probe(server, "digits", probe)


def test_a_refused_probe_is_the_servers_error(tmp_path: Path, fake: FakeServer, server: Server) -> None:
    fake.reply = (400, b'{"error": "no such output"}')
    with pytest.raises(ServerError, match="expected status 200; found 400: no such output"):
        measure_probe(server, "digits", write_probe(tmp_path / "probe.json", [[0.0, 1.0]], [0]))


def test_a_probe_set_that_cannot_be_asked_is_a_result_with_its_reason(
    tmp_path: Path, fake: FakeServer, server: Server
) -> None:
    fake.reply = (400, b'{"error": "input \'x\': expected [-1, 4]"}')
    result = probe_result(server, "digits", write_probe(tmp_path / "probe.json", [[0.0, 1.0]], [0]))
    assert list(result) == ["error"]
    assert "found 400: input 'x': expected [-1, 4]" in result["error"]
    assert "not a probe set" in probe_result(server, "digits", str(tmp_path / "none.json"))["error"]


def test_what_the_answer_shows_to_be_ambiguous_is_refused(tmp_path: Path, server: Server) -> None:
    probe = write_probe(tmp_path / "probe.json", [[0.0], [1.0]], [0, 1])
    with pytest.raises(StoreError, match="may be a score or a prediction: declare score or regression"):
        measure_probe(server, "digits", probe)


@pytest.mark.parametrize(
    ("inputs", "binary", "expected"),
    [
        ({}, True, Batching(BATCH_ROWS)),
        ({"x": [-1, 3, 100, 100]}, True, Batching(BATCH_ROWS)),
        ({"x": [-1, 3, 100, 100]}, False, Batching(11)),
        ({"x": [1, 3, 100, 100]}, True, Batching(1, padded=True)),
        ({"x": [8, 3, 100, 100]}, True, Batching(8, padded=True)),
        ({"x": [3, 100, 100]}, True, Batching(1, single=("x",))),
    ],
)
def test_batches_are_what_the_model_takes(
    tmp_path: Path, inputs: dict[str, list[int]], binary: bool, expected: Batching
) -> None:
    tensor = {"name": "x", "datatype": "FP32", "shape": [2, 3, 100, 100], "data": [0.0] * 60_000}
    path = tmp_path / "probe.json"
    path.write_text(json.dumps({"inputs": [tensor], "output": "y", "labels": [0, 1], "task": "labels"}))
    probe = read_probe_set(str(path))
    assert plan_batches(probe, inputs, binary=binary) == expected
    with pytest.raises(ServerError, match="expected the model's inputs a, x in the probe set; it has x"):
        plan_batches(probe, {"a": [-1], **(inputs or {"x": [-1, 3, 100, 100]})}, binary=binary)
