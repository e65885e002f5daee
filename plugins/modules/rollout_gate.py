#!/usr/bin/python
# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: rollout_gate
short_description: Judge a wave of a rollout from its devices' measurements
version_added: 0.1.0
description:
  - Runs on the controller and connects to no device.
  - Compares each device of the wave with its own past, and the change with that of devices that keep the old
    version, in each device class and over all of them. C(docs/gate.md) explains how, and what to do with the verdict.
  - The verdict is V(fail) if any check fails. It is V(inconclusive) if none fails, but too few devices reported, a
    measurement is missing or broken, harm is suspected but not certain, or a longer soak would tell. Otherwise it
    is V(pass).
  - A check fails when its estimate is beyond the limit and harm is statistically certain. It passes when its estimate
    is within the limit and harm of twice the limit is out of the question. A check that has too little data even after
    the longest soak is skipped, and the reason says so.
  - You may call it O(analyses_max) times during a soak without more false alarms.
options:
  device_classes:
    description: The devices of the wave, by their inventory names, each with its device class.
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
  controls:
    description:
      - Devices that keep the old version, by their inventory names, each with C(device_class), and with the results of
        M(edgeml.fleet.model_info) C(before) and C(after) the soak.
      - A control that did not answer, changed its version meanwhile or reported impossible numbers is left out.
    type: dict
    default: {}
  earlier:
    description:
      - The devices of the rollout's waves before, by their inventory names, each with C(device_class) and C(outcome).
      - Their failures count with those of this wave. A class of which one of them reported is known.
    type: dict
    default: {}
  analysis:
    description: The number of this analysis of the wave, from 1.
    type: int
    default: 1
  analyses_max:
    description: How many analyses there can be, up to the end of the longest soak. The same at each analysis.
    type: int
    default: 1
  limits:
    description: What is allowed. All but the first and the last are numbers; null turns a limit of type raw off.
    type: dict
    default: {}
    suboptions:
      max_failures:
        description:
          - How many devices may refuse the release, fail, fall silent, restart their server too often or answer the
            probe set wrongly. A count, or a percentage of the wave such as V(5%).
        type: str
        default: "0"
      reporting_share_min:
        description:
          - The share of the wave's devices that must have reported, from 0 to 1. Unless it is 0, one of each class
            must have.
        type: float
        default: 0.5
      accuracy_drop_max:
        description:
          - How much of the metric of the release's probe set may be lost, in points (0.02 is two percentage points).
          - For the metrics accuracy, within, agreement, auc and r2.
        type: raw
        default: 0.02
      accuracy_min:
        description: The least value of the same metrics, from 0 to 1.
        type: raw
      probe_error_ratio_max:
        description:
          - How many times as large the error on the release's probe set may be, for the metrics mae, rmse and distance.
        type: raw
        default: 1.1
      live_accuracy_drop_max:
        description: Accuracy by the labels that came back that may be lost, in points.
        type: raw
        default: 0.01
      error_rate_max:
        description:
          - The share of requests that may be answered with a status of 500 or above.
          - A version that is no worse than the one before it does not fail.
        type: raw
        default: 0.05
      error_rate_rise_max:
        description: By how much that share may rise, in points.
        type: raw
        default: 0.004
      latency_ratio_max:
        description:
          - How many times as long the median request, the 95th percentile, and a batch of the probe set may take.
        type: raw
        default: 1.1
      latency_seconds_max:
        description: How long the 95th percentile may be, in seconds.
        type: raw
      drift_rise_max:
        description: By how much the share of devices with a drift alarm may exceed that of the controls, in points.
        type: raw
        default: 0.2
      shadow_agreement_min:
        description: The least share of rows that a shadow of the new version answered like the old one.
        type: raw
        default: 0.8
      memory_ratio_max:
        description: How many times as much resident memory the server may take.
        type: raw
        default: 1.5
      memory_bytes_max:
        description: How much resident memory the server may take on each device, in bytes.
        type: raw
      energy_ratio_max:
        description: Energy of the board for each request, as a multiple of what it was. Judged where boards measure it.
        type: raw
        default: 1.2
      clock_ratio_max:
        description: How much slower the processors may run than they did, because the board is too hot or too weak.
        type: raw
        default: 1.1
      temperature_rise_max:
        description: By how many degrees Celsius the hottest sensor of the board may be hotter than it was.
        type: raw
        default: 5.0
      restarts_max:
        description:
          - How often the server of a device may restart by itself. A device beyond it counts towards
            O(limits.max_failures).
        type: raw
        default: 2
      strict:
        description: >-
          Whether a check that has too little data, even after the longest soak, makes the verdict
          V(inconclusive).
        type: bool
        default: false
requirements:
  - Python 3.8 or later; its standard library only
extends_documentation_fragment:
  - edgeml.fleet.read_only
seealso:
  - module: edgeml.fleet.model_swap
  - module: edgeml.fleet.model_info
"""

EXAMPLES = r"""
- name: Judge a wave of one device
  edgeml.fleet.rollout_gate:
    device_classes:
      edge-s1: small
    swaps:
      edge-s1: {changed: true, version: 1.1.0}
    reads:
      edge-s1:
        model:
          live: 1.1.0
          replaced: 1.0.0
          baseline:
            version: 1.0.0
            metric: accuracy
            samples: 360
            correct: 330
            value: 0.916667
            results: {flags: "///////////////////////////////////////////////////////AAAAA"}
            latency_seconds: 0.004
          probe:
            version: 1.1.0
            metric: accuracy
            samples: 360
            correct: 353
            value: 0.980556
            results: {flags: "//////////////////////////////////////////////////////////+A"}
            latency_seconds: 0.004
          requests: {requests: 812, errors: 0, timed: 812, latency_buckets: [[0.001, 3], [0.0025, 700], [0.005, 812]]}
          past:
            requests: {requests: 9120, errors: 2, timed: 9118, latency_buckets: [[0.001, 31], [0.0025, 7911]]}
  delegate_to: localhost
  run_once: true
  register: gate

- name: Judge it by other limits, at the second of at most six analyses
  edgeml.fleet.rollout_gate:
    device_classes: "{{ device_classes }}"
    swaps: "{{ swaps }}"
    reads: "{{ reads }}"
    controls: "{{ controls }}"
    analysis: 2
    analyses_max: 6
    limits:
      max_failures: 5%
      latency_ratio_max: 1.3
      shadow_agreement_min: null
      strict: true
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
  description:
    - One line for each check that failed or is inconclusive, in each device class; one line for each check that passed;
      and one line for each cause for which a check was skipped.
    - Each begins with the verdict of the check, V(pass), V(fail), V(inconclusive) or V(skipped).
    - The lines are for people. A program reads RV(findings).
  returned: success
  type: list
  elements: str
  sample: ["pass: coverage: 4 of 4 devices reported (100%, at least 50%)"]
findings:
  description:
    - Every check whose limit is on, in every device class and over all of them.
    - Where no device serves the new version, only V(failed devices) and V(coverage) are judged.
  returned: success
  type: list
  elements: dict
  contains:
    check:
      description: The name of the check, as in C(docs/gate.md).
      type: str
      returned: always
      sample: error rate rise
    verdict:
      description: One of V(pass), V(fail), V(inconclusive) and V(skipped).
      type: str
      returned: always
      sample: pass
    cause:
      description:
        - Why the check is inconclusive or skipped, where its numbers alone do not say it. C(docs/gate.md) lists them.
      type: str
      returned: always
      sample: no traffic
    reason:
      description: The reason for people, in words and numbers.
      type: str
      returned: always
      sample: "accuracy 0.9806 on 360 samples (at least 0.9000)"
    device_class:
      description: The device class; null for what is over all of them.
      type: str
      returned: always
      sample: small
    unit:
      description:
        - The unit of RV(findings[].estimate), RV(findings[].bounds) and RV(findings[].limit).
        - One of V(count), V(share) (0 to 1), V(points) (a difference of shares), V(ratio), V(seconds) and V(bytes).
      type: str
      returned: always
      sample: points
    estimate:
      description: What was measured. Null if there was nothing to judge.
      type: float
      returned: always
      sample: -0.0001
    bounds:
      description: The confidence interval of the estimate.
      type: dict
      returned: always
      contains:
        lower:
          description: The true value is lower with a probability of at most 1%, over all checks, classes and analyses.
          type: float
          returned: success
          sample: -0.004
        upper:
          description: The true value is higher with a probability of at most 5%, over all analyses.
          type: float
          returned: success
          sample: 0.0011
    limit:
      description: The limit.
      type: float
      returned: always
      sample: 0.004
    threshold:
      description: The limit of one device, where RV(findings[].limit) is a number of devices.
      type: float
      returned: always
      sample: 2
    baseline:
      description: What the version before had.
      type: float
      returned: always
      sample: 0.0008
    samples:
      description: How many requests, labels, rows or devices were judged.
      type: int
      returned: always
      sample: 4012
    events:
      description: How many of the samples were harmful, or for V(coverage) reported.
      type: int
      returned: always
      sample: 3
    devices:
      description: On how many devices, where that is not the number of samples.
      type: int
      returned: always
      sample: 24
    compared_with:
      description: What a change is compared with.
      type: dict
      returned: always
      contains:
        past:
          description: Whether with the past of the same devices.
          type: bool
          returned: success
          sample: true
        controls:
          description: With how many controls.
          type: int
          returned: success
          sample: 24
        events:
          description: On how many of the controls the same happened, or how many requests they had.
          type: int
          returned: success
          sample: 2
    named:
      description: The first ten of the devices that the finding is about.
      type: list
      elements: dict
      returned: always
      contains:
        name:
          description: The inventory name.
          type: str
          returned: success
          sample: edge-s1
        outcome:
          description: The outcome of a device that failed.
          type: str
          returned: success
          sample: refused
        count:
          description: How often its server restarted.
          type: int
          returned: success
          sample: 3
        missing:
          description: What it did not report, V(probe), V(baseline) or V(requests).
          type: str
          returned: success
          sample: probe
        problems:
          description: Values that are not valid, or why the version before could not be asked the probe set.
          type: list
          elements: str
          returned: success
          sample: ["requests: 5 errors and 0 answers of 3 requests"]
    named_total:
      description: How many devices the finding is about.
      type: int
      returned: always
      sample: 1
    metric:
      description: The metric of the probe set, for the checks of it.
      type: str
      returned: always
      sample: accuracy
    top:
      description: Among how many of the best classes the right one may be, for the metric V(accuracy).
      type: int
      returned: always
      sample: 1
    improved:
      description: How many samples of the probe set were wrong before and are right now.
      type: int
      returned: always
      sample: 4
outcomes:
  description:
    - The outcome of each device by its name.
    - One of V(updated), V(already there), V(refused), V(failed), V(failed before), V(silent) and V(away).
    - V(failed before) is a device that did not try the release, because it had failed there before.
  returned: success
  type: dict
  sample: {edge-s1: updated}
"""
