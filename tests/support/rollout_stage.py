# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The steps of a rollout without Ansible: what it would know, and what its tasks would register."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from controller import DIGITS
from rollouts import UNMEASURED

from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout import ledger
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.rollout import Rollout
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.steps import scene
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.steps.registry import STEPS

CLASSES = {"edge-s1": "small", "edge-s2": "small", "edge-l1": "large", "edge-l2": "large"}
DOWN = {"active": "1.0.0", "previous": None}
UP = {"active": "1.1.0", "previous": "1.0.0"}
DONE = {"changed": True, "version": "1.1.0", "before": DOWN, "after": UP, "live": "1.1.0", "active_seconds": 1.0}
NEW = {"model": {"live": "1.1.0", "replaced": "1.0.0"}}


class Stage:
    """What Ansible would know; notes the fact of each step, and registers what a test says."""

    def __init__(self, directory: Path, **variables: Any) -> None:
        self.check_mode = False
        self.process = os.getpid()
        self.scratch = str(directory / "scratch")
        self.limited = False
        self.can_ask = False
        self.operator = "ann"
        self.hosts: list[str] = sorted(CLASSES)
        self.batch: list[str] = self.hosts[:1]
        self.groups: dict[str, list[str]] = {"all": self.hosts, "edge": self.hosts}
        self.task_host = self.hosts[0]
        self.variables: dict[str, Any] = {
            "model_name": "digits",
            "model_version": "1.1.0",
            "model_repository": str(DIGITS),
            "model_repository_unsigned": True,
            "rollout_ledger": str(directory / "ledger"),
            "rollout_waves": ["25%", "100%"],
            "rollout_soak_seconds": 0,
            "rollout_limits": UNMEASURED,
            **variables,
        }
        self.given: list[str] = []
        self.host: dict[str, dict[str, Any]] = {name: {"device_class": kind} for name, kind in CLASSES.items()}
        self.results: dict[tuple[str, str], Any] = {}
        self.noted: dict[str, Any] = {}
        self.changes: dict[str, Any] = {}
        self.answer = ""
        self.said: list[str] = []

    def matching(self, pattern: str) -> list[str]:
        return list(self.groups.get(pattern, []))

    def left(self, hosts: Sequence[str]) -> list[str]:
        return [host for host in hosts if host in self.hosts or not self.limited]

    def has_plugin(self, kind: str, name: str) -> bool:
        return name in {"connection": ("local", "ssh"), "become": ("sudo",), "shell": ("sh",)}[kind]

    def role_variables(self) -> list[str]:
        return [f"model_sync_{word}" for word in ("releases", "keep")]

    def users_roles(self) -> list[str]:
        return ["rollout_notify"]

    def host_variables(self, host: str) -> Mapping[str, Any]:
        return self.host.get(host, {})

    def registered(self, host: str, name: str) -> Mapping[str, Any]:
        found: Mapping[str, Any] = self.results.get((host, name), {})
        return found

    def fact(self, name: str) -> Mapping[str, Any]:
        return self.noted if name == scene.FACT else self.changes

    def ask(self, prompt: str) -> str:
        assert self.can_ask, "nobody is at the terminal"
        return self.answer

    def say(self, line: str) -> None:
        self.said.append(line)

    def step(self, name: str, **arguments: Any) -> dict[str, Any]:
        """Run a step as the action does; its result is JSON."""
        result: dict[str, Any] = json.loads(json.dumps(STEPS[name](self, **arguments)))
        facts = result.pop("ansible_facts", {})
        self.noted = facts.get(scene.FACT, self.noted)
        self.changes = facts.get(scene.CHANGES, self.changes)
        return result

    @property
    def run(self) -> dict[str, Any]:
        """The run as its steps know it now."""
        return {**self.noted, **self.changes}

    def register(self, name: str, results: Mapping[str, Any]) -> None:
        self.results.update({(host, name): result for host, result in results.items()})

    def wave(self, number: int, swaps: Mapping[str, Any], reads: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Play one wave to its verdict, and stop there unless it passed."""
        self.batch = self.waves[number - 1]
        begun = self.step("begin_wave")
        if begun["next"] != "swap":
            return begun
        usual = dict.fromkeys(self.batch, DONE)
        self.register(scene.SWAP, {**usual, **swaps})
        if "published" in begun:
            collected = self.step("collect_swaps")
            collected["reports"].update({host: swap for host, swap in swaps.items() if host in collected["reports"]})
            self.register(scene.REPORTED, dict.fromkeys(self.batch, collected))
        while True:
            soaked = self.step("soak")
            self.register(scene.SOAKED, dict.fromkeys(self.batch, soaked))
            self.register(
                scene.READ, {host: (reads or {}).get(host, NEW) for host in self.batch if host not in soaked["unread"]}
            )
            judged = self.step("judge")
            if judged["next"] != "soak_again":
                return judged

    @property
    def waves(self) -> list[list[str]]:
        return [wave["hosts"] for wave in self.noted["waves"]]

    @property
    def ledger(self) -> Path:
        return Path(self.variables["rollout_ledger"])

    def rollout(self, name: str = "digits-1.1.0-1") -> Rollout:
        found = ledger.read(str(self.ledger / f"{name}.json"))
        assert found is not None
        return found
