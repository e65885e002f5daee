# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What becomes of rollouts on six emulated devices of two classes: one story, told by tests in their order."""

from __future__ import annotations

import re

import bad_releases
import pytest
from containers import GUARD_SECONDS, ContainerController, Containers, docker, kill, wait_for, wait_for_soak
from links import REPOSITORY

SMALL, LARGE = ["edge-s1", "edge-s2", "edge-s3"], ["edge-l1", "edge-l2", "edge-l3"]
DEVICES = [*SMALL, *LARGE]
FLEET = Containers(DEVICES)
INVENTORIES = [REPOSITORY / "inventories/quickstart" / name for name in ("hosts.yml", "more_devices.yml")]
STORE = "/var/lib/edgeml/store"
FILL_DISK = f"""
set -eu
systemctl stop edgeml-inference
cp --archive {STORE} {STORE}.copy
mount -t tmpfs -o size=4M,mode=0750,gid=edgeml tmpfs {STORE}
cp --archive {STORE}.copy/. {STORE}
cat /dev/zero >{STORE}/filler || true
systemctl start edgeml-inference
"""
FREE_DISK = f"set -eu; systemctl stop edgeml-inference; umount {STORE}; systemctl start edgeml-inference"


@pytest.fixture(scope="module")
def controller(tmp_path_factory: pytest.TempPathFactory) -> ContainerController:
    directory = tmp_path_factory.mktemp("controller")
    bad_releases.make_repository(directory / "repository")
    usual = {
        "model_repository": str(directory / "repository"),
        "rollout_waves": ["25%", "100%"],
        "rollout_soak_seconds": 2,
        "rollout_soak_seconds_max": 2,
        # Six emulated devices share a few processors: what is slow here is many times slower.
        "rollout_limits": {"latency_ratio_max": 20},
    }
    return ContainerController(directory, INVENTORIES, usual)


@pytest.fixture(scope="module")
def waves(controller: ContainerController) -> list[list[str]]:
    """The waves as a plan has them."""
    plan = controller.run("edgeml.fleet.rollout", model_name="digits", model_version="1.1.0", rollout_plan_only=True)
    assert plan.returncode == 0
    found = [re.findall(r"edge-[sl]\d", line) for line in plan.stdout.splitlines() if re.search(r"\d+%: \d+: ", line)]
    assert sorted(name for wave in found for name in wave) == sorted(DEVICES)
    return found


def test_both_waves_have_both_classes(waves: list[list[str]]) -> None:
    assert len(waves) == 2
    for wave in waves:
        assert {name[:6] for name in wave} == {"edge-s", "edge-l"}


def test_a_good_release_goes_out_though_devices_are_off_lost_and_full(
    controller: ContainerController, waves: list[list[str]]
) -> None:
    off, lost, full = waves[1][:3]
    docker("stop", "--time=1", FLEET.container(off))
    FLEET.on(full, FILL_DISK)
    process = controller.start_rollout(
        "1.1.0",
        rollout_soak_seconds=15,
        rollout_soak_seconds_max=15,
        rollout_limits={**controller.usual["rollout_limits"], "max_failures": 2, "reporting_share_min": 0.25},
    )
    wait_for_soak(process, wave=2)
    docker("kill", FLEET.container(lost))
    run = controller.finish(process)
    assert controller.outcomes("1.1.0") == {
        **dict.fromkeys(DEVICES, "updated"),
        off: "away",
        lost: "silent",
        full: "refused",
    }
    assert run.returncode == 0
    assert controller.ledger("1.1.0")["state"] == "passed"
    (row,) = [row for row in controller.ledger("1.1.0")["devices"] if row["device"] == full]
    assert "stay free" in row["detail"] or "No space left" in row["detail"]


def test_returning_devices_are_brought_to_where_their_cohort_is(
    controller: ContainerController, waves: list[list[str]]
) -> None:
    off, lost, full = waves[1][:3]
    FLEET.on(full, FREE_DISK)
    for name in (off, lost):
        docker("start", FLEET.container(name))
    wait_for(lambda: None not in FLEET.live().values())
    # And one has lost its service.
    gone = waves[0][0]
    FLEET.on(gone, "systemctl stop edgeml-inference && rm -r /etc/systemd/system/edgeml-inference.service")
    run = controller.run("edgeml.fleet.reconcile")
    assert run.returncode == 0
    assert set(FLEET.live().values()) == {"1.1.0"}
    quiet = controller.run("edgeml.fleet.reconcile")
    assert quiet.returncode == 0
    assert re.findall(r"changed=(\d+)", quiet.stdout) == ["0"] * len(DEVICES)


@pytest.mark.parametrize(
    ("version", "checks", "outcomes"),
    [
        ("1.2.0", {"accuracy drop"}, {"reverted"}),
        (bad_releases.SLOW, {"probe latency"}, {"reverted"}),
        (bad_releases.HUNGRY, {"failed devices"}, {"silent", "failed", "reverted"}),
    ],
    ids=["bad-accuracy", "slow", "crashing"],
)
def test_a_bad_release_stops_at_the_canaries(
    controller: ContainerController, waves: list[list[str]], version: str, checks: set[str], outcomes: set[str]
) -> None:
    before = {name: FLEET.switches(name) for name in waves[1]}
    # A server may crash of the probe set: the first analysis then lacks it, and a later one counts the crashes. Until
    # then, one that is short of memory on a busy machine may answer so slowly that it fails by that alone.
    limits = {"latency_ratio_max": 1000} if version == bad_releases.HUNGRY else controller.usual["rollout_limits"]
    run = controller.rollout(version, rollout_soak_seconds_max=60, rollout_limits=limits)
    assert run.returncode != 0
    assert controller.ledger(version)["state"] == "failed"
    assert checks <= controller.failed_checks(version)
    found = controller.outcomes(version)
    assert {found[name] for name in waves[0]} <= outcomes
    assert {found[name] for name in waves[1]} == {"not started"}
    assert {name: FLEET.switches(name) for name in waves[1]} == before
    wait_for(lambda: set(FLEET.live().values()) == {"1.1.0"})
    assert controller.run("edgeml.fleet.reconcile").returncode == 0
    assert set(FLEET.live().values()) == {"1.1.0"}


def test_a_controller_that_was_killed_goes_on_where_it_was(
    controller: ContainerController, waves: list[list[str]]
) -> None:
    again = bad_releases.AGAIN
    process = controller.start_rollout(again, rollout_soak_seconds=GUARD_SECONDS)
    wait_for_soak(process, wave=1)
    kill(process)
    assert controller.ledger(again)["state"] == "running"
    before = {name: FLEET.switches(name) for name in waves[0]}
    run = controller.rollout(again)
    assert run.returncode == 0
    assert controller.outcomes(again) == {
        **dict.fromkeys(waves[0], "already there"),
        **dict.fromkeys(waves[1], "updated"),
    }
    assert {name: FLEET.switches(name) for name in waves[0]} == before, "nobody is swapped twice"
    assert [wave["verdict"] for wave in controller.ledger(again)["waves"]] == ["pass", "pass"], "no gate is skipped"
    assert set(FLEET.live().values()) == {again}


def test_a_rollout_is_rolled_back_without_a_download(controller: ContainerController) -> None:
    rollout = f"digits-{bad_releases.AGAIN}-1"
    run = controller.run("edgeml.fleet.rollback", rollback_rollout=rollout, model_repository="/nowhere")
    assert run.returncode == 0
    assert set(FLEET.live().values()) == {"1.1.0"}
    assert controller.run("edgeml.fleet.reconcile").returncode == 0
    assert set(FLEET.live().values()) == {"1.1.0"}
