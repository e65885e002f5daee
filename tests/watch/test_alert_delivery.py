# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""An alert from a device's metrics to a webhook, by a real Prometheus and a real Alertmanager, and its end."""

from __future__ import annotations

import contextlib
import http.server
import json
import queue
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from links import REPOSITORY

from ansible_collections.edgeml.fleet.plugins.module_utils._watch.metrics import exposition

RULES = REPOSITORY / "docs" / "watching" / "alerts.yml"
UNPACKED = REPOSITORY / ".cache" / "prometheus-alertmanager" / "usr"
# Debian's program reads its templates from /usr/share, wherever it lies: it sees those of its package there.
ALERTMANAGER = (
    "unshare",
    "--mount",
    "sh",
    "-c",
    (
        'mount -t overlay overlay -o "lowerdir=$1/share:/usr/share" /usr/share && '
        'program=$1/bin/prometheus-alertmanager && shift && exec "$program" "$@"'
    ),
    "sh",
    str(UNPACKED),
)


class Site(http.server.ThreadingHTTPServer):
    """The metrics of a device at /metrics, and a webhook: what it is told is in ``told``."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.throttled = 1.0
        self.told: queue.Queue[dict[str, Any]] = queue.Queue()


class _Handler(http.server.BaseHTTPRequestHandler):
    server: Site

    def do_GET(self) -> None:
        """Answer with the metrics, which are new, as node exporter does."""
        samples = [("edgeml_throttled", {"cause": "undervoltage"}, self.server.throttled)]
        now = time.time()
        exported = f'node_time_seconds {now}\nnode_textfile_mtime_seconds{{file="/var/lib/edgeml.prom"}} {now}\n'
        self._answer(exposition(samples).encode() + exported.encode())

    def do_POST(self) -> None:
        """Take an alert."""
        self.server.told.put(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self._answer(b"")

    def _answer(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; version=0.0.4")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@contextlib.contextmanager
def site() -> Iterator[Site]:
    """Both servers, as long as the block lasts."""
    with Site() as found:
        thread = threading.Thread(target=found.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield found
        finally:
            found.shutdown()
            thread.join()


@contextlib.contextmanager
def running(*command: str) -> Iterator[None]:
    """A program, as long as the block lasts."""
    process = subprocess.Popen(command)
    try:
        yield
    finally:
        process.kill()
        process.wait()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
        return port


def test_an_alert_reaches_the_webhook_and_ends(tmp_path: Path) -> None:
    rules = yaml.safe_load(RULES.read_text())
    for group in rules["groups"]:
        for rule in group["rules"]:
            rule.pop("for", None)
    (tmp_path / "rules.json").write_text(json.dumps(rules))
    managed, scraped = free_port(), free_port()
    with site() as found:
        address = f"127.0.0.1:{found.server_port}"
        routed = {
            "route": {"receiver": "ops", "group_by": ["alertname"], "group_wait": "1s", "group_interval": "1s"},
            "receivers": [{"name": "ops", "webhook_configs": [{"url": f"http://{address}/", "send_resolved": True}]}],
        }
        (tmp_path / "alertmanager.json").write_text(json.dumps(routed))
        target = {"targets": [address], "labels": {"device": "edge-1"}}
        config = {
            "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
            "rule_files": ["rules.json"],
            "alerting": {"alertmanagers": [{"static_configs": [{"targets": [f"127.0.0.1:{managed}"]}]}]},
            "scrape_configs": [{"job_name": "edgeml-device", "static_configs": [target]}],
        }
        (tmp_path / "prometheus.json").write_text(json.dumps(config))
        with (
            running(
                *ALERTMANAGER,
                f"--config.file={tmp_path / 'alertmanager.json'}",
                f"--storage.path={tmp_path / 'alertmanager'}",
                f"--web.listen-address=127.0.0.1:{managed}",
                "--cluster.listen-address=",
                "--log.level=error",
            ),
            running(
                "prometheus",
                f"--config.file={tmp_path / 'prometheus.json'}",
                f"--storage.tsdb.path={tmp_path / 'prometheus'}",
                f"--web.listen-address=127.0.0.1:{scraped}",
                "--log.level=error",
            ),
        ):
            (alert,) = found.told.get(timeout=300)["alerts"]
            assert alert["status"] == "firing"
            assert alert["labels"] == {
                "alertname": "EdgemlThrottled",
                "cause": "undervoltage",
                "device": "edge-1",
                "severity": "ticket",
            }
            assert alert["annotations"] == {"summary": "edge-1 slows itself down: undervoltage"}
            found.throttled = 0.0
            while alert["status"] != "resolved":
                (alert,) = found.told.get(timeout=300)["alerts"]
