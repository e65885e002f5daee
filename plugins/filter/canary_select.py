# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The filter ``canary_select``."""

from __future__ import annotations

from typing import Any, Callable, Iterable, Mapping, Sequence

from ansible.errors import AnsibleFilterError

from ansible_collections.edgeml.fleet.plugins.module_utils._common.errors import ArgumentError
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.waves import DEFAULT_WAVES, plan, read_hosts

DOCUMENTATION = r"""
name: canary_select
short_description: Split a fleet into waves by a stable hash, with each device class represented
version_added: 0.1.0
author: The edgeml.fleet authors (@edgeml)
description:
  - Returns what the module M(edgeml.fleet.canary_select) returns.
positional: waves, salt, groups, max_unavailable, only, boundaries
options:
  _input:
    description: The whole fleet, as the module takes it in its option C(hosts).
    type: dict
    required: true
extends_documentation_fragment:
  - edgeml.fleet.waves
seealso:
  - module: edgeml.fleet.canary_select
"""

EXAMPLES = r"""
- name: Name the canaries
  ansible.builtin.debug:
    msg: "{{ (fleet | edgeml.fleet.canary_select(['25%', '100%'], 'digits')).waves[0].hosts }}"
  vars:
    fleet: {edge-s1: small, edge-s2: small, edge-l1: large, edge-l2: large}
"""

RETURN = r"""
_value:
  description: A mapping with C(waves), C(left_out), C(controls) and C(boundaries), as the module's.
  type: dict
"""


def canary_select(
    hosts: Mapping[str, Any],
    waves: Sequence[Any] = DEFAULT_WAVES,
    salt: str | None = None,
    groups: Mapping[str, Iterable[str]] | None = None,
    max_unavailable: Any = None,
    only: Iterable[str] | None = None,
    boundaries: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The plan as a mapping. Raises AnsibleFilterError."""
    try:
        if not isinstance(hosts, Mapping) or not isinstance(salt, str):
            raise ArgumentError(f"expected a mapping of hosts, and a salt; found {type(hosts).__name__} and {salt!r}")
        return plan(read_hosts(hosts), waves, salt, groups, max_unavailable, only, boundaries).document()
    except ArgumentError as error:
        raise AnsibleFilterError(f"canary_select: {error}") from error


class FilterModule:
    """The filter for Ansible."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Name the filter."""
        return {"canary_select": canary_select}
