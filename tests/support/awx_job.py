# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Jobs as AWX runs them: ansible-runner on a private data directory with a project, a script as inventory that holds
one slice of the hosts, and extra variables; and what AWX takes from the run's events."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ansible_runner
from links import PYTHON_PATH, REPOSITORY

PROJECT = REPOSITORY / "examples" / "awx" / "project"

Variables = Mapping[str, Any]


@dataclass(frozen=True)
class Inventory:
    """Hosts with their variables, groups with the names of their hosts, and variables for all."""

    hosts: Mapping[str, Variables]
    groups: Mapping[str, list[str]]
    variables: Variables = field(default_factory=dict)

    def sliced(self, number: int, count: int) -> Inventory:
        """Slice ``number`` (1 to ``count``): the hosts ordered by name, every ``count``-th; groups hold only those."""
        names = sorted(self.hosts)[number - 1 :: count]
        groups = {group: [name for name in members if name in names] for group, members in self.groups.items()}
        return Inventory({name: self.hosts[name] for name in names}, groups, self.variables)

    def script(self) -> str:
        """A program that prints the inventory as Ansible's inventory scripts do."""
        grouped = {name for members in self.groups.values() for name in members}
        document = {
            "all": {
                "hosts": [name for name in self.hosts if name not in grouped],
                "children": list(self.groups),
                "vars": self.variables,
            },
            **{group: {"hosts": members} for group, members in self.groups.items() if members},
            "_meta": {"hostvars": self.hosts},
        }
        return f"#!{sys.executable}\nprint({json.dumps(document)!r})\n"


@dataclass(frozen=True)
class Job:
    """A job that has ended, as AWX shows it."""

    status: str
    code: int
    artifacts: dict[str, Any]
    output: str
    events: list[dict[str, Any]]

    @property
    def failed_tasks(self) -> list[str]:
        """The names of the tasks that failed, in their order."""
        return [event["event_data"]["task"] for event in self.events if event["event"] == "runner_on_failed"]

    def result(self, task: str) -> dict[str, Any]:
        """What the one run of a task returned."""
        (found,) = [
            event["event_data"]["res"]
            for event in self.events
            if event["event"] == "runner_on_ok" and event["event_data"]["task"] == task
        ]
        return dict(found)


def run_job(directory: Path, number: int, playbook: str, inventory: Inventory, variables: Variables) -> Job:
    """Run a playbook of the example project as job ``number``, with its files below ``directory``."""
    private = directory / f"awx_{number}"
    shutil.copytree(PROJECT, private / "project")
    (private / "inventory").mkdir()
    hosts = private / "inventory" / "hosts"
    hosts.write_text(inventory.script())
    hosts.chmod(0o700)
    (private / "cp").mkdir()
    runner = ansible_runner.run(
        private_data_dir=str(private),
        ident=str(number),
        playbook=playbook,
        extravars={**variables, "awx_job_id": number, "tower_job_id": number},
        envvars={
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "HOME": str(private),
            "LC_ALL": "C.UTF-8",
            "ANSIBLE_COLLECTIONS_PATH": str(PYTHON_PATH),
            "ANSIBLE_REMOTE_TMP": str(private / "remote-tmp"),
            "ANSIBLE_RETRY_FILES_ENABLED": "False",
            "ANSIBLE_SSH_CONTROL_PATH_DIR": str(private / "cp"),
        },
        quiet=True,
    )
    events = list(runner.events)
    artifacts: dict[str, Any] = {}
    for event in events:
        artifacts = event.get("event_data", {}).get("artifact_data") or artifacts
    with runner.stdout as output:
        return Job(runner.status, runner.rc, artifacts, output.read(), events)
