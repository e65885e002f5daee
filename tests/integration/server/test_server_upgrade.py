# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A new runtime is proved with what serves before it is installed."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import onnx_models
import pytest
from edgeml_device._common.errors import CandidateError, StoreError
from edgeml_device._device import facts, upgrade, upgrade_trial
from edgeml_device._device.runtime import Runtime
from edgeml_device._device.service_manager import NoServiceManager
from edgeml_device._device.state import Limits, ModelServer, State
from edgeml_device._device.trial import BOOTS_MAX, UNREADY_MAX
from edgeml_device._device.upgrade import main, prove_runtime
from edgeml_device._device.upgrade_trial import UpgradeTrial
from links import PYTHON_PATH
from server_process import Device, plus_input

BROKEN = """echo '{"error": "golden test: output sum"}'; exit 1"""


def runtime(directory: Path, script: str = f'exec {shlex.quote(sys.executable)} "$@"') -> Runtime:
    """A runtime whose Python is a shell script; by default a good one."""
    python = directory / "new-python"
    python.write_text(f"#!/bin/sh\n{script}\n")
    python.chmod(0o755)
    return Runtime("venv-new app-new", str(python), str(PYTHON_PATH))


def publish(device: Device, version: str, addend: float = 1) -> None:
    output = {"name": "sum", "datatype": "FP32", "shape": [1, 2], "data": [1 + addend, 2 + addend]}
    tolerance = {"absolute": 1e-4, "relative": 1e-3}
    golden = {"inputs": [plus_input([1, 2])], "outputs": [output], "tolerance": tolerance}
    device.publish("plus", version, onnx_models.plus(addend), golden)
    note_server(device)


def note_server(device: Device, **more: Any) -> None:
    state = device.store.state("plus")._replace(serving=ModelServer(server=device.socket_path), **more)
    device.store.update("plus", state)


def noted(device: Device) -> dict[str, Any] | None:
    return device.store.tested(device.store.version("plus", "1.0.0"))


def test_what_serves_passes_and_the_result_is_kept(device: Device, tmp_path: Path) -> None:
    publish(device, "1.0.0")
    device.start()
    assert prove_runtime(device.store, runtime(tmp_path)) == [("plus", "1.0.0")]
    found = noted(device)
    assert found is not None
    assert found["runtime_id"] == "venv-new app-new"
    assert found["latency_seconds"] > 0


def test_a_runtime_with_which_it_fails_is_refused_and_the_live_version_named(device: Device, tmp_path: Path) -> None:
    publish(device, "1.0.0")
    device.start()
    with pytest.raises(CandidateError, match=r"plus 1\.0\.0: smoke test: golden test.* Live now, .*: plus 1\.0\.0$"):
        prove_runtime(device.store, runtime(tmp_path, BROKEN))
    assert noted(device) is None
    assert device.infer("plus", [1, 2]).json()["outputs"][0]["data"] == [2.0, 3.0]


def test_what_does_not_serve_is_no_reason_against_a_runtime(device: Device, tmp_path: Path) -> None:
    publish(device, "1.0.0")
    prove_runtime(device.store, runtime(tmp_path, BROKEN))
    assert noted(device) is None


def test_what_another_server_serves_is_not_asked(device: Device, tmp_path: Path) -> None:
    device.publish("plus", "1.0.0", onnx_models.plus(1))
    device.store.update("plus", State("1.0.0", None, serving=ModelServer(strategy="none")))
    prove_runtime(device.store, runtime(tmp_path, f"touch {tmp_path}/asked; {BROKEN}"))
    assert not (tmp_path / "asked").exists()


# ---- the trial ----


def way_back(device: Device) -> Path:
    return Path(device.store.root) / "way-back"


@pytest.fixture
def upgraded(device: Device) -> UpgradeTrial:
    """A device with a model that serves and the way back to an old installation, on trial with a new one."""
    publish(device, "1.0.0")
    device.start()
    for _ in range(60):
        device.infer("plus", [1, 2])
    way_back(device).mkdir()
    trial = UpgradeTrial(device.store)
    trial.note("venv-new app-new", [("plus", "1.0.0")])
    assert not trial.is_on
    assert trial.begin() == "on trial: venv-new app-new"
    assert trial.is_on
    return trial


def later(monkeypatch: pytest.MonkeyPatch) -> None:
    """300 seconds later."""
    now = facts.boot_seconds() + 300
    monkeypatch.setattr(upgrade_trial, "boot_seconds", lambda: now)


def test_an_installation_within_its_limits_stays(
    device: Device, upgraded: UpgradeTrial, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert upgraded.look().startswith("wait: plus 1.0.0: ")
    assert way_back(device).exists()
    later(monkeypatch)
    assert upgraded.look() == "commit: venv-new app-new"
    assert (upgraded.is_on, way_back(device).exists()) == (False, False)
    assert upgraded.look() == "no trial"
    upgraded.refuse_failed("venv-new app-new")


def test_the_installation_before_is_removed_when_the_trial_has_ended_well(
    device: Device, upgraded: UpgradeTrial, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a unit that may write there; until that is done, each look starts it again, also after a crash."""
    started: list[str] = []

    class Manager(NoServiceManager):
        def start_unit(self, unit: str) -> bool:
            started.append(unit)
            return True

    monkeypatch.setattr(upgrade_trial, "service_manager", Manager)
    later(monkeypatch)
    ended = Path(device.store.root) / "ended-trial"
    outcomes = [upgraded.look() for _look in range(2)]
    assert outcomes == ["commit: venv-new app-new", "commit: the installation before"]
    assert started == [upgrade_trial.CLEAR_UNIT] * 2
    assert (ended.exists(), way_back(device).exists(), upgraded.is_on) == (True, False, True), "the timer goes on"
    # What the unit does at its end.
    ended.rmdir()
    assert (upgraded.look(), upgraded.is_on) == ("no trial", False)


@pytest.mark.parametrize("crash_at", ["rename", "remove_file"])
def test_a_crash_at_the_end_of_a_good_trial_leaves_no_way_back_to_what_is_being_removed(
    device: Device, upgraded: UpgradeTrial, monkeypatch: pytest.MonkeyPatch, crash_at: str
) -> None:
    class CrashError(Exception):
        pass

    def crash(*_arguments: object) -> None:
        raise CrashError

    later(monkeypatch)
    with monkeypatch.context() as patch:
        patch.setattr(f"os.{crash_at}" if crash_at == "rename" else f"{upgrade_trial.__name__}.{crash_at}", crash)
        with pytest.raises(CrashError):
            upgraded.look()
    device.stop()
    outcome = upgraded.look()
    if crash_at == "rename":
        assert outcome.startswith("wait: plus 1.0.0: "), "the way back is whole, and the trial goes on"
        assert way_back(device).exists()
    else:
        assert outcome == "commit: the installation before"
        assert (upgraded.is_on, way_back(device).exists()) == (False, False)


def test_a_newer_installation_says_itself_what_is_outdated(device: Device, upgraded: UpgradeTrial) -> None:
    way_back(device).rename(Path(device.store.root) / "ended-trial")
    upgraded.note("venv-newer app-new", [("plus", "1.0.0")])
    assert upgraded.look() == "no trial", "it has not begun"
    assert upgraded.begin() == "on trial: venv-newer app-new"


def test_an_installation_that_fails_after_it_became_ready_is_left(device: Device, upgraded: UpgradeTrial) -> None:
    assert device.request("POST", "/v2/repository/models/plus/unload", local=True).status == 200
    assert upgraded.look() == "revert: plus 1.0.0: the server answers, and the version is not ready there"
    assert not upgraded.is_on
    assert way_back(device).exists(), "it is taken then"
    newest = device.store.journal("plus").history()[-1]
    assert (newest["event"], newest["actor"]) == ("installation reverted", "device")
    with pytest.raises(CandidateError, match=r"\(venv-new app-new\) failed its trial here .*not ready there\. To try"):
        upgraded.refuse_failed("venv-new app-new")
    upgraded.refuse_failed("venv-newer app-new")


def test_a_server_that_answers_no_more_is_given_some_looks(device: Device, upgraded: UpgradeTrial) -> None:
    device.stop()
    outcomes = [upgraded.look() for _look in range(UNREADY_MAX + 1)]
    assert outcomes[:-1] == ["wait: plus 1.0.0: the server does not answer"] * UNREADY_MAX
    assert outcomes[-1].startswith("revert: plus 1.0.0: the server did not answer 4 times in a row")


def test_a_service_that_systemd_gave_up_goes_back_at_once(upgraded: UpgradeTrial) -> None:
    assert upgraded.look(given_up=True) == "revert: the service manager gave the service up"


def test_crashes_of_the_service_are_counted(upgraded: UpgradeTrial) -> None:
    for _number in range(Limits().crashes_max):
        upgraded.crashed()
    assert upgraded.look().startswith("wait: ")
    upgraded.crashed()
    assert upgraded.look() == "revert: plus 1.0.0: the service crashed 3 times (at most 2)"
    upgraded.crashed()
    assert upgraded.look() == "no trial"


def test_restarts_of_the_device_are_counted(upgraded: UpgradeTrial, monkeypatch: pytest.MonkeyPatch) -> None:
    outcomes = []
    for number in range(BOOTS_MAX + 1):
        monkeypatch.setattr(upgrade_trial, "boot_id", lambda number=number: f"boot {number}")
        outcomes.append(upgraded.look().split(":")[0])
    assert outcomes == ["wait"] * BOOTS_MAX + ["revert"]


def test_a_version_that_was_swapped_in_since_has_a_trial_of_its_own(device: Device, upgraded: UpgradeTrial) -> None:
    publish(device, "1.1.0", 2)
    note_server(device, active="1.1.0")
    assert upgraded.look() == "commit: venv-new app-new"


def test_a_damaged_record_is_named(device: Device, upgraded: UpgradeTrial) -> None:
    (Path(device.store.root) / "upgrade.json").write_text("{")
    with pytest.raises(StoreError, match=r"upgrade\.json: damaged: .*; remove it, and install once more"):
        upgraded.look()


def test_where_nothing_served_there_is_no_trial(device: Device) -> None:
    trial = UpgradeTrial(device.store)
    trial.note("venv-new app-new", [])
    assert trial.begin() == "no model served before: no trial, what was installed stays"
    assert trial.look() == "no trial"


# ---- the installer ----


def installers_call(device: Device, new: Runtime, names: tuple[str, str]) -> subprocess.CompletedProcess[str]:
    """What the installer does, with the device's store where it is on a device."""
    (device.directory / "lib" / "edgeml").mkdir(parents=True, exist_ok=True)
    (device.directory / "lib" / "edgeml" / "store").symlink_to(device.store.root)
    command = [sys.executable, "-m", "edgeml_device._device.upgrade", new.python, new.app, *names]
    script = f'mount --bind {device.directory}/lib /var/lib; exec "$@"'
    return subprocess.run(
        ["unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh", *command],
        env={**os.environ, "PYTHONPATH": str(PYTHON_PATH)},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("good", [True, False])
def test_the_installers_call(device: Device, tmp_path: Path, good: bool) -> None:
    publish(device, "1.0.0")
    device.start()
    new = runtime(tmp_path) if good else runtime(tmp_path, BROKEN)
    done = installers_call(device, new, ("venv-newer", "app-newer"))
    assert done.returncode == (0 if good else 1), done.stderr
    assert ("the new runtime is not installed" in done.stderr) != good
    assert (noted(device) or {}).get("runtime_id") == ("venv-newer app-newer" if good else None)


def test_a_device_without_a_store_has_nothing_to_prove(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upgrade, "STORE", str(tmp_path / "no store"))
    bad = runtime(tmp_path, BROKEN)
    assert main([bad.python, bad.app, "venv-newer", "app-newer"]) == 0
