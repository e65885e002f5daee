# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The role model_sync: what it lists is held, however much that is, and a second run has nothing to do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from controller import Ansible, Run
from device import Device
from networks import Digits
from object_server import ObjectServer
from releases import activate, publish, put

from ansible_collections.edgeml.fleet.plugins.module_utils._device.cli import main

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


def test_a_release_is_ordered_ahead_fetched_by_the_device_and_then_held(
    tmp_path: Path, fleet: dict[str, Device]
) -> None:
    device, repository, made = fleet["edge-s1"], tmp_path / "repository", Digits().release(0)
    publish(made, repository)
    device.reset()
    ansible = Ansible(tmp_path, [device])

    def sync(ahead: bool, source: str, *options: str) -> dict[str, Any]:
        variables = {
            "model_sync_repository": str(repository),
            "model_sync_releases": [{"model": "digits", "version": made.document["version"]}],
            "model_sync_ahead": ahead,
            "model_sync_fetch": {"sources": [source]},
        }
        play = {
            "hosts": "edge",
            "gather_facts": False,
            "roles": [{"role": "edgeml.fleet.model_sync", "vars": variables}],
        }
        (ansible.directory / "sync.yml").write_text(json.dumps([play]))
        run = ansible.run("sync.yml", *options)
        assert run.code == 0, run
        (item,) = run.results("Hold the releases in the device's store")[device.name]["results"]
        assert isinstance(item, dict)
        return item

    with ObjectServer(made.blobs) as server:
        assert [sync(True, server.url, *options)["changed"] for options in (["--check"], [], [])] == [True, True, False]
        assert server.asked == []
        assert main(["fetch", "--store", device.store.root]) == 0
        count = len(server.asked)
        assert count == len(made.blobs)
        held = sync(False, server.url)
        assert (held["changed"], len(server.asked)) == (True, count), "what is there is not fetched again"
        assert not sync(True, server.url)["changed"], "it is held"
    device.store.version("digits", made.document["version"]).verify()


def test_what_no_source_has_is_sent(tmp_path: Path, fleet: dict[str, Device]) -> None:
    device, repository, made = fleet["edge-s1"], tmp_path / "repository", Digits().release(0)
    publish(made, repository)
    swap: dict[str, Any] = {
        "edgeml.fleet.model_swap": {
            "model": "digits",
            "version": made.document["version"],
            "state": "present",
            "repository": str(repository),
        }
    }
    device.reset()
    with ObjectServer({}) as server:
        swap["edgeml.fleet.model_swap"]["fetch"] = {"sources": [server.url]}
        (result,) = Ansible(tmp_path, [device]).tasks(swap)
    assert result["changed"]
    assert result["fetched"]["failure"]["kind"] == "refused"
    assert "fetch" not in result["invocation"]["module_args"]
    device.store.version("digits", made.document["version"]).verify()
