# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""``device_setup`` by Ansible: check and diff mode, tags, templates, and a connection without standard input."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from controller import Ansible, Run

SECRET = "correct horse battery"
# With su, Ansible keeps standard input for the password: the request goes by a file.
HOSTS: dict[str, dict[str, Any]] = {
    "root": {"ansible_connection": "local"},
    "su": {"ansible_connection": "local", "ansible_become": True, "ansible_become_method": "ansible.builtin.su"},
}


class Case:
    """A playbook that sets up a directory on each host."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.ansible = Ansible(directory, [], **HOSTS)
        # Or root's su to root would be left out.
        (self.ansible.directory / "ansible.cfg").write_text("[privilege_escalation]\nbecome_allow_same_user = true\n")
        templates = self.ansible.directory / "templates"
        templates.mkdir()
        # On old versions of Ansible, what a template returns becomes a mapping where it looks like one.
        (templates / "server.json").write_text('{"port": {{ 8000 + 80 }}}\n')

    def play(self, *options: str, **settings: Any) -> Run:
        root = f"{self.directory}/{{{{ inventory_hostname }}}}"
        files = [
            {"path": f"{root}/server.json", "template": "server.json", "mode": "0640"},
            {"path": f"{root}/key.pem", "content": SECRET, "mode": "0600", "secret": True},
        ]
        other = [{"path": f"{root}/other", "content": "other\n", "mode": "0644"}]
        parts = [
            {"tags": ["mine"], "directories": [{"path": root, "mode": "0750"}], "files": files},
            {"tags": ["others"], "files": other},
        ]
        task = {"name": "Set up", "edgeml.fleet.device_setup": {"parts": parts, **settings}, "tags": ["mine", "others"]}
        play = {"hosts": "edge", "gather_facts": False, "tasks": [task]}
        (self.ansible.directory / "play.yml").write_text(json.dumps([play]))
        return self.ansible.run("play.yml", *options)

    def files(self) -> dict[str, tuple[str, int, str]]:
        """Mode, inode and content of what is on the hosts, by path."""
        found = {}
        for path in sorted(
            path for name in HOSTS for path in [self.directory / name, *self.directory.glob(f"{name}/*")]
        ):
            if path.exists():
                status = path.stat()
                text = path.read_text() if path.is_file() else ""
                found[str(path.relative_to(self.directory))] = (oct(status.st_mode), status.st_ino, text)
        return found


@pytest.fixture
def case(tmp_path: Path) -> Case:
    return Case(tmp_path)


def test_it_is_checked_done_and_left_alone(case: Case) -> None:
    check, run, check_again, run_again = (case.play("--diff", *more) for more in (["--check"], [], ["--check"], []))
    assert [done.code for done in (check, run, check_again, run_again)] == [0, 0, 0, 0]
    for host in HOSTS:
        would, did, would_again, did_again = (
            done.results("Set up")[host] for done in (check, run, check_again, run_again)
        )
        assert would["changes"] == did["changes"]
        assert would["diff"] == did["diff"]
        assert [change["subject"] for change in did["changes"]] == [
            str(case.directory / host / name) for name in (".", "server.json", "key.pem", "other")
        ]
        assert [shown["after"] for shown in did["diff"][1:3]] == ['{"port": 8080}\n', "(new content, not shown)\n"]
        assert SECRET not in json.dumps([did, would])
        for again in (would_again, did_again):
            assert (again["changed"], again["changes"]) == (False, [])
        files = case.files()
        assert files[f"{host}/server.json"][::2] == ("0o100640", '{"port": 8080}\n')
        assert files[f"{host}/key.pem"][::2] == ("0o100600", SECRET)
        assert files[host][0] == "0o40750"
    assert list(case.ansible.directory.glob("remote-tmp/*")) == [], "nothing is left of the request"


def test_check_mode_touches_nothing(case: Case) -> None:
    assert case.play("--check").code == 0
    assert case.files() == {}
    case.play()
    files = case.files()
    for host in HOSTS:
        (case.directory / host / "server.json").chmod(0o600)
    changed = case.files()
    results = case.play("--check").results("Set up")
    assert case.files() == changed != files
    for host, result in results.items():
        assert result["changes"] == [
            {
                "subject": str(case.directory / host / "server.json"),
                "before": "file root:root 0600",
                "after": "file root:root 0640",
            }
        ]


def test_tags_choose_parts(case: Case) -> None:
    assert case.play("--tags", "others").code == 0
    assert {Path(path).name for path in case.files()} == {*HOSTS, "other"}
    assert case.play("--tags", "mine").code == 0
    assert {Path(path).name for path in case.files()} == {*HOSTS, "other", "server.json", "key.pem"}


def test_another_kind_of_device_is_refused_untouched(case: Case) -> None:
    run = case.play(requires={"architecture": ["sparc64"]})
    for result in run.results("Set up").values():
        assert result["failed"]
        assert result["msg"].startswith("architecture: expected sparc64, but found ")
    assert case.files() == {}


@pytest.mark.parametrize(("retry_seconds", "unreachable"), [(600, False), (0, True)])
def test_a_device_whose_become_is_slow_is_tried_again(case: Case, retry_seconds: int, unreachable: bool) -> None:
    slow = case.directory / "slow-su"
    # Slower than Ansible waits, the first time.
    slow.write_text(f'#!/bin/sh\nif mkdir {case.directory}/called 2>/dev/null; then sleep 30; fi\nexec su "$@"\n')
    slow.chmod(0o755)
    settings = {"ansible_become_exe": str(slow), "ansible_local_become_success_timeout": 1}
    run = case.play("--limit", "su", "-e", json.dumps(settings), retry_seconds=retry_seconds)
    result = run.results("Set up")["su"]
    if unreachable:
        assert result["unreachable"]
        assert "Timed out waiting for become success" in result["msg"]
        assert case.files() == {}
    else:
        assert result["changed"]
        assert "su: the connection failed, the next attempt is in 2 s: " in str(result["warnings"]) + run.stderr
        assert "su/server.json" in case.files()
