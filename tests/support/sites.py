# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A fleet on this machine, by an inventory as its owner writes it."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from controller import Ansible, Run
from device_app import command_shell
from releases import make_release, publish
from rollouts import UNMEASURED

from ansible_collections.edgeml.fleet.plugins.module_utils._device.store import Store


class Site:
    """Devices on this machine that hold a release and serve it with nobody to tell, in the reader's own inventory.

    With ``command`` they have the command ``edgeml``; without, Ansible sends them modules.
    """

    def __init__(self, directory: Path, *, command: bool) -> None:
        self.directory = directory
        self.shell = str(command_shell(directory)) if command else "/bin/sh"
        publish(make_release("1.0.0", model="plain", files={"model.bin": b"weights"}), directory / "repository")
        self.ansible = Ansible(directory, [])
        (self.ansible.directory / "hosts.json").unlink()
        for number in range(40):
            (directory / "stores" / str(number)).mkdir(parents=True)

    def write(self, name: str, content: str | Mapping[str, Any]) -> None:
        """Write a file beside the inventory."""
        path = self.ansible.directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content if isinstance(content, str) else json.dumps(content), newline="")

    def variables(self, **more: Any) -> dict[str, Any]:
        """Variables of every host: each has a store of its own, by its number."""
        return {
            "ansible_connection": "local",
            "ansible_become": False,
            "ansible_python_interpreter": sys.executable,
            "ansible_shell_executable": self.shell,
            "model_repository": str(self.directory / "repository"),
            "model_repository_unsigned": True,
            "rollout_server": {"store": f"{self.directory}/stores/{{{{ number }}}}", "strategy": "none"},
            "rollout_ledger": str(self.directory / "ledger"),
            "rollout_soak_seconds": 0,
            "rollout_min_ready_seconds": 0,
            "rollout_trial_seconds": 0,
            "rollout_device_silence_seconds": 0,
            "rollout_limits": UNMEASURED,
            **more,
        }

    def rollout(self, *options: str, **variables: Any) -> Run:
        """Roll the release out by inventories that ``options`` name."""
        return self.ansible.run(
            "edgeml.fleet.rollout", *options, **{"model_name": "plain", "model_version": "1.0.0", **variables}
        )

    @property
    def book(self) -> dict[str, Any]:
        """What the ledger has of the rollout."""
        found: dict[str, Any] = json.loads((self.directory / "ledger" / "plain-1.0.0-1.json").read_text())
        return found

    @property
    def outcomes(self) -> dict[str, str]:
        """What became of each device, by the ledger."""
        return {row["device"]: row["outcome"] for row in self.book["devices"]}

    def active(self, number: int) -> str | None:
        return Store(str(self.directory / "stores" / str(number))).state("plain").active
