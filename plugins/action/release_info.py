# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The action ``release_info``: it runs on the controller, in no process of its own, because it verifies signatures."""

from __future__ import annotations

from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase

from ansible_collections.edgeml.fleet.plugins.module_utils._common.errors import EdgemlError
from ansible_collections.edgeml.fleet.plugins.plugin_utils._trust.repository import Trust, open_repository, read_from

ARGUMENTS: dict[str, Any] = {
    "model": {"type": "str", "required": True},
    "version": {"type": "str", "required": True},
    "repository": {"type": "str", "required": True},
    "verify": {"type": "bool", "default": True},
}


class ActionModule(ActionBase):
    """Reads and verifies a release."""

    _requires_connection = False
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return the release's manifest, once everything of it is verified."""
        super().run(tmp, task_vars)
        args = self.validate_argument_spec(argument_spec=ARGUMENTS)[1]
        try:
            trust = Trust.from_variables(read_from(task_vars or {}, self._templar.template))
            repository = open_repository(args["repository"], trust)
            release = repository.release(args["model"], repository.version_of(args["model"], args["version"]))
            verified = repository.verify(release) if args["verify"] else 0
        except (EdgemlError, OSError) as error:
            raise AnsibleActionFail(str(error)) from None
        for warning in repository.warnings:
            self._display.warning(warning)
        return {
            "changed": False,
            "manifest": dict(release.document),
            "digest": release.digest,
            "repository": repository.root,
            "verified_bytes": verified,
        }
