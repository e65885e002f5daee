# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""The first step of playbooks that are no rollout, with what any first step begins with."""

from __future__ import annotations

from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.names import check_given, check_names

from .scene import Result, Scene, whole_fleet


def have_hosts(scene: Scene) -> Result:
    """Refuse extra variables that mean nothing, and a pattern that no host matches.

    The task's variable ``have_hosts_variable`` names the one that has the playbook's hosts, ``have_hosts_pattern`` is
    what it comes to.
    """
    refuse_unknown_names(scene, prefix_of(scene))
    whole_fleet(scene, str(scene.variables["have_hosts_variable"]), str(scene.variables["have_hosts_pattern"]))
    return {}


def prefix_of(scene: Scene) -> str:
    """What the names of the playbook's own variables begin with."""
    return str(scene.variables["have_hosts_variable"])[: -len("hosts")]


def refuse_unknown_names(scene: Scene, *own: str) -> None:
    """Raise ArgumentError for a variable that means nothing. ``own``: prefixes of the playbook's extra variables."""
    check_names(scene.variables)
    if scene.given:
        check_given(scene.given, own, scene.role_variables(), scene.users_roles())
