# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A real mosquitto with the configuration of the role mqtt_broker, from Debian's package without installing that."""

from __future__ import annotations

import os
import platform
import queue
import shutil
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

from authorities import Authority
from links import REPOSITORY
from nginx import defaults, rendered
from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion

from ansible_collections.edgeml.fleet.plugins.module_utils._mqtt.messages import read_message

_UNPACKED = REPOSITORY / ".cache" / "mosquitto"
_SECONDS = 60
GUARD_SECONDS = 120


def find_mosquitto() -> Path:
    """The broker; as make setup unpacks it, where it is not installed."""
    installed = shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")
    program = Path(installed) if installed else _UNPACKED / "usr/sbin/mosquitto"
    assert program.exists(), f"{program} is not there: make setup unpacks it"
    return program


class Broker:
    """A broker with its files in ``directory``. ``changes`` are variables of the role without its name."""

    def __init__(self, directory: Path, **changes: Any) -> None:
        self.directory = directory
        self.server, self.fleet = Authority("servers"), Authority("fleet")
        self.ca = self.server.write(directory / "ca.pem")
        both = self.server.issue("broker", directory / "certificate.pem")
        shutil.copyfile(both, directory / "key.pem")
        self.fleet.write(directory / "client-ca.pem")
        values = {**defaults("mqtt_broker"), "fleets": ["shop"], **changes}
        (directory / "client-crl.pem").write_text(values["tls_crl"])
        self.port = int(values["listen_port"])
        for template, name in (("edgeml.conf", "edgeml.conf"), ("acl", "acl")):
            text = rendered(
                "mqtt_broker", template, __mqtt_broker_values=values, __mqtt_broker_directory=str(directory)
            )
            # As root it would become another user, who cannot read what the test owns.
            (directory / name).write_text(text if name == "acl" else f"user root\n{text}")
        self._process: subprocess.Popen[bytes] | None = None

    def certificate(self, name: str, authority: Authority | None = None) -> Path:
        """The certificate with the key of a client."""
        return (authority or self.fleet).issue(name, self.directory / f"client-{name}.pem")

    def start(self) -> None:
        """Have it answer."""
        libraries = _UNPACKED / "usr" / "lib" / f"{platform.machine()}-linux-gnu"
        with (self.directory / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [str(find_mosquitto()), "-c", str(self.directory / "edgeml.conf"), "-v"],
                env={"PATH": os.environ["PATH"], "LD_LIBRARY_PATH": str(libraries)},
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + _SECONDS
        while not self._answers():
            assert self._process.poll() is None, self.log
            assert time.monotonic() < deadline, self.log
            time.sleep(0.02)

    def stop(self) -> None:
        """End it, if it runs."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    @property
    def log(self) -> str:
        """What it said."""
        return (self.directory / "log").read_text()

    def _answers(self) -> bool:
        with socket.socket() as client:
            return client.connect_ex(("127.0.0.1", self.port)) == 0


class Peer:
    """A client of the broker, which keeps what it gets."""

    def __init__(self, broker: Broker, certificate: Path, client_id: str = "", topics: tuple[str, ...] = ()) -> None:
        self.messages: queue.Queue[tuple[str, bytes, bool]] = queue.Queue()
        self.codes: queue.Queue[Any] = queue.Queue()
        self.client = paho.Client(CallbackAPIVersion.VERSION2, client_id=client_id)
        self.client.tls_set(str(broker.ca), str(certificate), str(certificate))
        granted: queue.Queue[Any] = queue.Queue()
        self.client.on_connect = lambda _client, _data, _flags, code, _properties: self.codes.put(code)
        self.client.on_subscribe = lambda _client, _data, _number, codes, _properties: granted.put(codes)
        self.client.on_message = lambda _client, _data, message: self.messages.put(
            (message.topic, bytes(message.payload), message.retain)
        )
        self.client.connect("127.0.0.1", broker.port)
        self.client.loop_start()
        assert not self.codes.get(timeout=GUARD_SECONDS).is_failure
        for topic in topics:
            self.client.subscribe(topic, 1)
            granted.get(timeout=GUARD_SECONDS)

    def publish(self, topic: str, content: bytes = b"", retain: bool = False) -> None:
        self.client.publish(topic, content, 1, retain).wait_for_publish(GUARD_SECONDS)

    def next(self, topic: str) -> dict[str, Any]:
        """The next message of a device below a topic, with its counter."""
        deadline = time.monotonic() + GUARD_SECONDS
        while time.monotonic() < deadline:
            name, payload, _retain = self.messages.get(timeout=GUARD_SECONDS)
            if name == topic:
                message = read_message(payload)
                assert message is not None
                return {"counter": message[0], **message[1]}
        raise AssertionError(f"nothing came for {topic}")

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()
