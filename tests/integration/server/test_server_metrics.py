# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The metrics, as Prometheus itself sees them (Debian's package ``prometheus``), and as the README promises them."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnx_models
import pytest
from links import REPOSITORY
from prometheus_client.parser import text_string_to_metric_families
from server_process import Device
from test_server_drift import make_reference
from test_server_swaps import golden

README = REPOSITORY / "roles" / "inference_service" / "README.md"


@pytest.fixture
def busy_device(device: Device, tmp_path: Path) -> Device:
    """A device on which something of everything happened."""
    device.publish("plus", "1.0.0", onnx_models.plus(1), golden(1), reference=make_reference(device, tmp_path))
    device.publish("plus", "1.1.0", onnx_models.plus(2), golden(2))
    device.activate("plus", "1.0.0")
    log = str(tmp_path / "predictions.db")
    device.start(batch_rows=8, drift_window=500, prediction_log=log, prediction_log_sample_percent=100)
    assert device.post("/v2/repository/models/plus/shadow", {"version": "1.1.0"}, local=True).status == 200
    for number in range(10):
        assert device.infer("plus", *[[1.0, 2.0]] * 50, id=str(number)).status == 200
    assert device.post("/v2/models/plus/infer", {"inputs": []}).status == 400
    assert device.infer("absent", [1, 2]).status == 404
    assert device.post("/v2/models/plus/feedback", {"id": "0", "label": [1] * 50}).status == 200
    while device.series("edgeml_drift_alarm") == {} or device.series("edgeml_shadow_requests_total") == {}:
        pass
    return device


def test_promtool_has_nothing_to_say(busy_device: Device) -> None:
    page = busy_device.get("/metrics").body
    checked = subprocess.run(["promtool", "check", "metrics"], input=page, capture_output=True)
    assert (checked.returncode, checked.stderr, checked.stdout) == (0, b"", b"")


def test_the_readme_names_every_series(busy_device: Device) -> None:
    page = busy_device.get("/metrics").body.decode("utf-8")
    families = {
        family.name + ("_total" if family.type == "counter" else "")
        for family in text_string_to_metric_families(page)
        if family.name.startswith("edgeml_")
    }
    section = README.read_text(encoding="utf-8").split("\n### Metrics\n")[1].split("\n### ")[0]
    assert families == set(re.findall(r"`(edgeml_[a-z_]+)`", section))


# ---- a real Prometheus ----


class Prometheus:
    """A Prometheus that scrapes a device every second."""

    def __init__(self, device: Device, directory: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self._port = free.getsockname()[1]
        config = directory / "prometheus.json"
        target = {"job_name": "edgeml", "static_configs": [{"targets": [f"127.0.0.1:{device.port}"]}]}
        # JSON is YAML.
        config.write_text(json.dumps({"global": {"scrape_interval": "1s"}, "scrape_configs": [target]}))
        self._process = subprocess.Popen(
            [
                "prometheus",
                f"--config.file={config}",
                f"--storage.tsdb.path={directory / 'tsdb'}",
                f"--web.listen-address=127.0.0.1:{self._port}",
                "--log.level=error",
            ]
        )

    def query(self, expression: str) -> dict[str, float]:
        """The values of an instant query, by ``version`` and ``code`` of their series."""
        url = f"http://127.0.0.1:{self._port}/api/v1/query?{urllib.parse.urlencode({'query': expression})}"
        try:
            with urllib.request.urlopen(url) as reply:
                document: Any = json.load(reply)
        except OSError:
            assert self._process.poll() is None
            return {}
        return {
            f"{item['metric'].get('version', '')} {item['metric'].get('code', '')}".strip(): float(item["value"][1])
            for item in document["data"]["result"]
        }

    def wait_for(self, expression: str, wanted: dict[str, float]) -> None:
        """Wait until a query has this result."""
        while self.query(expression) != wanted:
            pass

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()


@pytest.fixture
def prometheus(busy_device: Device, tmp_path: Path) -> Iterator[Prometheus]:
    """A Prometheus for the device."""
    directory = tmp_path / "prometheus"
    directory.mkdir()
    prometheus = Prometheus(busy_device, directory)
    yield prometheus
    prometheus.close()


def test_prometheus_scrapes_and_answers(busy_device: Device, prometheus: Prometheus) -> None:
    prometheus.wait_for("up", {"": 1})
    prometheus.wait_for("edgeml_inference_requests_total", {"1.0.0 200": 10, "1.0.0 400": 1, "404": 1})
    prometheus.wait_for("edgeml_model_info", {"1.0.0": 1})
    prometheus.wait_for("edgeml_inference_duration_seconds_count", {"1.0.0": 10})
    prometheus.wait_for("edgeml_feedback_accuracy_ratio", {"1.0.0": 1})
    busy_device.activate("plus", "1.1.0")
    assert busy_device.load("plus").status == 200
    prometheus.wait_for("edgeml_model_info", {"1.1.0": 1})
    prometheus.wait_for('edgeml_model_swaps_total{outcome="succeeded"}', {"": 2})
    # What the version that serves took, by the join that a dashboard makes.
    prometheus.wait_for("count(edgeml_model_load_duration_seconds * on (model, version) edgeml_model_info)", {"": 1})
