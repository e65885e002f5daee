# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""All that an operator does with a fleet, in one go: what `tools/matrix` asks of each Ansible and each Python.

With Ansible's default configuration, and with each value as people give it on the command line: as text.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from controller import DIGITS, Ansible, Run
from device import Device
from releases import read_release

pytestmark = pytest.mark.end_to_end
Fleet = dict[str, Device]
OLD, NEW, BAD = "1.0.0", "1.1.0", "1.2.0"


class Operator:
    """Types commands: every variable is a text, as ``-e name=value`` has it."""

    def __init__(self, ansible: Ansible) -> None:
        self._ansible = ansible
        self._always = {"rollout_ledger": str(ansible.directory / "ledger")}

    def run(self, playbook: str, *options: str, code: int = 0, **variables: str) -> Run:
        texts = {**self._always, **variables}
        typed = [item for name, value in texts.items() for item in ("-e", f"{name}={value}")]
        run = self._ansible.run(f"edgeml.fleet.{playbook}", *typed, *options)
        assert run.code == code, run
        return run

    def rollout(self, version: str, code: int = 0, **variables: str) -> Run:
        always = {"rollout_waves": "25%,100%", "rollout_soak_seconds": "0", "rollout_min_ready_seconds": "0.2"}
        names = {"model_name": "digits", "model_version": version}
        # Times are no measure on a machine that runs other tests.
        limits = json.dumps({"rollout_limits": {"latency_ratio_max": "1000"}})
        return self.run("rollout", "-e", limits, code=code, **names, **always, **variables)


@pytest.fixture
def operator(tmp_path: Path, fleet: Fleet) -> Operator:
    release = read_release(DIGITS, "digits", OLD)
    for device in fleet.values():
        device.serve(release)
    return Operator(Ansible(tmp_path, list(fleet.values())))


def live(fleet: Fleet) -> dict[str, Any]:
    return {name: device.live for name, device in fleet.items()}


def test_the_life_of_a_fleet(operator: Operator, fleet: Fleet) -> None:
    operator.rollout(NEW, rollout_plan_only="true")
    assert live(fleet) == dict.fromkeys(fleet, OLD)

    operator.rollout(NEW)
    assert live(fleet) == dict.fromkeys(fleet, NEW)
    again = operator.rollout(NEW)
    assert {host for host, counts in again.stats.items() if counts["changed"]} == set()

    # Its accuracy falls: the gate stops it on the canaries, and every device is back on the release before.
    failed = operator.rollout(BAD, code=2)
    assert failed.custom_stats["rollout_verdict"] == "fail"
    assert live(fleet) == dict.fromkeys(fleet, NEW)
    assert {device.events()[-1][0] for device in fleet.values()} == {"activate", "revert"}

    operator.run("status", status_probe="true")

    returned = fleet["edge-s1"]
    returned.reset()
    operator.run("reconcile")
    assert live(fleet) == dict.fromkeys(fleet, NEW)

    operator.run("rollback", rollback_rollout=f"digits-{NEW}-1")
    assert live(fleet) == {**dict.fromkeys(fleet, OLD), returned.name: None}
