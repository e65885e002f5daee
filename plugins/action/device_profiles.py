# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The action ``device_profiles``: it keeps what was measured of device classes in a model repository, signed."""

from __future__ import annotations

import json
import os
import time
from typing import Any, ClassVar

from ansible_collections.edgeml.fleet.plugins.plugin_utils._controller_action import ControllerAction
from ansible_collections.edgeml.fleet.plugins.plugin_utils._publish.profiles import (
    class_profile,
    profile_path,
    profile_row,
    read_profile,
    write_profile,
)
from ansible_collections.edgeml.fleet.plugins.plugin_utils._trust.in_toto import read_signing_key
from ansible_collections.edgeml.fleet.plugins.plugin_utils._trust.keys import public_path

# As rollouts call it.
NO_CLASS = "no device_class"


class ActionModule(ControllerAction):
    """Makes one profile of what was measured on the devices of a class, signs it, and puts it into the repository."""

    arguments: ClassVar[dict[str, Any]] = {
        "repository": {"type": "path", "required": True},
        "signing_key": {"type": "path", "required": True},
        "devices": {"type": "list", "elements": "str", "required": True},
    }

    def answer(self, args: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        """Return the profiles, by their classes."""
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        classes: dict[str, list[dict[str, Any]]] = {}
        for device in args["devices"]:
            said = task_vars["hostvars"].get(device) or {}
            measured = said.get("profile_measured", {}).get("profile")
            if measured:
                classes.setdefault(str(said.get("device_class", NO_CLASS)), []).append(measured)
        profiles = {name: class_profile(name, measured, now) for name, measured in sorted(classes.items())}
        before = {name: self._before(args, profile) for name, profile in profiles.items()}
        if not self._task.check_mode:
            key = read_signing_key(args["signing_key"])
            for profile in profiles.values():
                write_profile(args["repository"], profile, key)
        return {
            "changed": bool(profiles),
            "profiles": profiles,
            "rows": [profile_row(profile) for profile in profiles.values()],
            "diff": {"before": _text(before), "after": _text(profiles)},
        }

    @staticmethod
    def _before(args: dict[str, Any], profile: dict[str, Any]) -> dict[str, Any] | None:
        path = profile_path(args["repository"], profile["device_class"], profile["model"])
        return read_profile(path, public_path(args["signing_key"])) if os.path.exists(path) else None


def _text(profiles: dict[str, Any]) -> str:
    return json.dumps({name: found for name, found in profiles.items() if found}, indent=1, sort_keys=True) + "\n"
