#!/usr/bin/python
# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: model_withdrawal
short_description: Have nobody run a release any more
version_added: 0.2.0
description:
  - Says beside a release in the model repository that nobody may run it, and why. Controllers refuse it from then on,
    and tell each device at its next rollout or reconciliation, which refuses it by itself.
  - Devices that run it keep serving it until another version is rolled out.
  - An action plugin. It runs on the controller and connects to no device. It believes what is in the directory; who
    rolls a release out verifies who signed it.
options:
  reason:
    description: What is wrong with it, for everybody who asks. Needed for O(state=present).
    type: str
  state:
    description: Whether the release is withdrawn (V(present)), or may be run again (V(absent)).
    type: str
    choices: [present, absent]
    default: present
attributes:
  diff_mode:
    support: full
    description: Shows the content of C(withdrawn.json) before and after.
extends_documentation_fragment:
  - edgeml.fleet.release
  - edgeml.fleet.model_repository
seealso:
  - module: edgeml.fleet.model_channel
"""

EXAMPLES = r"""
- name: Withdraw a release
  edgeml.fleet.model_withdrawal:
    repository: /srv/models
    model: digits
    version: 1.2.0
    reason: labels were permuted
  delegate_to: localhost
  run_once: true

- name: Take that back
  edgeml.fleet.model_withdrawal:
    repository: /srv/models
    model: digits
    version: 1.2.0
    state: absent
  delegate_to: localhost
  run_once: true
"""

RETURN = r"""
reason:
  description: Why the release is withdrawn; none if it is not.
  returned: success
  type: str
  sample: labels were permuted
before:
  description: Why it was withdrawn before; none if it was not.
  returned: success
  type: str
  sample: null
digest:
  description: The digest of the release's manifest.
  returned: success
  type: str
  sample: 0d3e...
channels:
  description: The channels that stand for the release. While it is withdrawn, their rollouts are refused.
  returned: success
  type: list
  elements: str
  sample: [staging]
needs_signature:
  description: Whether the repository is signed. Then a change is in force once C(edgeml-publish sign) was run.
  returned: success
  type: bool
  sample: true
"""
