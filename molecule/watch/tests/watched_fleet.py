# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The devices of this scenario, and what the machine that watches them has."""

from __future__ import annotations

import base64
import http.client
import json
import os
import queue
import shlex
import ssl
import subprocess
import time
import urllib.parse
import zlib
from pathlib import Path
from typing import Any

from containers import GUARD_SECONDS, Containers, docker
from links import REPOSITORY
from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion

NAMES = os.environ.get("FLEET", "quickstart")
# As molecule/watch/inventory/hosts.yml has them.
REACHED, FORWARDING, WATCHER = ["edge-s1", "edge-s2"], "edge-l1", "edge-l2"
FLEET = Containers([*REACHED, FORWARDING], NAMES)
SCENARIO = REPOSITORY / "molecule" / "watch"
DIRECTORY = REPOSITORY / ".ansible" / NAMES / "watch"
PROMETHEUS, ALERTMANAGER, VICTORIA_METRICS = 9090, 9093, 8428
SPOOL = "/var/lib/edgeml/telemetry"
# Asks a server of the machine itself.
_GET = "import sys, urllib.request; sys.stdout.buffer.write(urllib.request.urlopen(sys.argv[1], timeout=60).read())"


def python(device: str, program: str, *arguments: str) -> str:
    """Run a Python program on a device as root; return what it prints."""
    return FLEET.on(device, shlex.join(["python3", "-c", program, *arguments]))


def get(port: int, path: str, **query: str) -> str:
    """What a server of the machine that watches answers; empty if it does not."""
    url = f"http://127.0.0.1:{port}{path}?{urllib.parse.urlencode(query)}"
    try:
        return python(WATCHER, _GET, url)
    except subprocess.CalledProcessError as error:
        print(error.stderr)
        return ""


def rows(port: int, expression: str) -> list[dict[str, Any]]:
    """The rows of an instant query to Prometheus or VictoriaMetrics, whose answers are not cached."""
    said = get(port, "/api/v1/query", query=expression, nocache="1")
    found: list[dict[str, Any]] = json.loads(said)["data"]["result"] if said else []
    return found


def values(port: int, expression: str, *labels: str) -> dict[tuple[str, ...], float]:
    """The values of the rows by these labels."""
    return {tuple(row["metric"][name] for name in labels): float(row["value"][1]) for row in rows(port, expression)}


def address(device: str) -> str:
    """Where the others reach a device."""
    return FLEET.on(device, "hostname -I").strip()


class Client:
    """Asks the inference server of a device by its TLS, with Prometheus's certificate and secret; to be closed."""

    def __init__(self, device: str, secret: str = "what Prometheus says to servers") -> None:
        context = ssl.create_default_context(cafile=str(DIRECTORY / "servers-certificate.pem"))
        context.load_cert_chain(DIRECTORY / "authority" / "reader-prometheus.pem")
        self._connection = http.client.HTTPSConnection(address(device), 8080, timeout=GUARD_SECONDS, context=context)
        pair = base64.b64encode(f"prometheus:{secret}".encode()).decode("ascii")
        self._headers = {"Authorization": f"Basic {pair}"}

    def post(self, path: str, document: Any) -> int:
        """Send JSON; return the reply's status."""
        return self._ask("POST", path, json.dumps(document))

    def get(self, path: str) -> int:
        """The status of the reply."""
        return self._ask("GET", path)

    def close(self) -> None:
        """Close its connection."""
        self._connection.close()

    def _ask(self, method: str, path: str, body: str | None = None) -> int:
        self._connection.request(method, path, body, self._headers)
        reply = self._connection.getresponse()
        reply.read()
        return reply.status


class Link:
    """The network of a device, which is a container: its interface goes down, as if a cable was pulled."""

    def __init__(self, device: str) -> None:
        self._container = FLEET.container(device)
        self._image = docker("inspect", "--format={{.Image}}", self._container).strip()
        self._gateway = docker("inspect", "--format={{.NetworkSettings.Gateway}}", self._container).strip()

    def cut(self) -> None:
        """Take it down."""
        self._run("ip link set eth0 down")

    def mend(self) -> None:
        """Take it up again."""
        self._run(f"ip link set eth0 up && ip route replace default via {self._gateway}")

    def _run(self, command: str) -> None:
        network = f"--network=container:{self._container}"
        docker("run", "--rm", "--cap-add=NET_ADMIN", network, "--entrypoint=/bin/sh", self._image, "-c", command)


def presence(device: str) -> bool:
    """What the broker says of a device that pulls."""
    messages: queue.Queue[bytes] = queue.Queue()
    client = paho.Client(CallbackAPIVersion.VERSION2)
    own = str(DIRECTORY / "authority/reader-controller.pem")
    client.tls_set(str(DIRECTORY / "servers-certificate.pem"), own, own)
    client.on_message = lambda _client, _data, message: messages.put(bytes(message.payload))
    client.connect(address(WATCHER), 8883)
    client.loop_start()
    try:
        client.subscribe(f"edgeml/shop/devices/{device}/presence", 1)
        is_online: bool = json.loads(messages.get(timeout=GUARD_SECONDS))["online"]
        return is_online
    finally:
        client.disconnect()
        client.loop_stop()


# ---- what a device forwards ----


def queued() -> list[int]:
    """The numbers of the batches that the device keeps."""
    return sorted(int(name.split(".")[0]) for name in FLEET.on(FORWARDING, f"ls {SPOOL}").split() if "." in name)


def kept_samples() -> dict[int, list[str]]:
    """The samples of each batch that the device keeps, without their time, by its number."""
    found = {}
    for number in queued():
        content = FLEET.output(FORWARDING, f"cat {SPOOL}/{number:012}.*")
        lines = zlib.decompress(content, 31).decode().splitlines()
        found[number] = [line.rpartition(" ")[0] for line in lines]
    return found


def begin_anew() -> None:
    """Have the device forget what it has forwarded, and start by hand only."""
    FLEET.on(FORWARDING, "systemctl stop edgeml-forward.timer edgeml-forward.service")
    FLEET.on(FORWARDING, f"rm --recursive --force {SPOOL}/* /run/edgeml-forward/*")


def simulate(minutes: int, *wrong: int, ago: int = 0) -> dict[str, Any]:
    """Let minutes pass on the device, as molecule/watch/simulated_minutes.py says."""
    program = (SCENARIO / "simulated_minutes.py").read_text()
    found: dict[str, Any] = json.loads(python(FORWARDING, program, *map(str, (minutes, ago, *wrong))))
    return found


def deliver(number: int) -> None:
    """Have the device's own unit run until no batch up to this number is left that is not known to be stored."""
    end = time.monotonic() + GUARD_SECONDS
    while True:
        FLEET.on(FORWARDING, "systemctl start edgeml-forward.service || true")
        left = queued()
        if left and left[0] > number:
            return
        said = FLEET.on(FORWARDING, "journalctl --unit=edgeml-forward --output=cat --lines=20")
        assert time.monotonic() < end, f"not known to be stored: {left}; {said}"
        # It asks for what it sent only then.
        time.sleep(21)


def stored(first_ms: int, last_ms: int) -> str:
    """All that VictoriaMetrics has of the device and this time, as it exports it."""
    selector = f'{{device="{FORWARDING}"}}'
    bounds = {"start": f"{first_ms / 1000:.3f}", "end": f"{last_ms / 1000:.3f}"}
    return get(VICTORIA_METRICS, "/api/v1/export", **{"match[]": selector}, **bounds)


# ---- what is told by alerts ----


class Webhook:
    """Takes alerts on the machine that watches, where the role's variables say."""

    _FILE = "/run/alerts.jsonl"

    def __init__(self) -> None:
        program = (SCENARIO / "webhook.py").read_text()
        command = ["systemd-run", "--unit=webhook", "--collect", "python3", "-c", program, "9099", self._FILE]
        # A run before this one may have left its own.
        FLEET.on(WATCHER, f"systemctl stop webhook 2>/dev/null; rm --force {self._FILE}; {shlex.join(command)}")

    def alerts(self, name: str) -> list[dict[str, Any]]:
        """What was told of one alert, in its order."""
        lines = FLEET.on(WATCHER, f"cat {self._FILE} 2>/dev/null || true").splitlines()
        return [alert for alert in map(json.loads, lines) if alert["labels"]["alertname"] == name]


def copy_to(device: str, source: Path, target: str) -> None:
    """Copy a file to a device."""
    docker("cp", str(source), f"{FLEET.container(device)}:{target}")
