#!/usr/bin/python
# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: rollout_step
short_description: Decide what a rollout does next
version_added: 0.2.0
description:
  - One step of the playbooks C(edgeml.fleet.rollout), C(edgeml.fleet.reconcile) and C(edgeml.fleet.rollback). Tasks
    work on the devices. Between them a step reads what these tasks registered, decides, writes the ledger and returns
    in RV(next) what follows.
  - It belongs to the role P(edgeml.fleet.rollout#role), whose variables are its options. For a playbook of your own use
    M(edgeml.fleet.canary_select), M(edgeml.fleet.rollout_gate) and M(edgeml.fleet.rollout_ledger), which decide by the
    same functions.
  - An action plugin. It runs on the controller and connects to no device.
options:
  step:
    description:
      - V(have_hosts) refuses extra variables that mean nothing, and a pattern that no host matches, for playbooks that
        are no rollout.
      - V(plan) verifies the release, checks every variable, splits the fleet into waves and opens the ledger.
      - V(power) says what each wave will see, for a plan alone.
      - V(begin_wave) decides whether the wave of the present batch begins, or wave 0, in which devices answer copies of
        requests with the release. It asks at the terminal where somebody has to agree.
      - V(collect_swaps) waits for what devices that pull report of their swap, and shows now and again who is missing.
      - V(soak) waits until the wave has run the new version for long enough.
      - V(judge) has the gate judge what the devices measured, and notes which devices go back after a verdict that is
        no pass.
      - V(collect_reverts) waits for what devices that pull report of their way back.
      - V(judge_labels) has the gate judge a rollout again by labels that came late.
      - V(wanted) finds out what each device should be on by the ledger.
      - V(withdrawn) reads which releases nobody may run any more.
      - V(presence) reads which devices their broker says are there.
      - V(rollback) finds out what to go back from, and notes it in the ledger.
      - V(close) sums up what became of each device.
      - V(fleet) writes the page of the fleet, and the same as JSON, as the playbook C(edgeml.fleet.status) has it.
    type: str
    choices:
      - have_hosts
      - plan
      - power
      - begin_wave
      - collect_swaps
      - soak
      - judge
      - collect_reverts
      - judge_labels
      - close
      - wanted
      - withdrawn
      - presence
      - rollback
      - fleet
    required: true
requirements:
  - Python 3.10 or later on the controller
author:
  - The edgeml.fleet authors (@edgeml)
attributes:
  check_mode:
    support: full
    description: Decides as without it; writes and locks nothing.
  diff_mode:
    support: partial
    description: >-
      Shows the desired state of a fleet whose devices pull. The ledger is a record of the run, no state of a device.
  idempotent:
    support: partial
    description: >-
      It connects to no device. RV(ignore:changed) is true only where devices that pull are asked.
seealso:
  - module: edgeml.fleet.canary_select
  - module: edgeml.fleet.rollout_gate
  - module: edgeml.fleet.rollout_ledger
"""

EXAMPLES = r"""
- name: Plan the rollout, as the role's tasks do
  edgeml.fleet.rollout_step:
    step: plan
  register: planned
  delegate_to: localhost
  delegate_facts: true
"""

RETURN = r"""
step:
  description: The step.
  returned: always
  type: str
  sample: judge
next:
  description: >-
    What follows. One of V(roll_out), V(refuse), V(swap), V(next_wave), V(soak_again), V(end_shadow), V(revert) and
    V(end).
  returned: success, unless O(step) is V(collect_reverts), V(soak), V(withdrawn), V(presence), V(fleet) or V(close)
  type: str
  sample: next_wave
verdict:
  description: What the gate says of the wave.
  returned: when O(step=judge)
  type: str
  sample: pass
problems:
  description: The checks that led to a verdict that is no pass, a line each.
  returned: when O(step=judge)
  type: list
  elements: str
  sample: []
published:
  description: The version of the desired state that is in force.
  returned: when devices that pull were asked
  type: int
  sample: 12
answered:
  description: How many devices have reported.
  returned: when devices that pull were waited for
  type: int
  sample: 40
missing:
  description: The devices that have not reported in time.
  returned: when devices that pull were waited for
  type: list
  elements: str
  sample: []
reports:
  description: What came of the swap or of the way back, by device, as M(edgeml.fleet.model_swap) returns it.
  returned: when O(step) is V(collect_swaps) or V(collect_reverts)
  type: dict
  sample: {}
page:
  description: The page of the fleet; its JSON is beside it. Empty if none was written.
  returned: when O(step=fleet)
  type: str
  sample: /home/ops/.local/state/edgeml/fleet.html
withdrawn:
  description: Why releases are withdrawn, by model and version; nothing without C(model_repository).
  returned: when O(step=withdrawn)
  type: dict
  sample: {digits: {1.2.0: labels were permuted}}
presence:
  description: >-
    Whether each device is there, by the broker that C(rollout_pull) names; nothing without one. A device that never was
    is missing.
  returned: when O(step=presence)
  type: dict
  sample: {edge-17: true, edge-18: false}
state:
  description: How the rollout ended, or V(planned) in check mode.
  returned: when O(step=close) of a rollout
  type: str
  sample: passed
stats:
  description: What workflows get, as from C(set_stats).
  returned: when O(step) is V(close), V(power) or V(plan), or nothing can be begun
  type: dict
  sample: {rollout_id: digits-1.1.0-1, rollout_verdict: pass, rollout_outcomes: {updated: 12}}
problem:
  description: What the run fails with. Empty if all is well.
  returned: when O(step=close)
  type: str
  sample: ""
msg:
  description: What a person reads of the step.
  returned: for most steps
  type: raw
  sample: ["Wave 1 (canary): pass"]
"""
