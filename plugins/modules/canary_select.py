#!/usr/bin/python
# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: canary_select
short_description: Choose the hosts that come first, by a stable hash, with each kind of device represented
version_added: 0.1.0
description:
  - Runs on the controller and connects to no device.
  - A host's place in [0, 1) is a hash of O(salt) and its name.
    It belongs to a cohort of P percent when its place is below P/100. So a host gets the same answer
    whatever the order, the slice or the size of the inventory, and each percentage contains the smaller ones.
  - The share of a fleet that is chosen is P percent on average. Each stratum is represented by at least one host.
options:
  hosts:
    description:
      - The hosts to choose from, each with its stratum (a hardware class, a site, or several joined in one text).
    type: dict
    required: true
  waves:
    description:
      - Rising percentages, the last one 100. Each wave holds what its percentage adds to the wave before.
    type: list
    elements: float
    default: [10, 50, 100]
  salt:
    description:
      - Changes which hosts come first. The name of the model spreads the risk of being first over the fleet.
    type: str
    required: true
  always:
    description: Hosts that belong to the first wave in any case; hosts that are not in O(hosts) are passed over.
    type: list
    elements: str
    default: []
extends_documentation_fragment:
  - edgeml.fleet.read_only
"""

EXAMPLES = r"""
- name: Split the fleet into waves, each hardware class represented in each
  edgeml.fleet.canary_select:
    hosts:
      edge-s1: small
      edge-s2: small
      edge-l1: large
      edge-l2: large
    waves: [25, 100]
    salt: digits
  delegate_to: localhost
  run_once: true
  register: plan
"""

RETURN = r"""
waves:
  description: The waves that are not empty, each a list of hosts, in order.
  returned: success
  type: list
  elements: list
  sample: [[edge-s2, edge-l1], [edge-s1, edge-l2]]
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.edgeml.fleet.plugins.module_utils._cohort import waves


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "hosts": {"type": "dict", "required": True},
            "waves": {"type": "list", "elements": "float", "default": [10, 50, 100]},
            "salt": {"type": "str", "required": True},
            "always": {"type": "list", "elements": "str", "default": []},
        },
        supports_check_mode=True,
    )
    params = module.params
    strata = {str(host): str(stratum) for host, stratum in params["hosts"].items()}
    try:
        result = waves(strata, params["waves"], params["salt"], params["always"])
    except ValueError as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=False, waves=result)


if __name__ == "__main__":
    main()
