# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What edge-s2 notes and reports of a LiteRT model's requests, and of a candidate of another runtime beside it."""

from __future__ import annotations

import csv
import io
import json
import time
from typing import Any

import pytest
from on_device import GUARD_SECONDS, Server, post_locally
from testinfra.host import Host

testinfra_hosts = ["ssh://edge-s2"]

SERVER = Server(8102)
ROWS_MAX = 200
WINDOW = 500
LOG = "/var/lib/edgeml-inference/predictions.db"
EXPORT = f"""
unit=$(cat /etc/systemd/system/edgeml-inference.service)
$(echo "$unit" | sed -n 's/^Environment=\\(PYTHONPATH=.*\\)/env \\1/p') \
$(echo "$unit" | sed -n 's/^ExecStart=\\([^ ]*\\) .*/\\1/p') -m edgeml_server.tools.export {LOG} --format """


def infer(*rows: list[float], identity: str = "") -> Any:
    """The answer to ``rows``, which must be good."""
    numbers = [{"name": "x", "datatype": "FP32", "shape": [len(rows), 2], "data": rows}]
    status, answer = SERVER.ask("/v2/models/plus/infer", {"id": identity, "inputs": numbers})
    assert status == 200, answer
    return answer


def wait_for(name: str, value: float) -> dict[str, float]:
    """The metrics, when one of them has come to a value."""
    deadline = time.monotonic() + GUARD_SECONDS
    while (metrics := SERVER.metrics()).get(name) != value:
        assert time.monotonic() < deadline, (name, value, metrics.get(name))
    return metrics


@pytest.fixture(scope="module")
def observed(host: Host) -> dict[str, float]:
    """The metrics, after two windows of requests of which the second is unlike the reference, with a shadow beside."""
    status, answer = post_locally(host, "/v2/repository/models/plus/shadow", {"version": "1.1.0"})
    assert status == 200, answer
    windows = 'edgeml_drift_windows_total{model="plus",series="first",version="1.0.0"}'
    typical = [[(place + 0.5) / WINDOW, 2.0] for place in range(WINDOW)]
    infer(*typical)
    before = wait_for(windows, 1)
    assert before['edgeml_drift_alarm{model="plus",series="first",version="1.0.0"}'] == 0
    infer(*([0.9, 2.0] for _ in range(WINDOW)))
    wait_for(windows, 2)
    for number in range(ROWS_MAX + 50):
        infer([number, 0.0] if number % 2 else [0.0, 1.0], identity=f"request {number}")
    wait_for("edgeml_prediction_log_rows_total", ROWS_MAX + 52)
    deadline = time.monotonic() + GUARD_SECONDS
    # Copies for which there is no time are dropped, and counted.
    while sum(_shadow(metrics := SERVER.metrics()).values()) != ROWS_MAX + 52:
        assert time.monotonic() < deadline, _shadow(metrics)
    return metrics


def _shadow(metrics: dict[str, float]) -> dict[str, float]:
    """The shadow's outcomes."""
    return {name: value for name, value in metrics.items() if name.startswith("edgeml_shadow_rows_total")}


def test_litert_serves(observed: dict[str, float]) -> None:
    assert SERVER.ask("/v2/models/plus")[1]["platform"] == "tensorflowlite"
    answer = infer([1, 2])
    assert {output["name"]: output["data"] for output in answer["outputs"]} == {"sum": [2, 3], "twice": [2, 4]}


def test_drift_is_reported(observed: dict[str, float]) -> None:
    labels = '{model="plus",series="first",version="1.0.0"}'
    assert observed[f"edgeml_drift_alarm{labels}"] == 1
    assert observed[f"edgeml_drift_psi{labels}"] > 1
    assert observed[f"edgeml_drift_ks{labels}"] > 0.5


def test_the_shadow_is_reported(host: Host, observed: dict[str, float]) -> None:
    labels = 'model="plus",version="1.1.0"'
    assert observed['edgeml_shadow_rows_total{model="plus",outcome="agreed",version="1.1.0"}'] > 0
    assert observed[f"edgeml_shadow_output_distance_count{{{labels}}}"] > 0
    for role in ("active", "candidate"):
        assert observed[f'edgeml_shadow_run_duration_seconds_sum{{model="plus",role="{role}",version="1.1.0"}}'] > 0
    status, counts = post_locally(host, "/v2/repository/models/plus/unshadow", {})
    assert (status, counts["active_version"], counts["failed"]) == (200, "1.0.0", 0)


def test_labels_give_the_live_accuracy(observed: dict[str, float]) -> None:
    # The newest rows, which the log still holds: those with an odd number are of class 0, the others of class 1.
    for number in range(ROWS_MAX + 10, ROWS_MAX + 50):
        label = number % 2 if number < ROWS_MAX + 20 else 1 - number % 2
        status, answer = SERVER.ask("/v2/models/plus/feedback", {"id": f"request {number}", "label": label})
        assert (status, answer["right"]) == (200, int(number >= ROWS_MAX + 20)), answer
    metrics = SERVER.metrics()
    assert metrics['edgeml_feedback_accuracy_ratio{model="plus",version="1.0.0"}'] == 0.75
    # What the log forgot cannot be labelled any more.
    assert SERVER.ask("/v2/models/plus/feedback", {"id": "request 0", "label": 1})[0] == 404


def test_the_log_is_written_bounded_and_exported(host: Host, observed: dict[str, float]) -> None:
    wait_for("edgeml_prediction_log_dropped_total", 0)
    rows = [json.loads(line) for line in host.check_output(EXPORT + "jsonl").splitlines()]
    # It deletes in batches; the bound is the one that is told.
    assert 0 < len(rows) <= ROWS_MAX
    newest = [row for row in rows if row["request_id"] == f"request {ROWS_MAX + 49}"]
    assert (newest[0]["model"], newest[0]["version"]) == ("plus", "1.0.0")
    assert newest[0]["inputs"]["x"]["data"] == [ROWS_MAX + 49, 0]
    assert newest[0]["outputs"]["sum"]["data"] == [ROWS_MAX + 50, 1]
    assert newest[0]["label"] is not None
    table = list(csv.DictReader(io.StringIO(host.check_output(EXPORT + "csv --model plus"))))
    assert f"request {ROWS_MAX + 49}" in [row["request_id"] for row in table]
