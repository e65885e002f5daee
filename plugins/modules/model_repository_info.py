#!/usr/bin/python
# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: model_repository_info
short_description: List the releases of a model repository
version_added: 0.2.0
description:
  - Returns each release with its size, variants and channels, and whether it is withdrawn.
  - An action plugin. It runs on the controller and connects to no device. It believes what is in the directory; who
    rolls a release out verifies who signed it.
options:
  repository:
    description: Path of the model repository on the controller.
    type: path
    required: true
  model:
    description: Only the releases of this model.
    type: str
extends_documentation_fragment:
  - edgeml.fleet.read_only
seealso:
  - module: edgeml.fleet.release_info
"""

EXAMPLES = r"""
- name: Find out what production stands for
  edgeml.fleet.model_repository_info:
    repository: /srv/models
    model: digits
  delegate_to: localhost
  run_once: true
  register: models

- name: Show it
  ansible.builtin.debug:
    msg: "{{ models.releases | selectattr('channels', 'contains', 'production') | map(attribute='version') }}"
"""

RETURN = r"""
releases:
  description: The releases, by model, the one that was created last first.
  returned: success
  type: list
  elements: dict
  contains:
    model:
      description: Name of the model.
      returned: always
      type: str
      sample: digits
    version:
      description: Version of the release.
      returned: always
      type: str
      sample: 1.2.0
    created:
      description: When it was published, in UTC; empty where its manifest does not say.
      returned: always
      type: str
      sample: "2026-11-28T09:12:44Z"
    digest:
      description: The digest of its manifest.
      returned: always
      type: str
      sample: 0d3e...
    variants:
      description: The names of its variants, in order of preference.
      returned: always
      type: list
      elements: str
      sample: [onnx-int8, onnx-fp32]
    bytes:
      description: The size of all its files.
      returned: always
      type: int
      sample: 174080
    channels:
      description: The channels that stand for it.
      returned: always
      type: list
      elements: str
      sample: [staging]
    withdrawn:
      description: Why it is withdrawn; none if it is not.
      returned: always
      type: str
      sample: null
needs_signature:
  description: Whether the repository is signed. Then a change is in force once C(edgeml-publish sign) was run.
  returned: success
  type: bool
  sample: true
"""
