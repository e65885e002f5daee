# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Rollouts to a fleet of which two devices pull and two are pushed: one story, told by tests in their order."""

from __future__ import annotations

import json
import os
import re
from typing import Any

import pytest
from containers import GUARD_SECONDS, ContainerController, Containers, docker, kill, wait_for, wait_for_soak
from links import REPOSITORY

NAMES = os.environ.get("FLEET", "quickstart")
# As molecule/pull/inventory/hosts.yml has them. Of each wave one device pulls.
PULLED = ["edge-s1", "edge-l1"]
WAVES = [["edge-l2", "edge-s1"], ["edge-s2", "edge-l1"]]
DEVICES = [name for wave in WAVES for name in wave]
OFF = WAVES[1][1]
ORIGIN, MAILBOX = "edge-s2", "edge-l2"
FLEET = Containers(DEVICES, NAMES)
DIRECTORY = REPOSITORY / ".ansible" / NAMES / "pull"
# How long a device that is off makes its wave wait; emulated devices need some of it to report.
REPORT_SECONDS = 30 if NAMES == "native" else 150
# For a run in which a device is off.
ONE_IS_OFF = {"rollout_waves": ["100%"], "rollout_limits": {"latency_ratio_max": 100, "reporting_share_min": 0.5}}


@pytest.fixture(scope="module")
def controller(tmp_path_factory: pytest.TempPathFactory) -> ContainerController:
    directory = tmp_path_factory.mktemp("controller")
    # What rollouts know of the devices that pull: nobody connects to them.
    pulled = {"rollout_transport": "pull", "ansible_port": 1}
    (directory / "hosts.yml").write_text(json.dumps({"edge": {"hosts": dict.fromkeys(PULLED, pulled)}}))
    repository, keys, authority = DIRECTORY / "repository", DIRECTORY / "keys", DIRECTORY / "authority"
    servers = str(DIRECTORY / "servers-certificate.pem")
    mailbox = FLEET.on(MAILBOX, "hostname -I").strip()
    usual = {
        "model_repository": str(repository),
        "model_repository_root": str(keys / "root.json"),
        "model_repository_state": str(directory / "repositories"),
        "model_repository_unsigned": False,
        "rollout_pull": {
            "fleet": "shop",
            "fleet_key": str(keys / "controller.pem"),
            "online_key": str(keys / "dev.pem"),
            "mailbox": f"https://{mailbox}:8443/reports",
            "mailbox_ca_file": servers,
            "certificate_file": str(authority / "reader-controller.pem"),
            "ca_file": str(authority / "ca.pem"),
            "report_seconds": REPORT_SECONDS,
            "mqtt_broker": mailbox,
            "mqtt_ca_file": servers,
        },
        "rollout_waves": ["25%", "100%"],
        "rollout_soak_seconds": 2,
        "rollout_soak_seconds_max": 2,
        # What is slow here shares a few processors with the others.
        "rollout_limits": {"latency_ratio_max": 100},
    }
    inventories = [REPOSITORY / "inventories" / NAMES / "hosts.yml", directory / "hosts.yml"]
    return ContainerController(directory, inventories, usual)


def verdicts(controller: ContainerController, version: str) -> list[str]:
    """The verdict of each wave."""
    return [wave["verdict"] for wave in controller.ledger(version)["waves"]]


def served(device: str) -> list[str]:
    """All versions that a device has made active, in their order."""
    history: list[dict[str, Any]] = json.loads(FLEET.on(device, "edgeml history digits --json"))["history"]
    return [entry["to"] for entry in history if entry["event"] == "activate"]


def service(action: str, device: str, unit: str) -> None:
    FLEET.on(device, f"systemctl {action} {unit}")


def test_a_good_release_goes_out_by_both_transports(controller: ContainerController) -> None:
    run = controller.rollout("1.1.0")
    assert run.returncode == 0
    assert controller.outcomes("1.1.0") == dict.fromkeys(DEVICES, "updated")
    assert [sorted(wave["outcomes"]) for wave in controller.ledger("1.1.0")["waves"]] == [sorted(w) for w in WAVES]
    assert verdicts(controller, "1.1.0") == ["pass", "pass"]
    assert FLEET.live() == dict.fromkeys(DEVICES, "1.1.0")


def test_a_bad_release_fails_by_both_transports(controller: ContainerController) -> None:
    before = {name: FLEET.switches(name) for name in WAVES[1]}
    run = controller.rollout("1.2.0")
    assert run.returncode == 2
    assert controller.failed_checks("1.2.0") == {"accuracy drop"}
    assert controller.outcomes("1.2.0") == {
        **dict.fromkeys(WAVES[0], "reverted"),
        **dict.fromkeys(WAVES[1], "not started"),
    }
    assert FLEET.live() == dict.fromkeys(DEVICES, "1.1.0")
    assert {name: FLEET.switches(name) for name in WAVES[1]} == before


# Each in a test of its own: each waits for the device that is off.
@pytest.mark.parametrize(("version", "attempt", "code"), [("1.3.0", 1, 0), ("1.2.0", 2, 2), ("1.6.0", 1, 0)])
def test_a_device_that_is_off_keeps_no_release_from_the_others(
    controller: ContainerController, version: str, attempt: int, code: int
) -> None:
    docker("stop", "--time=1", FLEET.container(OFF))
    run = controller.rollout(version, rollout_attempt=attempt, **ONE_IS_OFF)
    assert run.returncode == code
    # It is waited for once, and by name.
    assert re.search(rf"what came of the swap; waits .* UTC, for .*{OFF}", run.stdout)
    assert not re.search(rf"what they have measured; waits .*{OFF}", run.stdout)
    if attempt == 1:
        assert controller.outcomes(version) == {**dict.fromkeys(DEVICES, "updated"), OFF: "away"}


def test_a_device_that_was_off_for_three_releases_goes_to_the_newest() -> None:
    docker("start", FLEET.container(OFF))
    # By its timer, which starts with the device: no controller is at work.
    wait_for(lambda: FLEET.live()[OFF] == "1.6.0", f"{OFF} serves 1.6.0")
    assert served(OFF) == ["1.0.0", "1.1.0", "1.6.0"]
    assert FLEET.live() == dict.fromkeys(DEVICES, "1.6.0")


def test_what_is_down_in_the_middle_of_a_wave_is_waited_for(controller: ContainerController) -> None:
    pulled = WAVES[0][1]
    process = controller.start_rollout("1.7.0", rollout_soak_seconds=GUARD_SECONDS)
    wait_for_soak(process, wave=1)
    kill(process)
    service("stop", ORIGIN, "nginx")
    service("stop", MAILBOX, "nginx mosquitto")
    # Another controller goes on with the same ledger; it has long enough for what follows.
    settings = {**controller.usual["rollout_pull"], "report_seconds": GUARD_SECONDS}
    process = controller.start_rollout("1.7.0", rollout_pull=settings)
    cursor = FLEET.on(pulled, "journalctl --show-cursor --lines=0").partition("cursor: ")[2].strip()
    journal = f"journalctl --unit=edgeml-pull --output=cat --after-cursor='{cursor}'"
    wait_for(lambda: "refused" in FLEET.on(pulled, journal), f"{pulled} finds no origin")
    service("start", ORIGIN, "nginx")
    wait_for(lambda: "reports are kept" in FLEET.on(pulled, journal), f"{pulled} finds no mailbox")
    assert FLEET.on(pulled, "ls /var/lib/edgeml/pull/queue").split()
    service("start", MAILBOX, "nginx mosquitto")
    run = controller.finish(process)
    assert run.returncode == 0
    assert "devices were not told to look" in run.stdout
    assert verdicts(controller, "1.7.0") == ["pass", "pass"]
    assert FLEET.live() == dict.fromkeys(DEVICES, "1.7.0")
    # What the broker has forgotten meanwhile, it is told again.
    status = controller.run("edgeml.fleet.status", status_page="")
    assert status.returncode == 0
    for name in DEVICES:
        assert re.search(rf"{name} +yes +{'online' if name in PULLED else '-'} +digits +1\.7\.0", status.stdout)
    assert not FLEET.on(pulled, "ls /var/lib/edgeml/pull/queue").split()
