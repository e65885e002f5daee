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
  - Runs on the controller. Checks the release's manifest in full and, unless O(verify=false), every byte of its files.
    Then it also reads the golden file and the probe set, and refuses a probe set that does not fit the model's outputs.
  - A rollout calls it once, before any device is touched, so that a damaged release never leaves the controller.
options:
  model:
    description: Name of the model.
    type: str
    required: true
  version:
    description: Version of the release.
    type: str
    required: true
  repository:
    description: Path of the model repository.
    type: path
    required: true
  verify:
    description: Whether to read the files and compare their SHA-256 with the manifest.
    type: bool
    default: true
extends_documentation_fragment:
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
  delegate_to: localhost
  run_once: true
  register: release
"""

RETURN = r"""
manifest:
  description: The release's manifest.
  returned: success
  type: dict
  sample: {schema: 1, model: digits, version: 1.1.0, variants: []}
digest:
  description: SHA-256 of the manifest's canonical JSON; it identifies the release.
  returned: success
  type: str
  sample: 0d3e...
verified_bytes:
  description: How many bytes were read and verified; 0 with O(verify=false).
  returned: success
  type: int
  sample: 102400
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.edgeml.fleet.plugins.module_utils._common.errors import EdgemlError
from ansible_collections.edgeml.fleet.plugins.module_utils._release.repository import Repository


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "model": {"type": "str", "required": True},
            "version": {"type": "str", "required": True},
            "repository": {"type": "path", "required": True},
            "verify": {"type": "bool", "default": True},
        },
        supports_check_mode=True,
    )
    repository = Repository(module.params["repository"])
    try:
        release = repository.release(module.params["model"], module.params["version"])
        verified = repository.verify(release) if module.params["verify"] else 0
    except EdgemlError as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=False, manifest=release.document, digest=release.digest, verified_bytes=verified)


if __name__ == "__main__":
    main()
