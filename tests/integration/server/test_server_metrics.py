# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The metrics, as Prometheus itself sees them (Debian's package ``prometheus``), and as the README promises them."""

from __future__ import annotations

import functools
import http.server
import json
import re
import socket
import subprocess
import threading
import time
import urllib.error
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

from ansible_collections.edgeml.fleet.plugins.module_utils._device.store import Store
from ansible_collections.edgeml.fleet.plugins.module_utils._pull.memory import Memory, PullState
from ansible_collections.edgeml.fleet.plugins.module_utils._watch.collect import collect
from ansible_collections.edgeml.fleet.plugins.module_utils._watch.metrics import exposition
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.fleet import Asked, fleet_document, fleet_samples
from ansible_collections.edgeml.fleet.plugins.plugin_utils._watch.dashboards import DASHBOARDS
from ansible_collections.edgeml.fleet.plugins.plugin_utils._watch.metrics import controller_exposition

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
    while device.series("edgeml_drift_alarm") == {} or device.series("edgeml_shadow_rows_total") == {}:
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


def _scraped(job: str, port: int, labels: dict[str, str]) -> dict[str, Any]:
    return {"job_name": job, "static_configs": [{"targets": [f"127.0.0.1:{port}"], "labels": labels}]}


class Prometheus:
    """A Prometheus that scrapes a device every second, and what ``pages`` serves of it and of the controller."""

    def __init__(self, device: Device, directory: Path, pages: int | None = None) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self._port = free.getsockname()[1]
        config = directory / "prometheus.json"
        name = {"device": "edge-1"} if pages else {}
        scraped: list[dict[str, Any]] = [_scraped("edgeml-server", device.port, name)]
        if pages:
            scraped.append({**_scraped("edgeml-device", pages, name), "metrics_path": "/edgeml.txt"})
            scraped.append(
                {**_scraped("edgeml-controller", pages, {}), "metrics_path": "/fleet.txt", "honor_labels": True}
            )
        # JSON is YAML.
        config.write_text(json.dumps({"global": {"scrape_interval": "1s"}, "scrape_configs": scraped}))
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
        return {
            f"{item['metric'].get('version', '')} {item['metric'].get('code', '')}".strip(): float(item["value"][1])
            for item in self.rows(expression)
        }

    def rows(self, expression: str) -> list[dict[str, Any]]:
        """The rows of an instant query; none while Prometheus does not answer. Raises HTTPError for what it refuses."""
        url = f"http://127.0.0.1:{self._port}/api/v1/query?{urllib.parse.urlencode({'query': expression})}"
        try:
            with urllib.request.urlopen(url) as reply:
                document: Any = json.load(reply)
        except urllib.error.HTTPError as error:
            # It says so, too, while it reads what it has.
            if error.code != 503:
                raise
            return []
        except OSError:
            assert self._process.poll() is None
            return []
        found: list[dict[str, Any]] = document["data"]["result"]
        return found

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


# ---- the dashboards ----


@pytest.fixture
def pages(busy_device: Device, tmp_path: Path) -> Iterator[int]:
    """The port of a server of what the device and the controller write for Prometheus."""
    directory = tmp_path / "pages"
    directory.mkdir()
    sensors = {
        "thermal/thermal_zone0/type": "cpu-thermal",
        "thermal/thermal_zone0/temp": "61829",
        "thermal/cooling_device0/type": "thermal-cpufreq-0",
        "thermal/cooling_device0/cur_state": "1",
        "hwmon/hwmon0/power1_input": "2450000",
    }
    for name, content in sensors.items():
        path = tmp_path / "board" / "sys" / "class" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    pull = tmp_path / "pull"
    pull.mkdir()
    Memory(str(pull)).keep(PullState(sequence=1, desired_version=3, expires=4e9))
    samples = collect(Store(busy_device.store.root), str(pull), str(tmp_path / "board"))
    fetched = {"model": "plus", "version": "1.2.0"}
    samples += [("edgeml_fetch_bytes", fetched, 100.0), ("edgeml_fetch_held_bytes", fetched, 50.0)]
    (directory / "edgeml.txt").write_text(exposition(samples))
    wanted = [{"model": "plus", "version": "1.1.0", "stopped_releases": []}]
    document = fleet_document({"edge-1": Asked({"models": [], "server_live": True}, "small", wanted)})
    (directory / "fleet.txt").write_text(controller_exposition(fleet_samples(document)))
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(directory))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


def test_every_panel_of_the_dashboards_has_rows(busy_device: Device, pages: int, tmp_path: Path) -> None:
    directory = tmp_path / "watching"
    directory.mkdir()
    prometheus = Prometheus(busy_device, directory, pages)
    try:
        # The metrics that need a second scrape.
        while not prometheus.rows("rate(edgeml_inference_duration_seconds_count[1m])"):
            time.sleep(0.2)
        waiting = {
            panel.title: panel.expr.replace("$__rate_interval", "1m").replace("$model", ".*").replace("$device", ".*")
            for _title, panels, _chosen in DASHBOARDS.values()
            for panel in panels
        }
        while waiting:
            waiting = {title: expr for title, expr in waiting.items() if not prometheus.rows(expr)}
            print("without rows yet:", waiting)
            time.sleep(0.5)
    finally:
        prometheus.close()
