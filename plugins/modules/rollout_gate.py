#!/usr/bin/python
# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: rollout_gate
short_description: Judge a wave of a rollout by what its devices measured
version_added: 0.1.0
description:
  - Runs on the controller and connects to no device.
  - The verdict is V(fail) if any limit is broken; V(inconclusive) if none is, but too few devices reported or a
    measurement is missing; else V(pass). A missing measurement never passes.
  - Accuracy and latency are judged in each stratum, so that a fault of one kind of hardware cannot hide behind the
    others.
options:
  strata:
    description: The devices of the wave, by their inventory names, each with the class of devices that it belongs to.
    type: dict
    required: true
  swaps:
    description: The result of M(edgeml.fleet.model_swap) of each device, also a failed or unreachable one.
    type: dict
    required: true
  reads:
    description: The result of M(edgeml.fleet.model_info) of each device after the soak, failed or unreachable ones too.
    type: dict
    required: true
  failed_max:
    description: How many devices may refuse the release, fail, or fall silent after they started.
    type: int
    default: 0
  coverage_min:
    description: The share of the wave's devices that must have reported, from 0 to 1.
    type: float
    default: 0.5
  accuracy_drop_max:
    description:
      - Accuracy that may be lost against the replaced version, in points (0.02 is two percentage points).
      - Not judged if not given.
    type: float
  accuracy_min:
    description: The least accuracy on the probe set, from 0 to 1. Not judged if not given.
    type: float
  error_rate_max:
    description:
      - The share of requests that the server may have failed, with a status of 500 or above. Not judged if not given.
    type: float
  latency_ratio_max:
    description: How many times the replaced version's time a probe batch may take. Not judged if not given.
    type: float
extends_documentation_fragment:
  - edgeml.fleet.read_only
"""

EXAMPLES = r"""
- name: Judge a wave of one device
  edgeml.fleet.rollout_gate:
    strata:
      edge-s1: small
    swaps:
      edge-s1: {changed: true, version: 1.1.0}
    reads:
      edge-s1:
        model:
          live: 1.1.0
          replaced: 1.0.0
          baseline: {accuracy: 0.92, latency_seconds: 0.004}
          probe: {accuracy: 0.98, latency_seconds: 0.004}
          requests: {requests: 500, errors: 0}
    accuracy_drop_max: 0.02
    error_rate_max: 0.01
  delegate_to: localhost
  run_once: true
  register: gate
"""

RETURN = r"""
verdict:
  description: One of V(pass), V(fail) and V(inconclusive).
  returned: success
  type: str
  sample: pass
reasons:
  description: One line for each check, with its own verdict and the numbers.
  returned: success
  type: list
  elements: str
  sample: ["pass: accuracy drop: -0.0600 lost in small (from 0.9200 to 0.9800; at most 0.0200)"]
outcomes:
  description:
    - The outcome of each device by its name.
    - One of V(updated), V(already there), V(refused), V(failed), V(silent) and V(away).
  returned: success
  type: dict
  sample: {edge-s1: updated}
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.edgeml.fleet.plugins.module_utils._gate import Limits, judge, report

LIMITS = ("failed_max", "coverage_min", "accuracy_drop_max", "accuracy_min", "error_rate_max", "latency_ratio_max")


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "strata": {"type": "dict", "required": True},
            "swaps": {"type": "dict", "required": True},
            "reads": {"type": "dict", "required": True},
            "failed_max": {"type": "int", "default": 0},
            "coverage_min": {"type": "float", "default": 0.5},
            "accuracy_drop_max": {"type": "float"},
            "accuracy_min": {"type": "float"},
            "error_rate_max": {"type": "float"},
            "latency_ratio_max": {"type": "float"},
        },
        supports_check_mode=True,
    )
    params = module.params
    reports = [
        report(name, str(stratum), params["swaps"].get(name) or {}, params["reads"].get(name) or {})
        for name, stratum in params["strata"].items()
    ]
    verdict, findings = judge(reports, Limits(**{name: params[name] for name in LIMITS}))
    module.exit_json(
        changed=False,
        verdict=verdict,
        reasons=[f"{finding.verdict}: {finding.check}: {finding.reason}" for finding in findings],
        outcomes={item.name: item.outcome for item in reports},
    )


if __name__ == "__main__":
    main()
