# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A release that one class of devices cannot run, beside one that can: what the plan, a check and a run say of it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnx
import pytest
from controller import DIGITS, Ansible
from device import Device
from publications import Case
from releases import read_release
from rollouts import at_once

REASON = "variant onnx-fp32: needs onnxruntime >= 1.24.1; the device has 1.15.1"
OLD, NEW = ["edge-l1", "edge-l2"], ["edge-s1", "edge-s2"]


@pytest.fixture
def devices(fleet: dict[str, Device]) -> Iterator[list[Device]]:
    """Devices of two classes, of which one has a runtime that is too old."""
    installed = [
        fleet[name].directory / "opt/edgeml/venv-test/lib/python3.11/site-packages/onnxruntime-1.15.1.dist-info"
        for name in OLD
    ]
    for path in installed:
        path.mkdir(parents=True)
    for device in fleet.values():
        device.serve(read_release(DIGITS, "digits", "1.0.0"))
    yield list(fleet.values())
    for path in installed:
        path.rmdir()


@pytest.fixture
def variables(tmp_path: Path) -> dict[str, Any]:
    """Those of a rollout of a release that takes a newer runtime."""
    repository = tmp_path / "repository"
    shutil.copytree(DIGITS, repository)
    case = Case(tmp_path)
    model = onnx.load_model_from_string(case.model)
    model.ir_version = 13
    case.model = model.SerializeToString()
    case.options.update(version="2.0.0", repository=str(repository))
    assert case.publish().changed
    return {
        **at_once(tmp_path / "ledger"),
        "model_repository": str(repository),
        "model_name": "digits",
        "model_version": "2.0.0",
        "rollout_waves": ["25%", "100%"],
    }


def versions(devices: list[Device]) -> dict[str, str | None]:
    """What each device serves."""
    return {device.name: device.server.serving_version("digits") for device in devices}


def test_devices_that_cannot_run_a_release_are_named_before_any_is_touched(
    tmp_path: Path, devices: list[Device], variables: dict[str, Any]
) -> None:
    ansible = Ansible(tmp_path, devices)
    planned = ansible.run("edgeml.fleet.rollout", rollout_plan_only=True, **variables)
    assert planned.code == 0, planned
    (sight,) = planned.results("Show what each wave will see").values()
    assert sorted(sight["unfit"]) == OLD
    told = f"2 of 4 devices would refuse digits 2.0.0, for which it has no variant: edge-l1, edge-l2 (large): {REASON}"
    assert sight["msg"][0].startswith(told)

    checked = ansible.run("edgeml.fleet.rollout", "--check", **variables)
    assert checked.code == 2, checked
    (failed,) = checked.results("Fail unless all is well").values()
    assert "a run would fail in wave 1 (25%), and nothing was changed: 1 of 2 devices would refuse" in failed["msg"]
    assert REASON in failed["msg"]
    (table,) = checked.results("Show what became of each device").values()
    assert table["stats"]["rollout_outcomes"] == {"refused": 2, "planned": 2}
    assert set(versions(devices).values()) == {"1.0.0"}


def test_a_class_that_cannot_run_a_release_stops_it_in_its_first_wave_or_is_left_out(
    tmp_path: Path, devices: list[Device], variables: dict[str, Any]
) -> None:
    ansible = Ansible(tmp_path, devices)
    run = ansible.run("edgeml.fleet.rollout", **variables)
    assert run.code == 2, run
    (failed,) = run.results("Fail unless all is well").values()
    assert "fail: failed devices: 1 of 2 devices so far refused, failed or fell silent (at most 0)" in failed["msg"]
    assert set(versions(devices).values()) == {"1.0.0"}
    # Nothing of the release came to a device that refuses it.
    for device in devices:
        if device.name in OLD:
            assert "2.0.0" not in device.store.versions("digits")

    inventory = ansible.directory / "hosts.json"
    document = json.loads(inventory.read_text())
    hosts = document["all"]["children"]["edge"]["hosts"]
    document["all"]["children"]["too_old"] = {"hosts": {name: {} for name in OLD}}
    inventory.write_text(json.dumps(document))
    assert sorted(hosts) == sorted([*OLD, *NEW])
    left_out = ansible.run("edgeml.fleet.rollout", rollout_hosts="edge:!too_old", rollout_attempt=2, **variables)
    assert left_out.code == 0, left_out
    assert versions(devices) == {**dict.fromkeys(OLD, "1.0.0"), **dict.fromkeys(NEW, "2.0.0")}
