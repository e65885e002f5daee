#!/usr/bin/python
# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: rollout_call
short_description: Ask a device what a rollout needs of it
version_added: 0.2.0
description:
  - One call to a device, made by the tasks of the playbooks C(edgeml.fleet.rollout), C(edgeml.fleet.reconcile) and
    C(edgeml.fleet.rollback). What is asked comes from the steps of M(edgeml.fleet.rollout_step), how the device is
    asked from its own variables, those of the role P(edgeml.fleet.rollout#role).
  - An action plugin. It runs M(edgeml.fleet.model_swap) or M(edgeml.fleet.model_info) on the device, and returns what
    they return. For a playbook of your own use these.
options:
  call:
    description:
      - V(swap) brings the release of the wave that has begun. In wave 0 the device answers copies of requests with it.
      - V(read) reads what the device measured of it.
      - V(read_control) reads a device on the old version that the wave is compared with.
      - V(end_shadow) ends wave 0 on the device, and removes a release that failed there.
      - V(revert) goes back to the version before.
      - V(reconcile) brings O(model) to the version that the ledger says.
      - V(read_counters) reads what the device has counted, for a plan alone.
      - V(read_labels) reads which labels of O(model) have come.
    type: str
    choices: [swap, read, read_control, read_counters, read_labels, end_shadow, revert, reconcile]
    required: true
  model:
    description: The model, for O(call=reconcile) and O(call=read_labels).
    type: str
requirements:
  - Python 3.10 or later on the controller, 3.8 or later on the device
author:
  - The edgeml.fleet authors (@edgeml)
attributes:
  check_mode:
    support: full
    description: As M(edgeml.fleet.model_swap) does.
  diff_mode:
    support: full
    description: As M(edgeml.fleet.model_swap) does.
  idempotent:
    support: full
    description: As M(edgeml.fleet.model_swap) is.
seealso:
  - module: edgeml.fleet.rollout_step
  - module: edgeml.fleet.model_swap
  - module: edgeml.fleet.model_info
"""

EXAMPLES = r"""
- name: Fetch, verify and swap, as the role's tasks do
  edgeml.fleet.rollout_call:
    call: swap
  register: swapped
"""

RETURN = r"""
mend:
  description:
    - Present where the device's inference server does not answer, and the device's service is to be mended. Of a
      microcontroller nobody can do that from the controller.
  returned: when a reconciliation finds a server that does not answer
  type: bool
  sample: true
msg:
  description: Why a call could not be made. Everything else is returned by the module that the device was asked by.
  returned: failure
  type: str
  sample: "edge-17: rollout_keep: expected a whole number from 0; found 'many'"
"""
