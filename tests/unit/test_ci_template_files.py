# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The CI templates of examples/model-repository: short, alike, and with no more rights than they need."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from ci_templates import PIPELINE, TEMPLATE, WORKFLOW
from links import REPOSITORY

LINES_MAX = 80
ON_THE_SITE = ("publish", "roll-out", "renew")


@pytest.fixture(scope="module")
def workflow() -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load(WORKFLOW.read_text())
    return document


@pytest.fixture(scope="module")
def pipeline() -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load(PIPELINE.read_text())
    return document


def scripts(lines: list[str]) -> list[str]:
    """The scripts of ci/ that lines call, with the names of variables left out."""
    return [re.sub(r'"\$\w+"', "TAG", line) for line in lines if line.startswith("ci/")]


@pytest.mark.parametrize("path", [WORKFLOW, PIPELINE], ids=lambda path: path.name)
def test_a_template_is_short(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= LINES_MAX


def test_both_templates_call_the_same_commands(workflow: dict[str, Any], pipeline: dict[str, Any]) -> None:
    jobs = {name: job for name, job in pipeline.items() if isinstance(job, dict) and "script" in job}
    assert set(jobs) == set(workflow["jobs"])
    for name, job in jobs.items():
        steps = [step["run"] for step in workflow["jobs"][name]["steps"] if "run" in step]
        assert scripts(steps) == scripts([*pipeline["default"]["before_script"], *job["script"]])
        assert steps[-1].split()[0] == f"ci/{name}"
        assert os.access(TEMPLATE / "ci" / name, os.X_OK)


def test_actions_are_pinned_and_nothing_is_secret(workflow: dict[str, Any]) -> None:
    text = WORKFLOW.read_text()
    for action in re.findall(r"uses: (\S+)", text):
        assert re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40}", action)
    assert "secrets." not in text
    assert "pull_request_target" not in text
    assert workflow["permissions"] == {"contents": "read"}
    for job in workflow["jobs"].values():
        assert "permissions" not in job
        (checkout,) = [step for step in job["steps"] if step.get("uses", "").startswith("actions/checkout@")]
        assert checkout["with"]["persist-credentials"] is False


def test_a_fork_gets_no_runner_of_the_site(workflow: dict[str, Any], pipeline: dict[str, Any]) -> None:
    jobs = workflow["jobs"]
    assert jobs["check"]["runs-on"] == "ubuntu-24.04"
    assert jobs["check"]["if"] == "github.event_name == 'pull_request'"
    assert jobs["publish"]["if"] == "github.ref_type == 'tag'"
    assert jobs["roll-out"]["needs"] == "publish"
    assert jobs["renew"]["if"] == "github.event_name == 'schedule'"
    assert "tags" not in pipeline["check"]
    for name in ON_THE_SITE:
        assert jobs[name]["runs-on"] == ["self-hosted", "edgeml"]
        assert jobs[name]["environment"]
        assert pipeline[name]["tags"] == ["edgeml"]
        assert "merge_request_event" not in str(pipeline[name]["rules"])


def test_rollouts_of_a_fleet_follow_each_other(workflow: dict[str, Any], pipeline: dict[str, Any]) -> None:
    job = workflow["jobs"]["roll-out"]
    assert job["concurrency"] == {"group": job["environment"], "cancel-in-progress": False}
    assert pipeline["roll-out"]["resource_group"] == pipeline["roll-out"]["environment"]
    assert pipeline["roll-out"]["rules"] == [{"if": "$CI_COMMIT_TAG", "when": "manual", "allow_failure": False}]
    assert pipeline["default"]["interruptible"] is False


def test_the_tools_are_those_that_the_collection_is_runtime_identity() -> None:
    wanted = dict(re.findall(r"^([\w-]+)==(\S+)", (TEMPLATE / "requirements.txt").read_text(), re.MULTILINE))
    locked = dict(re.findall(r"^([\w.-]+)==(\S+)", (REPOSITORY / "requirements-dev.txt").read_text(), re.MULTILINE))
    assert wanted == {name: locked[name] for name in wanted}
    named = set(re.findall(r"^([\w-]+)", (TEMPLATE / "requirements.txt").read_text(), re.MULTILINE))
    for file in ("requirements.txt", "requirements-publish.txt"):
        assert set(re.findall(r"^([\w-]+)", (REPOSITORY / file).read_text(), re.MULTILINE)) <= named | {"pip", "tzdata"}
