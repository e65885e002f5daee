# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Controller's side of ``collected_inputs``: takes what a device collected, and has it removed there once stored."""

from __future__ import annotations

import os
from typing import Any

from ansible.errors import AnsibleActionFail

from ansible_collections.edgeml.fleet.plugins.module_utils._common.errors import EdgemlError
from ansible_collections.edgeml.fleet.plugins.plugin_utils._call import DeviceAction
from ansible_collections.edgeml.fleet.plugins.plugin_utils._collected.inbox import Inbox
from ansible_collections.edgeml.fleet.plugins.plugin_utils._collected.transfer import (
    Selection,
    bring,
    parse_waiting,
    select,
)
from ansible_collections.edgeml.fleet.plugins.plugin_utils._pull import transport


class ActionModule(DeviceAction):
    """A few calls: what waits, some of it at a time, and what is stored."""

    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return how many inputs came, and how many are left."""
        super().run(tmp, task_vars)
        if transport.pulls(self, task_vars):
            message = (
                "the device pulls (rollout_transport), and keeps its inputs: they are taken over SSH only, because a "
                "mailbox would keep what may be personal data"
            )
            return {"changed": False, "skipped": True, "msg": message}
        args = dict(self._task.args)
        destination, max_bytes = args.get("destination"), args.get("max_bytes", 64 << 20)
        if not destination or not isinstance(destination, str):
            raise AnsibleActionFail("destination: expected a directory on the controller; found nothing")
        try:
            max_bytes = int(max_bytes)
        except (TypeError, ValueError):
            raise AnsibleActionFail(f"max_bytes: expected a number of bytes; found {max_bytes!r}") from None
        device = str(self._task.delegate_to or (task_vars or {})["inventory_hostname"])

        def ask(more: dict[str, Any]) -> dict[str, Any]:
            answer = self.ask("collected_inputs", {**args, **more}, task_vars)
            if answer.get("failed"):
                raise AnsibleActionFail(str(answer.get("msg")), result=answer)
            return answer

        try:
            return self._take(ask, Inbox(os.path.expanduser(destination), device), max_bytes)
        except (EdgemlError, OSError) as error:
            raise AnsibleActionFail(str(error)) from None

    def _take(self, ask: Any, inbox: Inbox, max_bytes: int) -> dict[str, Any]:
        waiting = parse_waiting(ask({}).get("waiting"))
        selection = select(waiting, inbox, max_bytes)
        if self._task.check_mode or not (selection.take or selection.held):
            size = sum(item.size for item in selection.take)
            found = {"brought": len(selection.take), "bytes": size, "removed": 0, "refused": []}
        else:
            with inbox.hold():
                found = bring(ask, inbox, selection)
        return {
            "changed": bool(selection.held or found["brought"]),
            **found,
            "left": selection.left,
            "diff": _difference(len(waiting), selection),
        }


def _difference(waiting: int, selection: Selection) -> dict[str, Any]:
    after = waiting - len(selection.take) - len(selection.held)
    return {"before": {"waiting_on_the_device": waiting}, "after": {"waiting_on_the_device": after}}
