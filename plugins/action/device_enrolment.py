# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The action ``device_enrolment``: it signs certificates of devices on the controller."""

from __future__ import annotations

import contextlib
import datetime
import os
from typing import Any, ClassVar

from ansible.errors import AnsibleActionFail

from ansible_collections.edgeml.fleet.plugins.module_utils._common.errors import EdgemlError
from ansible_collections.edgeml.fleet.plugins.plugin_utils._controller_action import ControllerAction
from ansible_collections.edgeml.fleet.plugins.plugin_utils._enrolment.enrolment import Enrolment

ARGUMENTS: dict[str, Any] = {
    "authority": {"type": "path", "required": True},
    "create": {"type": "bool", "default": False},
    "days": {"type": "int", "default": 90},
    "source": {"type": "str"},
    "reader": {"type": "path"},
    "ca_file": {"type": "path"},
    "accept": {"type": "dict", "default": {}},
    "replace": {"type": "bool", "default": False},
    "renew": {"type": "bool", "default": False},
    "device": {"type": "str"},
    "request": {"type": "str"},
    "reader_name": {"type": "str"},
}


class ActionModule(ControllerAction):
    """Signs what an operator accepts, and renews what is old."""

    arguments: ClassVar[dict[str, Any]] = ARGUMENTS

    def answer(self, args: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        """Return what was signed, and who waits."""
        now = datetime.datetime.now(datetime.timezone.utc)
        enrolment = Enrolment(args["authority"], days=args["days"], check_mode=self._task.check_mode, now=now)
        changed = enrolment.create() if args["create"] else False
        result: dict[str, Any] = {"signed": [], "waiting": [], "certificate": ""}
        if args["reader_name"]:
            path = os.path.join(args["authority"], f"reader-{args['reader_name']}.pem")
            changed = enrolment.have_reader(args["reader_name"], path) or changed
            result["reader"] = path
        if args["request"]:
            if not args["device"]:
                raise AnsibleActionFail("request: expected device as well, the device that it is of")
            result.update(enrolment.sign_request(args["device"], args["request"], args["replace"]))
        elif args["source"]:
            reader = args["reader"] or result.get("reader")
            with contextlib.closing(enrolment.desk(args["source"], reader, args["ca_file"])) as desk:
                for signed in enrolment.accept(desk, args["accept"], args["replace"]):
                    result["signed"].append(signed)
                if args["renew"]:
                    result["signed"] += enrolment.renew(desk)
                result["waiting"] = enrolment.waiting(desk, {entry["fingerprint"] for entry in result["signed"]})
        elif args["accept"] or args["renew"]:
            raise EdgemlError("accept and renew need source, where the requests are")
        return {**result, "changed": bool(changed or result["signed"]), "diff": enrolment.diff()}
