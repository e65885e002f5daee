# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A run's results as one JSON document, with every ansible-core that the collection promises."""

from __future__ import annotations

import json
from typing import Any

from ansible.plugins.callback import CallbackBase

DOCUMENTATION = r"""
name: results
type: stdout
short_description: Results as JSON
description: Prints plays, tasks and results as one JSON document at the end of a run.
"""


class CallbackModule(CallbackBase):
    """Collects the results of each task by host."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "stdout"
    CALLBACK_NAME = "results"

    def __init__(self) -> None:
        super().__init__()
        self._plays: list[dict[str, Any]] = []
        self._tasks: dict[str, dict[str, Any]] = {}

    def v2_playbook_on_play_start(self, play: Any) -> None:
        self._plays.append({"play": {"name": play.get_name()}, "tasks": []})
        self._tasks = {}

    def v2_playbook_on_task_start(self, task: Any, is_conditional: bool) -> None:
        # A task that runs again for the next batch of hosts begins anew.
        entry = self._tasks[task._uuid] = {"task": {"name": task.get_name()}, "hosts": {}}
        self._plays[-1]["tasks"].append(entry)

    def v2_playbook_on_handler_task_start(self, task: Any) -> None:
        self.v2_playbook_on_task_start(task, False)

    def v2_runner_on_ok(self, result: Any) -> None:
        self._note(result)

    def v2_runner_on_failed(self, result: Any, ignore_errors: bool = False) -> None:
        self._note(result, failed=True)

    def v2_runner_on_unreachable(self, result: Any) -> None:
        self._note(result, unreachable=True)

    def v2_runner_on_skipped(self, result: Any) -> None:
        self._note(result, skipped=True)

    def v2_playbook_on_stats(self, stats: Any) -> None:
        document = {
            "plays": self._plays,
            "stats": {host: stats.summarize(host) for host in sorted(stats.processed)},
            "global_custom_stats": dict(stats.custom.get("_run", {})),
        }
        self._display.display(json.dumps(document, default=str))

    def _note(self, result: Any, **more: bool) -> None:
        entry = self._tasks.get(result._task._uuid) or self._plays[-1]["tasks"][-1]
        entry["hosts"][result._host.get_name()] = {**result._result, "action": result._task.action, **more}
