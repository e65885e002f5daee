# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the role pull_agent leaves on a device: a key of its own with a certificate, packages, and confined units."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

Host = Any  # pytest-testinfra has no types


def test_the_key_is_the_devices_own(host: Host) -> None:
    key = host.file("/etc/edgeml/pull/device.key")
    assert (key.user, key.mode) == ("root", 0o600)
    found = json.loads(host.check_output("edgeml enroll --only-request --json"))
    assert found["device"] == "edge-s1"
    assert found["certificate"] == host.file("/etc/edgeml/pull/device.pem").content_string
    assert not found["is_due"]


def test_the_configuration_names_the_device(host: Host) -> None:
    config = json.loads(host.file("/etc/edgeml/pull.json").content_string)
    assert (config["device"], config["device_class"], config["fleet"]) == ("edge-s1", "small", "shop")
    assert config["poll_seconds"] == 900


def test_the_packages_are_one_directory(host: Host) -> None:
    link = host.file("/opt/edgeml/pull-packages")
    assert link.is_symlink
    names = host.check_output("ls /opt/edgeml").split()
    assert [name for name in names if name.startswith("pull-cp")] == [link.linked_to.rsplit("/", 1)[-1]]


@pytest.mark.parametrize("name", ["edgeml-pull", "edgeml-enroll"])
def test_the_timers_start_with_the_device(host: Host, name: str) -> None:
    timer = host.service(f"{name}.timer")
    assert timer.is_running
    assert timer.is_enabled
    shown = host.check_output(f"systemctl show {name}.timer --property=FixedRandomDelay,Persistent")
    assert sorted(shown.splitlines()) == ["FixedRandomDelay=yes", "Persistent=yes"]


def test_the_certificate_is_looked_after_by_its_unit(host: Host) -> None:
    host.check_output("systemctl start edgeml-enroll.service")
    shown = host.check_output("systemctl show edgeml-enroll.service --property=Result,ProtectSystem,NoNewPrivileges")
    assert sorted(shown.splitlines()) == ["NoNewPrivileges=yes", "ProtectSystem=strict", "Result=success"]


# Publishes a trigger as the controller does, and prints what a device says of itself, as soon as it does.
TRIGGER = """
import sys
sys.path.insert(0, "/opt/edgeml/pull-packages")
import queue
from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion
messages = queue.Queue()
client = paho.Client(CallbackAPIVersion.VERSION2)
client.tls_set("/etc/edgeml/pull/ca.pem", sys.argv[1], sys.argv[1])
client.on_message = lambda _client, _data, message: messages.put(message)
client.connect("localhost", 8883)
client.subscribe("edgeml/shop/devices/+/presence", 1)
client.publish("edgeml/shop/look", b"", 1)
client.loop_start()
print(messages.get(timeout=60).payload.decode())
client.disconnect()
client.loop_stop()
"""


def test_the_broker_has_the_device_look(host: Host) -> None:
    service = host.service("edgeml-mqtt")
    assert service.is_running
    assert service.is_enabled
    before = host.check_output("systemctl show edgeml-pull.service --property=InvocationID")
    assert json.loads(host.check_output("python3 -c %s /root/controller.pem", TRIGGER))["online"] is True
    # It waits its own part of 30 s, and looks at most once a minute.
    command = "systemctl show edgeml-pull.service --property=InvocationID"
    deadline = time.monotonic() + 180
    while host.check_output(command) == before:
        assert time.monotonic() < deadline
        time.sleep(2)


def test_the_broker_asks_for_a_certificate(host: Host) -> None:
    assert host.file("/etc/mosquitto/edgeml/key.pem").mode == 0o640
    assert "require_certificate true" in host.file("/etc/mosquitto/conf.d/edgeml.conf").content_string
