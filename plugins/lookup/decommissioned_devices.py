# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The lookup ``decommissioned_devices``."""

from __future__ import annotations

DOCUMENTATION = r"""
name: decommissioned_devices
short_description: Name the devices for whom a fleet's authority signs nothing any more
version_added: 0.2.0
author: The edgeml.fleet authors (@edgeml)
description:
  - Reads the directory of an authority on the controller. The roles P(edgeml.fleet.report_mailbox#role) and
    P(edgeml.fleet.mqtt_broker#role) refuse these devices, whose certificates have not expired.
  - A directory without an authority names none.
options:
  _terms:
    description: Directories of authorities. An empty text names none.
    type: list
    elements: path
    required: true
"""

EXAMPLES = r"""
- name: Show who is refused
  ansible.builtin.debug:
    msg: "{{ query('edgeml.fleet.decommissioned_devices', '~/.config/edgeml/authority') }}"
"""

RETURN = r"""
_raw:
  description: Names of devices.
  type: list
  elements: str
"""

import os
from typing import Any

from ansible.plugins.lookup import LookupBase

from ansible_collections.edgeml.fleet.plugins.plugin_utils._enrolment.authority import revoked_devices


class LookupModule(LookupBase):
    """The lookup for Ansible."""

    def run(self, terms: list[str], variables: dict[str, Any] | None = None, **kwargs: Any) -> list[str]:
        """Return the names, sorted."""
        return sorted({name for term in terms if term for name in revoked_devices(os.path.expanduser(term))})
