# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The role model_sync: what it lists is held, however much that is, and a second run has nothing to do."""

from __future__ import annotations

import json
from pathlib import Path

from controller import Ansible, Run
from device import Device
from networks import Digits
from releases import activate, publish, put

VERSIONS = ["1.0.0", "1.1.0", "1.2.0", "1.3.0"]


def test_all_that_is_listed_is_held_and_a_second_run_changes_nothing(tmp_path: Path, fleet: dict[str, Device]) -> None:
    device, repository = fleet["edge-s1"], tmp_path / "repository"
    made = Digits()
    for number in range(4):
        publish(made.release(number), repository)
    # It is old, and would make room first; those that are not listed are newer.
    for number in (0, 8, 9):
        put(device.store, made.release(number))
    activate(device.store, "digits", "1.9.0")
    ansible = Ansible(tmp_path, [device])
    role = {
        "role": "edgeml.fleet.model_sync",
        "vars": {
            "model_sync_repository": str(repository),
            "model_sync_releases": [{"model": "digits", "version": version} for version in VERSIONS],
            "model_sync_keep": 0,
        },
    }
    (ansible.directory / "sync.yml").write_text(json.dumps([{"hosts": "edge", "gather_facts": False, "roles": [role]}]))

    def sync(*options: str) -> Run:
        run = ansible.run("sync.yml", *options)
        assert run.code == 0, run
        return run

    def changed(run: Run) -> list[bool]:
        return [
            item["changed"] for item in run.results("Hold the releases in the device's store")[device.name]["results"]
        ]

    assert changed(sync("--check")) == [False, True, True, True]
    assert changed(sync()) == [False, True, True, True]
    assert sorted(device.store.versions("digits")) == [*VERSIONS, "1.9.0"]
    assert device.store.state("digits").active == "1.9.0"
    files = device.snapshot()
    assert changed(sync()) == [False] * 4
    assert device.snapshot() == files
