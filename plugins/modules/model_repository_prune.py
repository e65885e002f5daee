#!/usr/bin/python
# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: model_repository_prune
short_description: Remove from a model repository what nobody needs
version_added: 0.2.0
description:
  - Removes releases that no channel stands for, that no rollout of the O(ledger) needs, and that are none of the
    O(keep_last) newest of their model. Then it removes the blobs that no release needs.
  - Publications wait for it, and it for them. Killed at any moment, every release that can be read is whole.
  - An action plugin. It runs on the controller and connects to no device. It believes what is in the directory; who
    rolls a release out verifies who signed it.
options:
  keep_last:
    description: How many of the newest releases of each model stay that are not withdrawn.
    type: int
    default: 3
  ledger:
    description:
      - The ledger of rollouts on the controller (C(rollout_ledger)). Releases that devices may be given stay.
      - Without it, releases may go that a device would have to go back to from afar.
    type: path
  blob_hours:
    description: Blobs that are younger than this stay, because somebody may be copying a release into the directory.
    type: float
    default: 24.0
attributes:
  diff_mode:
    support: full
    description: Shows the releases and blobs that leave.
extends_documentation_fragment:
  - edgeml.fleet.model_repository
seealso:
  - module: edgeml.fleet.model_repository_info
"""

EXAMPLES = r"""
- name: Keep five releases of each model, and what devices may be given
  edgeml.fleet.model_repository_prune:
    repository: /srv/models
    keep_last: 5
    ledger: /srv/rollouts
  delegate_to: localhost
  run_once: true
"""

RETURN = r"""
releases:
  description: The releases that left; in check mode, that would.
  returned: success
  type: list
  elements: str
  sample: [digits 1.0.0]
blobs:
  description: The SHA-256 of each blob that left.
  returned: success
  type: list
  elements: str
  sample: [8e3eff41...]
bytes:
  description: The size of these blobs.
  returned: success
  type: int
  sample: 40518
kept:
  description: Why each release stays, by its name.
  returned: success
  type: dict
  sample: {digits 1.2.0: [channel production, one of the last 3]}
needs_signature:
  description: Whether the repository is signed. Then a change is in force once C(edgeml-publish sign) was run.
  returned: success
  type: bool
  sample: true
"""
