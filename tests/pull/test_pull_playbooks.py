# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The playbooks for a fleet that nobody connects to: rollout, status, reconcile and rollback."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from controller import Ansible, Run
from links import PYTHON_PATH
from pulled import FLEET, MODEL, PulledFleet, PullingDevice, web_fleet
from rollouts import UNMEASURED

from ansible_collections.edgeml.fleet.plugins.plugin_utils._trust import keys

NAMES = ("edge-1", "edge-2", "edge-3", "edge-4")
PULL = "import sys; from edgeml_device._pull.command import main; sys.exit(main(['--config', sys.argv[1]]))"


class Polls:
    """Devices that look again and again, as their timers have them."""

    def __init__(self, devices: Sequence[PullingDevice]) -> None:
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look, args=(devices,))

    def __enter__(self) -> Polls:
        self._thread.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._ended.set()
        self._thread.join()

    def _look(self, devices: Sequence[PullingDevice]) -> None:
        while not self._ended.wait(0.2):
            for device in devices:
                path = device.directory / "pull.json"
                path.write_text(json.dumps(device.document))
                subprocess.run(
                    [sys.executable, "-c", PULL, str(path)],
                    env={"PATH": os.environ["PATH"], "PYTHONPATH": str(PYTHON_PATH)},
                    capture_output=True,
                    check=False,
                )


class Hall:
    """A fleet of devices that pull, and its controller."""

    def __init__(self, directory: Path, fleet: PulledFleet) -> None:
        self.fleet = fleet
        self.devices = [fleet.device(name) for name in NAMES]
        self.ansible = Ansible(directory, [])
        own = self.ansible.directory
        variables = {
            "rollout_transport": "pull",
            "device_class": "small",
            "ansible_host": "127.0.0.1",
            "ansible_port": 1,
            "model_repository": str(fleet.signed.path),
            "model_repository_root": str(fleet.directory / "root.json"),
            "rollout_pull": {
                "fleet": FLEET,
                "fleet_key": keys.write(fleet.key, str(own / "keys"), None),
                "online_key": keys.write(fleet.signed.holders.online, str(own / "keys"), None),
                "mailbox": str(fleet.mailbox),
                "ca_file": str(fleet.ca),
                "report_seconds": 240,
            },
            "rollout_ledger": str(own / "ledger"),
            "rollout_waves": ["25%", "100%"],
            "rollout_soak_seconds": 0,
            "rollout_min_ready_seconds": 0,
            "rollout_trial_seconds": 0,
            "rollout_limits": UNMEASURED,
        }
        inventory = {"all": {"children": {"edge": {"vars": variables, "hosts": {name: {} for name in NAMES}}}}}
        (own / "hosts.json").write_text(json.dumps(inventory))

    def rollout(self, version: str, *options: str, **variables: Any) -> Run:
        """Roll a release out."""
        names = {"model_name": MODEL, "model_version": version}
        return self.ansible.run("edgeml.fleet.rollout", *options, **names, **variables)

    def elsewhere(self, with_ledger: bool = False) -> Ansible:
        """Another controller with the same inventory, and a ledger of its own; or a copy of this one's."""
        own = self.ansible.directory
        (own / "elsewhere").mkdir()
        other = Ansible(own / "elsewhere", [])
        inventory = json.loads((own / "hosts.json").read_text())
        inventory["all"]["children"]["edge"]["vars"]["rollout_ledger"] = str(other.directory / "ledger")
        (other.directory / "hosts.json").write_text(json.dumps(inventory))
        if with_ledger:
            shutil.copytree(own / "ledger", other.directory / "ledger", ignore=shutil.ignore_patterns("lock*"))
        return other

    def ledger(self, version: str) -> dict[str, Any]:
        """What the ledger has of a rollout; no wave before it has begun."""
        path = self.ansible.directory / "ledger" / f"{MODEL}-{version}-1.json"
        if not path.exists():
            return {"waves": [], "devices": []}
        found: dict[str, Any] = json.loads(path.read_text())
        return found

    @property
    def active(self) -> list[str | None]:
        """The version of each device."""
        return [device.active for device in self.devices]

    @property
    def published(self) -> int:
        """The version of the desired state."""
        return self.fleet.publisher.published().version


@pytest.fixture
def hall(tmp_path: Path) -> Iterator[Hall]:
    with web_fleet(tmp_path / "fleet") as fleet:
        yield Hall(tmp_path, fleet)


def test_the_life_of_a_fleet_that_pulls(hall: Hall) -> None:
    with Polls(hall.devices):
        first = hall.rollout("1.0.0")
        assert first.code == 0, first
        assert hall.active == ["1.0.0"] * 4
        before = hall.published

        check = hall.rollout("2.0.0", "--check", "--diff")
        assert check.code == 0, check
        assert check.custom_stats["rollout_outcomes"] == {"planned": 4}
        assert hall.published == before
        shown = check.results("Begin the wave")
        assert all('"version": "2.0.0"' in result["diff"]["after"] for result in shown.values())
        assert shown

        second = hall.rollout("2.0.0")
        assert second.code == 0, second
        assert hall.active == ["2.0.0"] * 4
        before = hall.published

        status = hall.ansible.run("edgeml.fleet.status")
        assert status.code == 0, status
        read = status.results("Read the models")
        assert [result["models"][0]["active"] for result in read.values()] == ["2.0.0"] * 4
        reconcile = hall.ansible.run("edgeml.fleet.reconcile")
        assert reconcile.code == 0, reconcile
        assert hall.published == before

        names = {"model_name": MODEL, "model_version": "2.0.0"}
        part = hall.ansible.run("edgeml.fleet.rollback", "--limit", "edge-1", **names)
        assert part.code != 0
        assert "devices that pull follow one desired state" in repr(part)
        back = hall.ansible.run("edgeml.fleet.rollback", **names)
        assert back.code == 0, back
        assert back.custom_stats["rollback_outcomes"] == {"reverted": 4}
        assert hall.active == ["1.0.0"] * 4


def test_a_device_that_is_away_is_counted_and_follows_when_it_is_back(hall: Hall) -> None:
    away = hall.devices[-1]
    with Polls(hall.devices[:-1]):
        run = hall.rollout("1.0.0", rollout_pull={**_pull(hall), "report_seconds": 20})
    outcomes = {row["device"]: row["outcome"] for row in hall.ledger("1.0.0")["devices"]}
    assert outcomes[away.name] in ("away", "not started")
    assert run.code in (0, 2), run
    with Polls(hall.devices):
        again = hall.rollout("1.0.0")
    assert again.code == 0, again
    assert hall.active == ["1.0.0"] * 4


def test_a_controller_that_dies_between_two_waves_is_resumed_elsewhere(hall: Hall) -> None:
    with Polls(hall.devices):
        process = hall.ansible.start("edgeml.fleet.rollout", model_name=MODEL, model_version="1.0.0")
        while not any(wave.get("verdict") for wave in hall.ledger("1.0.0")["waves"]):
            assert process.poll() is None, process.communicate()
            time.sleep(0.05)
        os.killpg(process.pid, 9)
        process.communicate()
        elsewhere = hall.elsewhere(with_ledger=True)
        resumed = elsewhere.run("edgeml.fleet.rollout", model_name=MODEL, model_version="1.0.0")
        assert resumed.code == 0, resumed
    assert hall.active == ["1.0.0"] * 4
    rollout = json.loads((elsewhere.directory / "ledger" / f"{MODEL}-1.0.0-1.json").read_text())
    assert [wave["verdict"] for wave in rollout["waves"]] == ["pass", "pass"]
    for name in NAMES:
        results = [report.result for report in hall.fleet.reports(name) if report.result is not None]
        assert sum(bool(result["changed"]) for result in results) == 1, name


def test_of_two_controllers_at_once_the_one_that_notices_stops_and_names_the_other(hall: Hall) -> None:
    # Nobody looks yet, so that the first one waits for its first wave.
    variables = {"rollout_pull": {**_pull(hall), "report_seconds": 20}}
    first = hall.ansible.start("edgeml.fleet.rollout", model_name=MODEL, model_version="1.0.0", **variables)
    while not hall.published:
        assert first.poll() is None, first.communicate()
        time.sleep(0.05)
    with Polls(hall.devices):
        second = hall.elsewhere().run("edgeml.fleet.rollout", model_name=MODEL, model_version="2.0.0")
        assert second.code == 0, second
        output = "".join(text for text in first.communicate() if text)
    assert first.returncode != 0
    assert "two controllers work on the fleet" in " ".join(output.split()), output
    assert hall.active == ["2.0.0"] * 4


def _pull(hall: Hall) -> dict[str, Any]:
    inventory = json.loads((hall.ansible.directory / "hosts.json").read_text())
    found: dict[str, Any] = inventory["all"]["children"]["edge"]["vars"]["rollout_pull"]
    return found
