#!/usr/bin/python
# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: rotation_gate
short_description: Decide whether a wave of a rotation of credentials begins
version_added: 0.2.0
description:
  - An action plugin. It runs on the controller and connects to no device. The playbook
    C(edgeml.fleet.rotate_credentials) calls it before each wave, and M(edgeml.fleet.rotation_wave) on each machine.
  - A wave begins when every machine that answers is after the wave before, by what it has. Machines that are away hold
    the last wave back, and servers that are away the second one. Fails where a machine that answers is behind.
  - Makes the new authority, has it sign, and removes the key of the old one.
  - Holds the ledger's lock until the run ends, so that no rollout plans meanwhile.
options:
  wave:
    description: The wave that is to begin; V(read) is before all of them, V(close) after them.
    type: str
    choices: [read, authority, leaves, retire, close]
    required: true
  authority:
    description: Directory of the authority on the controller, with C(ca.pem) and C(ca.key).
    type: path
    required: true
  ledger:
    description: Directory of the ledger.
    type: path
    required: true
  hosts:
    description: Names of the devices. What each said is read from the results that the playbook registered.
    type: list
    elements: str
    default: []
  servers:
    description: Names of the machines that serve devices, such as a mailbox.
    type: list
    elements: str
    default: []
  given_up:
    description: Names of devices that are not waited for.
    type: list
    elements: str
    default: []
  replace:
    description: >-
      The authority that is to be replaced, by the first eight or more digits of the SHA-256 of its certificate. Without
      it, only what is under way goes on.
    type: str
    default: ""
  new_authority:
    description: >-
      A file in PEM with the certificate and the key of the authority that replaces it. Without it, one is made. One
      that could not follow the old one is refused before anything is changed.
    type: path
  last_wave:
    description: The last wave that may begin.
    type: str
    choices: [authority, leaves, retire]
    default: retire
attributes:
  check_mode:
    support: full
    description: Makes nothing, and takes each wave before as done.
  diff_mode:
    support: full
    description: Shows the authorities, the one that signs first.
  idempotent:
    support: full
    description: An authority that has been replaced is not replaced again.
author:
  - The edgeml.fleet authors (@edgeml)
requirements:
  - On the controller, the Python package cryptography, which ansible-core brings
seealso:
  - module: edgeml.fleet.rotation_wave
  - module: edgeml.fleet.device_enrolment
"""

EXAMPLES = r"""
- name: See whether a rotation is under way
  edgeml.fleet.rotation_gate:
    wave: read
    authority: ~/.config/edgeml/authority
    ledger: ~/.local/state/edgeml/rollouts
  delegate_to: localhost
  run_once: true
  check_mode: true
"""

RETURN = r"""
under_way:
  description: Whether an authority is to be replaced.
  returned: success
  type: bool
begins:
  description: Whether the wave begins.
  returned: success
  type: bool
hosts:
  description: The machines that take part in it.
  returned: success
  type: list
  elements: str
servers:
  description: Whether the certificates of servers are replaced as well; not while a device is away.
  returned: success
  type: bool
held_by:
  description: What it waits for.
  returned: success
  type: list
  elements: str
  sample: ["edge-17 (away)"]
readers:
  description: The readers of the mailbox that got another certificate, in the authority's directory.
  returned: success
  type: list
  elements: str
authorities:
  description: The authorities that are believed now, the one that signs first.
  returned: success
  type: list
  elements: str
  sample: ["CN=edgeml fleet (3f0c1f6f0f7a)"]
"""
