#!/usr/bin/python
# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: device_profile
short_description: Measure what a model costs on a device
version_added: 0.2.0
description:
  - Lets the device rest, has its server answer one burst of requests, and then requests without a pause. The requests
    are the release's golden inputs, and no traffic that a trial or a gate would count.
  - Reads the board's sensors of temperature and power meanwhile. What it has no sensor of stays empty.
  - The device is busy for O(seconds). The playbook C(edgeml.fleet.profile) does this for one device of each class.
options:
  model:
    description: The model. The version that serves is measured.
    type: str
    required: true
  burst:
    description: How many requests the burst has.
    type: int
    default: 50
  seconds:
    description: For how long it answers without a pause. Boards get warm in minutes.
    type: float
    default: 60
  power_sensor:
    description: >-
      The sensor that has all of the board's power, as C(edgeml metrics) names it. Needed where there are several.
    type: str
    default: ""
  root:
    description: Directory below which C(sys) and C(proc) are.
    type: path
    default: /
extends_documentation_fragment: [edgeml.fleet.device]
attributes:
  check_mode:
    support: full
    description: Measures nothing.
  diff_mode:
    support: none
    description: Changes nothing.
  idempotent:
    support: full
    description: Changes nothing.
author:
  - The edgeml.fleet authors (@edgeml)
requirements:
  - Python 3.8 or later; its standard library only
seealso:
  - module: edgeml.fleet.device_profiles
"""

EXAMPLES = r"""
- name: Measure a model for five minutes
  edgeml.fleet.device_profile:
    model: digits
    seconds: 300
  become: true
"""

RETURN = r"""
profile:
  description: What was measured; empty in check mode.
  returned: success
  type: dict
  sample:
    version: 1.0.0
    load_seconds: 0.21
    resident_bytes: 61341696
    burst: {p50_seconds: 0.0011, p95_seconds: 0.0013}
    sustained: {p50_seconds: 0.0012, p95_seconds: 0.0019, requests_per_second: 790.1}
    celsius_before: 41.2
    celsius_max: 62.9
    idle_watts: 2.1
    watts: 4.9
    joules: [0.0035, 0.0036]
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.edgeml.fleet.plugins.module_utils._common.errors import EdgemlError
from ansible_collections.edgeml.fleet.plugins.module_utils._watch.profile import ProfileOptions, measure_profile


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "store": {"type": "path", "default": "/var/lib/edgeml/store"},
            "server": {"type": "str", "default": "/run/edgeml/server.sock"},
            "model": {"type": "str", "required": True},
            "burst": {"type": "int", "default": 50},
            "seconds": {"type": "float", "default": 60.0},
            "power_sensor": {"type": "str", "default": ""},
            "root": {"type": "path", "default": "/"},
        },
        supports_check_mode=True,
    )
    try:
        profile = {} if module.check_mode else measure_profile(ProfileOptions(**module.params))
    except (EdgemlError, OSError) as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=False, profile=profile)


if __name__ == "__main__":
    main()
