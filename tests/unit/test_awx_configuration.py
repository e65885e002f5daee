# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What examples/awx/configure.yml asks of AWX: every call is one that the modules of awx.awx accept, by the argument
specifications that they have in their code, and every name in it is the name of something that it makes."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar

AWX = Path(__file__).parents[2] / "examples" / "awx"
(PLAY,) = DataLoader().load_from_file(str(AWX / "configure.yml"), trusted_as_template=True)
TASKS = PLAY["tasks"]
# Outside of a playbook there are no lookups.
(CREDENTIAL,) = (task["awx.awx.credential"] for task in TASKS if "awx.awx.credential" in task)
CREDENTIAL["inputs"]["ssh_key_data"] = "a key"


def specification(name: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The arguments that a module of awx.awx accepts."""
    found: list[dict[str, Any]] = []

    def stop(argument_spec: dict[str, Any], **_rules: Any) -> None:
        found.append(argument_spec)
        raise SystemExit

    module = importlib.import_module(f"ansible_collections.awx.awx.plugins.modules.{name}")
    monkeypatch.setattr(module, "ControllerAPIModule", stop)
    with pytest.raises(SystemExit):
        module.main()
    return found[0]


def calls() -> Iterator[tuple[str, dict[str, Any]]]:
    """Each call of a module with its arguments, by the variables of fleet.yml."""
    fleet = DataLoader().load_from_file(str(AWX / "fleet.yml"), trusted_as_template=True)
    omit = "what is left out"
    variables = {**fleet, **PLAY["vars"], "omit": omit}
    for task in TASKS:
        (module,) = (name for name in task if name.startswith("awx.awx."))
        items = Templar(DataLoader(), variables=variables).template(task["loop"]) if "loop" in task else [None]
        for item in items:
            templar = Templar(DataLoader(), variables={**variables, "item": item})
            arguments = {name: templar.template(value) for name, value in task[module].items()}
            yield module.rpartition(".")[2], {name: value for name, value in arguments.items() if value != omit}


def test_the_modules_accept_every_call(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = set()
    for module, arguments in calls():
        result = ArgumentSpecValidator(specification(module, monkeypatch)).validate(arguments)
        assert result.error_messages == [], (module, arguments)
        seen.add(module)
    assert len(seen) == len(TASKS)


def test_every_name_is_one_that_it_makes() -> None:
    made: dict[str, set[str]] = {}
    for module, arguments in calls():
        made.setdefault(module, set()).add(arguments.get("name", ""))
    for module, arguments in calls():
        for name, kind in (
            ("project", "project"),
            ("source_project", "project"),
            ("inventory", "inventory"),
            ("execution_environment", "execution_environment"),
            ("default_environment", "execution_environment"),
            ("unified_job_template", "job_template"),
        ):
            assert arguments.get(name) in made[kind] | {None}, (module, name)
        assert set(arguments.get("credentials", [])) <= made["credential"]
        assert (AWX / "project" / arguments.get("playbook", "")).exists()
        for node in arguments.get("workflow_nodes", []):
            template = node["unified_job_template"]
            assert template["type"] == "workflow_approval" or template["name"] in made["job_template"]


def test_the_workflow_leads_from_its_first_node_to_each_and_has_no_circle() -> None:
    nodes = {node["identifier"]: node for node in PLAY["vars"]["__awx_workflow_nodes"]}
    after = {
        name: [following["identifier"] for way in node.get("related", {}).values() for following in way]
        for name, node in nodes.items()
    }
    (first,) = set(nodes) - {name for names in after.values() for name in names}
    order = [first]
    for name in order:
        order += after[name]
    assert sorted(order) == sorted(nodes)


def test_nothing_runs_twice_at_a_time_or_sliced() -> None:
    templates = [arguments for module, arguments in calls() if module == "job_template"]
    assert all(template["allow_simultaneous"] is False for template in templates)
    assert all(template["job_slice_count"] == 1 for template in templates)


def test_the_project_names_playbooks_of_the_collection() -> None:
    playbooks = Path(__file__).parents[2] / "playbooks"
    for path in (AWX / "project").glob("*.yml"):
        for play in yaml.safe_load(path.read_text()):
            imported = play.get("ansible.builtin.import_playbook")
            assert imported is None or (playbooks / f"{imported.rpartition('.')[2]}.yml").exists()
