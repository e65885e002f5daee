#!/usr/bin/python
# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: rollout_ledger
short_description: Keep the controller's ledger of rollouts
version_added: 0.1.0
description:
  - The ledger is a directory on the controller with one JSON file for each rollout. It has the plan, each wave's
    verdict with its findings, and what became of each device. From it follows which release a returning device needs.
  - While a run of Ansible has the ledger open, it holds the ledger's lock; a second run learns which one holds it. The
    kernel frees the lock when the run ends, also when it is killed.
  - It runs on the controller and connects to no device. The directory must be on a disk that outlives the run; the
    container of an AWX job does not.
options:
  directory:
    description: The ledger's directory. It is created if it does not exist.
    type: path
    required: true
  state:
    description:
      - V(read) returns the rollouts, and what each of O(hosts) should be on by them.
      - V(open) begins O(rollout), or continues it where it was interrupted. A rollout that failed or was rolled back
        is refused. A new attempt has another id.
      - V(wave) records that O(wave) has begun, or its verdict.
      - V(closed) records how the rollout ended, or why it pauses, and writes its report beside the file.
    type: str
    choices: [read, open, wave, closed]
    required: true
  rollout:
    description: For O(state=open), what is planned.
    type: dict
    suboptions:
      id:
        description: The rollout's name. It is made of model, version and attempt if not given.
        type: str
      model:
        description: The model.
        type: str
        required: true
      version:
        description: The version.
        type: str
        required: true
      attempt:
        description: Which attempt it is.
        type: int
        default: 1
      digest:
        description: SHA-256 of the release's manifest, as M(edgeml.fleet.release_info) returns it.
        type: str
        required: true
      reason:
        description: Why the release is rolled out.
        type: str
        default: ""
      settings:
        description: What it is judged by, for the report.
        type: dict
        default: {}
      plan:
        description: C(waves) as M(edgeml.fleet.canary_select) returns them, with C(device_classes) and C(left_out).
        type: dict
        required: true
  id:
    description: The rollout, for O(state=wave) and O(state=closed).
    type: str
  wave:
    description: The wave, for O(state=wave). With a verdict once it was judged.
    type: dict
    suboptions:
      number:
        description: The wave's number.
        type: int
        required: true
      name:
        description: The wave's name.
        type: str
        default: ""
      verdict:
        description: What its gate said.
        type: str
        choices: [pass, fail, inconclusive]
      findings:
        description: The gate's findings.
        type: list
        elements: dict
        default: []
      outcomes:
        description: What became of each device.
        type: dict
        default: {}
  outcome:
    description: How the rollout ended, for O(state=closed).
    type: str
    choices: [running, passed, paused, failed, rolled back]
  why:
    description: Why, in one sentence, for O(state=closed).
    type: str
    default: ""
  devices:
    description: What became of each device, for O(state=closed). What was recorded before if not given.
    type: list
    elements: dict
  hosts:
    description: The hosts for which to return the wanted release, for O(state=read).
    type: list
    elements: str
    default: []
  lock:
    description: Whether to hold the ledger's lock until the run of Ansible ends, for O(state=read) and O(state=open).
    type: bool
    default: true
requirements:
  - Python 3.9 or later on the controller; its standard library only
author:
  - The edgeml.fleet authors (@edgeml)
attributes:
  check_mode:
    support: full
    description: Returns what the ledger would hold; writes and locks nothing.
  diff_mode:
    support: none
    description: The ledger is a record of the run, no state of a device.
  idempotent:
    support: full
    description: The ledger is a record of the run. RV(ignore:changed) is always false.
"""

EXAMPLES = r"""
- name: See which release each device belongs on
  edgeml.fleet.rollout_ledger:
    directory: /var/lib/edgeml/rollouts
    state: read
    lock: false
    hosts: "{{ groups['edge'] }}"
  register: ledger
"""

RETURN = r"""
ledger:
  description: The rollout, as its file has it now.
  returned: success, unless O(state=read)
  type: dict
  sample: {id: digits-1.1.0-1, state: running, waves: []}
path:
  description: The rollout's file.
  returned: success, unless O(state=read)
  type: str
  sample: /var/lib/edgeml/rollouts/digits-1.1.0-1.json
report:
  description: The file with the rollout's report, one HTML page that needs nothing else. Empty if there is none.
  returned: when O(state=closed)
  type: str
  sample: /var/lib/edgeml/rollouts/digits-1.1.0-1.html
rollouts:
  description: All rollouts, oldest first.
  returned: when O(state=read)
  type: list
  elements: dict
  sample: [{id: digits-1.1.0-1, state: passed}]
wanted:
  description:
    - What each of O(hosts) should be on, one entry a model. C(version) is the release of the newest rollout that has
      reached the host's wave and was not stopped. C(stopped_releases) names those that were stopped.
  returned: when O(state=read)
  type: dict
  sample:
    edge-s1: [{model: digits, version: 1.1.0, rollout_id: digits-1.1.0-1, digest: 0d3e..., stopped_releases: []}]
damaged:
  description: What is wrong with files that are no rollouts. They are passed over.
  returned: when O(state=read)
  type: list
  elements: str
  sample: []
locked:
  description:
    - True when another run holds the lock, and so nothing was done. With O(state=read) that is no failure, because a
      schedule comes again.
  returned: when O(state) is V(read) or V(open)
  type: bool
  sample: true
"""
