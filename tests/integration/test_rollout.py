# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The playbooks rollout, rollback and status, on local devices with the real server and the real digits releases."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from controller import DIGITS, Ansible, Run
from device import GUARD_SECONDS, Device
from evidence_verifiers import opened, validate, verify_with_securesystemslib
from releases import activate, make_release, publish, read_release
from rollouts import judged

from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.waves import plan, read_hosts
from ansible_collections.edgeml.fleet.plugins.plugin_utils._trust import keys

CLASSES = {"edge-s1": "small", "edge-s2": "small", "edge-l1": "large", "edge-l2": "large"}
WAVES = ["25%", "100%"]
FIRST, SECOND = (wave.hosts for wave in plan(read_hosts(CLASSES), WAVES, "digits").waves)
ON_OLD = ("1.0.0", "1.0.0", None)
ON_NEW = ("1.1.0", "1.1.0", "1.0.0")
# Nothing listens there: a device that is switched off.
AWAY = {"ansible_host": "127.0.0.1", "ansible_port": 1, "ansible_become": False, "device_class": "small"}

Fleet = dict[str, Device]


@pytest.fixture
def fleet(fleet: Fleet) -> Fleet:
    """Four devices of two classes that serve digits 1.0.0."""
    release = read_release(DIGITS, "digits", "1.0.0")
    for device in fleet.values():
        device.serve(release)
    return fleet


@pytest.fixture
def ansible(tmp_path: Path, fleet: Fleet) -> Ansible:
    return Ansible(tmp_path, list(fleet.values()))


def variables(version: str, ansible: Ansible, **changes: Any) -> dict[str, Any]:
    limits = changes.pop("limits", {})
    return {**judged(version, ansible.directory / "ledger", WAVES, **limits), **changes}


def rollout(ansible: Ansible, version: str, *options: str, **changes: Any) -> Run:
    return ansible.run("edgeml.fleet.rollout", *options, **variables(version, ansible, **changes))


def reconcile(ansible: Ansible, *options: str) -> Run:
    return ansible.run("edgeml.fleet.reconcile", *options, rollout_ledger=str(ansible.directory / "ledger"))


def ledger(ansible: Ansible, name: str = "digits-1.1.0-1") -> dict[str, Any]:
    found: dict[str, Any] = json.loads((ansible.directory / "ledger" / f"{name}.json").read_text())
    return found


def outcomes(run: Run) -> dict[str, str]:
    """What the closing table says became of each device."""
    (shown,) = run.results("Show what became of each device").values()
    heading, *rows = [re.split(" {2,}", line) for line in shown["msg"]]
    column = heading.index("outcome")
    return {row[0]: row[column] for row in rows}


def versions(fleet: Fleet) -> dict[str, tuple[str | None, str | None, str | None]]:
    return {name: device.versions() for name, device in fleet.items()}


def all_of(value: Any, *names: str) -> dict[str, Any]:
    return dict.fromkeys(names or CLASSES, value)


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + GUARD_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_the_fleet_has_two_waves_with_both_classes() -> None:
    for wave in (FIRST, SECOND):
        assert sorted(CLASSES[name] for name in wave) == ["large", "small"]


# ---- good releases ----


def test_a_good_release_goes_out_in_waves_and_a_second_run_changes_nothing(ansible: Ansible, fleet: Fleet) -> None:
    run = rollout(ansible, "1.1.0", rollout_reason="better accuracy")
    assert run.code == 0, run
    assert versions(fleet) == all_of(ON_NEW)

    book = ledger(ansible)
    assert (book["id"], book["model"], book["version"]) == ("digits-1.1.0-1", "digits", "1.1.0")
    assert (book["state"], book["why"]) == ("passed", "every wave passed")
    assert [(wave["number"], wave["name"], wave["hosts"]) for wave in book["plan"]["waves"]] == [
        (1, "25%", FIRST),
        (2, "100%", SECOND),
    ]
    assert book["plan"]["device_classes"] == CLASSES
    assert [wave["verdict"] for wave in book["waves"]] == ["pass", "pass"]
    assert [wave["outcomes"] for wave in book["waves"]] == [all_of("updated", *FIRST), all_of("updated", *SECOND)]
    for wave in book["waves"]:
        assert {"failed devices", "coverage"} <= {finding["check"] for finding in wave["findings"]}
        assert wave["began"] <= wave["ended"]
    assert book["devices"] == [
        {
            "device": name,
            "class": CLASSES[name],
            "wave": number,
            "before": "1.0.0",
            "after": "1.1.0",
            "outcome": "updated",
            "detail": "",
        }
        for number, wave in enumerate((FIRST, SECOND), 1)
        for name in wave
    ]
    controls = run.results("Read the devices on the old version again")[FIRST[0]]["results"]
    assert {result["item"]: result["model"]["live"] for result in controls} == all_of("1.0.0", *SECOND)
    stats = run.custom_stats
    assert (stats["rollout_id"], stats["rollout_verdict"]) == (book["id"], "pass")
    assert stats["rollout_outcomes"] == {"updated": 4}
    for device in fleet.values():
        entry = device.store.journal("digits").history()[-1]
        assert (entry["rollout_id"], entry["why"]) == (book["id"], "better accuracy")
        assert entry["baseline"]["version"] == "1.0.0"

    before = {name: device.snapshot() for name, device in fleet.items()}
    again = rollout(ansible, "1.1.0")
    assert again.code == 0, again
    assert outcomes(again) == all_of("already there")
    assert again.custom_stats["rollout_outcomes"] == {"already there": 4}
    assert {name: device.snapshot() for name, device in fleet.items()} == before
    assert all(not result["changed"] for result in again.results("Fetch, verify and swap").values())


def test_a_first_release_goes_out_to_devices_that_serve_nothing(tmp_path: Path, machines: Fleet) -> None:
    device = machines["edge-s1"]
    device.reset()
    ansible = Ansible(tmp_path, [device])
    run = rollout(ansible, "1.0.0", limits={"accuracy_min": 0.9})
    assert run.code == 0, run
    assert device.versions() == ON_OLD
    assert ledger(ansible, "digits-1.0.0-1")["devices"][0]["before"] == "-"


def test_check_mode_plans_and_touches_nothing(ansible: Ansible, fleet: Fleet) -> None:
    before = {name: device.snapshot() for name, device in fleet.items()}
    run = rollout(ansible, "1.1.0", "--check", "--diff")
    assert run.code == 0, run
    assert {name: device.snapshot() for name, device in fleet.items()} == before
    assert versions(fleet) == all_of(ON_OLD)
    assert outcomes(run) == all_of("planned")
    assert run.custom_stats["rollout_verdict"] == "planned"
    assert not (ansible.directory / "ledger").exists()


def test_limit_leaves_the_others_alone(ansible: Ansible, fleet: Fleet) -> None:
    run = rollout(ansible, "1.1.0", "--limit", "edge-s1,edge-l2")
    assert run.code == 0, run
    assert versions(fleet) == {**all_of(ON_OLD), **all_of(ON_NEW, "edge-s1", "edge-l2")}
    assert outcomes(run) == all_of("updated", "edge-s1", "edge-l2")


# ---- bad releases ----


def test_a_bad_release_is_reverted_and_the_others_are_never_touched(ansible: Ansible, fleet: Fleet) -> None:
    before = {name: fleet[name].snapshot() for name in SECOND}
    run = rollout(ansible, "1.2.0")
    assert run.code == 2, run
    assert versions(fleet) == all_of(ON_OLD)
    assert {name: fleet[name].snapshot() for name in SECOND} == before
    assert outcomes(run) == {**all_of("reverted", *FIRST), **all_of("not started", *SECOND)}
    assert run.custom_stats["rollout_verdict"] == "fail"
    assert run.custom_stats["rollout_outcomes"] == {"reverted": 2, "not started": 2}
    book = ledger(ansible, "digits-1.2.0-1")
    assert book["state"] == "failed"
    (wave,) = book["waves"]
    bad = [finding for finding in wave["findings"] if finding["verdict"] == "fail"]
    assert any(finding["check"].startswith("accuracy") for finding in bad)
    for name in FIRST:
        last = fleet[name].store.journal("digits").history()[-1]
        assert (last["event"], last["from"], last["to"]) == ("revert", "1.2.0", "1.0.0")
        assert last["rollout_id"] == book["id"]
        assert "accuracy" in last["why"]
    (failure,) = run.results("Fail unless all is well").values()
    assert failure["msg"].startswith("digits-1.2.0-1: failed, and was reverted where it had been activated. fail: ")
    # The same rollout is not tried again, also by a controller that knows nothing of it; another attempt is.
    again = rollout(ansible, "1.2.0")
    assert again.code == 2, again
    (refused,) = again.results("Plan the rollout").values()
    assert "digits-1.2.0-1 was stopped: failed at " in refused["msg"]
    assert "rollout_attempt=2" in refused["msg"]
    assert again.results("Fetch, verify and swap") == {}
    elsewhere = rollout(ansible, "1.2.0", rollout_ledger=str(ansible.directory / "other"))
    assert elsewhere.code == 2, elsewhere
    assert outcomes(elsewhere) == {**all_of("failed before", *FIRST), **all_of("not started", *SECOND)}
    assert versions(fleet) == all_of(ON_OLD)
    second = rollout(ansible, "1.2.0", rollout_attempt=2)
    assert second.code == 2, second
    assert outcomes(second) == {**all_of("reverted", *FIRST), **all_of("not started", *SECOND)}
    # The next good release goes through.
    assert rollout(ansible, "1.1.0", "--limit", ",".join(FIRST)).code == 0
    assert versions(fleet) == {**all_of(ON_NEW, *FIRST), **all_of(ON_OLD, *SECOND)}


def test_a_bad_first_wave_is_no_reason_to_stop_when_nothing_is_asked(ansible: Ansible, fleet: Fleet) -> None:
    off = {"accuracy_drop_max": None, "error_rate_max": None, "latency_ratio_max": None}
    run = rollout(ansible, "1.2.0", "--limit", "edge-s1", limits=off)
    assert run.code == 0, run
    assert fleet["edge-s1"].live == "1.2.0"


def test_a_limit_that_is_no_number_is_refused_before_any_device_is_touched(ansible: Ansible, fleet: Fleet) -> None:
    run = rollout(ansible, "1.1.0", limits={"accuracy_min": "high"})
    assert run.code == 2
    (failure,) = run.results("Plan the rollout").values()
    assert "accuracy_min" in failure["msg"]
    assert versions(fleet) == all_of(ON_OLD)


def test_a_damaged_release_is_refused_before_any_device_is_asked(
    ansible: Ansible, fleet: Fleet, tmp_path: Path
) -> None:
    repository = tmp_path / "repository"
    shutil.copytree(DIGITS, repository)
    release = read_release(DIGITS, "digits", "1.1.0")
    damaged = repository / "blobs" / "sha256" / release.document["variants"][0]["files"][0]["sha256"]
    damaged.write_bytes(damaged.read_bytes()[::-1])
    before = {name: device.snapshot() for name, device in fleet.items()}
    run = rollout(ansible, "1.1.0", model_repository=str(repository))
    assert run.code == 2, run
    (failure,) = run.results("Plan the rollout").values()
    assert f"{damaged}: model.onnx: expected SHA-256 {damaged.name}; found " in failure["msg"]
    assert run.results("Fetch, verify and swap") == {}
    assert {name: device.snapshot() for name, device in fleet.items()} == before
    assert not (ansible.directory / "ledger").exists()


def test_a_release_that_is_not_there_is_refused(ansible: Ansible, fleet: Fleet) -> None:
    run = rollout(ansible, "9.9.9")
    assert run.code == 2
    (failure,) = run.results("Plan the rollout").values()
    assert "digits/9.9.9/manifest.json: expected the manifest of digits 9.9.9" in failure["msg"]
    assert versions(fleet) == all_of(ON_OLD)


# ---- devices that are away, fail, or fall silent ----


def test_a_device_that_is_away_is_left_out(tmp_path: Path, fleet: Fleet) -> None:
    # The first host of all, for which run_once tasks run.
    there = ["edge-s1", "edge-l1"]
    ansible = Ansible(tmp_path, [fleet[name] for name in there], **{"a-edge-away": AWAY})
    run = rollout(ansible, "1.1.0", rollout_waves=["100%"])
    assert outcomes(run) == {**all_of("updated", *there), "a-edge-away": "away"}
    assert versions(fleet) == {**all_of(ON_OLD), **all_of(ON_NEW, *there)}
    assert run.custom_stats["rollout_verdict"] == "pass"
    assert run.code == 0, run
    assert [row["before"] for row in ledger(ansible)["devices"] if row["outcome"] == "away"] == ["-"]


def test_a_wave_that_is_away_stops_the_rollout_without_reverting(tmp_path: Path, fleet: Fleet) -> None:
    devices = [device for name, device in fleet.items() if name not in FIRST]
    ansible = Ansible(tmp_path, devices, **{name: {**AWAY, "device_class": CLASSES[name]} for name in FIRST})
    run = rollout(ansible, "1.1.0")
    assert run.code == 2, run
    assert outcomes(run) == {**all_of("away", *FIRST), **all_of("not started", *SECOND)}
    assert run.custom_stats["rollout_verdict"] == "inconclusive"
    assert versions(fleet) == all_of(ON_OLD)
    (failure,) = run.results("Fail unless all is well").values()
    assert failure["msg"].startswith("digits-1.1.0-1: paused; nothing was reverted, and the same command goes on")
    assert "inconclusive: coverage: 0 of 2 devices" in failure["msg"]
    assert ledger(ansible)["state"] == "paused"


def test_a_wave_that_told_too_little_soaks_longer_and_then_pauses(tmp_path: Path, fleet: Fleet) -> None:
    lost = FIRST[0]
    away = {lost: {**AWAY, "device_class": CLASSES[lost]}}
    ansible = Ansible(tmp_path, [device for name, device in fleet.items() if name != lost], **away)
    run = rollout(
        ansible, "1.1.0", rollout_soak_seconds=1, rollout_soak_seconds_max=3, limits={"reporting_share_min": 1}
    )
    assert run.code != 0, run
    (wave,) = ledger(ansible)["waves"]
    assert [analysis["verdict"] for analysis in wave["analyses"]] == ["inconclusive"] * 3
    assert ledger(ansible)["state"] == "paused"
    assert versions(fleet) == {**all_of(ON_OLD), FIRST[1]: ON_NEW}


def test_one_device_that_refuses_stops_the_rollout(ansible: Ansible, fleet: Fleet) -> None:
    ill, well = FIRST
    fleet[ill].stop_server()
    run = rollout(ansible, "1.1.0")
    assert run.code == 2, run
    assert outcomes(run) == {ill: "refused", well: "reverted", **all_of("not started", *SECOND)}
    assert {name: device.live for name, device in fleet.items()} == {**all_of("1.0.0"), ill: None}
    assert fleet[ill].store.state("digits").active == "1.0.0"
    (finding,) = [found for found in ledger(ansible)["waves"][0]["findings"] if found["check"] == "failed devices"]
    assert finding["verdict"] == "fail"
    assert f"{ill} refused" in finding["reason"]
    (row,) = [row for row in ledger(ansible)["devices"] if row["device"] == ill]
    assert "the inference server does not answer" in row["detail"]


def test_a_device_that_could_not_return_refuses_until_that_is_accepted(ansible: Ansible, fleet: Fleet) -> None:
    ill = FIRST[0]
    serving = fleet[ill].store.version("digits", "1.0.0")
    path = Path(serving.directory, serving.files[0].path)
    # The server has it loaded, and serves on. Its name is a link to a blob.
    path.unlink()
    run = rollout(ansible, "1.1.0", "--limit", ill)
    assert (run.code, outcomes(run)) == (2, {ill: "refused"}), run
    assert ledger(ansible)["state"] == "paused"
    (row,) = ledger(ansible)["devices"]
    assert "could not return to 1.0.0, which serves" in row["detail"]
    assert fleet[ill].versions() == ON_OLD
    run = rollout(ansible, "1.1.0", "--limit", ill, rollout_accept_no_way_back=True)
    assert (run.code, outcomes(run)) == (0, {ill: "updated"}), run
    assert fleet[ill].versions() == ON_NEW


def test_one_device_that_fails_is_bearable_when_it_is_said_so(ansible: Ansible, fleet: Fleet) -> None:
    ill = FIRST[0]
    fleet[ill].stop_server()
    run = rollout(ansible, "1.1.0", "--limit", ",".join(FIRST), limits={"max_failures": 1, "reporting_share_min": 0})
    assert run.code == 0, run
    assert outcomes(run) == {**all_of("updated", *FIRST), ill: "refused"}
    assert fleet[FIRST[1]].live == "1.1.0"
    assert fleet[ill].store.state("digits").active == "1.0.0"


def test_a_release_that_no_device_can_load_is_refused_by_each(ansible: Ansible, fleet: Fleet, tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    publish(make_release("2.0.0", files={"model.onnx": b"this is no model"}), repository)
    run = rollout(ansible, "2.0.0", model_repository=str(repository))
    assert run.code == 2, run
    assert outcomes(run) == {**all_of("refused", *FIRST), **all_of("not started", *SECOND)}
    assert versions(fleet) == all_of(ON_OLD)
    assert {
        (row["before"], row["after"])
        for row in ledger(ansible, "digits-2.0.0-1")["devices"]
        if row["outcome"] == "refused"
    } == {("1.0.0", "1.0.0")}


def test_a_server_that_dies_while_it_soaks_fails_the_wave(ansible: Ansible, fleet: Fleet) -> None:
    victim = FIRST[0]

    def kill() -> None:
        wait_for(lambda: all(fleet[name].soaks("1.1.0") for name in FIRST))
        fleet[victim].stop_server()

    accident = threading.Thread(target=kill)
    accident.start()
    run = rollout(ansible, "1.1.0", rollout_soak_seconds=10)
    accident.join()
    assert run.code == 2, run
    assert ledger(ansible)["state"] == "failed"
    # Its store is back on the old version, so that is what it starts with; that nobody could tell its server is told.
    assert outcomes(run) == {victim: "not reverted", FIRST[1]: "reverted", **all_of("not started", *SECOND)}
    assert fleet[victim].store.state("digits").active == "1.0.0"
    fleet[victim].start_server()
    wait_for(lambda: {device.live for device in fleet.values()} == {"1.0.0"})
    (failure,) = run.results("Fail unless all is well").values()
    assert f"Still on 1.1.0: {victim}." in failure["msg"]


# ---- interruptions ----


def interrupt(ansible: Ansible, fleet: Fleet, version: str) -> None:
    """Start a rollout and kill its controller while the first wave soaks."""
    process = ansible.start("edgeml.fleet.rollout", **variables(version, ansible, rollout_soak_seconds=GUARD_SECONDS))
    with process:
        wait_for(lambda: all(fleet[name].soaks(version) for name in FIRST))
        os.killpg(process.pid, signal.SIGKILL)


def test_a_rollout_that_was_interrupted_is_resumed_from_the_devices(ansible: Ansible, fleet: Fleet) -> None:
    interrupt(ansible, fleet, "1.1.0")
    assert versions(fleet) == {**all_of(ON_NEW, *FIRST), **all_of(ON_OLD, *SECOND)}
    assert ledger(ansible)["state"] == "running"
    switches = {name: fleet[name].events() for name in FIRST}
    run = rollout(ansible, "1.1.0")
    assert run.code == 0, run
    assert versions(fleet) == all_of(ON_NEW)
    assert {name: fleet[name].events() for name in FIRST} == switches, "nobody is swapped twice"
    assert outcomes(run) == {**all_of("already there", *FIRST), **all_of("updated", *SECOND)}
    assert [wave["verdict"] for wave in ledger(ansible)["waves"]] == ["pass", "pass"], "no gate is skipped"


def test_a_wave_that_has_soaked_does_not_soak_again(ansible: Ansible, fleet: Fleet) -> None:
    interrupt(ansible, fleet, "1.1.0")
    time.sleep(4)
    run = rollout(ansible, "1.1.0", "--limit", ",".join(FIRST), rollout_soak_seconds=3, rollout_soak_seconds_max=3)
    assert ledger(ansible)["waves"][0]["verdict"] == "pass", run
    (soak,) = run.results("Let the new version soak").values()
    assert soak["elapsed"] == 0


@pytest.mark.parametrize("forgets", [False, True])
def test_a_bad_rollout_that_was_interrupted_is_reverted_when_it_is_resumed(
    ansible: Ansible, fleet: Fleet, forgets: bool
) -> None:
    interrupt(ansible, fleet, "1.2.0")
    if forgets:
        # As on another controller: the devices know what is going on.
        shutil.rmtree(ansible.directory / "ledger")
    run = rollout(ansible, "1.2.0")
    assert run.code == 2, run
    assert versions(fleet) == all_of(ON_OLD)
    assert outcomes(run) == {**all_of("reverted", *FIRST), **all_of("not started", *SECOND)}


def test_what_another_rollout_activated_is_left_to_it(ansible: Ansible, fleet: Fleet) -> None:
    interrupt(ansible, fleet, "1.2.0")
    other = rollout(ansible, "1.2.0", rollout_attempt=2)
    assert other.code == 2, other
    assert outcomes(other) == {**all_of("already there", *FIRST), **all_of("not started", *SECOND)}
    (failure,) = other.results("Fail unless all is well").values()
    assert f"Still on 1.2.0: {', '.join(FIRST)}." in failure["msg"]


def test_a_second_rollout_beside_the_first_is_refused(ansible: Ansible, fleet: Fleet) -> None:
    process = ansible.start("edgeml.fleet.rollout", **variables("1.1.0", ansible, rollout_soak_seconds=GUARD_SECONDS))
    with process:
        wait_for(lambda: all(fleet[name].live == "1.1.0" for name in FIRST))
        second = rollout(ansible, "1.2.0")
        quiet = reconcile(ansible)
        os.killpg(process.pid, signal.SIGKILL)
    assert second.code == 2, second
    (refused,) = second.results("Plan the rollout").values()
    assert refused["locked"] is True
    assert "another run is at work since " in refused["msg"]
    assert f"digits-1.1.0-1 (process {process.pid} on {socket.gethostname()})" in refused["msg"]
    assert second.results("Fetch, verify and swap") == {}
    assert quiet.code == 0, quiet
    assert quiet.results("Swap to what the device should serve, or leave what was stopped") == {}
    # The lock ends with the run, however that ended.
    assert rollout(ansible, "1.1.0").code == 0


# ---- pauses ----


def test_a_rollout_waits_for_somebody_to_agree_and_signs_who_did(ansible: Ansible, fleet: Fleet) -> None:
    key = Path(keys.write(keys.generate("controller"), str(ansible.directory), None))
    signed = {"rollout_approve_after": [1], "rollout_evidence_key": str(key)}
    run = rollout(ansible, "1.1.0", **signed)
    assert run.code == 2, run
    assert run.custom_stats["rollout_verdict"] == "paused"
    assert ledger(ansible)["state"] == "paused"
    assert "somebody has to agree to wave 2: run it again with rollout_approved=1" in ledger(ansible)["why"]
    assert versions(fleet) == {**all_of(ON_NEW, *FIRST), **all_of(ON_OLD, *SECOND)}
    assert outcomes(run) == {**all_of("updated", *FIRST), **all_of("not started", *SECOND)}
    assert verify_with_securesystemslib(Path(run.custom_stats["rollout_evidence"]), key.with_suffix(".pub")) == "paused"
    agreed = rollout(ansible, "1.1.0", rollout_approved=1, rollout_approved_by="ann", **signed)
    assert agreed.code == 0, agreed
    assert versions(fleet) == all_of(ON_NEW)
    evidence = Path(agreed.custom_stats["rollout_evidence"])
    assert verify_with_securesystemslib(evidence, key.with_suffix(".pub")) == "passed"
    predicate = opened(evidence)["predicate"]
    validate(predicate)
    assert [wave["agreed"] and wave["agreed"]["by"] for wave in predicate["waves"]] == [None, "ann"]
    assert predicate == {name: value for name, value in ledger(ansible).items() if name != "schema"}


def test_a_part_of_the_fleet_that_goes_on_alone_ends_no_rollout_of_the_whole(ansible: Ansible, fleet: Fleet) -> None:
    played, other = SECOND
    assert rollout(ansible, "1.1.0", rollout_approve_after=[1]).code == 2
    run = rollout(ansible, "1.1.0", "--limit", played, rollout_approve_after=[1], rollout_approved=1)
    assert run.code == 2, run
    assert outcomes(run) == {played: "updated"}
    assert versions(fleet) == {**all_of(ON_NEW), other: ON_OLD}
    (failure,) = run.results("Fail unless all is well").values()
    assert f"1 device of the rollout not yet: {other}. " in failure["msg"]
    assert "run the same command without --limit" in failure["msg"]
    assert (ledger(ansible)["state"], run.custom_stats["rollout_verdict"]) == ("paused", "paused")
    # No schedule takes the other one along, which no gate has looked at.
    assert reconcile(ansible).code == 0
    assert fleet[other].live == "1.0.0"
    whole = rollout(ansible, "1.1.0", rollout_approve_after=[1], rollout_approved=1)
    assert whole.code == 0, whole
    assert versions(fleet) == all_of(ON_NEW)
    assert (ledger(ansible)["state"], ledger(ansible)["why"]) == ("passed", "every wave passed")


def test_no_wave_begins_outside_the_window(ansible: Ansible, fleet: Fleet) -> None:
    day = time.strftime("%a", time.gmtime(time.time() + 3 * 86400))
    run = rollout(ansible, "1.1.0", rollout_window=[f"{day} 01:00-02:00"])
    assert run.code == 2, run
    assert f"outside the maintenance window ({day} 01:00-02:00)" in ledger(ansible)["why"]
    assert versions(fleet) == all_of(ON_OLD)
    assert rollout(ansible, "1.1.0", rollout_window=["00:00-24:00"]).code == 0


def test_the_plan_alone_touches_nothing(ansible: Ansible, fleet: Fleet) -> None:
    before = {name: device.snapshot() for name, device in fleet.items()}
    run = rollout(ansible, "1.1.0", rollout_plan_only=True)
    assert run.code == 0, run
    (shown,) = run.results("Show the plan").values()
    assert shown["msg"] == ["digits 1.1.0", f"25%: 2: {', '.join(FIRST)}", f"100%: 2: {', '.join(SECOND)}"]
    assert {name: device.snapshot() for name, device in fleet.items()} == before
    assert not (ansible.directory / "ledger").exists()
    assert [wave["name"] for wave in run.custom_stats["rollout_boundaries"]["waves"]] == ["25%", "100%"]
    # What the devices have counted was read, and says what each wave will see.
    waves = run.custom_stats["rollout_power"]
    assert [(wave["name"], wave["answered"], wave["controls"]) for wave in waves] == [("25%", 2, 2), ("100%", 2, 0)]
    assert {"accuracy drop", "failed devices"} <= {item["check"] for item in waves[0]["checks"] if item["smallest"]}


def test_devices_that_are_pinned_are_left_out_and_named(tmp_path: Path, fleet: Fleet) -> None:
    ansible = Ansible(tmp_path, list(fleet.values()))
    hosts = json.loads((ansible.directory / "hosts.json").read_text())
    hosts["all"]["children"]["edge"]["hosts"]["edge-s1"]["rollout_pinned"] = "certified with 1.0.0"
    hosts["all"]["children"]["edge"]["hosts"]["edge-l2"]["rollout_maintenance"] = True
    (ansible.directory / "hosts.json").write_text(json.dumps(hosts))
    run = rollout(ansible, "1.1.0")
    assert run.code == 0, run
    assert versions(fleet) == {**all_of(ON_NEW), **all_of(ON_OLD, "edge-s1", "edge-l2")}
    found = outcomes(run)
    assert (found["edge-s1"], found["edge-l2"]) == ("pinned", "maintenance")
    assert ledger(ansible)["plan"]["left_out"]["edge-s1"] == "pinned: certified with 1.0.0"
    # Nor does a schedule touch them.
    assert reconcile(ansible).code == 0
    assert versions(fleet) == {**all_of(ON_NEW), **all_of(ON_OLD, "edge-s1", "edge-l2")}


# ---- going back, and looking ----


def test_rollback_goes_back_everywhere_once(ansible: Ansible, fleet: Fleet) -> None:
    new = read_release(DIGITS, "digits", "1.1.0")
    for name in FIRST:
        fleet[name].serve(new)
        activate(fleet[name].store, "digits", "1.1.0", "1.0.0")
    target = {"model_name": "digits", "model_version": "1.1.0", "model_repository": "/nowhere"}
    check = ansible.run("edgeml.fleet.rollback", "--check", **target)
    assert check.code == 0
    assert {fleet[name].live for name in FIRST} == {"1.1.0"}
    run = ansible.run("edgeml.fleet.rollback", rollback_reason="complaints", **target)
    assert run.code == 0, run
    assert {name: stats["changed"] for name, stats in run.stats.items()} == {**all_of(1, *FIRST), **all_of(0, *SECOND)}
    assert {device.live for device in fleet.values()} == {"1.0.0"}
    assert fleet[FIRST[0]].store.journal("digits").history()[-1]["why"] == "complaints"
    again = ansible.run("edgeml.fleet.rollback", **target)
    assert again.code == 0
    assert {stats["changed"] for stats in again.stats.values()} == {0}
    assert {device.live for device in fleet.values()} == {"1.0.0"}


def test_rollback_of_a_wave_or_of_all_that_a_rollout_changed(ansible: Ansible, fleet: Fleet) -> None:
    assert rollout(ansible, "1.1.0").code == 0
    target = {"rollback_rollout": "digits-1.1.0-1", "rollout_ledger": str(ansible.directory / "ledger")}
    wave = ansible.run("edgeml.fleet.rollback", rollback_wave=2, **target)
    assert wave.code == 0, wave
    assert versions(fleet) == {**all_of(ON_NEW, *FIRST), **all_of(ON_OLD, *SECOND)}
    # A schedule does not bring back what an operator took away.
    assert reconcile(ansible).code == 0
    assert versions(fleet) == {**all_of(ON_NEW, *FIRST), **all_of(ON_OLD, *SECOND)}
    assert ledger(ansible)["state"] == "passed"
    every = ansible.run("edgeml.fleet.rollback", rollback_reason="complaints", **target)
    assert every.code == 0, every
    assert versions(fleet) == all_of(ON_OLD)
    assert (ledger(ansible)["state"], ledger(ansible)["why"]) == ("rolled back", "complaints")
    assert reconcile(ansible).code == 0
    assert versions(fleet) == all_of(ON_OLD)
    unknown = ansible.run("edgeml.fleet.rollback", **{**target, "rollback_rollout": "digits-9.9.9-1"})
    assert unknown.code == 2
    (failure,) = unknown.results("Find out what to go back from").values()
    assert "expected a rollout of the ledger: digits-1.1.0-1; found 'digits-9.9.9-1'. " in failure["msg"]
    assert failure["msg"].endswith("Rolled out by the ledger: nothing")


def test_devices_go_back_also_where_the_ledger_cannot_be_written(ansible: Ansible, fleet: Fleet) -> None:
    assert rollout(ansible, "1.1.0").code == 0
    directory = ansible.directory / "ledger"
    target = {"rollback_rollout": "digits-1.1.0-1", "rollout_ledger": str(directory)}
    subprocess.run(["mount", "--bind", directory, directory], check=True)
    subprocess.run(["mount", "-o", "remount,bind,ro", directory], check=True)
    try:
        run = ansible.run("edgeml.fleet.rollback", rollback_reason="complaints", **target)
    finally:
        subprocess.run(["umount", "--lazy", directory], check=True)
    assert run.code == 2, run
    assert versions(fleet) == all_of(ON_OLD)
    (found,) = run.results("Find out what to go back from").values()
    assert "the ledger cannot be written: Read-only file system. Devices go back all the same" in found["warnings"][0]
    (failure,) = run.results("Fail unless all is well").values()
    assert failure["msg"].startswith("digits 1.1.0: 4 reverted. But the ledger does not know of it")
    assert "complaints; the ledger does not know of it" in fleet["edge-s1"].store.journal("digits").history()[-1]["why"]
    # The ledger says that the version belongs there; the devices know better.
    assert ledger(ansible)["state"] == "passed"
    assert reconcile(ansible).code == 0
    assert versions(fleet) == all_of(ON_OLD)
    again = ansible.run("edgeml.fleet.rollback", **target)
    assert again.code == 0, again
    assert {stats["changed"] for stats in again.stats.values()} == {0}
    assert ledger(ansible)["state"] == "rolled back"


# ---- devices that come back ----


def test_a_returning_device_is_brought_to_where_its_cohort_is(tmp_path: Path, fleet: Fleet) -> None:
    late, ill = SECOND
    there = [device for name, device in fleet.items() if name != late]
    ansible = Ansible(tmp_path, there, **{late: {**AWAY, "device_class": CLASSES[late]}})
    assert rollout(ansible, "1.1.0", limits={"reporting_share_min": 0}).code == 0
    assert fleet[late].live == "1.0.0"
    # Still away: no news.
    run = reconcile(ansible)
    assert run.code == 0, run
    assert run.custom_stats["reconcile_outcomes"] == {"already there": 3, "away": 1}
    # Back; and another one has lost its way.
    fleet[ill].serve(read_release(DIGITS, "digits", "1.0.0"))
    (tmp_path / "later").mkdir()
    back = Ansible(tmp_path / "later", list(fleet.values()))
    shutil.copytree(ansible.directory / "ledger", back.directory / "ledger")
    run = reconcile(back)
    assert run.code == 0, run
    assert {device.live for device in fleet.values()} == {"1.1.0"}
    assert run.custom_stats["reconcile_outcomes"] == {"already there": 2, "updated": 2}
    assert fleet[late].store.journal("digits").history()[-1]["rollout_id"] == "digits-1.1.0-1"
    before = {name: device.snapshot() for name, device in fleet.items()}
    quiet = reconcile(back)
    assert quiet.code == 0, quiet
    assert {stats["changed"] for stats in quiet.stats.values()} == {0}
    assert {name: device.snapshot() for name, device in fleet.items()} == before


def test_no_device_is_brought_past_a_rollout_that_was_stopped(ansible: Ansible, fleet: Fleet) -> None:
    assert rollout(ansible, "1.1.0").code == 0
    assert rollout(ansible, "1.2.0").code == 2
    # One of them was away when it was reverted.
    fleet[FIRST[0]].serve(read_release(DIGITS, "digits", "1.2.0"))
    run = reconcile(ansible)
    assert run.code == 0, run
    assert {device.live for device in fleet.values()} == {"1.1.0"}


def test_a_rollout_that_is_not_there_yet_is_not_anticipated(ansible: Ansible, fleet: Fleet) -> None:
    interrupt(ansible, fleet, "1.1.0")
    lost = FIRST[0]
    fleet[lost].serve(read_release(DIGITS, "digits", "1.0.0"))
    run = reconcile(ansible)
    assert run.code == 0, run
    assert {name: device.live for name, device in fleet.items()} == {
        **all_of("1.1.0", *FIRST),
        **all_of("1.0.0", *SECOND),
    }


def test_nothing_is_known_of_a_fleet_without_a_ledger(ansible: Ansible, fleet: Fleet) -> None:
    before = {name: device.snapshot() for name, device in fleet.items()}
    run = reconcile(ansible)
    assert run.code == 0, run
    assert {name: device.snapshot() for name, device in fleet.items()} == before


def test_status_shows_every_device_also_those_that_do_not_answer(tmp_path: Path, fleet: Fleet) -> None:
    fleet["edge-s2"].stop_server()
    (fleet["edge-l2"].root / "models/digits/state.json").write_text("{")
    ansible = Ansible(tmp_path, list(fleet.values()), **{"edge-away": AWAY})
    run = ansible.run("edgeml.fleet.status", status_probe=True)
    (shown,) = run.results("Show the models").values()
    rows = {line.split("  ")[0]: line.split() for line in shown["msg"]}
    assert set(rows) == {"device", "edge-away", *CLASSES}
    assert rows["device"] == [
        "device",
        "answers",
        "model",
        "live",
        "active",
        "previous",
        "trial",
        "failed",
        "variant",
        "accuracy",
    ]
    for name in ("edge-s1", "edge-l1"):
        assert rows[name] == [name, "yes", "digits", "1.0.0", "1.0.0", "-", "-", "-", "onnx-fp32", "0.9167"]
    assert rows["edge-s2"] == ["edge-s2", "no", "server", "digits", "-", "1.0.0", "-", "-", "-", "onnx-fp32", "-"]
    assert rows["edge-l2"][:2] == ["edge-l2", "error"]
    assert rows["edge-away"][:2] == ["edge-away", "away"]
    (written,) = run.results("Write the page of the fleet").values()
    assert written["page"] == str(ansible.directory / ".local/state/edgeml/fleet.html")
    document = json.loads(Path(written["page"]).with_suffix(".json").read_text())
    reasons = {item["device"]: "; ".join(item["reasons"]) for item in document["devices"]}
    assert list(reasons)[:2] == ["edge-l2", "edge-s2"], "what needs attention comes first"
    assert reasons["edge-l2"].startswith("cannot be read: ")
    assert reasons["edge-s2"] == "the inference server does not answer"
    assert (reasons["edge-away"], reasons["edge-s1"]) == ("away; never seen here", "")
    good = next(item for item in document["devices"] if item["device"] == "edge-s1")
    assert (good["models"][0]["way_back"]["version"], good["models"][0]["accuracy"]["samples"]) == (None, 360)
    assert {stats["changed"] for stats in run.stats.values()} == {0}
