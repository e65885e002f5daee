# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The filter ``cohort_hosts``."""

from __future__ import annotations

from typing import Any, Callable, Iterable, Mapping, Sequence

from ansible.errors import AnsibleFilterError

from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.devices import describe

DOCUMENTATION = r"""
name: cohort_hosts
short_description: Read from hosts' variables what a plan needs
version_added: 0.1.0
author: The edgeml.fleet authors (@edgeml)
description:
  - Returns the hosts as the filter P(edgeml.fleet.canary_select#filter) and the module M(edgeml.fleet.canary_select)
    take them.
positional: device_class
options:
  _input:
    description: The variables of the hosts.
    type: list
    elements: dict
    required: true
  device_class:
    description:
      - Names of the variables whose values, joined by C( / ), are a host's device class.
      - A host without one of them belongs to the class of those without it, for example V(no site / large). Without
        any name, all hosts are in the class V(all).
    type: list
    elements: str
    required: true
seealso:
  - plugin: edgeml.fleet.canary_select
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Make the hosts of a plan, each kind of hardware at each site a device class
  ansible.builtin.debug:
    msg: "{{ groups.edge | map('extract', hostvars) | edgeml.fleet.cohort_hosts(['device_class', 'site']) }}"
"""

RETURN = r"""
_value:
  description:
    - For each host by its name C(device_class), and C(pinned) and C(maintenance) where the variables
      C(rollout_pinned) and C(rollout_maintenance) are set.
  type: dict
"""


def cohort_hosts(hosts: Iterable[Mapping[str, Any]], device_class: Sequence[str]) -> dict[str, dict[str, Any]]:
    """For each host ``device_class``, and ``pinned``, ``maintenance`` where set. Raises AnsibleFilterError."""
    if isinstance(device_class, str) or not isinstance(device_class, Sequence):
        raise AnsibleFilterError(
            f"cohort_hosts: device_class: expected a list of names of variables; found {device_class!r}"
        )
    return {host["inventory_hostname"]: describe(host, device_class) for host in hosts}


class FilterModule:
    """The filter for Ansible."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Name the filter."""
        return {"cohort_hosts": cohort_hosts}
