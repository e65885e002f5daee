# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The filter ``cohort_hosts``."""

from __future__ import annotations

from typing import Any, Callable, Iterable, Mapping, Sequence

from ansible.errors import AnsibleFilterError

DOCUMENTATION = r"""
name: cohort_hosts
short_description: What a plan must know of each host, from the hosts' variables
version_added: 0.1.0
author: The edgeml.fleet authors (@edgeml)
description:
  - Makes what the filter P(edgeml.fleet.canary_select#filter) and the module M(edgeml.fleet.canary_select) take.
positional: stratum
options:
  _input:
    description: The variables of the hosts.
    type: list
    elements: dict
    required: true
  stratum:
    description:
      - Names of the variables whose values, joined by C( / ), are a host's stratum.
      - A host without one of them belongs to the stratum of those without it, for example V(no site / large). Without
        any name all hosts are of the stratum V(all).
    type: list
    elements: str
    required: true
seealso:
  - plugin: edgeml.fleet.canary_select
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Make the hosts of a plan, each class of devices at each site a stratum
  ansible.builtin.debug:
    msg: "{{ groups.edge | map('extract', hostvars) | edgeml.fleet.cohort_hosts(['hardware_class', 'site']) }}"
"""

RETURN = r"""
_value:
  description:
    - For each host by its name C(stratum), and C(pinned) and C(maintenance) where the variables
      C(rollout_pinned) and C(rollout_maintenance) are set.
  type: dict
"""


def cohort_hosts(hosts: Iterable[Mapping[str, Any]], stratum: Sequence[str]) -> dict[str, dict[str, Any]]:
    """For each host ``stratum``, and ``pinned`` and ``maintenance`` where they are set. Raises AnsibleFilterError."""
    if isinstance(stratum, str) or not isinstance(stratum, Sequence):
        raise AnsibleFilterError(f"cohort_hosts: stratum: expected a list of names of variables; found {stratum!r}")
    return {host["inventory_hostname"]: _host(host, stratum) for host in hosts}


def _host(variables: Mapping[str, Any], stratum: Sequence[str]) -> dict[str, Any]:
    parts = [str(variables.get(name) or f"no {name}") for name in stratum]
    found: dict[str, Any] = {"stratum": " / ".join(parts) or "all"}
    for word in ("pinned", "maintenance"):
        value = variables.get(f"rollout_{word}")
        if value:
            found[word] = value
    return found


class FilterModule:
    """The filter for Ansible."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Name the filter."""
        return {"cohort_hosts": cohort_hosts}
