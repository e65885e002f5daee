# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Ansible for a whole machine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from controller import Ansible, Run
from whole_machine import NAME, WholeMachine

# On a device the server's own port is closed to the network; this one's is published on 127.0.0.1 only.
SERVICE = {
    "inference_service_listen_address": "0.0.0.0",
    "inference_service_allow_unprotected": True,
    "inference_service_memory_max": "512M",
}


class MachineController:
    """Runs Ansible against a machine that is up."""

    def __init__(self, directory: Path, machine: WholeMachine) -> None:
        directory.mkdir()
        self.ansible = Ansible(directory, (), **{NAME: {**machine.inventory(), **SERVICE}})

    def tasks(self, *tasks: dict[str, Any], code: int = 0, **variables: Any) -> Run:
        """Run tasks as root on it, each with a name of its own; the run must end with ``code``."""
        return self.play({"tasks": list(tasks)}, code=code, **variables)

    def play(self, play: dict[str, Any], *options: str, code: int = 0, **variables: Any) -> Run:
        """Run a play on it, with options of ansible-playbook; the run must end with ``code``."""
        document = [{"hosts": NAME, "gather_facts": False, **play}]
        (self.ansible.directory / "play.yml").write_text(json.dumps(document))
        run = self.ansible.run("play.yml", *options, **variables)
        assert run.code == code, run
        return run
