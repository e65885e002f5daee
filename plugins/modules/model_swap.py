#!/usr/bin/python
# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: model_swap
short_description: Make a version of a model serve on a device, or keep the old version
version_added: 0.1.0
description:
  - Takes a device from "this release is wanted" to "this release serves", in one call.
    Each byte is verified against the release's manifest before anything becomes visible. The candidate runs the
    release's golden inputs in the device's runtime, in a process of its own. The switch is one atomic rename. The
    server loads the new version beside the old.
  - If any step fails, the old version keeps serving, the store names it as active again, and the task fails and
    returns in RV(live) which version serves. After a call that was killed at any point, the next call recovers, or the
    device itself when its service starts.
  - The new version is then on trial. The device watches it, also without the controller and after a restart, and
    commits it after O(trial_seconds). When the version exceeds O(trial_limits), the device reverts.
  - The action plugin of the same name reads the release from O(repository) on the controller and sends the blobs
    that the device does not hold. Nothing is sent when the device has them.
options:
  version:
    description:
      - The version that O(state) refers to.
      - For O(state=previous) it is the version to go back B(from). If another version is active, nothing is done.
    type: str
    required: true
  state:
    description:
      - V(present) stages the release in the store, verified, without serving it.
      - V(staged) orders the device to fetch the release from O(fetch) by itself, in its own time, and returns at once.
        The device fetches at idle priority, over as many days and connections as it takes, and never while a version
        is on trial. A later call finds the bytes there. What was ordered and is held already is left alone.
      - V(shadow) stages it, tests it, and has the server answer copies of its requests with it for O(shadow_seconds).
        Clients get the answers of the active version only. It works with O(strategy=load) and this collection's server.
        A shadow that runs is begun anew. Where the version is active already, nothing is done.
      - V(active) makes it serve.
      - V(previous) goes back from O(version) to the version that was active before it, without any download.
        With none before it, the model is no longer served. A version that was reverted is not tried again without
        O(retry), so that no schedule brings it back.
      - If the version before is withdrawn, V(previous) goes back to it within a rollout (O(rollout_id)) or a trial, and
        says so in RV(withdrawn). Otherwise it is refused. So is a version before that failed on this device or
        was left there, unless O(retry) is set. So two rollbacks in a row do not end where they began.
      - V(absent) removes the version from the store, and the order to fetch it. The active and the previous version are
        never removed.
    type: str
    choices: [present, staged, shadow, active, previous, absent]
    default: active
  repository:
    description:
      - Path of the model repository on the controller, or its address on a web server.
      - Needed where the device does not hold the release yet.
      - Without O(manifest), the release must be signed by the keys of the root in the variable
        C(model_repository_root), unless C(model_repository_unsigned) is true.
    type: path
  manifest:
    description:
      - The release's manifest, as RV(edgeml.fleet.release_info#module:manifest) returns it.
      - Read from O(repository) if not given; without either, the release must be in the device's store.
    type: dict
  withdrawn:
    description:
      - The releases of the model that nobody may run any more. C(releases) has the reason of each by its version,
        C(number) is the version of the signed metadata that says so, and C(root) names who signed it.
      - The device keeps the list, unless it knows a newer one of the same C(root). From then on it refuses
        O(state=present), O(state=staged) and O(state=active) for these versions, also without a controller.
      - Read from O(repository) if O(manifest) is not given.
    type: dict
  fetch:
    description:
      - How the device fetches by itself what it lacks, in place of having it sent. Paths are those of the device.
      - Where no source gives a file, the controller sends it from O(repository). It does not where no window is open,
        or where the disk has no room.
    type: dict
    default: {}
    suboptions:
      sources:
        description:
          - Addresses that begin with V(https://), V(http://) or V(file://), the first one first, such as a cache of the
            site and then the origin. Each has C(blobs/sha256/<digest>) below it.
          - None of them has to be trusted. Each block of 1 MiB is compared with the manifest before it is kept.
        type: list
        elements: str
        default: []
      ca_file:
        description: The authorities of the sources' certificates. Without it, those that the device trusts.
        type: str
      certificate_file:
        description: The device's own certificate, with its key in the same file or in O(fetch.key_file).
        type: str
      key_file:
        description: The key of O(fetch.certificate_file).
        type: str
      token_file:
        description: A file with a bearer token. The token is sent to the sources, and nowhere that they redirect to.
        type: str
      proxy:
        description: Address of a web proxy, which begins with V(http://). TLS goes through it end to end.
        type: str
      bytes_per_second:
        description: How fast the device receives at most. V(0) means no limit.
        type: int
        default: 0
      windows:
        description:
          - Times in which the device may fetch, such as V(Mon-Fri 22:00-05:00 Europe/Berlin). Without any, always.
          - The clock is that of the device. A zone other than UTC needs Python 3.9 or later there.
        type: list
        elements: str
        default: []
      seconds_max:
        description: How long one file may take, in seconds.
        type: float
        default: 86400.0
      bytes_max_percent:
        description: How many bytes may come for one file, as a percentage of what was missing of it.
        type: int
        default: 300
  staged_blobs:
    description:
      - Directory on the device that holds the release's blobs, each named by its SHA-256; deltas have the suffix
        C(.delta).
      - Set by the action plugin after it has sent them.
    type: path
  sent_part:
    description:
      - A part of a file, or of a delta that makes it, which the device verifies and keeps. Set by the action plugin,
        which sends what is large so.
    type: dict
    default: {}
    suboptions:
      sha256:
        description: SHA-256 of the file.
        type: str
      offset:
        description: Position of the part's first byte in the file, or in the delta.
        type: int
        default: 0
      path:
        description: Where the part is on the device. Without it the device says how much it has.
        type: str
      delta:
        description: SHA-256 of the delta, if it is a part of one.
        type: str
      delta_size:
        description: Size of that delta in bytes.
        type: int
        default: 0
  inline_blobs:
    description:
      - Blobs that are small enough to come with the call, in base64, by their SHA-256.
      - Set by the action plugin.
    type: dict
    default: {}
  inline_deltas:
    description:
      - Deltas that are small enough to come with the call, in base64, by the SHA-256 of the file that they make.
      - Set by the action plugin.
    type: dict
    default: {}
  unavailable_blobs:
    description:
      - The release's blobs that O(repository) lacks, by their SHA-256, with the path where each should be.
      - Set by the action plugin, so that nothing is done on a device that needs one of them.
    type: dict
    default: {}
  controller_sends:
    description:
      - Whether the controller sends what no source of O(fetch) gives. Then the device tries to reach each source once,
        and not for minutes.
      - Set by the action plugin, where O(repository) is set.
    type: bool
    default: false
  verify:
    description:
      - How closely a version that the device already holds is checked. What becomes active is always read in full.
      - V(quick) compares the files' sizes.
      - V(full) reads them and compares their SHA-256. Damaged files are sent again, and every version that shares them
        is repaired.
    type: str
    choices: [quick, full]
    default: quick
  strategy:
    description:
      - How the program that serves the model is notified.
      - V(load) asks O(server) to load it, by the Open Inference Protocol's repository extension. The server of the role
        P(edgeml.fleet.inference_service#role) loads the new version beside the old and loses no request.
      - V(reload) and V(restart) do that to O(server_unit), a systemd unit whose program reads the model below
        C(models/<model>/active) in the store. Ready means that the unit stays active.
      - V(smp) is for a microcontroller behind the device, at the port that O(server) names. The release's image is sent
        to it, tried after a reset, and confirmed at the end of the trial. Without that its bootloader goes back.
      - V(none) notifies nobody.
    type: str
    choices: [load, reload, restart, smp, none]
    default: load
  server_unit:
    description: The systemd unit that serves the model, for O(strategy=reload) and O(strategy=restart).
    type: str
    default: edgeml-inference.service
  min_ready_seconds:
    description: How long the new version must stay ready before it goes on trial, in seconds.
    type: float
    default: 2.0
  trial_seconds:
    description:
      - How long the device watches a new version before it commits it, in seconds.
      - With V(0) it is committed at once. Otherwise the device needs systemd with the units of the role
        P(edgeml.fleet.inference_service#role), or something else that runs C(edgeml watch) regularly.
    type: float
    default: 300.0
  trial_limits:
    description: What the device allows a version on trial. Beyond it, the device reverts.
    type: dict
    default: {}
    suboptions:
      crashes_max:
        description: How often the service may end without a request.
        type: int
        default: 2
      error_rate_max:
        description:
          - Share (0 to 1) of requests that may be answered with a status of 500 or above.
          - A version that is no worse than the one before it does not exceed this limit.
        type: float
        default: 0.05
      latency_ratio_max:
        description: Mean time of a request, as a multiple of the mean time with the version before.
        type: float
        default: 3.0
      requests_min:
        description: The fewest requests from which error rate and latency are judged.
        type: int
        default: 50
  retry:
    description:
      - Whether to try a version again that failed on this device before, or that somebody reverted.
      - What failed in the rollout O(rollout_id) is not tried again in that rollout.
    type: bool
    default: false
  accept_no_way_back:
    description:
      - Whether to switch also where the device could not return to the version that serves now, because a file of that
        version is damaged or gone, or it fails its smoke test with the runtime that was installed since.
      - Such a swap is refused otherwise, before anything is switched. With O(verify=full) each byte of that version is
        read, otherwise sizes are compared.
    type: bool
    default: false
  shadow_seconds:
    description:
      - For O(state=shadow), how long. The server ends a shadow by itself after this, so that none outlives its
        controller.
      - V(0) ends the shadow of the model; the version stays in the store.
    type: float
    default: 900.0
  headroom_percent:
    description: Percentage (0 to 99) of the free disk and of the memory that a release must leave to the device.
    type: int
    default: 20
  keep:
    description: How many versions the device keeps beside the active and the previous one, and O(keep_versions).
    type: int
    default: 1
  keep_versions:
    description: Versions of the model that are not removed to make room, such as others that are staged with this one.
    type: list
    elements: str
    default: []
  jitter_seconds:
    description:
      - Each host waits a part of this on the controller before it begins, in seconds; always the same part in one
        rollout. So the devices of a site do not all fetch at the same moment.
    type: float
    default: 0.0
  rollout_id:
    description:
      - The rollout that this call is part of; recorded in the device's journal.
      - With O(state=previous), the version is reverted only if this rollout made it active.
    type: str
  reason:
    description: Why the call is made; recorded in the device's journal.
    type: str
    default: ""
extends_documentation_fragment:
  - edgeml.fleet.release
  - edgeml.fleet.device
  - edgeml.fleet.retries
requirements:
  - Python 3.8 or later on the device; its standard library only
author:
  - The edgeml.fleet authors (@edgeml)
attributes:
  check_mode:
    support: full
    description:
      - Returns exactly what would change, from the manifest, the store and the server; sends nothing.
      - A device without a store counts as one that an earlier role would have prepared, so its server is not asked.
  diff_mode:
    support: full
    description: Shows the active and previous version with their digests, the versions held, and which one serves.
  idempotent:
    support: partial
    description:
      - A call that finds its goal reached changes nothing and, without O(verify=full), reads no model file.
      - O(state=previous) names the version to go back from, so that a second call does not go back further.
      - O(state=shadow) is an event, no state. It begins anew in each call, and ends by itself.
seealso:
  - module: edgeml.fleet.model_info
  - module: edgeml.fleet.release_info
"""

EXAMPLES = r"""
- name: Make digits 1.1.0 serve
  edgeml.fleet.model_swap:
    model: digits
    version: 1.1.0
    repository: /srv/models

- name: Send the next release ahead of its rollout
  edgeml.fleet.model_swap:
    model: digits
    version: 1.2.0
    state: present
    repository: /srv/models

- name: Have the device fetch it by itself, from the cache of its site or else from the origin
  edgeml.fleet.model_swap:
    model: digits
    version: 1.2.0
    repository: /srv/models
    fetch:
      sources: [http://cache.site-7.example, https://models.example]
      ca_file: /etc/edgeml/ca.pem

- name: Order it a week ahead of its rollout, for nights and a metered link
  edgeml.fleet.model_swap:
    model: digits
    version: 1.2.0
    state: staged
    repository: /srv/models
    fetch:
      sources: [https://models.example]
      bytes_per_second: 32000
      windows: [22:00-05:00 Europe/Berlin]

- name: Make it serve, watched by the device for an hour, and committed if it never crashes
  edgeml.fleet.model_swap:
    model: digits
    version: 1.2.0
    repository: /srv/models
    trial_seconds: 3600
    trial_limits:
      crashes_max: 0

- name: Read everything that the device holds of a version, and send again what is damaged
  edgeml.fleet.model_swap:
    model: digits
    version: 1.2.0
    state: present
    verify: full
    repository: /srv/models

- name: Switch a model that another program serves, which has to be restarted
  edgeml.fleet.model_swap:
    model: digits
    version: 1.2.0
    repository: /srv/models
    strategy: restart
    server_unit: gauge-reader.service

- name: Go back from 1.1.0 to the version before it
  edgeml.fleet.model_swap:
    model: digits
    version: 1.1.0
    state: previous
    reason: wrong labels in the training set
"""

RETURN = r"""
model:
  description: Name of the model.
  returned: always
  type: str
  sample: digits
version:
  description: The requested version.
  returned: always
  type: str
  sample: 1.1.0
live:
  description: The version that answers requests when the module ends, also when it fails; none if no version does.
  returned: always
  type: str
  sample: 1.1.0
before:
  description: The active and the previous version before the call.
  returned: success
  type: dict
  sample: {active: 1.0.0, previous: null}
after:
  description: The active and the previous version after the call; in check mode, as they would be.
  returned: success
  type: dict
  sample: {active: 1.1.0, previous: 1.0.0}
active_seconds:
  description: For how long the active version has been active, in seconds of the device's clock; none if not known.
  returned: success, outside check mode
  type: float
  sample: 0.8
variant:
  description: The variant of the release that was chosen for this device.
  returned: when O(state) is V(present), V(staged) or V(active)
  type: str
  sample: onnx-fp32
trial:
  description: The version that is on trial when the module ends, with its seconds; none if no version is.
  returned: success
  type: dict
  sample: {version: 1.1.0, seconds: 300.0, returns_to: 1.0.0}
tested:
  description:
    - The result of the version's smoke test on this device; none if there is no runtime to test with.
    - C(prepared) says how the server loads the model best, or with C(reason) why it loads it as it was published.
      Models of less than 4 MiB have none.
  returned: when O(state) is V(present) or V(active), outside check mode
  type: dict
  sample: {latency_seconds: 0.0004, load_seconds: 0.05, runtime: onnxruntime 1.27.0, runtime_id: venv-1f2e app-77aa}
missing_blobs:
  description:
    - The blobs that the device lacks and that O(staged_blobs) or O(inline_blobs) must provide.
    - Outside check mode it is empty, unless the module was called without its action plugin.
    - C(held_bytes) is how much of the file is there already, C(held_deltas) how much of each delta of it, by its
      SHA-256; none for one that the device has refused.
  returned: when O(state) is V(present) or V(active)
  type: list
  elements: dict
  sample: [{path: model.onnx, size: 40518, sha256: 5f2c..., held_bytes: 0, held_deltas: {}}]
held_blobs:
  description: The SHA-256 of each blob that the device holds, which deltas can be made from.
  returned: when blobs are missing, outside check mode
  type: list
  elements: str
  sample: [8e3eff41...]
refused_deltas:
  description: The deltas that did not make their file, each with the reason. The action plugin sends these files whole.
  returned: when the release was staged, or a part of a delta was sent
  type: list
  elements: dict
  sample: []
sent:
  description:
    - What the controller sent, in bytes, and how much the files are that it was for.
    - C(deltas) is the number of files that came as a delta. C(resumed_bytes) were there from a sending that broke.
  returned: when the controller sent something
  type: dict
  sample: {bytes: 4711, whole_bytes: 57067, deltas: 1, resumed_bytes: 0}
fetched:
  description:
    - What the device fetched by itself. C(bytes) are those that came and were right, C(received_bytes) all that came.
    - C(made_bytes) of files were made from C(deltas) deltas, of C(delta_bytes), and C(copied_bytes) from files that the
      device held. A delta that was of no use is a warning of the task.
    - C(failure) is none, or has a C(kind) and a C(message). The kinds are C(unreachable), C(untrusted), C(interrupted),
      C(busy), C(refused), C(mismatch), C(redirected), C(no_ranges), C(corrupt), C(exhausted), C(disk) and C(deferred).
  returned: when the device tried to fetch
  type: dict
  sample:
    bytes: 40518
    received_bytes: 41007
    deltas: 1
    delta_bytes: 40518
    made_bytes: 1048576
    copied_bytes: 0
    seconds: 1.2
    failure: null
order:
  description: The order to fetch, and how far it has come; none where the device holds the version.
  returned: when O(state) is V(staged)
  type: dict
  sample:
    model: digits
    version: 1.2.0
    bytes: 97517568
    held_bytes: 4194304
    delta_bytes: 0
    complete: false
    last: null
withdrawn:
  description: Why the version that is active after the call is withdrawn.
  returned: when it is withdrawn
  type: str
  sample: labels were permuted
baseline:
  description:
    - How the replaced version answered the new release's probe set, just before the switch. C(error) alone if it could
      not be asked, with the reason.
    - None where there was nothing to measure.
  returned: when O(state) is V(active) and something changed
  type: dict
  sample: {version: 1.0.0, metric: accuracy, samples: 360, value: 0.919444, latency_seconds: 0.004}
candidate:
  description:
    - What the server had counted of O(version) before it began to answer copies of requests, as
      C(model.candidate) of M(edgeml.fleet.model_info) has it.
  returned: when O(state) is V(shadow) and a shadow began
  type: dict
  sample:
    shadow: {agreed: 0, disagreed: 0, failed: 0, dropped: 0, requests: 0}
    model_seconds: {timed: 0, active: 0.0, candidate: 0.0}
    resident_bytes: 61440000
refused:
  description: True when the task failed before anything was switched. The old version served all along.
  returned: failure
  type: bool
  sample: true
failure:
  description:
    - Why O(version) was not tried, if it failed on this device before, or somebody reverted it.
    - C(rollout_id) is the rollout in which that happened.
  returned: when the task failed for this reason
  type: dict
  sample: {reason: the service crashed 3 times (at most 2), time: "2026-11-22T03:00:00Z", rollout_id: digits-1.1.0-1}
server_down:
  description: True when the task failed because the inference server does not answer.
  returned: failure
  type: bool
  sample: false
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.edgeml.fleet.plugins.module_utils._device.perform import answer_swap
from ansible_collections.edgeml.fleet.plugins.module_utils._device.request import (
    SwapRequest,
    argument_spec,
    make_request,
)


def main() -> None:
    """Run the module."""
    module = AnsibleModule(argument_spec("model_swap"), supports_check_mode=True)
    result = answer_swap(make_request(SwapRequest, module.params), module.check_mode)
    if result.pop("failed", False):
        module.fail_json(**result)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
