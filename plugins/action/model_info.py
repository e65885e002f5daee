# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Controller's side of ``model_info``: asks the device in the cheapest way that it has."""

from __future__ import annotations

from typing import Any

from ansible_collections.edgeml.fleet.plugins.plugin_utils._call import DeviceAction
from ansible_collections.edgeml.fleet.plugins.plugin_utils._pull import transport


class ActionModule(DeviceAction):
    """One call."""

    _supports_check_mode = True
    _supports_async = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return what the device says of its models."""
        result = super().run(tmp, task_vars)
        if transport.pulls(self, task_vars):
            return {**result, **transport.ask(self, "model_info", self._task.args, task_vars or {})}
        return {**result, **self.ask("model_info", self._task.args, task_vars)}
