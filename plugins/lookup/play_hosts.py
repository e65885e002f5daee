# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The lookup ``play_hosts``."""

from __future__ import annotations

DOCUMENTATION = r"""
name: play_hosts
short_description: Find the hosts of a play, so that a pattern which no host matches can be told
version_added: 0.2.0
author: The edgeml.fleet authors (@edgeml)
description:
  - Ansible leaves a play out whose pattern no host matches, and ends well. A schedule would believe that all is well.
  - This lookup returns a pattern that some host matches as it is. In place of another one it returns C(all,localhost),
    so that the play's first task is run and can refuse.
  - In a job of AWX (C(awx_job_id)) it returns C(all) there. Such a job may be a slice of an inventory that has no
    host at all, which is no error.
  - It fails where C(--skip-tags) names C(always), for such a first task is tagged so. Ansible would leave it out as
    well, and end well.
  - The same as for a pattern that no host matches holds for C(--limit) where O(limit) says so. It must not where other
    plays of a command may be what the limit is for.
options:
  _terms:
    description: Patterns of hosts, as the keyword C(hosts) takes them.
    type: list
    elements: str
    required: true
  limit:
    description: Whether a pattern of which C(--limit) leaves no host counts as one that no host matches.
    type: bool
    default: false
"""

EXAMPLES = r"""
- name: Prepare the devices
  hosts: "{{ lookup('edgeml.fleet.play_hosts', 'edge') }}"
  tasks:
    - name: Have devices
      ansible.builtin.assert:
        that: query('ansible.builtin.inventory_hostnames', 'edge') | length > 0
"""

RETURN = r"""
_raw:
  description: The pattern to use for each one.
  type: list
  elements: str
"""

from typing import Any

from ansible import context
from ansible.errors import AnsibleLookupError
from ansible.plugins.lookup import LookupBase

from ansible_collections.edgeml.fleet.plugins.plugin_utils._hosts import matching_hosts


class LookupModule(LookupBase):
    """The lookup for Ansible."""

    def run(self, terms: list[str], variables: dict[str, Any] | None = None, **kwargs: Any) -> list[str]:
        """Return the pattern to use for each pattern. Raises AnsibleLookupError where nothing would be run."""
        if "always" in (context.CLIARGS.get("skip_tags") or ()):
            raise AnsibleLookupError(
                "--skip-tags always leaves out what a play begins with, and all that it refuses: run it without that. "
                "For a part of a playbook, use --tags"
            )
        given, limited = variables or {}, bool(kwargs.get("limit"))
        others = "all" if "awx_job_id" in given else "all,localhost"
        return [term if matching_hosts(self._loader, given, term, limited=limited) else others for term in terms]
