# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Ansible, run as its users run it, on local devices; with what each task returned."""

from __future__ import annotations

import json
import os
import pty
import shutil
import subprocess
import sys
import tempfile
import time
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from device import Device
from links import PYTHON_PATH, REPOSITORY

DIGITS = REPOSITORY / "examples" / "digits" / "repository"
# Another Ansible than that of the tests: the directory of its programs, and where it has the collection (tools/matrix).
_ANSIBLE = os.environ.get("EDGEML_TEST_ANSIBLE")
_PLAYBOOK = str(Path(_ANSIBLE or Path(sys.executable).parent) / "ansible-playbook")


def _command(playbook: str, *options: str, **variables: Any) -> list[str]:
    return [_PLAYBOOK, playbook, "-i", "hosts.json", "-e", json.dumps(variables), *options]


@dataclass(frozen=True)
class Run:
    """A finished run: its exit code, and what it returned of each task by the task's name and the host."""

    code: int
    document: Mapping[str, Any]
    stderr: str

    def __repr__(self) -> str:
        """The exit code, and what each failed task said."""
        lines = [f"exit code {self.code}", self.stderr]
        for play in self.document["plays"]:
            for task in play["tasks"]:
                for host, result in task["hosts"].items():
                    if result.get("failed") or result.get("unreachable"):
                        lines.append(f"{task['task']['name']}: {host}: {result.get('msg')}")
        return "\n".join(lines)

    def results(self, task: str) -> dict[str, dict[str, Any]]:
        """The results of a task by host."""
        tasks = [item for play in self.document["plays"] for item in play["tasks"]]
        named = [item for item in tasks if item["task"]["name"].split(" : ")[-1] == task]
        return {host: result for item in named for host, result in item["hosts"].items()}

    @property
    def stats(self) -> dict[str, dict[str, int]]:
        """The recap by host."""
        found: dict[str, dict[str, int]] = self.document["stats"]
        return found

    @property
    def custom_stats(self) -> dict[str, Any]:
        """What the run told workflows by set_stats."""
        found: dict[str, Any] = self.document["global_custom_stats"]
        return found


class Ansible:
    """Runs playbooks on ``devices``, from a directory of its own."""

    def __init__(self, directory: Path, devices: Sequence[Device], **hosts: Mapping[str, Any]) -> None:
        self.directory = directory / "controller"
        self.directory.mkdir()
        self.devices = devices
        # Settings of Ansible by its variables of the environment, beside those that every test has.
        self.environment: dict[str, str] = {}
        # A Unix socket's path has at most 107 bytes.
        self._control_paths = tempfile.mkdtemp(prefix="ssh-")
        weakref.finalize(self, shutil.rmtree, self._control_paths, ignore_errors=True)
        hosts = {**hosts, **{device.name: device.inventory() for device in devices}}
        # A test of what is signed says so.
        variables = {"model_repository": str(DIGITS), "model_repository_unsigned": True}
        inventory = {"all": {"vars": variables, "children": {"edge": {"hosts": hosts}}}}
        (self.directory / "hosts.json").write_text(json.dumps(inventory))
        self.configure()

    def configure(self, *settings: str) -> None:
        """Write ``ansible.cfg`` with ``settings`` of its section ``[defaults]``, beside what every test has there."""
        # As in this repository's own: at the default, asking whether forks are done is a good part of the work.
        lines = ["[defaults]", "internal_poll_interval = 0.01", *settings]
        (self.directory / "ansible.cfg").write_text("".join(f"{line}\n" for line in lines))

    def start(self, playbook: str, *options: str, **variables: Any) -> subprocess.Popen[str]:
        """Start a playbook of the collection (by its FQCN) or a file."""
        return subprocess.Popen(
            _command(playbook, *options, **variables),
            cwd=self.directory,
            env=self._environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def on_terminal(self, playbook: str, question: str, typed: str, **variables: Any) -> tuple[int, str]:
        """Run a playbook with a person at its terminal, who types this once asked; its code, and all that was shown."""
        child, terminal = pty.fork()
        if not child:
            os.chdir(self.directory)
            command = _command(playbook, **variables)
            os.execve(command[0], command, {**self._environment(), "TERM": "dumb"})
        shown = b""
        while True:
            try:
                part = os.read(terminal, 65536)
            except OSError:  # Linux tells the end of a terminal so.
                break
            shown += part
            if typed and question.encode() in shown:
                time.sleep(1)  # What is typed before the terminal is read is thrown away.
                os.write(terminal, f"{typed}\n".encode())
                typed = ""
        os.close(terminal)
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), shown.decode(errors="replace")

    def _environment(self) -> dict[str, str]:
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self.directory),
            "ANSIBLE_CONFIG": str(self.directory / "ansible.cfg"),
            "ANSIBLE_COLLECTIONS_PATH": os.environ.get("EDGEML_TEST_COLLECTIONS") or str(PYTHON_PATH),
            "ANSIBLE_STDOUT_CALLBACK": "results",
            "ANSIBLE_CALLBACK_PLUGINS": str(Path(__file__).with_name("callback")),
            "ANSIBLE_LOCALHOST_WARNING": "false",
            "ANSIBLE_PIPELINING": "true",
            "ANSIBLE_SSH_CONTROL_PATH_DIR": self._control_paths,
            "ANSIBLE_SHOW_CUSTOM_STATS": "true",
            "ANSIBLE_REMOTE_TMP": str(self.directory / "remote-tmp"),
            "LC_ALL": "C.UTF-8",
            **self.environment,
        }

    def run(self, playbook: str, *options: str, **variables: Any) -> Run:
        """Run a playbook to its end."""
        return self.finish(self.start(playbook, *options, **variables))

    @staticmethod
    def finish(process: subprocess.Popen[str]) -> Run:
        """Wait for a playbook that was started."""
        with process:
            stdout, stderr = process.communicate()
        assert stdout.startswith("{"), stdout + stderr
        assert "[DEPRECATION WARNING]" not in stderr, stderr
        return Run(process.returncode, json.loads(stdout), stderr)

    def tasks(self, *tasks: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Run tasks, one after the other, whatever becomes of them, on the one device; return their results."""
        (device,) = self.devices
        named = [{"name": str(number), "ignore_errors": True, **task} for number, task in enumerate(tasks)]
        playbook = self.directory / "tasks.yml"
        playbook.write_text(json.dumps([{"hosts": device.name, "gather_facts": False, "tasks": named}]))
        run = self.run("tasks.yml")
        assert run.code == 0, run
        return [run.results(str(number))[device.name] for number in range(len(tasks))]

    def four_ways(self, *tasks: Mapping[str, Any]) -> list[FourWays]:
        """Run each task in check mode and for real, and both again, with diff mode and the store's files between."""
        (device,) = self.devices
        command = f"find {device.root} -printf '%p %i %s %m %T@\\n'"
        files = {
            "ansible.builtin.debug": {"msg": "{{ lookup('ansible.builtin.pipe', command) }}"},
            "vars": {"command": command},
        }
        steps: list[Mapping[str, Any]] = [files]
        for task in tasks:
            for check in (True, False, True, False):
                steps += [{**task, "check_mode": check, "diff": True}, files]
        results = self.tasks(*steps)
        found = []
        for start in range(0, len(results) - 1, 8):
            first, second, third, fourth = results[start + 1 : start + 9 : 2]
            listings = [result["msg"] for result in results[start : start + 9 : 2]]
            found.append(FourWays(first, second, third, fourth, listings))
        return found


@dataclass(frozen=True)
class FourWays:
    """What a task returned, and what files the store had before, between and after."""

    check: dict[str, Any]
    run: dict[str, Any]
    check_again: dict[str, Any]
    run_again: dict[str, Any]
    files: list[str]

    def must_be_exact(self) -> FourWays:
        """Check mode told what came and touched nothing; the second time nothing was to do; return itself."""
        for result in (self.check, self.run, self.check_again, self.run_again):
            assert not result.get("failed"), result["msg"]
        assert (self.check["changed"], self.run["changed"]) == (True, True)
        assert (self.check_again["changed"], self.run_again["changed"]) == (False, False)
        for field in ("before", "after", "diff"):
            assert self.check[field] == self.run[field]
            assert self.check_again[field] == self.run_again[field]
        assert self.check_again["before"] == self.check_again["after"] == self.run["after"]
        assert self.run_again["diff"]["before"] == self.run_again["diff"]["after"] == self.run["diff"]["after"]
        assert self.run["live"] == self.run["diff"]["after"]["live"]
        pristine, after_check, after_run, after_second_check, after_second_run = self.files
        assert pristine == after_check
        assert after_run == after_second_check == after_second_run
        assert pristine != after_run
        return self
