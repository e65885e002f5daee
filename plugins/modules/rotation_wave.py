#!/usr/bin/python
# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: rotation_wave
short_description: Bring a machine through one wave of a rotation of credentials
version_added: 0.2.0
description:
  - An action plugin. It reads what the machine has by M(edgeml.fleet.device_credentials), and changes what is of the
    authority that is replaced. Certificates of other authorities are left alone.
  - In the second wave the machine makes a new key, which never leaves it, and the authority on the controller signs a
    certificate of it with the names, uses and lifetime of the one before.
  - A service that refuses what it gets keeps what it had, and the task fails.
options:
  wave:
    description:
      - V(read) reads, and refuses a machine on which a role would bring back what is replaced.
      - V(authority) adds the new authority wherever the old one is believed.
      - V(leaves) replaces the certificates that the old one issued, and their keys.
      - V(retire) removes the old authority.
    type: str
    choices: [read, authority, leaves, retire]
    required: true
  authority:
    description: Directory of the authority on the controller.
    type: path
    required: true
  certificate:
    description: Whether certificates are replaced here. Those of servers wait while a device is away.
    type: bool
    default: true
  places:
    description: As the option of M(edgeml.fleet.device_credentials).
    type: list
    elements: dict
attributes:
  check_mode:
    support: full
    description: Changes nothing, and says what the wave would change.
  diff_mode:
    support: full
    description: Shows for each file the authorities, and for each certificate its name, authority and end.
  idempotent:
    support: full
    description: What is there decides what is to do. An interrupted change is continued.
author:
  - The edgeml.fleet authors (@edgeml)
requirements:
  - On the controller, the Python package cryptography, which ansible-core brings
  - On the machine, the command C(openssl)
seealso:
  - module: edgeml.fleet.rotation_gate
  - module: edgeml.fleet.device_credentials
"""

EXAMPLES = r"""
- name: Believe both authorities
  edgeml.fleet.rotation_wave:
    wave: authority
    authority: ~/.config/edgeml/authority
  become: true
"""

RETURN = r"""
places:
  description: What the machine has afterwards, as M(edgeml.fleet.device_credentials) returns it.
  returned: success
  type: list
  elements: dict
"""
