# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Brings a device to a described state by one command, which looks, changes what differs, and says what that was."""

from __future__ import annotations

from typing import Any, Mapping

from ansible.plugins.action import ActionBase
from ansible.plugins.loader import lookup_loader

from ansible_collections.edgeml.fleet.plugins.plugin_utils._links import patiently
from ansible_collections.edgeml.fleet.plugins.plugin_utils._setup.plan import (
    ARGUMENTS,
    COMMAND,
    chosen_parts,
    make_input,
    make_request,
    make_result,
    parse_output,
)


class ActionModule(ActionBase):
    """Renders what is asked for, runs the program on the device, and reports its answer."""

    _supports_check_mode = True
    _supports_diff = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return what was changed, or in check mode would be."""
        super().run(tmp, task_vars)
        task_vars = task_vars or {}
        args = self.validate_argument_spec(argument_spec=ARGUMENTS)[1]
        parts = chosen_parts(args["parts"], self._task.tags, only=task_vars.get("ansible_run_tags", ["all"]))
        parts = [{**part, "files": [self._render(file, task_vars) for file in part["files"]]} for part in parts]
        request = make_request(args["requires"], parts, args["bundle"], self._task.check_mode)
        # A further attempt finds what an earlier one did, and goes on from there.
        done = patiently(lambda: self._ask(request), args["retry_seconds"], task_vars["inventory_hostname"])
        answer = parse_output(done["stdout"])
        if answer is None:
            said = (done["stderr"] or done["stdout"]).strip()
            answer = {"failed": True, "msg": f"the device did not answer: exit code {done['rc']}: {said}"}
        return make_result(answer, self._task.diff)

    def _render(self, file: Mapping[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        """The file with its content."""
        rendered = {name: value for name, value in file.items() if name != "template"}
        if file["template"] is not None and file["present"]:
            # As text, whatever it looks like: what a template of a playbook returns may be parsed.
            lookup = lookup_loader.get("ansible.builtin.template", loader=self._loader, templar=self._templar)
            (rendered["content"],) = lookup.run([file["template"]], task_vars)
        return rendered

    def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        """Send the archives, run the program, and return what the command printed."""
        bundle = dict(request["bundle"])
        if bundle and not self._task.check_mode:
            bundle["archives"] = [
                self._send(path, f"{number}.tar.gz") for number, path in enumerate(bundle["archives"])
            ]
        return self._run_with_input(COMMAND, make_input({**request, "bundle": bundle}))

    def _send(self, file: str, name: str) -> str:
        """Send a file to a temporary directory on the device and return its path."""
        path: str = self._remote_path(name)
        self._transfer_file(file, path)
        return path

    def _run_with_input(self, command: str, data: bytes) -> dict[str, Any]:
        """Run a command on the device, with data on its standard input, which no process list shows."""
        connection = self._connection
        if connection.has_pipelining and (connection.become is None or connection.become.pipelining):
            return self._low_level_execute_command(command, in_data=data)
        path = self._remote_path("request.json")
        self._transfer_data(path, data)
        return self._low_level_execute_command(f"{command} <{path}")

    def _remote_path(self, name: str) -> str:
        shell = self._connection._shell
        return shell.join_path(shell.tmpdir or self._make_tmp_path(), name)
