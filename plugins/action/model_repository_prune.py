# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The action ``model_repository_prune``: it removes from a model repository what nobody needs, on the controller."""

from __future__ import annotations

from typing import Any, ClassVar

from ansible_collections.edgeml.fleet.plugins.plugin_utils._controller_action import ControllerAction
from ansible_collections.edgeml.fleet.plugins.plugin_utils._publish.garbage_collection import (
    BLOB_AGE_SECONDS,
    KEEP_LAST,
    collect,
)
from ansible_collections.edgeml.fleet.plugins.plugin_utils._publish.signature_due import needs_signature

_SECONDS_OF_HOUR = 3600


class ActionModule(ControllerAction):
    """Removes releases and blobs."""

    arguments: ClassVar[dict[str, Any]] = {
        "repository": {"type": "path", "required": True},
        "keep_last": {"type": "int", "default": KEEP_LAST},
        "ledger": {"type": "path"},
        "blob_hours": {"type": "float", "default": BLOB_AGE_SECONDS / _SECONDS_OF_HOUR},
    }

    def answer(self, args: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        """Return what left, and why each release stays that does."""
        found = collect(
            args["repository"],
            keep_last=args["keep_last"],
            ledger=args["ledger"],
            blob_age_seconds=args["blob_hours"] * _SECONDS_OF_HOUR,
            check=self._task.check_mode,
        )
        result: dict[str, Any] = {**found.to_dict(), "needs_signature": needs_signature(args["repository"])}
        if self._task.diff:
            left = [*result["releases"], *(f"blob {sha256}" for sha256 in found.blobs)]
            header = {"before_header": args["repository"], "after_header": args["repository"]}
            result["diff"] = {**header, "before": "".join(f"{line}\n" for line in left), "after": ""}
        return result
