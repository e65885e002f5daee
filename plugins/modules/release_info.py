#!/usr/bin/python
# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: release_info
short_description: Read and verify a release in the model repository
version_added: 0.1.0
description:
  - An action plugin. It runs on the controller and connects to no device. Believes only a release that is signed by the
    keys of the root in the variable C(model_repository_root), unless C(model_repository_unsigned) is true. Refuses a
    release that is withdrawn.
  - Checks the release's manifest in full and, unless O(verify=false), every byte of its files.
    Then it also reads the golden file and the probe set, and refuses a probe set that does not fit the model's outputs.
  - A rollout calls it once, before any device is touched, so that a damaged release never leaves the controller.
options:
  repository:
    description: Path of the model repository, or its address on a web server.
    type: str
    required: true
  verify:
    description: Whether to read the files and compare their SHA-256 with the manifest.
    type: bool
    default: true
requirements:
  - On the controller, the Python package tuf, if the repository is signed
extends_documentation_fragment:
  - edgeml.fleet.release
  - edgeml.fleet.read_only
seealso:
  - module: edgeml.fleet.model_swap
"""

EXAMPLES = r"""
- name: Verify a release before it is rolled out
  edgeml.fleet.release_info:
    model: digits
    version: 1.1.0
    repository: /srv/models
  run_once: true
  register: release
"""

RETURN = r"""
manifest:
  description: The release's manifest.
  returned: success
  type: dict
  sample: {schema: 2, model: digits, version: 1.1.0, variants: []}
digest:
  description: SHA-256 of the manifest's canonical JSON; it identifies the release.
  returned: success
  type: str
  sample: 0d3e...
repository:
  description: The directory with the release's files, as M(edgeml.fleet.model_swap) takes it beside RV(manifest).
  returned: success
  type: str
  sample: /srv/models
verified_bytes:
  description: How many bytes were read and verified; 0 with O(verify=false).
  returned: success
  type: int
  sample: 102400
"""
