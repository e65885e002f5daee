# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A version on trial, on a device with the real server: ended by the device's own command, or by the next swap."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import threading
import time
from typing import Any

import pytest
from controller import DIGITS
from device import GUARD_SECONDS, Device
from onnx import TensorProto, helper
from onnx_models import model_of, repeat, reshape
from releases import Made, make_release, put, read_release
from server_process import repeat_request

from ansible_collections.edgeml.fleet.plugins.module_utils._common.errors import EdgemlError, ServerError, StoreError
from ansible_collections.edgeml.fleet.plugins.module_utils._device.client import Server
from ansible_collections.edgeml.fleet.plugins.module_utils._device.describe import describe_model
from ansible_collections.edgeml.fleet.plugins.module_utils._device.facts import device_facts
from ansible_collections.edgeml.fleet.plugins.module_utils._device.plan import SwapOptions
from ansible_collections.edgeml.fleet.plugins.module_utils._device.state import Limits, ModelServer, State, Trial
from ansible_collections.edgeml.fleet.plugins.module_utils._device.swap import Swap
from ansible_collections.edgeml.fleet.plugins.module_utils._device.transitions import Cause
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout import judging
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.gate.checks import Verdict

LONG = 3600.0


@pytest.fixture
def device(machines: dict[str, Device]) -> Device:
    """A device that serves 1.0.0, committed, and holds 1.1.0."""
    found = machines["edge-s1"]
    found.reset()
    found.serve(read_release(DIGITS, "digits", "1.0.0"))
    put(found.store, read_release(DIGITS, "digits", "1.1.0"))
    return found


def swap(device: Device, model: str = "digits") -> Swap:
    """The swap of a model, as the module makes it, from outside the device's namespace."""
    return Swap(device.store, model, Cause("test"), ModelServer(server=device.server.address))


def activate(device: Device, version: str, model: str = "digits", **options: Any) -> None:
    """Make a version that the store holds active, as the module does."""
    wishes = SwapOptions(**{"min_ready_seconds": 0.0, "trial_seconds": LONG, **options})
    with device.store.lock():
        found = swap(device, model)
        found.recover_interrupted(act=True, ends_trial=found.state.active != version)
        plan = found.plan_active(device.store.version(model, version).release, device_facts(), wishes)
        found.activate(plan, wishes)


def trial(device: Device) -> Trial:
    found = device.store.state("digits").trial
    assert found is not None
    return found


def change_trial(device: Device, **changes: Any) -> None:
    """Make the trial what it would be later."""
    state = device.store.state("digits")
    device.store.update("digits", state._replace(trial=trial(device)._replace(**changes)))


def said(done: subprocess.CompletedProcess[str]) -> Any:
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def watch(device: Device) -> str:
    """What one tick of the timer did."""
    return str(said(device.edgeml("watch", "--json"))["models"]["digits"])


def must_have_reverted(device: Device, reason: str) -> None:
    state = device.store.state("digits")
    assert (state.active, state.previous, state.trial) == ("1.0.0", None, None)
    assert reason in state.failed["1.1.0"].reason
    assert device.events()[-1] == ("revert", "1.1.0", "1.0.0")
    entry = device.store.journal("digits").history()[-1]
    assert (entry["actor"], entry["reason"]) == ("device", state.failed["1.1.0"].reason)


# ---- how a trial ends ----


def test_a_good_version_is_committed_when_its_time_is_over(device: Device) -> None:
    activate(device, "1.1.0", trial_seconds=0.5)
    assert trial(device).active == "1.0.0"
    time.sleep(0.5)
    assert watch(device).startswith("commit: within its limits for ")
    assert device.store.state("digits").trial is None
    assert device.versions() == ("1.1.0", "1.1.0", "1.0.0")
    assert device.events()[-2:] == [("activate", "1.0.0", "1.1.0"), ("commit", "1.1.0", "1.1.0")]
    assert watch(device) == "no trial"


def test_until_then_it_stays_on_trial(device: Device) -> None:
    activate(device, "1.1.0")
    before = device.store.state("digits")
    assert watch(device).startswith("wait: ")
    assert device.store.state("digits") == before


def test_crashes_put_the_old_version_back_without_the_controller(device: Device) -> None:
    activate(device, "1.1.0", limits=Limits(crashes_max=2))
    for crashes in (1, 2):
        device.stop_server()
        assert said(device.edgeml("crashed", "--json", SERVICE_RESULT="signal"))["models"] == {"digits": "counted"}
        said(device.edgeml("recover", "--before-start", "--json"))
        device.start_server("digits")
        assert (trial(device).crashes, device.live) == (crashes, "1.1.0")
    device.stop_server()
    device.edgeml("crashed", SERVICE_RESULT="watchdog")
    must_have_reverted(device, "the service crashed 3 times (at most 2)")
    said(device.edgeml("recover", "--before-start", "--json"))
    device.start_server("digits")
    assert device.versions() == ("1.0.0", "1.0.0", None)


def test_a_service_that_was_stopped_did_not_crash(device: Device) -> None:
    activate(device, "1.1.0", limits=Limits(crashes_max=0))
    assert said(device.edgeml("crashed", "--json", SERVICE_RESULT="success")) == {}
    assert said(device.edgeml("crashed", "--json")) == {}
    assert trial(device).crashes == 0


def test_a_crash_after_the_commit_changes_nothing(device: Device) -> None:
    activate(device, "1.1.0", trial_seconds=0.0)
    for _crash in range(5):
        device.edgeml("crashed", SERVICE_RESULT="signal")
    assert device.versions() == ("1.1.0", "1.1.0", "1.0.0")


def test_a_service_that_systemd_gave_up_starts_with_the_old_version(device: Device) -> None:
    activate(device, "1.1.0")
    device.stop_server()
    done = said(device.edgeml("watch", "--service-failed", "--json"))
    assert done["models"] == {"digits": "reverted"}
    must_have_reverted(device, "the service manager gave the service up")
    assert said(device.edgeml("watch", "--service-failed", "--json"))["models"] == {"digits": "no trial"}


def test_a_server_that_does_not_answer_is_waited_for_a_few_looks(device: Device) -> None:
    activate(device, "1.1.0")
    device.stop_server()
    for looks in (1, 2, 3):
        assert watch(device) == "wait: the server does not answer"
        assert trial(device).unready == looks
    assert watch(device) == "revert: the server did not answer 4 times in a row (at most 3)"
    must_have_reverted(device, "did not answer 4 times")


def test_a_server_that_still_loads_its_models_is_waited_for_too(device: Device) -> None:
    """It answers then, and the version is not ready there."""
    activate(device, "1.1.0")
    device.stop_server()
    outputs = [{"name": "y", "datatype": "FP32", "shape": [1], "data": [0]}]
    golden = {**repeat_request(2**62), "outputs": outputs, "tolerance": {"absolute": 0, "relative": 0}}
    put(device.store, make_release(model="a", files={"model.onnx": repeat()}, golden=json.dumps(golden).encode()))
    device.store.update("a", State(active="1.0.0"))
    device.start_server()
    try:
        assert device.server.is_live()
        assert watch(device) == "wait: the server does not answer"
        assert trial(device).unready == 1
    finally:
        device.stop_server()
        shutil.rmtree(device.root / "models" / "a")


def test_a_server_that_came_back_is_not_held_against_the_version(device: Device) -> None:
    activate(device, "1.1.0")
    device.stop_server()
    watch(device)
    device.start_server("digits")
    watch(device)
    assert trial(device).unready == 0


def test_a_model_that_is_not_ready_is_reverted_at_once(device: Device) -> None:
    activate(device, "1.1.0")
    device.server.unload("digits")
    assert watch(device) == "revert: the server answers, and the version is not ready there"
    must_have_reverted(device, "not ready")
    assert device.live == "1.0.0", "the server was told"


def test_errors_put_the_old_version_back(device: Device) -> None:
    versions = {"1.0.0": reshape(-1), "1.1.0": reshape(7)}
    for version, model in versions.items():
        made: Made = make_release(version, model="numbers", files={"model.onnx": model})
        put(device.store, made)
        activate(device, version, model="numbers", limits=Limits(requests_min=20))
        for _request in range(30):
            device.ask("numbers", name="x", shape=[1], datatype="FP32", data=[1])
    said(device.edgeml("watch", "--json"))
    state = device.store.state("numbers")
    assert (state.active, state.trial) == ("1.0.0", None)
    assert state.failed["1.1.0"].reason == (
        "30 of 30 requests failed (at most 5.0%, and 0.0% did of the version before)"
    )
    assert device.server.serving_version("numbers") == "1.0.0"


# ---- restarts, power cuts, kills ----


def test_a_restart_of_the_device_begins_the_trial_anew(device: Device) -> None:
    activate(device, "1.1.0")
    change_trial(device, boot_id="another boot", since=0.0)
    said(device.edgeml("recover", "--before-start", "--json"))
    again = trial(device)
    assert again.boots == 1
    assert again.boot_id != "another boot"
    assert again.since > 0
    assert said(device.edgeml("recover", "--json"))["models"] == {"digits": "nothing to recover"}
    assert trial(device) == again


def test_a_version_with_which_the_device_keeps_restarting_is_reverted(device: Device) -> None:
    activate(device, "1.1.0")
    for boots in (1, 2, 3):
        change_trial(device, boot_id=f"boot {boots}")
        device.edgeml("recover", "--before-start")
        assert trial(device).boots == boots
    change_trial(device, boot_id="boot 4")
    device.edgeml("recover", "--before-start")
    must_have_reverted(device, "the device restarted 4 times (at most 3)")


@pytest.mark.parametrize("settler", ["recover", "watch", "next swap"])
def test_a_swap_that_was_killed_after_its_switch_is_put_back(device: Device, settler: str) -> None:
    """The controller, its connection or the device's power failed while the new version was being watched."""
    command = [
        *("--store", str(device.root), "--server", device.server.address),
        *("activate", "digits", "1.1.0", "--min-ready-seconds", str(GUARD_SECONDS)),
    ]
    process = device.start_edgeml(command[4], *command[5:], *command[:4])
    while device.live != "1.1.0":
        time.sleep(0.01)
    process.kill()
    process.communicate()
    assert trial(device).phase == "switching"

    if settler == "next swap":
        activate(device, "1.1.0")
        assert device.events()[-2:] == [("interrupted", "1.1.0", "1.0.0"), ("activate", "1.0.0", "1.1.0")]
        assert device.versions() == ("1.1.0", "1.1.0", "1.0.0")
        return
    said(device.edgeml(settler, "--json"))
    assert device.versions() == ("1.0.0", "1.0.0", None)
    assert device.events()[-1] == ("interrupted", "1.1.0", "1.0.0")
    assert device.store.state("digits").failed == {}, "nothing is known against the version"
    assert said(device.edgeml("recover", "--json"))["models"] == {"digits": "nothing to recover"}


def test_a_damaged_active_version_falls_back_to_the_previous_one(device: Device) -> None:
    activate(device, "1.1.0", trial_seconds=0.0)
    directory = device.root / "models/digits/versions/1.1.0"
    (directory / "model.onnx").unlink()
    assert said(device.edgeml("recover", "--json"))["models"] == {"digits": "1.1.0 -> 1.0.0"}
    assert device.versions() == ("1.0.0", "1.0.0", None)
    assert (
        "model.onnx: expected 57067 bytes; the file is missing" in device.store.state("digits").failed["1.1.0"].reason
    )


def test_the_link_to_the_active_version_is_repaired(device: Device) -> None:
    link = device.root / "models/digits/active"
    assert link.resolve().name == "1.0.0"
    link.unlink()
    link.symlink_to("versions/1.1.0")
    said(device.edgeml("recover", "--json"))
    assert link.resolve().name == "1.0.0"
    activate(device, "1.1.0")
    assert (link / "model.onnx").read_bytes() == (link.parent / "versions/1.1.0/model.onnx").read_bytes()


# ---- a trial, and who comes in between ----


def test_another_version_ends_a_good_trial_early(device: Device) -> None:
    put(device.store, read_release(DIGITS, "digits", "1.2.0"))
    activate(device, "1.1.0")
    activate(device, "1.2.0")
    assert device.versions() == ("1.2.0", "1.2.0", "1.1.0")
    assert [event for event, _from, _to in device.events()[-3:]] == ["activate", "commit", "activate"]


def test_another_version_never_returns_to_one_that_broke_its_limits(device: Device) -> None:
    put(device.store, read_release(DIGITS, "digits", "1.2.0"))
    activate(device, "1.1.0")
    change_trial(device, crashes=3)
    activate(device, "1.2.0")
    assert device.versions() == ("1.2.0", "1.2.0", "1.0.0")
    assert [event for event, _from, _to in device.events()[-3:]] == ["activate", "revert", "activate"]
    assert list(device.store.state("digits").failed) == ["1.1.0"]


def test_a_server_that_is_down_ends_no_trial(device: Device) -> None:
    put(device.store, read_release(DIGITS, "digits", "1.2.0"))
    activate(device, "1.1.0")
    device.stop_server()
    with pytest.raises(
        ServerError, match=r"does not answer, so that the trial of 1\.1\.0 cannot be ended before 1\.2\.0"
    ):
        activate(device, "1.2.0")
    state = device.store.state("digits")
    assert (state.active, state.previous, state.failed) == ("1.1.0", "1.0.0", {})
    assert trial(device).unready == 1


def test_going_back_from_a_trial_restores_what_was_there_before(device: Device) -> None:
    put(device.store, read_release(DIGITS, "digits", "1.2.0"))
    activate(device, "1.1.0", trial_seconds=0.0)
    before = device.store.state("digits").versions()
    activate(device, "1.2.0")
    assert said(device.edgeml("revert", "digits", "--json"))["live"] == "1.1.0"
    assert device.store.state("digits").versions() == before == {"active": "1.1.0", "previous": "1.0.0"}
    assert "1.2.0" in device.store.state("digits").failed


def test_what_failed_is_not_tried_again_until_told_so(device: Device) -> None:
    activate(device, "1.1.0")
    device.edgeml("revert", "digits")
    for arguments in (["activate", "digits", "1.1.0"], ["activate", "digits", "1.1.0", "--json"]):
        done = device.edgeml(*arguments)
        assert done.returncode == 1
        assert "digits 1.1.0 failed on this device at " in done.stderr
        assert "reverted by request" in done.stderr
    assert device.versions() == ("1.0.0", "1.0.0", None)
    assert said(device.edgeml("activate", "digits", "1.1.0", "--retry", "--json"))["live"] == "1.1.0"
    assert device.store.state("digits").failed == {}


def test_what_a_trial_returns_to_is_never_pruned(device: Device) -> None:
    activate(device, "1.1.0", trial_seconds=0.0)
    put(device.store, read_release(DIGITS, "digits", "1.2.0"))
    activate(device, "1.2.0", keep=0)
    assert device.store.versions("digits") == ["1.0.0", "1.1.0", "1.2.0"]
    for version in device.store.versions("digits"):
        with pytest.raises(StoreError, match="is never removed"):
            device.store.remove("digits", version)


def test_the_device_itself_leaves_a_running_swap_alone(device: Device) -> None:
    activate(device, "1.1.0")
    with device.store.lock():
        for command in ("watch", "recover", "crashed"):
            done = said(device.edgeml(command, "--json", SERVICE_RESULT="signal"))
            assert "another swap has held the store's lock" in done["busy"]
    assert trial(device).crashes == 0


def test_two_swaps_at_once_run_one_after_the_other(device: Device) -> None:
    put(device.store, read_release(DIGITS, "digits", "1.2.0"))
    errors: list[EdgemlError] = []

    def run(version: str) -> None:
        try:
            activate(device, version)
        except EdgemlError as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(version,)) for version in ("1.1.0", "1.2.0")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    live, active, previous = device.versions()
    assert live == active
    assert {active, previous} == {"1.1.0", "1.2.0"}


def test_a_server_that_is_frozen_is_named_and_nothing_is_switched(device: Device) -> None:
    device.signal_server(signal.SIGSTOP)
    try:
        frozen = swap(device)
        assert isinstance(frozen.strategy.server, Server)
        frozen.strategy.server.look_seconds = 0.3
        release = device.store.version("digits", "1.1.0").release
        with pytest.raises(ServerError, match="the inference server does not answer"):
            frozen.plan_active(release, device_facts(), SwapOptions())
    finally:
        device.signal_server(signal.SIGCONT)
    assert device.versions() == ("1.0.0", "1.0.0", None)


# ---- for the engineer beside the device ----


def test_the_command_tells_and_does_what_the_modules_do(device: Device) -> None:
    assert device.edgeml("activate", "digits", "1.1.0").stdout == "digits: live now: 1.1.0\n"
    status = device.edgeml("status").stdout.splitlines()
    assert status[0].split() == ["model", "live", "active", "previous", "trial", "held", "failed"]
    assert status[1].split() == ["digits", "1.1.0", "1.1.0", "1.0.0", "300", "s,", "else", "1.0.0", "1.0.0,", "1.1.0"]
    assert device.edgeml("revert", "digits").stdout == "digits: live now: 1.0.0\n"
    history = device.edgeml("history", "digits").stdout
    assert "by edgeml activate" in history
    assert "reverted by request" in history
    assert device.edgeml("verify").returncode == 0
    model = device.root / "models/digits/versions/1.1.0/model.onnx"
    model.chmod(0o600)
    model.write_bytes(b"x" * model.stat().st_size)
    damaged = device.edgeml("verify")
    assert damaged.returncode == 1
    assert f"{model.name}: expected SHA-256 " in damaged.stdout
    assert device.edgeml("activate", "digits", "9.9.9").returncode == 1


# ---- versions that cannot be compared ----


@pytest.mark.parametrize(("name", "output"), [("x", "y"), ("pixels", "y"), ("x", "scores")])
def test_a_version_of_other_names_is_judged_by_what_it_reaches_itself(device: Device, name: str, output: str) -> None:
    """The version before does not know the names, and says so; the gate compares nothing, and names the remedy."""
    called = f"signs-{name}-{output}"
    for version, input_name, output_name in (("1.0.0", "x", "y"), ("1.1.0", name, output)):
        model = model_of(
            [helper.make_node("Neg", [input_name], [output_name])],
            inputs=[(input_name, TensorProto.FLOAT, ["N", 2])],
            outputs=[(output_name, TensorProto.FLOAT, ["N", 2])],
        )
        rows = {"name": input_name, "datatype": "FP32", "shape": [3, 2], "data": [1, 2, 2, 1, 4, 3]}
        probe = {"task": "class_scores", "inputs": [rows], "output": output_name, "labels": [0, 1, 0]}
        made = make_release(version, called, {"model.onnx": model}, probe=json.dumps(probe).encode())
        put(device.store, made)
    activate(device, "1.0.0", called)
    activate(device, "1.1.0", called, trial_seconds=0.0)
    read = {"model": describe_model(device.store, called, device.server.address, probe=True)}
    assert read["model"]["probe"]["correct"] == 2

    device.server.unload(called)

    def judged(**limits: float | None) -> judging.Judged:
        swap = {"changed": True, "version": "1.1.0", "live": "1.1.0"}
        measured = judging.Measured({"a": "small"}, "1.1.0", {"a": swap}, {"a": read})
        return judging.judge(
            measured, judging.read_limits({"latency_ratio_max": None, **limits}), analysis=1, analyses_max=1
        )

    found = judged()
    if (name, output) == ("x", "y"):
        assert found.verdict is Verdict.PASS
        return
    assert found.verdict is Verdict.INCONCLUSIVE
    (problem,) = found.problems
    assert "a (the version before: the probe set could not be asked: " in problem
    assert (name if name != "x" else output) in problem
    assert "tensors in its manifest" in problem
    off = {"accuracy_drop_max": None, "probe_error_ratio_max": None}
    assert judged(**off, accuracy_min=0.6).verdict is Verdict.PASS
    assert judged(**off, accuracy_min=0.7).verdict is Verdict.FAIL
