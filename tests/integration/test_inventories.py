# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Inventories and configurations as people have them: each device is where the plan says, or it is said why not."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from sites import Site


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path, command=True)


LONG = "plant-" + "a" * 240
NAMES = [LONG, "fd00::7", "gerät-1", "localhost", "rack 1: left", "0", "all-of-it", "{{ no_template }}", "edge"]


def test_names_of_every_kind(site: Site) -> None:
    """Very long ones, addresses, words of Ansible's own, what looks like a template, a group's own name."""
    hosts = {name: {"number": number} for number, name in enumerate(NAMES)}
    site.write("hosts.json", {"all": {"children": {"edge-devices": {"hosts": hosts, "vars": site.variables()}}}})
    run = site.rollout("-i", "hosts.json", rollout_hosts="edge-devices", rollout_waves=["30%", "100%"])
    assert run.code == 0, run
    assert site.outcomes == dict.fromkeys(NAMES, "updated")
    assert [site.active(number) for number in range(len(NAMES))] == ["1.0.0"] * len(NAMES)


def test_a_fleet_of_several_groups_and_answers_that_nobody_gave(site: Site) -> None:
    """As a survey gives them: an empty text for each question that is optional."""
    groups = {name: {"hosts": {f"{name}-1": {"number": number}}} for number, name in enumerate(("edge", "lab"))}
    site.write("hosts.json", {"all": {"vars": site.variables(), "children": groups}})
    optional = ("reason", "window", "approved", "concurrency", "attempt", "salt", "max_unavailable", "boundaries")
    empty = dict.fromkeys([f"rollout_{name}" for name in optional], "")
    run = site.rollout("-i", "hosts.json", rollout_hosts=["edge", "lab"], rollout_waves=["100%"], **empty)
    assert run.code == 0, run
    assert site.outcomes == {"edge-1": "updated", "lab-1": "updated"}


# What a configuration of other playbooks may have. `free` and merged mappings change what a play means.
CONFIGURATION = """\
[defaults]
any_errors_fatal = true
fact_caching = jsonfile
fact_caching_connection = facts
gathering = implicit
hash_behaviour = merge
inject_facts_as_vars = false
strategy = free
vault_password_file = vault-password
"""
CONSTRUCTED = """\
plugin: ansible.builtin.constructed
strict: false
keyed_groups:
  - {key: device_class | string, prefix: class, separator: "_"}
groups:
  pilot: number | int == 3 or number | int == 1
"""


def vaulted(site: Site, value: str) -> str:
    """A value as ``ansible-vault encrypt_string`` prints it."""
    program = str(Path(sys.executable).with_name("ansible-vault"))
    command = [program, "encrypt_string", value]
    return subprocess.run(
        command,
        cwd=site.ansible.directory,
        check=True,
        capture_output=True,
        text=True,
        env={"HOME": str(site.directory)},
    ).stdout.strip()


def test_inventories_of_several_sources(site: Site) -> None:
    """An INI file with the class of one host only, a second file that names a host again, constructed groups, files
    with Windows' line ends, vaulted values, variables from a JSON file; and a host in two of the waves' groups."""
    site.write("vault-password", "correct horse\n")
    site.write("ansible.cfg", CONFIGURATION)
    lines = [f"edge-{number} number={number}" for number in range(6)]
    site.write("sources/1.ini", "\n".join(["[edge]", *lines, "", "[edge:vars]", "device_class=4", ""]))
    site.write(
        "sources/2.yml",
        "canary: {hosts: {edge-1: , edge-9: {number: 9}}}\nedge: {hosts: {edge-0: {device_class: old}}}\n",
    )
    site.write("sources/3.constructed.yml", CONSTRUCTED)
    variables = site.variables()
    repository = variables.pop("model_repository")
    site.write("sources/group_vars/all.json", variables)
    site.write("sources/group_vars/edge/vault.yml", f"model_repository: {vaulted(site, repository)}\n")
    # A reason that is false is none, however it is written.
    site.write("sources/host_vars/edge-2.yml", "---\r\nrollout_pinned: 'false'\r\nrollout_maintenance: 'no'\r\n")
    site.write("sources/host_vars/edge-5.yml", "rollout_pinned: at the fair\r\n")
    site.write("rollout.json", {"rollout_waves": ["canary", "pilot", "class_4", "100%"], "rollout_keep": "2"})
    run = site.rollout("-i", "sources", "-e", "@rollout.json")
    assert run.code == 0, run
    assert site.outcomes == {**{f"edge-{number}": "updated" for number in range(5)}, "edge-5": "pinned"}
    waves = {wave["name"]: set(wave["hosts"]) for wave in site.book["plan"]["waves"]}
    assert list(waves) == ["canary", "pilot", "class_4", "100%"], (waves, run)
    assert waves["canary"] == {"edge-1"}, "of the fleet's canaries; one is of no other group"
    assert waves["pilot"] == {"edge-3"}, "a host is in the first of its waves"
    assert waves["class_4"] == {"edge-2", "edge-4"}
    assert site.active(5) is None
    again = site.rollout("-i", "sources", "-e", "@rollout.json")
    assert again.code == 0, again
    assert {host for host, counts in again.stats.items() if counts["changed"]} == set()


def test_a_limit_leaves_everybody_in_their_wave(site: Site) -> None:
    hosts = {f"edge-{number}": {"number": number} for number in range(6)}
    site.write("hosts.json", {"all": {"vars": site.variables(), "children": {"edge": {"hosts": hosts}}}})
    everybody = site.rollout("-i", "hosts.json", rollout_plan_only=True).results("Plan the rollout")
    (planned,) = everybody.values()
    last = planned["waves"][-1]["hosts"]
    run = site.rollout("-i", "hosts.json", "--limit", ",".join([*last[:2], "not-there"]))
    assert run.code == 0, run
    assert site.outcomes == dict.fromkeys(last[:2], "updated")
    assert [wave["number"] for wave in site.book["plan"]["waves"]] == [planned["waves"][-1]["number"]]


@pytest.mark.parametrize(
    "variables",
    [{"ansible_connection": "carrier-pigeon"}, {"ansible_become": True, "ansible_become_method": "magic"}],
    ids=["connection", "become"],
)
def test_a_plugin_that_the_controller_lacks_is_named_at_the_plan(site: Site, variables: dict[str, Any]) -> None:
    hosts = {"edge-1": {"number": 1}, "edge-2": {"number": 2, **variables}}
    site.write("hosts.json", {"all": {"vars": site.variables(), "children": {"edge": {"hosts": hosts}}}})
    run = site.rollout("-i", "hosts.json")
    assert run.code == 2, run
    (wrong,) = (name for name, value in variables.items() if value is not True)
    assert run.custom_stats["rollout_problem"].startswith(f"edge-2: {wrong}: expected a "), run
    assert site.active(1) is None


def test_a_variable_that_cannot_be_read_is_named_with_its_device(site: Site) -> None:
    bad = {"number": 0, "rollout_server": {"store": "{{ nothing_of_that_name }}", "strategy": "none"}}
    hosts = {"edge-1": {"number": 1}, "edge-2": bad}
    site.write("hosts.json", {"all": {"vars": site.variables(), "children": {"edge": {"hosts": hosts}}}})
    run = site.rollout("-i", "hosts.json")
    assert run.code == 2, run
    assert run.custom_stats["rollout_problem"].startswith("edge-2: rollout_server: "), run
    assert "'nothing_of_that_name' is undefined" in run.custom_stats["rollout_problem"]
    assert site.active(1) is None
