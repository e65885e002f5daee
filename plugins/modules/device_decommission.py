#!/usr/bin/python
# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: device_decommission
short_description: Take devices out of service for good
version_added: 0.2.0
description:
  - Notes in the ledger that devices are out of service. Rollouts and reconciliations leave them out from then on,
    though the inventory may still name them.
  - Has the fleet's authority sign nothing for them any more. The roles P(edgeml.fleet.report_mailbox#role) and
    P(edgeml.fleet.mqtt_broker#role) refuse the certificates that they have.
  - An action plugin. It runs on the controller and connects to no device; M(edgeml.fleet.device_wipe) removes what is
    on one. The playbook C(edgeml.fleet.decommission) uses both.
  - Holds the ledger's lock until the run ends, so that no rollout plans meanwhile.
options:
  devices:
    description: Names of the devices, as the inventory and their certificates have them.
    type: list
    elements: str
    required: true
  ledger:
    description: Directory of the ledger.
    type: path
    required: true
  authority:
    description: Directory of the fleet's authority. Without one there, nothing is revoked.
    type: path
  reason:
    description: Why they are out of service, for everybody who asks. Needed for O(state=present).
    type: str
  wiped:
    description: Those of O(devices) from which everything has been removed.
    type: list
    elements: str
    default: []
  state:
    description:
      - Whether the devices are out of service (V(present)), or may be enrolled and taken along again (V(absent)).
    type: str
    choices: [present, absent]
    default: present
attributes:
  check_mode:
    support: full
    description: Says what would change, and changes nothing.
  diff_mode:
    support: full
    description: Shows the devices that are out of service, before and after.
  idempotent:
    support: full
    description: Devices that are out of service already keep their time and their reason.
author:
  - The edgeml.fleet authors (@edgeml)
seealso:
  - module: edgeml.fleet.device_wipe
  - module: edgeml.fleet.device_enrolment
"""

EXAMPLES = r"""
- name: Take a stolen device out of service
  edgeml.fleet.device_decommission:
    devices: [edge-17]
    reason: stolen
    ledger: /srv/rollouts
    authority: ~/.config/edgeml/authority
  delegate_to: localhost
  run_once: true
"""

RETURN = r"""
decommissioned:
  description: All devices of the ledger that are out of service.
  returned: success
  type: list
  elements: dict
  contains:
    device:
      description: Name of the device.
      type: str
      returned: always
    at:
      description: Since when, in UTC.
      type: str
      returned: always
    reason:
      description: Why.
      type: str
      returned: always
    wiped:
      description: Whether everything has been removed from it.
      type: bool
      returned: always
revoked:
  description: The devices for whom the authority has begun, or ended, to refuse.
  returned: success
  type: list
  elements: str
  sample: [edge-17]
to_wipe:
  description: Those of O(devices) from which something is still to be removed.
  returned: success
  type: list
  elements: str
  sample: [edge-17]
"""
