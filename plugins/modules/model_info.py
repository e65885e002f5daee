#!/usr/bin/python
# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: model_info
short_description: Read which model versions a device holds and serves, and how well
version_added: 0.1.0
description:
  - Reads the device's store and asks its inference server. Changes nothing.
  - With O(probe=true) it puts the probe set of the active version to the server, and measures its answers.
options:
  model:
    description: Name of the model. All models of the device if not given.
    type: str
  probe:
    description: Whether to measure the active version on its release's probe set.
    type: bool
    default: false
  history:
    description: How many of the last transitions to return for each model.
    type: int
    default: 0
  candidate:
    description: A version that answers copies of requests as a shadow, to return what was measured of it.
    type: str
requirements:
  - Python 3.8 or later; its standard library only
extends_documentation_fragment:
  - edgeml.fleet.device
  - edgeml.fleet.read_only
  - edgeml.fleet.retries
seealso:
  - module: edgeml.fleet.model_swap
"""

EXAMPLES = r"""
- name: Read all models of a device
  edgeml.fleet.model_info:
  register: device

- name: Measure the accuracy of the version that digits serves
  edgeml.fleet.model_info:
    model: digits
    probe: true
  register: measured
"""

RETURN = r"""
models:
  description: The device's models, sorted by name.
  returned: when O(model) is not given
  type: list
  elements: dict
  contains:
    name:
      description: Name of the model.
      type: str
      returned: always
      sample: digits
    active:
      description: The version that the store names as active.
      type: str
      returned: always
      sample: 1.1.0
    previous:
      description: The version that was active before.
      type: str
      returned: always
      sample: 1.0.0
    versions:
      description: The versions that the store holds.
      type: list
      elements: str
      returned: always
      sample: [1.0.0, 1.1.0]
    live:
      description: The version that the server answers with; none if it does not serve the model.
      type: str
      returned: always
      sample: 1.1.0
    variant:
      description: The variant of the active version.
      type: str
      returned: when a version is active
      sample: onnx-fp32
    digest:
      description: The digest of the active version's manifest.
      type: str
      returned: when a version is active
      sample: 0d3e...
    replaced:
      description: The version that the active one replaced.
      type: str
      returned: when a version is active
      sample: 1.0.0
    rollout_id:
      description: The rollout that made the active version active.
      type: str
      returned: when a version is active
      sample: digits-1.1.0-20261121T101500Z
    baseline:
      description: How the replaced version answered the active version's probe set before the switch; as C(probe).
      type: dict
      returned: when a version is active
      sample: {version: 1.0.0, metric: accuracy, samples: 360, value: 0.919444, latency_seconds: 0.004}
    trial:
      description: The trial of the active version, with the version that it returns to; none if it is committed.
      type: dict
      returned: always
      sample: {seconds: 300.0, returns_to: 1.0.0, crashes: 0}
    failed:
      description: The versions that failed on this device, and are not tried again without C(retry).
      type: list
      elements: dict
      returned: always
      sample: [{version: 1.2.0, reason: "the service crashed 3 times (at most 2)", time: "2026-11-21T10:15:09Z"}]
    withdrawn:
      description:
        - Why versions that the device holds are withdrawn, by version, as far as it has been told.
      type: dict
      returned: always
      sample: {1.0.0: labels were permuted}
    way_back:
      description:
        - To which version the device can return without a network; none where no version is active.
        - C(ready) is whether it can now, by what it holds; C(problem) says why not. C(tested) is whether that version
          passed its smoke test with the runtime that is installed now, none if not known. C(ends) is what ends this
          window, V(trial) or V(next release).
      type: dict
      returned: always
      sample: {version: 1.0.0, ready: true, problem: null, tested: true, ends: next release}
    active_seconds:
      description: How long ago the active version became active.
      type: float
      returned: when a version is active
      sample: 612.4
    counted_seconds:
      description:
        - For how long C(requests) and C(labels) were counted; less than C(active_seconds) if the server started since.
      type: float
      returned: when a version is active
      sample: 612.4
    requests:
      description:
        - What the server has counted for the active version since it became active, or since the server started.
        - C(latency_buckets) are pairs of a time in seconds, and how many requests took no longer.
        - The requests of O(probe=true) are not counted.
      type: dict
      returned: when a version is active, and the server answers and has metrics
      sample:
        requests: 812
        errors: 0
        timed: 812
        latency_seconds_sum: 1.9
        latency_buckets: [[0.0025, 640], [0.005, 811], [0.01, 812]]
    labels:
      description: How many of its predictions were right and wrong, by the labels that came back since then.
      type: dict
      returned: as RV(models[].requests)
      sample: {right: 96, wrong: 4}
    shadow:
      description:
        - Of how many rows of copies of requests the answers as a shadow were those of the active version, or others,
          and in how many C(requests) they came.
      type: dict
      returned: as RV(models[].requests)
      sample: {agreed: 980, disagreed: 12, failed: 0, dropped: 3, requests: 992}
    drift:
      description: For each series, how its last window of rows compares with the release's drift reference.
      type: list
      elements: dict
      returned: as RV(models[].requests)
      sample: [{series: pixel mean, psi: 0.02, alarm: false, windows: 7}]
    resident_bytes:
      description: Resident memory of the server.
      type: int
      returned: as RV(models[].requests)
      sample: 104857600
    board:
      description:
        - What the sensors of the board say, each none where there is no such sensor.
        - C(energy_joules) is over the C(seconds) since the version became active, in which the server counted
          C(requests). C(power_watts), where energy is not counted, C(temperature_celsius) of the hottest sensor, and
          C(clock_ratio), how fast the processors may run of their highest clock, are of now.
        - So is the C(power_mode) of a Jetson; the gate does not compare a device in another one than before.
      type: dict
      returned: when a version is active and the board has sensors
      sample:
        energy_joules: 5120.5
        power_watts: null
        temperature_celsius: 61.8
        power_mode: null
        clock_ratio: 1.0
        requests: 812
        seconds: 612.4
    restarts:
      description: How often the server restarted since the version became active; none if not known.
      type: int
      returned: when a version is active
      sample: 0
    past:
      description:
        - The same for the version that it replaced, until it was replaced, from the device's journal. There,
          C(restarts) is the count of systemd, and C(started) the time at which the server had started.
        - None after a first installation.
      type: dict
      returned: when a version is active
      sample: {requests: {requests: 90110, errors: 4}, resident_bytes: 103809024}
    probe:
      description:
        - How the active version answers its probe set now; none if its release has no probe set.
        - C(value) is the C(metric) over all C(samples), and C(results) has each sample's, packed. For the metric
          accuracy it is also C(accuracy), and C(top) is there where the right class may be among the best few. It is
          none where no answer is a finite number; C(not_finite) counts those.
        - C(error) alone if the probe set could not be asked, with the reason.
      type: dict
      returned: when O(probe=true) and the active version is live
      sample: {version: 1.1.0, metric: accuracy, samples: 360, value: 0.983333, latency_seconds: 0.004}
    candidate:
      description:
        - What was measured of the version O(candidate) as a shadow, since the server started.
        - C(shadow) counts the rows of copies of requests by outcome, and the C(requests) in which those that were
          answered or failed came. C(model_seconds) has the processor time that both versions
          took for the same C(timed) requests. C(resident_bytes) is the memory of the server with both.
      type: dict
      returned: when O(candidate) is given
      sample:
        shadow: {agreed: 970, disagreed: 12, failed: 0, dropped: 18, requests: 982}
        model_seconds: {timed: 982, active: 0.196, candidate: 0.191}
        resident_bytes: 73400320
    history:
      description: The last transitions, oldest first.
      type: list
      elements: dict
      returned: when O(history) is above 0
      sample:
        - {time: "2026-11-21T10:15:09Z", event: activate, from: 1.0.0, to: 1.1.0, actor: ansible, why: nightly}
model:
  description: The model O(model), as an entry of RV(models).
  returned: when O(model) is given
  type: dict
device:
  description:
    - Architecture, memory in bytes, processors, Python version, board, and the inference runtimes installed.
    - Of a Jetson, C(software) is the version of Jetson Linux, C(jetpack) that of JetPack, and C(power_mode) the mode
      that C(nvpmodel) has set; empty elsewhere.
    - Of a microcontroller its class, the arena of its models, its firmware and runtime, its C(security_counter), and
      what was written and erased in its C(flash). Empty if it does not answer.
  returned: always
  type: dict
  sample: {architecture: aarch64, memory_bytes: 1073741824, python_version: 3.11.2, runtimes: {onnxruntime: 1.27.0}}
expires:
  description:
    - When what the device has ends, in UTC. C(server_certificate) is that of the server's TCP port,
      C(device_certificate) and C(metadata) are those of pull mode.
    - What the device does not have is left out. What cannot be read has ended in 1970.
  returned: always
  type: dict
  sample: {server_certificate: "2027-02-01T00:00:00Z"}
server_live:
  description: Whether the inference server answers.
  returned: always
  type: bool
  sample: true
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.edgeml.fleet.plugins.module_utils._device.describe import answer_info
from ansible_collections.edgeml.fleet.plugins.module_utils._device.request import (
    InfoRequest,
    argument_spec,
    make_request,
)


def main() -> None:
    """Run the module."""
    module = AnsibleModule(argument_spec("model_info"), supports_check_mode=True)
    result = answer_info(make_request(InfoRequest, module.params))
    if result.pop("failed", False):
        module.fail_json(**result)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
