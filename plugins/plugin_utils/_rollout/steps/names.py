# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""The first step of playbooks that are no rollout, with what any first step begins with."""

from __future__ import annotations

from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.names import check_given, check_names

from .scene import Result, Scene


def names(scene: Scene) -> Result:
    """Refuse extra variables that mean nothing. The task's variable ``have_hosts_variable`` says whose turn it is."""
    refuse_unknown_names(scene, str(scene.variables["have_hosts_variable"])[: -len("hosts")])
    return {}


def refuse_unknown_names(scene: Scene, *own: str) -> None:
    """Raise ArgumentError for a variable that means nothing. ``own``: prefixes of the playbook's extra variables."""
    check_names(scene.variables)
    if scene.given:
        check_given(scene.given, own, scene.role_variables(), scene.users_roles())
