# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What log, metrics and drift together cost: the server's processor time for a request, with them and without."""

from __future__ import annotations

import json
import os
import statistics
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx_models
import pytest
from edgeml_server.tools.drift_reference import reference_of
from server_process import Device, plus_input, read_reply

CONNECTIONS = 4
REQUESTS = 1500
ROUNDS = 7
MOST = 1.25

# Python imports this at its start: in a server without metrics nothing is counted or noted.
WITHOUT = """
import prometheus_client
from edgeml_server.http.inference import InferenceEndpoint

for metric in (prometheus_client.Counter, prometheus_client.Gauge, prometheus_client.Histogram):
    metric.labels = lambda self, *values: self
    for method in {"inc", "set", "observe"} & set(dir(metric)):
        setattr(metric, method, lambda self, *values: None)
InferenceEndpoint._record = lambda self, *values: None
"""


def cpu_seconds(device: Device) -> float:
    """Processor time that the server has used so far."""
    fields = Path(f"/proc/{device.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def ask(device: Device, count: int) -> None:
    """Send requests with ids over some connections at once."""

    def client(number: int) -> None:
        connection = device.connect()
        for turn in range(count // CONNECTIONS):
            document = {"id": f"{number}-{turn}", "inputs": [plus_input([turn % 7, 1.0])]}
            connection.request("POST", "/v2/models/plus/infer", json.dumps(document))
            assert read_reply(connection).status == 200
        connection.close()

    threads = [threading.Thread(target=client, args=(number,)) for number in range(CONNECTIONS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def start(directory: Path, with_everything: bool) -> Device:
    """A server with its defaults, a log and a model with a reference; or the same without."""
    directory.mkdir()
    device = Device(directory)
    typical = np.random.default_rng(1).normal(0, 1, (5000, 2)).astype(np.float32)
    reference = reference_of({"x": typical}, {"sum": typical + 1, "twice": typical * 2})
    device.publish("plus", "1.0.0", onnx_models.plus(1), reference=reference if with_everything else None)
    settings: Mapping[str, Any] = {"prediction_log": str(directory / "predictions.db")} if with_everything else {}
    patch = directory / "patch"
    patch.mkdir()
    if not with_everything:
        (patch / "sitecustomize.py").write_text(WITHOUT)
    device.spawn(hidden_by=str(patch), **settings)
    device.wait_ready()
    ask(device, REQUESTS)
    return device


def test_log_metrics_and_drift(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    devices = {name: start(tmp_path / name, name == "with") for name in ("with", "without")}
    ratios = []
    for _ in range(ROUNDS):
        used = {}
        for name, device in devices.items():
            before = cpu_seconds(device)
            ask(device, REQUESTS)
            used[name] = cpu_seconds(device) - before
        ratios.append(used["with"] / used["without"])
    for device in devices.values():
        device.stop()
    ratio = statistics.median(ratios)
    with capsys.disabled():
        print(f"\nlog, metrics and drift: {ratio:.2f} times the processor time without them (", end="")
        print(", ".join(f"{each:.2f}" for each in sorted(ratios)), end=")\n")
    assert ratio <= MOST
