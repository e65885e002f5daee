#!/usr/bin/python
# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: canary_select
short_description: Split a fleet into waves by a stable hash, with each device class represented
version_added: 0.1.0
description:
  - Runs on the controller and connects to no device.
  - A host's place in [0, 1) is a hash of O(salt) and its name. So a host gets the same answer whatever the order and
    the size of the inventory, and each percentage contains the smaller ones.
  - The filter P(edgeml.fleet.canary_select#filter) returns the same.
options:
  hosts:
    description:
      - The whole fleet, each host with its device class (a hardware class, a site, or several joined in one text).
      - Or with a mapping of C(device_class), C(decommissioned), C(pinned) and C(maintenance). A host with V(true) or a
        text (a reason) in one of the last three takes no part. The filter P(edgeml.fleet.cohort_hosts#filter) makes it
        of the hosts' variables.
    type: dict
    required: true
requirements:
  - Python 3.8 or later; its standard library only
extends_documentation_fragment:
  - edgeml.fleet.waves
  - edgeml.fleet.read_only
seealso:
  - plugin: edgeml.fleet.canary_select
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Split the fleet into waves, each hardware class represented in the first
  edgeml.fleet.canary_select:
    hosts:
      edge-s1: small
      edge-s2: small
      edge-s3: {device_class: small, maintenance: new battery}
      edge-l1: large
      edge-l2: large
    waves: [25%, 100%]
    salt: digits
  delegate_to: localhost
  run_once: true
  register: plan
"""

RETURN = r"""
waves:
  description: The waves that are not empty, each with its C(number) in the whole fleet, C(name), and C(hosts) in order.
  returned: success
  type: list
  elements: dict
  sample: [{number: 1, name: 25%, hosts: [edge-l2, edge-s1]}, {number: 2, name: 100%, hosts: [edge-s2, edge-l1]}]
left_out:
  description: The hosts that take no part, each with the reason.
  returned: success
  type: dict
  sample: {edge-s3: "maintenance: new battery"}
controls:
  description:
    - For each of the waves a mapping from its hosts to controls, where there are any.
    - A control is a host of the same device class in a later wave; it is the control of one host of a wave.
  returned: success
  type: list
  elements: dict
  sample: [{edge-l2: edge-l1, edge-s1: edge-s2}, {}]
boundaries:
  description:
    - All that is needed to give each host the same wave where only a part of the fleet is known.
    - The salt; and for each wave C(name), C(group) (or nothing) and C(below), the place for each class below which a
      host belongs to it.
  returned: success
  type: dict
  sample:
    salt: digits
    waves:
      - {name: 25%, group: null, below: {large: 0.212, small: 0.4428}}
      - {name: 100%, group: null, below: {small: 0.5601, large: 0.767}}
"""
