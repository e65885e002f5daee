# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What becomes of rollouts on six emulated devices of two classes: one story, told by tests in their order."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import bad_releases
import pytest

CLONE = Path(__file__).parents[3]
SMALL, LARGE = ["edge-s1", "edge-s2", "edge-s3"], ["edge-l1", "edge-l2", "edge-l3"]
DEVICES = [*SMALL, *LARGE]
GUARD_SECONDS = 600
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


class Controller:
    """Runs the collection's playbooks on the fleet, with a ledger and a model repository of its own."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        bad_releases.make_repository(directory / "repository")
        self.usual: dict[str, Any] = {
            "model_repository": str(directory / "repository"),
            "rollout_ledger": str(directory / "ledger"),
            "rollout_waves": ["25%", "100%"],
            "rollout_soak_seconds": 2,
            "rollout_soak_seconds_max": 2,
            # Six emulated devices share a few processors: what is slow here is many times slower.
            "rollout_limits": {"latency_ratio_max": 20},
        }

    def start(self, playbook: str, **variables: Any) -> subprocess.Popen[str]:
        """Start a playbook."""
        files = ("hosts.yml", "more_devices.yml")
        inventories = [f"--inventory={CLONE / 'inventories/quickstart' / name}" for name in files]
        return subprocess.Popen(
            ["ansible-playbook", playbook, *inventories, "-e", json.dumps({**self.usual, **variables})],
            cwd=CLONE,
            env={
                **os.environ,
                "ANSIBLE_NOCOLOR": "1",
                "ANSIBLE_FORCE_COLOR": "0",
                "ANSIBLE_FORKS": "6",
                "ANSIBLE_SHOW_CUSTOM_STATS": "1",
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def run(self, playbook: str, **variables: Any) -> subprocess.CompletedProcess[str]:
        """Run a playbook to its end."""
        with self.start(playbook, **variables) as process:
            output, _ = process.communicate()
        print(output)
        return subprocess.CompletedProcess(process.args, process.returncode, output)

    def rollout(self, version: str, **variables: Any) -> subprocess.CompletedProcess[str]:
        """Roll a version out."""
        return self.run("edgeml.fleet.rollout", model_name="digits", model_version=version, **variables)

    def ledger(self, version: str) -> dict[str, Any]:
        """The ledger of a version's first attempt."""
        found: dict[str, Any] = json.loads((self.directory / f"ledger/digits-{version}-1.json").read_text())
        return found

    def outcomes(self, version: str) -> dict[str, str]:
        """What became of each device."""
        return {row["device"]: row["outcome"] for row in self.ledger(version)["devices"]}

    def failed_checks(self, version: str) -> set[str]:
        """The checks that the last judged wave failed."""
        wave = self.ledger(version)["waves"][-1]
        return {finding["check"] for finding in wave["findings"] if finding["verdict"] == "fail"}


def docker(*arguments: str) -> str:
    return subprocess.run(["docker", *arguments], check=True, capture_output=True, text=True).stdout


def on(device: str, command: str) -> str:
    return docker("exec", f"edgeml-{device}", "sh", "-c", command)


def live() -> dict[str, str | None]:
    """The version that each device serves, by its own word."""
    found = {}
    for device in DEVICES:
        told = json.loads(on(device, "edgeml status --json 2>/dev/null || echo '{}'"))
        found[device] = told["models"][0]["live"] if told.get("models") else None
    return found


def switches(device: str) -> int:
    history = json.loads(on(device, "edgeml history digits --json"))["history"]
    return sum(entry["event"] == "activate" for entry in history)


def wait_for(condition: Callable[[], bool]) -> None:
    """Wait until something is so."""
    deadline = time.monotonic() + GUARD_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.5)


def wait_for_soak(process: subprocess.Popen[str], wave: int) -> None:
    """Wait until the devices of a wave have swapped, and it soaks, as the rollout's progress says."""
    assert process.stdout is not None
    for line in process.stdout:
        print(line, end="")
        if re.search(rf": wave {wave} of \d+ .*: soaks \d+ s", line):
            return
    pytest.fail(f"wave {wave} never soaked")


@pytest.fixture(scope="module")
def controller(tmp_path_factory: pytest.TempPathFactory) -> Controller:
    return Controller(tmp_path_factory.mktemp("controller"))


@pytest.fixture(scope="module")
def waves(controller: Controller) -> list[list[str]]:
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
    controller: Controller, waves: list[list[str]]
) -> None:
    off, lost, full = waves[1][:3]
    docker("stop", "--time=1", f"edgeml-{off}")
    on(full, FILL_DISK)
    process = controller.start(
        "edgeml.fleet.rollout",
        model_name="digits",
        model_version="1.1.0",
        rollout_soak_seconds=15,
        rollout_soak_seconds_max=15,
        rollout_limits={**controller.usual["rollout_limits"], "max_failures": 2, "reporting_share_min": 0.25},
    )
    with process:
        wait_for_soak(process, wave=2)
        docker("kill", f"edgeml-{lost}")
        output, _ = process.communicate()
    print(output)
    assert controller.outcomes("1.1.0") == {
        **dict.fromkeys(DEVICES, "updated"),
        off: "away",
        lost: "silent",
        full: "refused",
    }
    assert process.returncode == 0
    assert controller.ledger("1.1.0")["state"] == "passed"
    (row,) = [row for row in controller.ledger("1.1.0")["devices"] if row["device"] == full]
    assert "stay free" in row["detail"] or "No space left" in row["detail"]


def test_returning_devices_are_brought_to_where_their_cohort_is(controller: Controller, waves: list[list[str]]) -> None:
    off, lost, full = waves[1][:3]
    on(full, FREE_DISK)
    for name in (off, lost):
        docker("start", f"edgeml-{name}")
    wait_for(lambda: None not in live().values())
    # And one has lost its service.
    gone = waves[0][0]
    on(gone, "systemctl stop edgeml-inference && rm -r /etc/systemd/system/edgeml-inference.service")
    run = controller.run("edgeml.fleet.reconcile")
    assert run.returncode == 0
    assert set(live().values()) == {"1.1.0"}
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
    controller: Controller, waves: list[list[str]], version: str, checks: set[str], outcomes: set[str]
) -> None:
    before = {name: switches(name) for name in waves[1]}
    # A server may crash of the probe set: the first analysis then lacks it, and a later one counts the crashes.
    run = controller.rollout(version, rollout_soak_seconds_max=60)
    assert run.returncode != 0
    assert controller.ledger(version)["state"] == "failed"
    assert checks <= controller.failed_checks(version)
    found = controller.outcomes(version)
    assert {found[name] for name in waves[0]} <= outcomes
    assert {found[name] for name in waves[1]} == {"not started"}
    assert {name: switches(name) for name in waves[1]} == before
    wait_for(lambda: set(live().values()) == {"1.1.0"})
    assert controller.run("edgeml.fleet.reconcile").returncode == 0
    assert set(live().values()) == {"1.1.0"}


def test_a_controller_that_was_killed_goes_on_where_it_was(controller: Controller, waves: list[list[str]]) -> None:
    again = bad_releases.AGAIN
    process = controller.start(
        "edgeml.fleet.rollout", model_name="digits", model_version=again, rollout_soak_seconds=GUARD_SECONDS
    )
    with process:
        wait_for_soak(process, wave=1)
        os.killpg(process.pid, signal.SIGKILL)
    assert controller.ledger(again)["state"] == "running"
    before = {name: switches(name) for name in waves[0]}
    run = controller.rollout(again)
    assert run.returncode == 0
    assert controller.outcomes(again) == {
        **dict.fromkeys(waves[0], "already there"),
        **dict.fromkeys(waves[1], "updated"),
    }
    assert {name: switches(name) for name in waves[0]} == before, "nobody is swapped twice"
    assert [wave["verdict"] for wave in controller.ledger(again)["waves"]] == ["pass", "pass"], "no gate is skipped"
    assert set(live().values()) == {again}


def test_a_rollout_is_rolled_back_without_a_download(controller: Controller) -> None:
    rollout = f"digits-{bad_releases.AGAIN}-1"
    run = controller.run("edgeml.fleet.rollback", rollback_rollout=rollout, model_repository="/nowhere")
    assert run.returncode == 0
    assert set(live().values()) == {"1.1.0"}
    assert controller.run("edgeml.fleet.reconcile").returncode == 0
    assert set(live().values()) == {"1.1.0"}
