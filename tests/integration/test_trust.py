# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the controller does with a signed repository: every way to a device goes through the same verification."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from controller import DIGITS, Ansible
from device import Device
from signed import Signed, served

from ansible_collections.edgeml.fleet.plugins.module_utils._device.withdrawn import known_withdrawals

LIMITS = {"latency_ratio_max": 1000}


@pytest.fixture
def device(fleet: dict[str, Device]) -> Device:
    return fleet["edge-s1"]


@pytest.fixture
def ansible(tmp_path: Path, device: Device) -> Ansible:
    return Ansible(tmp_path, [device])


class Trusting:
    """The digits releases, signed, and the variables of a controller that trusts who signed."""

    def __init__(self, directory: Path) -> None:
        path = directory / "repository"
        shutil.copytree(DIGITS, path)
        self.signed = Signed(path, versions=())
        self.root = directory / "root.json"
        self.root.write_bytes(self.signed.root)
        self.variables: dict[str, Any] = {
            "model_repository": str(path),
            "model_repository_root": str(self.root),
            "model_repository_unsigned": False,
            "model_repository_state": str(directory / "state"),
        }

    def withdraw(self, version: str) -> None:
        """Sign that nobody may run a version any more."""
        (self.signed.path / "digits" / version / "withdrawn.json").write_text('{"reason": "labels were permuted"}')
        self.signed.release()


@pytest.fixture
def trusting(tmp_path: Path) -> Trusting:
    return Trusting(tmp_path)


@pytest.fixture(params=["path", "http"])
def location(request: pytest.FixtureRequest, trusting: Trusting) -> Iterator[str]:
    """Where the controller reads the repository."""
    if request.param == "path":
        yield str(trusting.signed.path)
    else:
        with served(trusting.signed.path) as url:
            yield url


def rollout(ansible: Ansible, trusting: Trusting, version: str, *options: str, **changes: Any) -> Any:
    return ansible.run(
        "edgeml.fleet.rollout",
        *options,
        **{
            "model_name": "digits",
            "model_version": version,
            "rollout_waves": ["100%"],
            "rollout_soak_seconds": 0,
            "rollout_min_ready_seconds": 0.2,
            "rollout_limits": LIMITS,
            "rollout_ledger": str(ansible.directory / "ledger"),
            **trusting.variables,
            **changes,
        },
    )


def withdrawn_on(device: Device) -> Any:
    """What the device refuses by itself from now on."""
    return dict(known_withdrawals(device.store, "digits").releases)


def test_a_signed_release_goes_out_and_is_reconciled(
    ansible: Ansible, device: Device, trusting: Trusting, location: str
) -> None:
    trusting.withdraw("1.2.0")
    run = rollout(ansible, trusting, "1.0.0", model_repository=location)
    assert run.code == 0, run
    assert device.live == "1.0.0"
    assert withdrawn_on(device) == {"1.2.0": "labels were permuted"}
    device.reset()
    run = ansible.run(
        "edgeml.fleet.reconcile",
        rollout_ledger=str(ansible.directory / "ledger"),
        **{**trusting.variables, "model_repository": location},
    )
    assert run.code == 0, run
    assert device.live == "1.0.0"
    assert withdrawn_on(device) == {"1.2.0": "labels were permuted"}


@pytest.mark.parametrize("missing", [{"model_repository_root": ""}, {"model_repository_unsigned": True}])
def test_what_is_trusted_has_to_be_said(ansible: Ansible, trusting: Trusting, missing: dict[str, Any]) -> None:
    run = rollout(ansible, trusting, "1.0.0", "--check", **missing)
    assert run.code != 0
    (message,) = {result["msg"] for result in run.results("Plan the rollout").values()}
    assert "model_repository_root" in message
    assert "model_repository_unsigned" in message


def test_a_repository_that_was_brought_back_is_refused_before_any_device(
    ansible: Ansible, device: Device, trusting: Trusting, tmp_path: Path
) -> None:
    before = trusting.signed.copy(tmp_path / "before")
    trusting.withdraw("1.0.0")
    assert rollout(ansible, trusting, "1.1.0", "--check").code == 0
    # Whoever brings the withdrawn release back has to bring the old metadata back.
    trusting.signed.bring_back(before)
    run = rollout(ansible, trusting, "1.0.0")
    assert run.code != 0
    (message,) = {result["msg"] for result in run.results("Plan the rollout").values()}
    assert "(rollback)" in message
    assert device.live is None


def test_every_way_to_a_device_verifies(ansible: Ansible, device: Device, trusting: Trusting) -> None:
    """A task of one's own, the role model_sync, release_info: none takes what was signed by nobody."""
    trusting.withdraw("1.2.0")
    manifest = trusting.signed.path / "digits/1.1.0/manifest.json"
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "description": "changed"}))
    swap = {"model": "digits", "repository": str(trusting.signed.path), "trial_seconds": 0, "min_ready_seconds": 0.2}
    info = {"model": "digits", "repository": str(trusting.signed.path)}
    sync = {"model_sync_repository": str(trusting.signed.path), **trusting.variables}
    good, altered, withdrawn, read, read_altered, read_withdrawn = ansible.tasks(
        *(
            {"edgeml.fleet.model_swap": {**swap, "version": version}, "vars": trusting.variables}
            for version in ("1.0.0", "1.1.0", "1.2.0")
        ),
        *(
            {"edgeml.fleet.release_info": {**info, "version": version}, "vars": trusting.variables}
            for version in ("1.0.0", "1.1.0", "1.2.0")
        ),
    )
    assert (good["changed"], good["live"]) == (True, "1.0.0")
    assert read["verified_bytes"] > 0
    assert read["repository"] == str(trusting.signed.path)
    for refused in (altered, read_altered):
        assert refused["failed"]
        assert "arbitrary file" in refused["msg"]
    for refused in (withdrawn, read_withdrawn):
        assert refused["failed"]
        assert "digits 1.2.0 is withdrawn: labels were permuted" in refused["msg"]
    assert withdrawn["live"] == "1.0.0"
    assert withdrawn_on(device) == {"1.2.0": "labels were permuted"}
    assert device.live == "1.0.0"
    role = {
        "ansible.builtin.include_role": {"name": "edgeml.fleet.model_sync"},
        "vars": {**sync, "model_sync_releases": [{"model": "digits", "version": "1.2.0"}]},
    }
    (ansible.directory / "role.yml").write_text(
        json.dumps([{"hosts": device.name, "gather_facts": False, "tasks": [{"name": "sync", **role}]}])
    )
    run = ansible.run("role.yml")
    assert run.code != 0
    (result,) = run.results("Hold the releases in the device's store").values()
    assert "is withdrawn" in result["results"][0]["msg"]


def test_a_development_key_is_named(ansible: Ansible, tmp_path: Path) -> None:
    from ansible_collections.edgeml.fleet.plugins.plugin_utils._publish.cli import main

    path = tmp_path / "models"
    shutil.copytree(DIGITS, path)
    assert main(["keys", "init", "--dev", "--repository", str(path), "--keys", str(tmp_path / "keys")]) == 0
    info = {"model": "digits", "version": "1.0.0", "repository": str(path)}
    trust = {
        "model_repository_root": str(tmp_path / "keys/root.json"),
        "model_repository_unsigned": False,
        "model_repository_state": str(tmp_path / "state"),
    }
    (result,) = ansible.tasks({"edgeml.fleet.release_info": info, "vars": trust})
    assert result["digest"]
    assert any("DEVELOPMENT KEY" in warning for warning in result["warnings"])
