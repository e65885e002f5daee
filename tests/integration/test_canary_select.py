# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Plans in Ansible: the documentation's examples as they are printed, and an inventory in slices as AWX makes them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from controller import Ansible, Run
from links import REPOSITORY

from ansible_collections.edgeml.fleet.plugins.filter import (
    canary_select,
    cohort_hosts,
    window_open,
    window_opening,
)
from ansible_collections.edgeml.fleet.plugins.modules import canary_select as module

GUIDE = (REPOSITORY / "docs" / "cohorts.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", GUIDE, re.MULTILINE | re.DOTALL)
FILES = {content.split("\n", 1)[0].removeprefix("# "): content for kind, content in BLOCKS if kind == "yaml"}
(SHOWN,) = (content.splitlines() for kind, content in BLOCKS if not kind)
INVENTORY = yaml.safe_load(FILES["inventory.yml"])


@pytest.fixture
def ansible(tmp_path: Path) -> Ansible:
    """Ansible with the guide's playbook and inventory."""
    found = Ansible(tmp_path, [])
    (found.directory / "plan.yml").write_text(FILES["plan.yml"])
    write_inventory(found, INVENTORY)
    return found


def write_inventory(ansible: Ansible, inventory: Any) -> None:
    (ansible.directory / "hosts.json").write_text(json.dumps(inventory))


def shown(run: Run) -> list[str]:
    """The waves that the guide's playbook shows; none if no host was there."""
    assert run.code == 0, run
    (lines,) = {json.dumps(result["msg"]) for result in run.results("Show the waves").values()} or {"[]"}
    found: list[str] = json.loads(lines)
    return found


def by_name(lines: list[str]) -> dict[str, list[str]]:
    return {name: hosts.split() for name, hosts in (line.split(": ") for line in lines)}


def test_the_guide_shows_what_its_example_shows(ansible: Ansible) -> None:
    assert shown(ansible.run("plan.yml")) == SHOWN


def test_limited_to_a_host_it_has_the_wave_that_it_has_in_the_fleet(ansible: Ansible) -> None:
    name = next(name for name, hosts in by_name(SHOWN).items() if "cam4" in hosts)
    assert shown(ansible.run("plan.yml", "--limit", "cam4")) == [f"{name}: cam4"]


def sliced(inventory: dict[str, Any], number: int) -> list[dict[str, Any]]:
    """The inventories of an AWX job's slices: every n-th host by name; a group has only those of its hosts."""
    classes = inventory["edge"]["children"]
    names = sorted(name for group in classes.values() for name in group["hosts"])
    slices = []
    for index in range(number):
        some = set(names[index::number])
        children = {
            name: {
                "vars": group["vars"],
                "hosts": {host: group["hosts"][host] for host in group["hosts"] if host in some},
            }
            for name, group in classes.items()
        }
        canaries = {host: None for host in inventory["canary"]["hosts"] if host in some}
        slices.append({"edge": {"children": children}, "canary": {"hosts": canaries}})
    return slices


@pytest.mark.parametrize("number", [2, 3])
def test_all_slices_together_have_the_unsliced_waves(ansible: Ansible, number: int) -> None:
    whole = ansible.run("plan.yml")
    together: dict[str, list[str]] = {}
    for inventory in sliced(INVENTORY, number):
        write_inventory(ansible, inventory)
        for name, hosts in by_name(shown(ansible.run("plan.yml", **whole.custom_stats))).items():
            together.setdefault(name, []).extend(hosts)
    assert {name: sorted(hosts) for name, hosts in together.items()} == {
        name: sorted(hosts) for name, hosts in by_name(SHOWN).items()
    }


@pytest.mark.end_to_end
def test_seven_slices_of_three_hosts(ansible: Ansible) -> None:
    inventory = {
        "edge": {
            "children": {
                "cameras": {"vars": {"device_class": "small"}, "hosts": {"cam1": {}, "cam2": {}}},
                "gateways": {"vars": {"device_class": "large"}, "hosts": {"gw1": {}}},
            }
        },
        "canary": {"hosts": {"cam2": None}},
    }
    write_inventory(ansible, inventory)
    whole = ansible.run("plan.yml")
    together: list[str] = []
    for part in sliced(inventory, 7):
        write_inventory(ansible, part)
        together += shown(ansible.run("plan.yml", **whole.custom_stats))
    expected = [f"{name}: {host}" for name, hosts in by_name(shown(whole)).items() for host in hosts]
    assert len(expected) == 3
    assert sorted(together) == sorted(expected)


@pytest.mark.parametrize("check", [False, True])
def test_the_module_does_as_its_documentation_says(ansible: Ansible, check: bool) -> None:
    (task,) = yaml.safe_load(module.EXAMPLES)
    samples = {name: field["sample"] for name, field in yaml.safe_load(module.RETURN).items()}
    arguments = task["edgeml.fleet.canary_select"]
    play = {
        "hosts": "localhost",
        "gather_facts": False,
        "tasks": [
            {**task, "name": "module", "check_mode": check},
            {
                "name": "filter",
                "ansible.builtin.debug": {
                    "msg": "{{ hosts | edgeml.fleet.canary_select(waves=wanted, salt=salt) }}",
                },
                "vars": {"hosts": arguments["hosts"], "wanted": arguments["waves"], "salt": arguments["salt"]},
            },
        ],
    }
    (ansible.directory / "module.yml").write_text(json.dumps([play]))
    run = ansible.run("module.yml")
    assert run.code == 0, run
    result, filtered = run.results("module")["localhost"], run.results("filter")["localhost"]["msg"]
    assert result["changed"] is False
    assert {name: result[name] for name in samples} == filtered
    assert {name: result[name] for name in ("waves", "left_out", "controls")} == {
        name: samples[name] for name in ("waves", "left_out", "controls")
    }
    for wave, sample in zip(result["boundaries"]["waves"], samples["boundaries"]["waves"], strict=True):
        assert {**wave, "below": {name: round(place, 4) for name, place in wave["below"].items()}} == sample


def test_the_module_says_what_is_wrong(ansible: Ansible) -> None:
    task = {"edgeml.fleet.canary_select": {"hosts": {"a": "small"}, "waves": [10, 50], "salt": "digits"}}
    play = {"hosts": "localhost", "gather_facts": False, "tasks": [{**task, "name": "module"}]}
    (ansible.directory / "module.yml").write_text(json.dumps([play]))
    run = ansible.run("module.yml")
    assert run.code == 2
    assert run.results("module")["localhost"]["msg"] == (
        'waves: expected "100%" as the last one (a number without % is a count); found 50'
    )


def test_the_examples_of_the_filters_run(ansible: Ansible) -> None:
    tasks = [
        task
        for plugin in (canary_select, cohort_hosts, window_open, window_opening)
        for task in yaml.safe_load(plugin.EXAMPLES)
    ]
    for task in tasks:
        # Whether the window is open depends on the time of day.
        task["ignore_errors"] = "ansible.builtin.assert" in task
    play = {"hosts": "localhost", "gather_facts": False, "tasks": tasks}
    (ansible.directory / "examples.yml").write_text(json.dumps([play]))
    run = ansible.run("examples.yml")
    assert run.code == 0, run
    assert run.results("Name the canaries")["localhost"]["msg"] == ["edge-l2", "edge-s1"]
    hosts = run.results("Make the hosts of a plan, each kind of hardware at each site a device class")["localhost"][
        "msg"
    ]
    assert hosts["gw1"] == {"device_class": "large / plant-a"}
    assert hosts["cam2"] == {"device_class": "small / plant-a", "pinned": "shown to a customer"}
    assert run.results("Say when the window opens")["localhost"]["msg"].endswith("Z")
    told = run.results("Go on only at night and on weekends")["localhost"]["msg"]
    assert told in ("All assertions passed", "Assertion failed")
