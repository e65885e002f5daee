# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""Which hosts of the inventory a pattern matches, and which of them a limit leaves, as Ansible has it."""

from __future__ import annotations

from typing import Any, Mapping

from ansible.errors import AnsibleError
from ansible.inventory.manager import InventoryManager


def matching_hosts(loader: Any, variables: Mapping[str, Any], pattern: str, *, limited: bool = False) -> list[str]:
    """The hosts of ``groups`` in the variables of a task or a play that match; none for what is no pattern.

    ``limited``: only those that ``--limit`` leaves. The files that it names (@) are read, as Ansible reads them.
    """
    manager = InventoryManager(loader, parse=False)
    for group, hosts in variables.get("groups", {}).items():
        manager.add_group(group)
        for host in hosts:
            manager.add_host(host, group=group)
    if limited:
        manager.subset(str(variables.get("ansible_limit") or "") or None)
    try:
        return [str(host.name) for host in manager.get_hosts(pattern)]
    except AnsibleError:
        return []
