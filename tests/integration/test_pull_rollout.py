# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The playbook rollout for devices that pull, beside others that it connects to: one rollout, one verdict."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from authorities import Authority
from controller import DIGITS, Ansible
from device import Device
from links import PYTHON_PATH
from mosquitto import Broker, Peer
from pulled import FLEET, PulledFleet
from releases import read_release
from rollouts import judged

from ansible_collections.edgeml.fleet.plugins.module_utils._mqtt.messages import look_topic, read_message, rollout_topic
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.waves import plan, read_hosts
from ansible_collections.edgeml.fleet.plugins.plugin_utils._trust import keys

CLASSES = {"edge-s1": "small", "edge-s2": "small", "edge-l1": "large", "edge-l2": "large"}
WAVES = ["25%", "100%"]
FIRST, SECOND = (wave.hosts for wave in plan(read_hosts(CLASSES), WAVES, "digits").waves)
PULL = "import sys; from edgeml_device._pull.command import main; sys.exit(main(['--config', sys.argv[1]]))"


class Polls:
    """Devices that look again and again, as their timers have them."""

    def __init__(self, devices: list[Device]) -> None:
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=self._look, args=(device,)) for device in devices]

    def __enter__(self) -> Polls:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()

    def _look(self, device: Device) -> None:
        while not self._ended.wait(0.3):
            with (device.directory / "pull.log").open("ab") as log:
                subprocess.run(
                    [*device.enter(), sys.executable, "-c", PULL, str(device.directory / "lib/pull.json")],
                    env={"PATH": os.environ["PATH"], "PYTHONPATH": str(PYTHON_PATH)},
                    stdout=subprocess.DEVNULL,
                    stderr=log,
                    check=False,
                )


class Site:
    """A fleet with a controller, of which some devices pull."""

    def __init__(self, directory: Path, fleet: dict[str, Device], pulled: list[str]) -> None:
        self.pulled = PulledFleet(directory / "pulled", versions=(), web=True)
        shutil.copytree(DIGITS, self.pulled.signed.path, dirs_exist_ok=True)
        self.pulled.sign()
        self.fleet = fleet
        self.devices = [fleet[name] for name in pulled]
        release = read_release(DIGITS, "digits", "1.0.0")
        for device in fleet.values():
            device.serve(release)
        for device in self.devices:
            self._enrol(device, self.pulled.authority)
        self.ansible = Ansible(directory, list(fleet.values()))
        self._inventory(pulled)

    def _enrol(self, device: Device, authority: Authority) -> None:
        state = device.directory / "lib" / "pull"
        shutil.rmtree(state, ignore_errors=True)
        own = authority.issue(device.name, device.directory / "lib" / "device.pem")
        document = {
            "device": device.name,
            "device_class": device.device_class,
            "fleet": FLEET,
            "sources": [self.pulled.url],
            "root": str(self.pulled.directory / "root.json"),
            "certificate": str(own),
            "key": str(own),
            "ca_file": str(self.pulled.ca),
            "mailbox": self.pulled.mailbox_url,
        }
        (device.directory / "lib" / "pull.json").write_text(json.dumps(document))

    def _inventory(self, pulled: list[str]) -> None:
        directory = self.ansible.directory
        online = keys.write(self.pulled.signed.holders.online, str(directory / "keys"), None)
        own = keys.write(self.pulled.key, str(directory / "keys"), None)
        path = directory / "hosts.json"
        inventory = json.loads(path.read_text())
        inventory["all"]["vars"] = {
            "model_repository": str(self.pulled.signed.path),
            "model_repository_root": str(self.pulled.directory / "root.json"),
            "rollout_pull": {
                "fleet": FLEET,
                "fleet_key": own,
                "online_key": online,
                "mailbox": str(self.pulled.mailbox),
                "ca_file": str(self.pulled.ca),
                "report_seconds": 240,
            },
        }
        for name, host in inventory["all"]["children"]["edge"]["hosts"].items():
            if name in pulled:
                # Nothing answers there: nobody connects to it.
                host.clear()
                host.update(
                    ansible_host="127.0.0.1", ansible_port=1, device_class=CLASSES[name], rollout_transport="pull"
                )
        path.write_text(json.dumps(inventory))

    def use_broker(self, broker: Broker) -> None:
        """Have the controller tell the fleet to look."""
        path = self.ansible.directory / "hosts.json"
        inventory = json.loads(path.read_text())
        inventory["all"]["vars"]["rollout_pull"].update(
            mqtt_broker="127.0.0.1",
            mqtt_port=broker.port,
            mqtt_ca_file=str(broker.ca),
            certificate_file=str(broker.certificate("controller")),
        )
        path.write_text(json.dumps(inventory))

    def start(self, version: str) -> subprocess.Popen[str]:
        """Begin to roll a release out."""
        return self.ansible.start("edgeml.fleet.rollout", **judged(version, self.ansible.directory / "ledger", WAVES))

    def ledger(self, name: str) -> dict[str, Any]:
        """What the ledger has of a rollout."""
        found: dict[str, Any] = json.loads((self.ansible.directory / "ledger" / f"{name}.json").read_text())
        return found

    def outcomes(self, name: str) -> dict[str, str]:
        """What became of each device, by the ledger."""
        return {row["device"]: row["outcome"] for row in self.ledger(name)["devices"]}

    @property
    def live(self) -> dict[str, str | None]:
        """The version that each device serves."""
        return {name: device.live for name, device in self.fleet.items()}


@pytest.fixture
def mixed(tmp_path: Path, fleet: dict[str, Device]) -> Iterator[Site]:
    """Of each wave one device pulls, and the controller connects to the other."""
    site = Site(tmp_path, fleet, [FIRST[0], SECOND[0]])
    try:
        yield site
    finally:
        site.pulled.stop()


def test_a_mixed_fleet_is_one_rollout_with_one_verdict(mixed: Site, tmp_path: Path) -> None:
    (tmp_path / "broker").mkdir()
    broker = Broker(tmp_path / "broker", fleets=[FLEET], controllers=["controller", "dashboard"])
    mixed.use_broker(broker)
    broker.start()
    peer = Peer(broker, broker.certificate("edge-9"), topics=(look_topic(FLEET),))
    watcher = Peer(broker, broker.certificate("dashboard"), topics=(rollout_topic(FLEET, "digits"),))
    process = mixed.start("1.1.0")
    # What is called does not wait for what pulls.
    while mixed.fleet[FIRST[1]].live != "1.1.0":
        assert process.poll() is None, process.communicate()
        time.sleep(0.2)
    assert mixed.fleet[FIRST[0]].live == "1.0.0"
    with Polls(mixed.devices):
        good = mixed.ansible.finish(process)
        assert good.code == 0, good
        # One of the two may have reported before anybody waits.
        waits = r"wave 1 of 2 \(25%\): [01] of 2 that pull have reported what came of the swap; waits for at most"
        assert re.search(f"^digits-1.1.0-1: {waits}", good.stderr, re.MULTILINE), good.stderr
        assert mixed.live == dict.fromkeys(CLASSES, "1.1.0")
        assert mixed.outcomes("digits-1.1.0-1") == dict.fromkeys(CLASSES, "updated")
        assert [wave["verdict"] for wave in mixed.ledger("digits-1.1.0-1")["waves"]] == ["pass", "pass"]

        # The plan publishes nothing; of each wave, what is to be done, and what is to be read.
        assert peer.messages.qsize() >= 4
        peer.close()
        told = [read_message(watcher.messages.get()[1]) for _count in range(watcher.messages.qsize())]
        watcher.close()
        seen = [message for message in told if message is not None]
        assert [counter for counter, _content in seen] == sorted({counter for counter, _content in seen})
        assert [(seen[number][1]["state"], seen[number][1]["wave"]) for number in (0, -1)] == [
            ("running", 1),
            ("passed", 2),
        ]
        assert seen[-1][1]["outcomes"] == {"updated": 4}
        broker.stop()

        bad = mixed.ansible.finish(mixed.start("1.2.0"))
        assert bad.code == 2, bad
        assert mixed.live == dict.fromkeys(CLASSES, "1.1.0")
        expected = {**dict.fromkeys(FIRST, "reverted"), **dict.fromkeys(SECOND, "not started")}
        assert mixed.outcomes("digits-1.2.0-1") == expected
        assert mixed.ledger("digits-1.2.0-1")["why"].startswith("fail: accuracy drop in ")


def test_a_device_that_pulls_and_has_no_variant_stops_the_wave_with_its_reason(mixed: Site) -> None:
    pulls, called = mixed.fleet[FIRST[0]], mixed.fleet[FIRST[1]]
    packages = pulls.directory / "opt/edgeml/venv-test/lib/python3.11/site-packages"
    old = packages / "onnxruntime-1.0.0.dist-info"
    old.mkdir(parents=True)
    try:
        process = mixed.start("1.1.0")
        with Polls(mixed.devices):
            run = mixed.ansible.finish(process)
    finally:
        old.rmdir()
    assert run.code == 2, run
    assert mixed.live == dict.fromkeys(CLASSES, "1.0.0")
    rows = {row["device"]: row for row in mixed.ledger("digits-1.1.0-1")["devices"]}
    assert (rows[pulls.name]["outcome"], rows[called.name]["outcome"]) == ("refused", "reverted")
    assert "needs onnxruntime >= " in rows[pulls.name]["detail"]
    assert "the device has 1.0.0" in rows[pulls.name]["detail"]
    assert "1.1.0" not in pulls.store.versions("digits")
    assert mixed.ledger("digits-1.1.0-1")["why"].startswith("fail: failed devices: 1 of 2 devices")
