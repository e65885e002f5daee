# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The action ``model_release``: it starts ``edgeml-publish`` on the controller."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from typing import Any, ClassVar

from ansible.errors import AnsibleActionFail
from ansible.utils.display import Display

from ansible_collections.edgeml.fleet.plugins.plugin_utils._controller_action import ControllerAction
from ansible_collections.edgeml.fleet.plugins.plugin_utils._publish.options import argument_spec
from ansible_collections.edgeml.fleet.plugins.plugin_utils._publish.signature_due import needs_signature

PROGRAM = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "plugin_utils", "_publish")


class ActionModule(ControllerAction):
    """Publishes a release, and shows each step as it begins."""

    arguments: ClassVar[dict[str, Any]] = {**argument_spec(), "python": {"type": "path", "default": sys.executable}}

    def answer(self, args: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        """Return the table of variants, the manifest and its digest; fail with every reason of a refusal."""
        command = [args.pop("python"), PROGRAM, "release", "--options", "-", "--json"]
        if self._task.check_mode:
            command.append("--check")
        given = {name: value for name, value in args.items() if value is not None}
        said, code = _run(command, json.dumps(given))
        if not isinstance(said, dict):
            raise AnsibleActionFail(f"{' '.join(command[:3])}: ended with code {code} and no result; see its messages")
        if said.get("failed"):
            reasons = [str(reason) for reason in said["reasons"]]
            return {"failed": True, "msg": "refused: " + "; ".join(reasons), "reasons": reasons}
        result = {name: said[name] for name in ("changed", "manifest", "digest", "table", "lines", "notes")}
        result["needs_signature"] = needs_signature(args["repository"])
        if self._task.diff:
            name = f"{args['repository']}/{args['model']}/{args['version']}/manifest.json"
            after = json.dumps(said["manifest"], indent=2) + "\n"
            result["diff"] = {
                "before_header": name,
                "after_header": name,
                "before": "" if said["changed"] else after,
                "after": after,
            }
        return result


def _run(command: list[str], options: str) -> tuple[Any, int]:
    """Start the program, show what it says, and return its result and its code."""
    display = Display()
    with tempfile.TemporaryFile("w+") as stdin, tempfile.TemporaryFile("w+") as stdout:
        stdin.write(options)
        stdin.seek(0)
        try:
            with subprocess.Popen(command, stdin=stdin, stdout=stdout, stderr=subprocess.PIPE, text=True) as process:
                for line in process.stderr or ():
                    display.display(f"    {line.rstrip()}", stderr=True)
        except OSError as error:
            raise AnsibleActionFail(f"python: {command[0]}: cannot be started: {error}") from error
        stdout.seek(0)
        try:
            return json.load(stdout), process.returncode
        except ValueError:
            return None, process.returncode
