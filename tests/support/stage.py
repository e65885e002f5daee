# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Rollouts as the callback plugin sees them: real ansible-playbook runs whose tasks return what a test wrote down.

For what no four devices can show: hundreds of them, any verdict at will, results that nobody expects.
"""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from links import REPOSITORY

_ACTION = '''
import time

from ansible.errors import AnsibleConnectionFailure
from ansible.plugins.action import ActionBase


class ActionModule(ActionBase):
    """Returns its argument, after its time."""

    def run(self, tmp=None, task_vars=None):
        told = dict(self._task.args.get("told") or {})
        time.sleep(float(told.pop("seconds", 0)))
        if told.pop("away", False):
            raise AnsibleConnectionFailure("No route to host")
        return told
'''
_PLAYBOOK = Path(sys.executable).with_name("ansible-playbook")
_NAMES = ("rollout_step", "model_swap", "model_info")


@dataclass(frozen=True)
class Shown:
    """What a run showed on standard output and on standard error (on a terminal: both in ``out``), and its end."""

    code: int
    out: str
    err: str


class Stage:
    """A collection ``edgeml.fleet`` whose callback plugin is the real one, and whose tasks only tell."""

    def __init__(self, directory: Path, hosts: Sequence[str]) -> None:
        self.directory = directory
        plugins = directory / "ansible_collections/edgeml/fleet/plugins"
        (plugins / "action").mkdir(parents=True)
        for name in ("callback", "module_utils", "plugin_utils"):
            (plugins / name).symlink_to(REPOSITORY / "plugins" / name)
        for name in _NAMES:
            (plugins / "action" / f"{name}.py").write_text(_ACTION)
        inventory = {"all": {"hosts": {host: {"ansible_connection": "local"} for host in hosts}}}
        (directory / "hosts.json").write_text(json.dumps(inventory))

    def play(
        self,
        *plays: Mapping[str, Any],
        terminal: bool = False,
        options: Sequence[str] = (),
        program: Path = _PLAYBOOK,
        environment: Mapping[str, str] = MappingProxyType({}),
    ) -> Shown:
        """Run plays to their end, on a terminal of 100 columns or without one."""
        (self.directory / "playbook.yml").write_text(json.dumps(plays))
        command = [str(program), "playbook.yml", *options, "-i", "hosts.json", "-f", "5"]
        env = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.directory),
            "LC_ALL": "C.UTF-8",
            "TERM": "xterm",
            "COLUMNS": "100",
            "ANSIBLE_COLLECTIONS_PATH": str(self.directory),
            "ANSIBLE_CALLBACKS_ENABLED": "edgeml.fleet.rollout",
            "ANSIBLE_LOCALHOST_WARNING": "false",
            **environment,
        }
        if terminal:
            return _run_on_a_terminal(command, self.directory, env)
        run = subprocess.run(command, cwd=self.directory, env=env, capture_output=True, text=True)
        return Shown(run.returncode, run.stdout, run.stderr)


def _run_on_a_terminal(command: Sequence[str], directory: Path, env: Mapping[str, str]) -> Shown:
    ours, theirs = pty.openpty()
    with subprocess.Popen(command, cwd=directory, env=env, stdin=theirs, stdout=theirs, stderr=theirs) as process:
        os.close(theirs)
        seen = b""
        while True:
            try:
                part = os.read(ours, 65536)
            except OSError:  # Linux tells the end of a terminal so.
                break
            if not part:
                break
            seen += part
    os.close(ours)
    return Shown(process.returncode, seen.decode(), "")


# ---- what the tasks of a rollout tell ----


def ledger(planned: Mapping[str, Sequence[str]], state: str = "running", **fields: Any) -> dict[str, Any]:
    """The ledger of a rollout with these waves planned, before its first one."""
    return {
        "schema": 1,
        "id": "digits-1.2.0-1",
        "model": "digits",
        "version": "1.2.0",
        "state": state,
        "why": "",
        "settings": {"soak_seconds": 0},
        "plan": {"waves": [{"name": name, "hosts": list(hosts)} for name, hosts in planned.items()], "left_out": {}},
        "waves": [],
        "devices": [],
        **fields,
    }


def task(name: str, action: str, told: object, **keywords: Any) -> dict[str, Any]:
    """A task of the collection that returns ``told``: a mapping, or an expression that gives one."""
    return {"name": name, f"edgeml.fleet.{action}": {"told": told}, **keywords}


def once(name: str, told: Mapping[str, Any], action: str = "rollout_step", **keywords: Any) -> dict[str, Any]:
    """A task that runs once for all devices."""
    return task(name, action, told, run_once=True, delegate_to="localhost", **keywords)


def shows(what: str) -> dict[str, Any]:
    """What the callback plugin is told that a task shows."""
    return {"__rollout_shows": what}


def wave_tasks(verdict: str, problems: Sequence[str], document: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The tasks of one wave; ``swaps`` and ``reads`` are variables of the play, by device."""
    kept = {"ignore_errors": True, "ignore_unreachable": True}
    changed = {"changed": True}
    judged = {"step": "judge", "verdict": verdict, "checks": len(problems) + 1, "problems": list(problems)}
    judged["next"] = {"pass": "next_wave", "fail": "revert"}.get(verdict, "end")
    return [
        once("Begin the wave", {"step": "begin_wave", "next": "swap"}),
        task(
            "Bring the release",
            "model_swap",
            "{{ (swaps | default({}))[inventory_hostname] | default(changed) }}",
            vars={"changed": changed, **shows("swap")},
            **kept,
        ),
        once(
            "Wait",
            {"step": "soak", "seconds": document["settings"]["soak_seconds"]},
            vars=shows("soak"),
        ),
        task(
            "Ask the devices",
            "model_info",
            "{{ (reads | default({}))[inventory_hostname] | default({}) }}",
            vars=shows("read"),
            **kept,
        ),
        once("Ask the controls", {}, "model_info"),
        once("Judge", judged, vars=shows("judge")),
    ]


def a_play(*tasks: Mapping[str, Any], hosts: Sequence[str] = (), **keywords: Any) -> dict[str, Any]:
    """A play without facts on some hosts, or on all."""
    return {"hosts": ",".join(hosts) or "all", "gather_facts": False, "tasks": list(tasks), **keywords}
