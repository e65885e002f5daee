# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The jobs and the workflow of examples/awx/configure.yml, with ansible-runner as AWX runs it, on local devices with
the real server and the real digits releases; and plans of sliced inventories."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from ansible.parsing.dataloader import DataLoader
from awx_job import Inventory, Job, run_job
from controller import DIGITS
from device import Device
from links import REPOSITORY
from releases import read_release
from rollouts import at_once

pytestmark = pytest.mark.end_to_end
CONFIGURE = REPOSITORY / "examples" / "awx" / "configure.yml"
(PLAY,) = DataLoader().load_from_file(str(CONFIGURE))
TEMPLATES = {template["name"]: template for template in PLAY["vars"]["__awx_job_templates"]}
NODES = {node["identifier"]: node for node in PLAY["vars"]["__awx_workflow_nodes"]}

Fleet = dict[str, Device]


class Awx:
    """Runs the workflow's nodes: each job gets its template's variables, its node's, the artifacts of the nodes before
    it and the survey's answers, the later over the earlier."""

    def __init__(self, directory: Path, inventory: Inventory) -> None:
        self.directory = directory
        self.inventory = inventory
        self.jobs: list[Job] = []

    def job(self, template: str, variables: Mapping[str, Any], inventory: Inventory | None = None) -> Job:
        """Launch a job template and wait for its end."""
        known = TEMPLATES[template]
        merged = {**known.get("extra_vars", {}), **variables}
        job = run_job(self.directory, len(self.jobs) + 1, known["playbook"], inventory or self.inventory, merged)
        self.jobs.append(job)
        return job

    def workflow(self, survey: Mapping[str, Any], answers: Mapping[str, bool]) -> list[tuple[str, str]]:
        """Launch the workflow, and give its approval nodes these answers; what became of each node that ran."""
        (identifier,) = set(NODES) - {
            after["identifier"]
            for node in NODES.values()
            for ways in node.get("related", {}).values()
            for after in ways
        }
        artifacts: dict[str, Any] = {}
        became = []
        while True:
            node = NODES[identifier]
            template = node["unified_job_template"]
            if template["type"] == "workflow_approval":
                status = "successful" if answers[identifier] else "failed"
            else:
                job = self.job(template["name"], {**node.get("extra_data", {}), **artifacts, **survey})
                status = job.status
                artifacts.update(job.artifacts)
            became.append((identifier, status))
            way = "success_nodes" if status == "successful" else "failure_nodes"
            following = node.get("related", {}).get(way, [])
            if not following:
                return became
            identifier = following[0]["identifier"]


@pytest.fixture
def awx(tmp_path: Path, fleet: Fleet) -> Awx:
    """AWX with four devices that serve digits 1.0.0, in the shape of an inventory of AWX."""
    release = read_release(DIGITS, "digits", "1.0.0")
    for device in fleet.values():
        device.serve(release)
    variables = {**at_once(tmp_path / "rollouts"), "rollout_waves": ["25%", "100%"]}
    hosts = {name: device.inventory() for name, device in fleet.items()}
    return Awx(tmp_path, Inventory(hosts, {"edge": list(hosts)}, variables))


def survey(version: str) -> dict[str, Any]:
    """The answers to the survey, the defaults included."""
    return {"model_name": "digits", "model_version": version, "rollout_reason": "", "rollout_attempt": 1}


def live(fleet: Fleet) -> list[str | None]:
    """What each device serves."""
    return [device.live for device in fleet.values()]


def test_the_workflow_asks_twice_and_rolls_out(awx: Awx, fleet: Fleet) -> None:
    became = awx.workflow(survey("1.1.0"), {"agree-to-plan": True, "agree-to-all": True})
    assert became == [
        ("plan", "successful"),
        ("agree-to-plan", "successful"),
        ("canary", "failed"),
        ("does-it-wait", "successful"),
        ("agree-to-all", "successful"),
        ("all", "successful"),
    ]
    _, canary, _, all_of_them = awx.jobs
    assert canary.code == 3
    assert canary.artifacts["rollout_id"] == "digits-1.1.0-1"
    assert canary.artifacts["rollout_verdict"] == "paused"
    assert canary.artifacts["rollout_outcomes"] == {"updated": 2, "not started": 2}
    assert (all_of_them.code, all_of_them.artifacts["rollout_verdict"]) == (0, "pass")
    assert sum(all_of_them.artifacts["rollout_outcomes"].values()) == len(fleet)
    assert live(fleet) == ["1.1.0"] * len(fleet)

    quiet = awx.job("reconcile", {})
    assert (quiet.status, quiet.code, quiet.failed_tasks) == ("successful", 0, [])


def test_a_bad_release_ends_the_workflow_without_asking_for_more(awx: Awx, fleet: Fleet) -> None:
    became = awx.workflow(survey("1.2.0"), {"agree-to-plan": True})
    assert became == [
        ("plan", "successful"),
        ("agree-to-plan", "successful"),
        ("canary", "failed"),
        ("does-it-wait", "failed"),
    ]
    canary = awx.jobs[1]
    assert canary.code == 2
    assert canary.artifacts["rollout_verdict"] == "fail"
    assert canary.artifacts["rollout_outcomes"] == {"reverted": 2, "not started": 2}
    assert canary.failed_tasks[-1] == "Fail unless all is well"
    assert live(fleet) == ["1.0.0"] * len(fleet)


def test_who_does_not_agree_after_the_canaries_takes_them_back(awx: Awx, fleet: Fleet) -> None:
    became = awx.workflow(survey("1.1.0"), {"agree-to-plan": True, "agree-to-all": False})
    assert became[-2:] == [("agree-to-all", "failed"), ("rollback", "successful")]
    assert live(fleet) == ["1.0.0"] * len(fleet)
    again = awx.job("rollout", survey("1.1.0"))
    assert again.status == "failed"
    assert live(fleet) == ["1.0.0"] * len(fleet)


# ---- slices ----

HOSTS = {
    f"{site}-{number:02}": {"device_class": "large" if number % 5 == 0 else "small", "site": site}
    for site in ("plant-a", "plant-b")
    for number in range(1, 13)
}
FLEET = Inventory(
    HOSTS,
    {"edge": list(HOSTS), "canary": ["plant-b-07"]},
    {
        "model_repository": str(DIGITS),
        "model_repository_unsigned": True,
        "rollout_device_class_variables": ["device_class", "site"],
        "rollout_waves": ["canary", 6, "50%", "100%"],
        "rollout_max_unavailable": 3,
    },
)


def waves(job: Job) -> dict[str, set[str]]:
    """The hosts that a plan gave to each wave."""
    assert job.status == "successful", job.output
    return {wave["name"]: set(wave["hosts"]) for wave in job.result("Plan the rollout")["waves"]}


@pytest.fixture(scope="module")
def unsliced(tmp_path_factory: pytest.TempPathFactory) -> Job:
    """A plan of the whole fleet."""
    return Awx(tmp_path_factory.mktemp("unsliced"), FLEET).job("plan", survey("1.1.0"))


@pytest.mark.parametrize("count", [5])
def test_the_plans_of_all_slices_make_up_the_unsliced_plan(unsliced: Job, tmp_path: Path, count: int) -> None:
    awx = Awx(tmp_path, FLEET)
    whole = waves(unsliced)
    assert whole["canary"] == {"plant-b-07"}
    assert set.union(*whole.values()) == set(HOSTS)
    together: dict[str, set[str]] = {name: set() for name in whole}
    for number in range(1, count + 1):
        part = FLEET.sliced(number, count)
        for name, hosts in waves(awx.job("plan", {**survey("1.1.0"), **unsliced.artifacts}, part)).items():
            assert hosts <= set(part.hosts)
            together[name] |= hosts
    assert together == whole


def test_a_slice_without_the_plan_of_the_fleet_would_choose_others(unsliced: Job, tmp_path: Path) -> None:
    awx = Awx(tmp_path, FLEET)
    together = [waves(awx.job("plan", survey("1.1.0"), FLEET.sliced(number, 2))) for number in (1, 2)]
    assert len(together[0]["6"] | together[1]["6"]) > len(waves(unsliced)["6"])


def test_an_empty_slice_plans_nothing_and_is_no_failure(unsliced: Job, tmp_path: Path) -> None:
    job = Awx(tmp_path, FLEET).job("plan", {**survey("1.1.0"), **unsliced.artifacts}, FLEET.sliced(30, 30))
    assert job.status == "successful", job.output
