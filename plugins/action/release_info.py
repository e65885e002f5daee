# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The action ``release_info``: it runs on the controller, in no process of its own, because it verifies signatures."""

from __future__ import annotations

from typing import Any

from ansible_collections.edgeml.fleet.plugins.plugin_utils._controller_action import ControllerAction
from ansible_collections.edgeml.fleet.plugins.plugin_utils._trust.repository import Trust, open_repository, read_from

ARGUMENTS: dict[str, Any] = {
    "model": {"type": "str", "required": True},
    "version": {"type": "str", "required": True},
    "repository": {"type": "str", "required": True},
    "verify": {"type": "bool", "default": True},
}


class ActionModule(ControllerAction):
    """Reads and verifies a release."""

    arguments = ARGUMENTS

    def answer(self, args: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        """Return the release's manifest, once everything of it is verified."""
        trust = Trust.from_variables(read_from(task_vars, self._templar.template))
        repository = open_repository(args["repository"], trust)
        release = repository.release(args["model"], repository.version_of(args["model"], args["version"]))
        verified = repository.verify(release) if args["verify"] else 0
        self.warn(repository.warnings)
        return {
            "manifest": dict(release.document),
            "digest": release.digest,
            "repository": repository.root,
            "verified_bytes": verified,
        }
