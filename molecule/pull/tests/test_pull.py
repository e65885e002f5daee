# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the role pull_agent leaves on a device: a key of its own with a certificate, packages, and confined units."""

from __future__ import annotations

import json
import os
import queue
import re
from typing import Any

import pytest
from containers import GUARD_SECONDS, Containers, wait_for
from links import REPOSITORY
from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion

Host = Any  # pytest-testinfra has no types

NAMES = os.environ.get("FLEET", "quickstart")
FLEET = Containers(["edge-s1", "edge-s2", "edge-l1", "edge-l2"], NAMES)
DIRECTORY = REPOSITORY / ".ansible" / NAMES / "pull"


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
    assert config["poll_seconds"] == 5


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


def trigger() -> dict[str, Any]:
    """Have the fleet look, as the controller does, and return what edge-s1 has said of itself."""
    messages: queue.Queue[bytes] = queue.Queue()
    client = paho.Client(CallbackAPIVersion.VERSION2)
    own = str(DIRECTORY / "authority/reader-controller.pem")
    client.tls_set(str(DIRECTORY / "servers-certificate.pem"), own, own)
    client.on_message = lambda _client, _data, message: messages.put(bytes(message.payload))
    client.connect(FLEET.on("edge-l2", "hostname -I").strip(), 8883)
    client.loop_start()
    try:
        client.subscribe("edgeml/shop/devices/edge-s1/presence", 1)
        client.publish("edgeml/shop/look", b"", 1).wait_for_publish(GUARD_SECONDS)
        found: dict[str, Any] = json.loads(messages.get(timeout=GUARD_SECONDS))
        return found
    finally:
        client.disconnect()
        client.loop_stop()


def test_the_broker_has_the_device_look(host: Host) -> None:
    service = host.service("edgeml-mqtt")
    assert service.is_running
    assert service.is_enabled
    # Nothing else has it look.
    host.check_output("systemctl stop edgeml-pull.timer")
    try:
        command = "systemctl show edgeml-pull.service --property=InvocationID,ActiveState"
        wait_for(lambda: "ActiveState=inactive" in host.check_output(command), "the last poll has ended")
        before = host.check_output(command)
        assert trigger()["online"] is True
        # It waits its own part of 30 s, and looks at most once a minute.
        wait_for(lambda: host.check_output(command) != before, "it looks")
    finally:
        host.check_output("systemctl start edgeml-pull.timer")


def test_the_broker_asks_for_a_certificate() -> None:
    assert FLEET.on("edge-l2", "stat --format=%a /etc/mosquitto/edgeml/key.pem").strip() == "640"
    assert "require_certificate true" in FLEET.on("edge-l2", "cat /etc/mosquitto/conf.d/edgeml.conf")


@pytest.mark.parametrize(
    ("device", "unit"),
    [
        ("edge-s1", "edgeml-pull.service"),
        ("edge-s1", "edgeml-mqtt.service"),
        ("edge-l2", "edgeml-fetch.service"),
        ("edge-s2", "edgeml-share.service"),
    ],
)
def test_the_units_are_confined(device: str, unit: str) -> None:
    names = ("NoNewPrivileges", "ProtectSystem", "Nice")
    shown = FLEET.on(device, f"systemctl show {unit} --property={','.join(names)}")
    found = dict(line.split("=") for line in shown.splitlines())
    assert (found["NoNewPrivileges"], found["ProtectSystem"]) == ("yes", "strict")
    assert int(found["Nice"]) > 0


def test_an_order_is_fetched_from_a_device_that_shares() -> None:
    FLEET.on("edge-l2", "systemctl start edgeml-fetch.service")
    assert re.search(r"digits 1\.1\.0 +(\d+) of \1 bytes \(100%\)", FLEET.on("edge-l2", "edgeml status"))
    assert "Result=success" in FLEET.on("edge-l2", "systemctl show edgeml-fetch.service --property=Result")
    assert FLEET.on("edge-s2", "systemctl show edgeml-share.service --property=User,SubState").split() == [
        "User=edgeml",
        "SubState=running",
    ]
