# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a person sees of real rollouts, on local devices: the progress, the exit code, the report."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from controller import DIGITS, Ansible, Run
from device import Device
from releases import read_release

from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.report import view

Fleet = dict[str, Device]


@pytest.fixture
def ansible(tmp_path: Path, fleet: Fleet) -> Ansible:
    """A controller with the callback plugin, for devices that serve digits 1.0.0."""
    for device in fleet.values():
        device.serve(read_release(DIGITS, "digits", "1.0.0"))
    controller = Ansible(tmp_path, list(fleet.values()))
    controller.configure("callbacks_enabled = edgeml.fleet.rollout")
    return controller


def rollout(ansible: Ansible, version: str, **limits: Any) -> Run:
    settings = {
        "model_name": "digits",
        "model_version": version,
        "rollout_waves": ["25%", "100%"],
        "rollout_soak_seconds": 0,
        "rollout_min_ready_seconds": 0.2,
        # A machine that is busy answers one probe set several times as slowly as the other.
        "rollout_limits": {"latency_ratio_max": 1000, **limits},
        "rollout_ledger": str(ansible.directory / "ledger"),
    }
    return ansible.run("edgeml.fleet.rollout", **settings)


def told(run: Run) -> list[str]:
    """What the plugin told, without times of day and with numbers of checks left out."""
    lines = [line for line in run.stderr.splitlines() if re.match(r"digits-|rollback: |reconcile: |    ", line)]
    return [re.sub(r", [0-9]+ checks|until [0-9:]+ UTC", "", line).rstrip(", ") for line in lines]


def test_a_good_rollout_is_told_from_its_beginning_to_its_end(ansible: Ansible) -> None:
    run = rollout(ansible, "1.1.0")
    assert run.code == 0, run
    # A slow machine also gets a line between.
    lines = [line for line in told(run) if "report: " not in line and "swap, 1 of 2" not in line]
    assert lines == [
        "digits-1.1.0-1: digits 1.1.0 to 4 devices in 2 waves",
        "digits-1.1.0-1: wave 1 of 2 (25%): swap, 2 of 2 devices: 2 done, 0 failed, 0 away",
        "digits-1.1.0-1: wave 1 of 2 (25%): soaks 0 s",
        "digits-1.1.0-1: wave 1 of 2 (25%): PASS",
        "digits-1.1.0-1: wave 2 of 2 (100%): swap, 2 of 2 devices: 2 done, 0 failed, 0 away",
        "digits-1.1.0-1: wave 2 of 2 (100%): soaks 0 s",
        "digits-1.1.0-1: wave 2 of 2 (100%): PASS",
        "digits-1.1.0-1: PASSED: every wave passed. 4 updated",
    ]
    back = ansible.run("edgeml.fleet.rollback", rollback_rollout="digits-1.1.0-1", rollout_ledger=ledger_of(ansible))
    assert back.code == 0, back
    assert told(back) == ["rollback: 4 changed"]
    again = ansible.run("edgeml.fleet.reconcile", rollout_ledger=ledger_of(ansible))
    assert (again.code, told(again)) == (0, []), again


def ledger_of(ansible: Ansible) -> str:
    return str(ansible.directory / "ledger")


def test_a_bad_rollout_ends_with_2_and_its_report_says_why(ansible: Ansible) -> None:
    run = rollout(ansible, "1.2.0")
    assert run.code == 2, run
    lines = told(run)
    assert "digits-1.2.0-1: wave 1 of 2 (25%): FAIL" in lines
    assert [line for line in lines if line.startswith("    fail: accuracy drop")]
    assert "digits-1.2.0-1: goes back to the version before" in lines
    assert re.search(r"digits-1.2.0-1: FAILED: .*accuracy drop.*\. 2 \w+( \w+)?, 2 \w+", "\n".join(lines))
    page = view.render(json.loads((ansible.directory / "ledger" / "digits-1.2.0-1.json").read_text()))
    assert "Failed: digits 1.2.0, rollout digits-1.2.0-1" in page
    assert 'data-check="accuracy drop"' in page
    assert 'data-outcome="reverted" data-count="2"' in page.replace("\n", "")


def test_an_inconclusive_rollout_ends_with_3(ansible: Ansible) -> None:
    run = rollout(ansible, "1.1.0", reporting_share_min=1.0, accuracy_min=0.5, strict=True)
    assert run.code == 3, run
    assert [line for line in told(run) if line.startswith("digits-1.1.0-1: PAUSED: ")]
