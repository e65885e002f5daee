# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The manifest that the role inference_service writes for K3s, rendered by Ansible, filled in as its unit does it."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from controller import Ansible
from links import REPOSITORY

ROLE = REPOSITORY / "roles" / "inference_service"
_FACTS = {"architecture": "aarch64", "python_version": "3.11.2", "service_mgr": "systemd", "userspace_bits": "64"}


def rendered(directory: Path, **variables: Any) -> tuple[str, str]:
    """Return the unit and the manifest, with placeholders, that the role writes with these variables."""
    directory.mkdir(parents=True, exist_ok=True)
    ansible = Ansible(
        directory, (), device={"ansible_connection": "local", "inference_service_runner": "k3s", **variables}
    )
    look = {"name": "edgeml.fleet.inference_service", "tasks_from": "preflight", "public": True}
    files = {
        name: f"{{{{ lookup('ansible.builtin.template', '{ROLE}/templates/runners/{name}') }}}}"
        for name in ("k3s.service", "kubernetes.yaml.j2")
    }
    tasks = [
        {"name": "Look", "ansible.builtin.include_role": look},
        {"name": "Render", "ansible.builtin.debug": {"msg": files}},
    ]
    play = {"hosts": "device", "gather_facts": False, "vars": {"ansible_facts": _FACTS}, "tasks": tasks}
    (ansible.directory / "render.yml").write_text(json.dumps([play]))
    run = ansible.run("render.yml")
    assert run.code == 0, run
    found = run.results("Render")["device"]["msg"]
    return found["k3s.service"], found["kubernetes.yaml.j2"]


def filled(directory: Path, unit: str, manifest: str, values: Mapping[str, str]) -> str:
    """Return the manifest of one device, by the unit's own command; ``values`` is its environment."""
    (line,) = re.findall(r"^ExecStart=/bin/sh -euc '(sed .*)'$", unit, re.MULTILINE)
    source, target = directory / "template.yaml", directory / "manifest.yaml"
    source.write_text(manifest)
    # What systemd makes of it, on files of the test.
    changes = {
        "$$": "$",
        "%%": "%",
        "/etc/edgeml/kubernetes.yaml": str(source),
        "/run/edgeml-kubernetes.yaml": str(target),
    }
    script = line
    for old, new in changes.items():
        script = script.replace(old, new)
    subprocess.run(["/bin/sh", "-euc", script], env=dict(values), check=True)
    return target.read_text()


def documents(text: str) -> dict[str, dict[str, Any]]:
    """The manifest's objects by their kinds."""
    return {document["kind"]: document for document in yaml.safe_load_all(text)}
