# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The action ``collected_dataset``: it makes datasets of what devices collected."""

from __future__ import annotations

import json
import os
from typing import Any, ClassVar

from ansible_collections.edgeml.fleet.plugins.plugin_utils._collected.dataset import (
    counts,
    dataset_directory,
    describe,
    make_dataset,
    models,
    write_dataset,
)
from ansible_collections.edgeml.fleet.plugins.plugin_utils._collected.outcome import device_rows, failed_devices
from ansible_collections.edgeml.fleet.plugins.plugin_utils._controller_action import ControllerAction


class ActionModule(ControllerAction):
    """Makes one dataset for each model, and says what came of which device."""

    arguments: ClassVar[dict[str, Any]] = {
        "directory": {"type": "path", "required": True},
        "missing_values": {"type": "bool", "default": False},
        "devices": {"type": "list", "elements": "str", "default": []},
    }

    def answer(self, args: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        """Return the datasets, by their models."""
        datasets: dict[str, Any] = {}
        before: dict[str, Any] = {}
        after: dict[str, Any] = {}
        for model in models(args["directory"]):
            dataset = make_dataset(args["directory"], model, missing_values=args["missing_values"])
            found = write_dataset(args["directory"], dataset, check=self._task.check_mode)
            after[model] = counts(describe(dataset))
            before[model] = after[model] if found is None else counts(found) if found else None
            datasets[model] = {
                "directory": os.path.abspath(dataset_directory(args["directory"], model)),
                "changed": found is not None,
                **after[model],
            }
        took = {name: (task_vars.get("hostvars") or {}).get(name) or {} for name in args["devices"]}
        return {
            "changed": any(dataset["changed"] for dataset in datasets.values()),
            "datasets": datasets,
            "rows": device_rows(took),
            "failed_devices": failed_devices(took),
            "diff": {"before": _text(before), "after": _text(after)},
        }


def _text(found: dict[str, Any]) -> str:
    return json.dumps({model: held for model, held in found.items() if held}, indent=1, sort_keys=True) + "\n"
