# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The action ``model_repository_info``: it lists the releases of a model repository on the controller."""

from __future__ import annotations

from typing import Any, ClassVar

from ansible_collections.edgeml.fleet.plugins.module_utils._release.repository import Repository
from ansible_collections.edgeml.fleet.plugins.plugin_utils._controller_action import ControllerAction
from ansible_collections.edgeml.fleet.plugins.plugin_utils._publish.catalogue import read_catalogue
from ansible_collections.edgeml.fleet.plugins.plugin_utils._publish.signature_due import needs_signature


class ActionModule(ControllerAction):
    """Lists releases."""

    arguments: ClassVar[dict[str, Any]] = {
        "repository": {"type": "path", "required": True},
        "model": {"type": "str"},
    }

    def answer(self, args: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        """Return the releases, newest first."""
        listed = read_catalogue(Repository(args["repository"]), args["model"])
        return {
            "releases": [item.to_dict() for item in listed],
            "needs_signature": needs_signature(args["repository"]),
        }
