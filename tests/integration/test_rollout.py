# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The playbooks rollout, rollback and status, on local devices with the real server and the real digits releases."""

from __future__ import annotations

import json
import os
import shutil
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from controller import DIGITS, Ansible, Run
from device import GUARD_SECONDS, Device
from releases import activate, make_release, publish, read_release

from ansible_collections.edgeml.fleet.plugins.module_utils._cohort import waves

CLASSES = {"edge-s1": "small", "edge-s2": "small", "edge-l1": "large", "edge-l2": "large"}
WAVES = [25, 100]
FIRST, SECOND = waves(CLASSES, WAVES, "digits")
ON_OLD = ("1.0.0", "1.0.0", None)
ON_NEW = ("1.1.0", "1.1.0", "1.0.0")
# Nothing listens there: a device that is switched off.
AWAY = {"ansible_host": "127.0.0.1", "ansible_port": 1, "ansible_become": False, "hardware_class": "small"}

# Times are no measure on a machine that runs other tests.
LENIENT = {"latency_ratio_max": 1000}

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
    return {
        "model_name": "digits",
        "model_version": version,
        "rollout_waves": WAVES,
        "rollout_soak_seconds": 0,
        "rollout_health_seconds": 0.2,
        "rollout_limits": LENIENT,
        "rollout_ledger": str(ansible.directory / "ledger.json"),
        **changes,
    }


def rollout(ansible: Ansible, version: str, *options: str, **changes: Any) -> Run:
    return ansible.run("edgeml.fleet.rollout", *options, **variables(version, ansible, **changes))


def ledger(ansible: Ansible) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((ansible.directory / "ledger.json").read_text())
    return found


def outcomes(ansible: Ansible) -> dict[str, str]:
    return {row["device"]: row["outcome"] for row in ledger(ansible)["devices"]}


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
    assert (book["model"], book["version"], book["verdict"]) == ("digits", "1.1.0", "pass")
    assert [wave["hosts"] for wave in book["waves"]] == [FIRST, SECOND]
    assert [wave["verdict"] for wave in book["waves"]] == ["pass", "pass"]
    for wave in book["waves"]:
        checks = {reason.split(": ")[1].partition(" in ")[0] for reason in wave["reasons"]}
        assert {"failed devices", "coverage", "measurements", "accuracy drop", "error rate"} <= checks
    assert book["devices"] == [
        {"device": name, "class": CLASSES[name], "before": "1.0.0", "after": "1.1.0", "outcome": "updated"}
        for name in [*FIRST, *SECOND]
    ]
    assert run.custom_stats == {
        "rollout_id": book["id"],
        "rollout_verdict": "pass",
        "rollout_outcomes": {"updated": 4},
    }
    for device in fleet.values():
        entry = device.store.history("digits")[-1]
        assert (entry["rollout_id"], entry["why"]) == (book["id"], "better accuracy")
        assert entry["baseline"]["version"] == "1.0.0"

    before = {name: device.snapshot() for name, device in fleet.items()}
    again = rollout(ansible, "1.1.0")
    assert again.code == 0, again
    assert outcomes(ansible) == all_of("already there")
    assert again.custom_stats["rollout_outcomes"] == {"already there": 4}
    assert {name: device.snapshot() for name, device in fleet.items()} == before
    assert all(not result["changed"] for result in again.results("Fetch, verify and swap").values())


def test_a_first_release_goes_out_to_devices_that_serve_nothing(tmp_path: Path, machines: Fleet) -> None:
    device = machines["edge-s1"]
    device.reset()
    ansible = Ansible(tmp_path, [device])
    run = rollout(ansible, "1.0.0", rollout_limits={**LENIENT, "accuracy_min": 0.9})
    assert run.code == 0, run
    assert device.versions() == ON_OLD
    assert ledger(ansible)["devices"][0]["before"] == "-"


def test_check_mode_plans_and_touches_nothing(ansible: Ansible, fleet: Fleet) -> None:
    before = {name: device.snapshot() for name, device in fleet.items()}
    run = rollout(ansible, "1.1.0", "--check", "--diff")
    assert run.code == 0, run
    assert {name: device.snapshot() for name, device in fleet.items()} == before
    assert versions(fleet) == all_of(ON_OLD)
    assert outcomes(ansible) == all_of("planned")
    assert {(row["before"], row["after"]) for row in ledger(ansible)["devices"]} == {("1.0.0", "1.1.0")}
    assert run.custom_stats["rollout_verdict"] == "planned"


def test_limit_leaves_the_others_alone(ansible: Ansible, fleet: Fleet) -> None:
    run = rollout(ansible, "1.1.0", "--limit", "edge-s1,edge-l2")
    assert run.code == 0, run
    assert versions(fleet) == {**all_of(ON_OLD), **all_of(ON_NEW, "edge-s1", "edge-l2")}
    assert outcomes(ansible) == all_of("updated", "edge-s1", "edge-l2")


# ---- bad releases ----


def test_a_bad_release_is_reverted_and_the_others_are_never_touched(ansible: Ansible, fleet: Fleet) -> None:
    before = {name: fleet[name].snapshot() for name in SECOND}
    run = rollout(ansible, "1.2.0")
    assert run.code == 2, run
    assert versions(fleet) == all_of(ON_OLD)
    assert {name: fleet[name].snapshot() for name in SECOND} == before
    assert outcomes(ansible) == {**all_of("reverted", *FIRST), **all_of("not started", *SECOND)}
    assert run.custom_stats["rollout_verdict"] == "fail"
    assert run.custom_stats["rollout_outcomes"] == {"reverted": 2, "not started": 2}
    (wave,) = ledger(ansible)["waves"]
    found = [reason for reason in wave["reasons"] if reason.startswith("fail: ")]
    assert [reason.partition(": 0.5")[0] for reason in found] == [
        "fail: accuracy drop in large",
        "fail: accuracy drop in small",
    ]
    assert all("(from 0.9167 to 0.3389; at most 0.0200)" in reason for reason in found)
    for name in FIRST:
        last = fleet[name].store.history("digits")[-1]
        assert (last["event"], last["from"], last["to"]) == ("revert", "1.2.0", "1.0.0")
        assert last["rollout_id"] == ledger(ansible)["id"]
        assert "accuracy drop" in last["why"]
    (failure,) = run.results("Fail unless every wave passed").values()
    assert failure["msg"].startswith("digits 1.2.0: fail (reverted where it had been activated).\nfail: accuracy drop")
    # The next good release goes through.
    assert rollout(ansible, "1.1.0", "--limit", ",".join(FIRST)).code == 0
    assert versions(fleet) == {**all_of(ON_NEW, *FIRST), **all_of(ON_OLD, *SECOND)}


def test_a_bad_first_wave_is_no_reason_to_stop_when_nothing_is_asked(ansible: Ansible, fleet: Fleet) -> None:
    run = rollout(ansible, "1.2.0", "--limit", "edge-s1", rollout_limits={**LENIENT, "accuracy_drop_max": None})
    assert run.code == 0, run
    assert fleet["edge-s1"].live == "1.2.0"


def test_a_limit_that_is_no_number_is_refused_before_any_device_is_touched(ansible: Ansible, fleet: Fleet) -> None:
    run = rollout(ansible, "1.1.0", rollout_limits={"accuracy_min": "high"})
    assert run.code == 2
    (failure,) = run.results("Check the gate's limits before any device is touched").values()
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
    (failure,) = run.results("Read and verify the release").values()
    assert f"{damaged}: model.onnx: expected SHA-256 {damaged.name}; found " in failure["msg"]
    assert run.results("Fetch, verify and swap") == {}
    assert {name: device.snapshot() for name, device in fleet.items()} == before
    assert not (ansible.directory / "ledger.json").exists()


def test_a_release_that_is_not_there_is_refused(ansible: Ansible, fleet: Fleet) -> None:
    run = rollout(ansible, "9.9.9")
    assert run.code == 2
    (failure,) = run.results("Read and verify the release").values()
    assert "digits/9.9.9/manifest.json: expected the manifest of digits 9.9.9" in failure["msg"]
    assert versions(fleet) == all_of(ON_OLD)


# ---- devices that are away, fail, or fall silent ----


def test_a_device_that_is_away_is_left_out(tmp_path: Path, fleet: Fleet) -> None:
    # The first host of all, for which run_once tasks run.
    there = ["edge-s1", "edge-l1"]
    ansible = Ansible(tmp_path, [fleet[name] for name in there], **{"a-edge-away": AWAY})
    run = rollout(ansible, "1.1.0", rollout_waves=[100])
    assert outcomes(ansible) == {**all_of("updated", *there), "a-edge-away": "away"}
    assert versions(fleet) == {**all_of(ON_OLD), **all_of(ON_NEW, *there)}
    assert run.custom_stats["rollout_verdict"] == "pass"
    assert run.code == 0, run
    assert [row["before"] for row in ledger(ansible)["devices"] if row["outcome"] == "away"] == ["-"]


def test_a_wave_that_is_away_stops_the_rollout_without_reverting(tmp_path: Path, fleet: Fleet) -> None:
    devices = [device for name, device in fleet.items() if name not in FIRST]
    ansible = Ansible(tmp_path, devices, **{name: {**AWAY, "hardware_class": CLASSES[name]} for name in FIRST})
    run = rollout(ansible, "1.1.0")
    assert run.code == 2, run
    assert outcomes(ansible) == {**all_of("away", *FIRST), **all_of("not started", *SECOND)}
    assert run.custom_stats["rollout_verdict"] == "inconclusive"
    assert versions(fleet) == all_of(ON_OLD)
    (failure,) = run.results("Fail unless every wave passed").values()
    assert "inconclusive (stopped; nothing was reverted).\ninconclusive: coverage: 0 of 2 devices" in failure["msg"]


def test_one_device_that_refuses_stops_the_rollout(ansible: Ansible, fleet: Fleet) -> None:
    ill, well = FIRST
    fleet[ill].stop_server()
    run = rollout(ansible, "1.1.0")
    assert run.code == 2, run
    assert outcomes(ansible) == {ill: "refused", well: "reverted", **all_of("not started", *SECOND)}
    assert {name: device.live for name, device in fleet.items()} == {**all_of("1.0.0"), ill: None}
    assert fleet[ill].store.state("digits").active == "1.0.0"
    (wave,) = ledger(ansible)["waves"]
    assert (
        f"fail: failed devices: 1 of 2 devices refused, failed or fell silent (at most 0): {ill} refused"
        in wave["reasons"]
    )


def test_one_device_that_fails_is_bearable_when_it_is_said_so(ansible: Ansible, fleet: Fleet) -> None:
    ill = FIRST[0]
    fleet[ill].stop_server()
    run = rollout(ansible, "1.1.0", "--limit", ",".join(FIRST), rollout_limits={**LENIENT, "failed_max": 1})
    assert run.code == 0, run
    assert outcomes(ansible) == {**all_of("updated", *FIRST), ill: "refused"}
    assert fleet[FIRST[1]].live == "1.1.0"
    assert fleet[ill].store.state("digits").active == "1.0.0"


def test_a_release_that_no_device_can_load_is_refused_by_each(ansible: Ansible, fleet: Fleet, tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    publish(make_release("2.0.0", files={"model.onnx": b"this is no model"}), repository)
    run = rollout(ansible, "2.0.0", model_repository=str(repository))
    assert run.code == 2, run
    assert outcomes(ansible) == {**all_of("refused", *FIRST), **all_of("not started", *SECOND)}
    assert versions(fleet) == all_of(ON_OLD)
    assert {(row["before"], row["after"]) for row in ledger(ansible)["devices"] if row["outcome"] == "refused"} == {
        ("1.0.0", "1.0.0")
    }


def test_a_server_that_dies_while_it_soaks_fails_the_wave(ansible: Ansible, fleet: Fleet) -> None:
    victim = FIRST[0]

    def kill() -> None:
        wait_for(lambda: all(fleet[name].live == "1.1.0" for name in FIRST))
        time.sleep(0.5)
        fleet[victim].stop_server()

    accident = threading.Thread(target=kill)
    accident.start()
    run = rollout(ansible, "1.1.0", rollout_soak_seconds=5)
    accident.join()
    assert run.code == 2, run
    assert ledger(ansible)["verdict"] == "fail"
    # Its store is back on the old version, so that is what it starts with; that nobody could tell its server is told.
    assert outcomes(ansible) == {victim: "not reverted", FIRST[1]: "reverted", **all_of("not started", *SECOND)}
    assert fleet[victim].store.state("digits").active == "1.0.0"
    fleet[victim].start_server()
    wait_for(lambda: {device.live for device in fleet.values()} == {"1.0.0"})
    (failure,) = run.results("Fail unless every wave passed").values()
    assert f"Still on 1.1.0: {victim}." in failure["msg"]


# ---- interruptions ----


def interrupt(ansible: Ansible, fleet: Fleet, version: str) -> None:
    """Start a rollout and kill its controller while the first wave soaks."""
    process = ansible.start("edgeml.fleet.rollout", **variables(version, ansible, rollout_soak_seconds=GUARD_SECONDS))
    with process:
        wait_for(lambda: all(fleet[name].live == version for name in FIRST))
        time.sleep(1)
        os.killpg(process.pid, signal.SIGKILL)


def test_a_rollout_that_was_interrupted_is_resumed_from_the_devices(ansible: Ansible, fleet: Fleet) -> None:
    interrupt(ansible, fleet, "1.1.0")
    assert versions(fleet) == {**all_of(ON_NEW, *FIRST), **all_of(ON_OLD, *SECOND)}
    run = rollout(ansible, "1.1.0")
    assert run.code == 0, run
    assert versions(fleet) == all_of(ON_NEW)
    assert outcomes(ansible) == {**all_of("already there", *FIRST), **all_of("updated", *SECOND)}
    first, _second = ledger(ansible)["waves"]
    assert any(reason.startswith("pass: accuracy drop in ") for reason in first["reasons"]), "judged by its baseline"


def test_a_bad_rollout_that_was_interrupted_is_reverted_when_it_is_resumed(ansible: Ansible, fleet: Fleet) -> None:
    interrupt(ansible, fleet, "1.2.0")
    # Another rollout judges the same devices, says so, and leaves what it did not activate.
    other = rollout(ansible, "1.2.0")
    assert other.code == 2, other
    assert outcomes(ansible) == {**all_of("already there", *FIRST), **all_of("not started", *SECOND)}
    (failure,) = other.results("Fail unless every wave passed").values()
    assert f"Still on 1.2.0: {', '.join(FIRST)}." in failure["msg"]
    # The same one goes on, and takes back what it had done.
    entry = fleet[FIRST[0]].store.activation("digits")
    assert entry is not None
    run = rollout(ansible, "1.2.0", rollout_resume=entry["rollout_id"])
    assert run.code == 2, run
    assert ledger(ansible)["id"] == entry["rollout_id"]
    assert {device.live for device in fleet.values()} == {"1.0.0"}
    assert outcomes(ansible) == {**all_of("reverted", *FIRST), **all_of("not started", *SECOND)}


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
    assert fleet[FIRST[0]].store.history("digits")[-1]["why"] == "complaints"
    again = ansible.run("edgeml.fleet.rollback", **target)
    assert again.code == 0
    assert {stats["changed"] for stats in again.stats.values()} == {0}
    assert {device.live for device in fleet.values()} == {"1.0.0"}


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
    assert {stats["changed"] for stats in run.stats.values()} == {0}
