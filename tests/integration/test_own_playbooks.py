# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Playbooks and settings of a user's own around the collection's: imported, in batches, with other output and order."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from sites import Site

RELEASE = {"model_name": "plain", "model_version": "1.0.0"}
SETTINGS = """\
[defaults]
any_errors_fatal = true
callbacks_enabled = edgeml.fleet.rollout
fact_caching = jsonfile
fact_caching_connection = facts
gathering = smart
strategy = host_pinned
"""
# How Ansible finds a device's Python.
INTERPRETERS = ["auto", "auto_silent", sys.executable]


@pytest.fixture
def site(tmp_path: Path) -> Site:
    made = Site(tmp_path, command=False)
    hosts = {
        f"edge-{number}": {"number": number, "ansible_python_interpreter": interpreter}
        for number, interpreter in enumerate(INTERPRETERS)
    }
    variables = made.variables(ansible_interpreter_python_fallback=[sys.executable])
    made.write("hosts.json", {"all": {"vars": variables, "children": {"edge": {"hosts": hosts}}}})
    return made


def write_playbook(site: Site, *plays: dict[str, Any]) -> str:
    (site.ansible.directory / "own.yml").write_text(json.dumps(plays))
    return "own.yml"


def part_of_role(name: str) -> dict[str, Any]:
    return {
        "name": name,
        "ansible.builtin.import_role": {"name": "edgeml.fleet.rollout", "tasks_from": name, "rolespec_validate": False},
    }


@pytest.mark.end_to_end
def test_an_imported_playbook_with_settings_that_change_what_a_play_means(site: Site) -> None:
    """One fork, output as JSON beside the progress, and facts of an earlier run in the cache."""
    site.write("ansible.cfg", SETTINGS)
    site.ansible.environment["ANSIBLE_STDOUT_CALLBACK"] = "ansible.posix.json"
    variables = {**RELEASE, "rollout_waves": [1, "100%"]}
    playbook = write_playbook(site, {"import_playbook": "edgeml.fleet.rollout", "vars": variables})
    for _first_and_again in range(2):
        run = site.ansible.run(playbook, "--forks", "1")
        assert run.code == 0, run
        assert [len(wave["outcomes"]) for wave in site.book["waves"]] == [1, 2]
        assert "PASSED: every wave passed" in run.stderr
    assert [site.active(number) for number in range(len(INTERPRETERS))] == ["1.0.0"] * len(INTERPRETERS)


def test_a_play_in_batches_of_its_own_begins_no_wave(site: Site) -> None:
    """Batches that are not the planned waves: the rollout pauses before it touches a device, and says what differs."""
    site.ansible.environment["ANSIBLE_STDOUT_CALLBACK"] = "minimal"
    variables = {
        "rollout_model": "plain",
        "rollout_version": "1.0.0",
        "rollout_repository": str(site.directory / "repository"),
        "rollout_waves": [1, "100%"],
    }
    tasks = [part_of_role(name) for name in ("plan", "wave", "revert", "close")]
    play = {"hosts": "edge", "serial": 2, "gather_facts": False, "vars": variables, "tasks": tasks}
    with site.ansible.start(write_playbook(site, play)) as process:
        stdout, _stderr = process.communicate()
    assert "wave 1 (1) was planned with 1 devices, and Ansible plays 2: not of the wave: " in stdout
    assert site.book["waves"] == []
    assert [site.active(number) for number in range(len(INTERPRETERS))] == [None] * len(INTERPRETERS)


@pytest.mark.end_to_end
@pytest.mark.parametrize(("typed", "code", "devices"), [("yes", 0, 3), ("no", 2, 1)])
def test_a_person_at_the_terminal_is_asked_for_a_wave(site: Site, typed: str, code: int, devices: int) -> None:
    """As ``ansible.builtin.pause`` would ask, in the step that begins the wave."""
    variables = {**RELEASE, "rollout_waves": [1, "100%"], "rollout_approve_after": [1]}
    question = "Wave 2 (100%) has 2 devices. Type yes to go on"
    ended, shown = site.ansible.on_terminal("edgeml.fleet.rollout", question, typed, **variables)
    assert ended == code, shown
    assert [site.active(number) for number in range(len(INTERPRETERS))].count("1.0.0") == devices
    agreed = [wave.get("agreed") for wave in site.book["waves"]]
    assert (len(agreed), bool(agreed[-1])) == ((2, True) if typed == "yes" else (1, False))


def test_a_full_disk_of_the_controller_is_not_said_to_be_the_devices(site: Site) -> None:
    temporary = site.directory / "temporary"
    temporary.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(temporary)], check=True)
    try:
        (temporary / "full").write_bytes(b"x" * 60_000)
        site.ansible.environment["ANSIBLE_LOCAL_TEMP"] = str(temporary)
        run = site.rollout("-i", "hosts.json", rollout_waves=["100%"])
    finally:
        subprocess.run(["umount", str(temporary)], check=True)
    assert run.code == 2, run
    assert site.outcomes == {f"edge-{number}": "refused" for number in range(len(INTERPRETERS))}, run
    for row in site.book["devices"]:
        assert row["detail"].startswith("the controller could not do its part: OSError: [Errno 28] No space left"), row


def test_the_role_as_a_whole_says_which_playbook_it_belongs_to(site: Site) -> None:
    run = site.ansible.run(
        write_playbook(site, {"hosts": "edge", "gather_facts": False, "roles": ["edgeml.fleet.rollout"]}), **RELEASE
    )
    assert run.code == 2, run
    assert "import the playbook edgeml.fleet.rollout instead" in repr(run)
