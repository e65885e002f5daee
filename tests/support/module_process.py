# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""``model_swap`` as a device runs it: the file that Ansible sends, with other arguments, in a process by itself."""

from __future__ import annotations

import ast
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

from clone import PYTHON_PATH, REPOSITORY
from controller import Ansible
from device import Device
from links import BYTE_COMPILED
from measure import Cost, measured, read_costs
from releases import Made

COMMAND = REPOSITORY / "roles" / "inference_service" / "files" / "device" / "edgeml"
_PARAMS = re.compile(r"^params=(.*),$", re.MULTILINE)


class ModuleError(Exception):
    """The module failed; the text is what it said."""


class ModuleProcess:
    """Runs the module on ``device``. Ansible makes the file once; its own time is in no figure."""

    def __init__(self, directory: Path, device: Device) -> None:
        ansible = Ansible(directory, [device])
        ansible.configure("keep_remote_files = true")
        # Where the device has the command, Ansible sends no module.
        device.remove_command()
        task = {"edgeml.fleet.model_swap": {"model": "none", "version": "0", "state": "absent"}}
        ansible.tasks(
            {**task, "check_mode": True, "vars": {"ansible_pipelining": False}},
            {"ansible.builtin.ping": {}, "vars": {"ansible_pipelining": False}},
        )
        device.install_command()
        sent = {path.stem: path for path in ansible.directory.glob("remote-tmp/*/AnsiballZ_*.py")}
        self._ping = sent["AnsiballZ_ping"]
        self._source = sent["AnsiballZ_model_swap"].read_text()
        found = _PARAMS.search(self._source)
        assert found is not None
        self._span = found.span(1)
        self._internal = {
            **{
                name: value
                for name, value in json.loads(ast.literal_eval(found[1]))["ANSIBLE_MODULE_ARGS"].items()
                if name.startswith("_")
            },
            "_ansible_check_mode": False,
        }
        self._file = directory / "module.py"
        self._log = directory / "costs"
        self._python = str(device.directory / "python")
        compiled = [f"{name}={value}" for name, value in BYTE_COMPILED.items()]
        command = [self._python, "-sS", str(COMMAND)]
        self._command = ["env", *compiled, f"PYTHONPATH={PYTHON_PATH}", *command]

    def prepare(self, made: Made, blobs: Path | None = None, **arguments: Any) -> None:
        """Write the module's file for a release, whose blobs lie in ``blobs`` where the device lacks them."""
        document = made.document
        given = {"model": document["model"], "version": document["version"], "manifest": document, **arguments}
        if blobs is not None:
            given["staged_blobs"] = str(blobs)
        common = {"min_ready_seconds": 0, "trial_seconds": 0, **given, **self._internal}
        params = repr(json.dumps({"ANSIBLE_MODULE_ARGS": common}))
        start, end = self._span
        self._file.write_text(self._source[:start] + params + self._source[end:])

    def run(self) -> tuple[dict[str, Any], Cost]:
        """Run what was prepared. Returns the module's result and what it cost. Raises ModuleError."""
        return self._run(self._file)

    def ping(self) -> Cost:
        """What Ansible's smallest module costs."""
        return self._run(self._ping)[1]

    def edgeml(self, *arguments: str) -> Cost:
        """What the device's own command costs. Raises ModuleError when it fails."""
        done = subprocess.run(
            measured(self._log, *self._command, *arguments), capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            raise ModuleError(done.stderr)
        return read_costs(self._log)[-1]

    def _run(self, file: Path) -> tuple[dict[str, Any], Cost]:
        command = measured(self._log, self._python, str(file))
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        try:
            result: dict[str, Any] = json.loads(done.stdout)
        except ValueError as error:
            raise ModuleError(done.stdout + done.stderr) from error
        if result.get("failed") or done.returncode != 0:
            raise ModuleError(result.get("msg"))
        return result, read_costs(self._log)[-1]


def write_blobs(made: Made, directory: Path) -> Path:
    """Write a release's files where the module finds them, in place of those of another; return the directory."""
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir()
    for digest, content in made.blobs.items():
        (directory / digest).write_bytes(content)
    return directory
