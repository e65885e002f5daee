#!/usr/bin/python
# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: collected_inputs
short_description: Take the inputs that a device collected for retraining
version_added: 0.2.0
description:
  - Takes the inputs that the inference server on the device keeps by the consent of
    C(inference_service_collect_inputs), the oldest first, and stores them on the controller, each verified.
  - An input is removed on the device once it is on the controller's disk, and not before. After an interruption the
    next run goes on.
  - A device that pulls (C(rollout_transport)) is skipped. Its inputs stay there until it is reached by SSH.
options:
  destination:
    description:
      - Directory on the controller, for all devices. What came of this one is below C(inbox) and its name.
      - It is made where it is missing, and only its owner can read it.
    type: path
    required: true
  max_bytes:
    description: How many bytes to take at most. What is left is for another run.
    type: int
    default: 67108864
  spool:
    description: Directory on the device in which the inference server keeps them.
    type: path
    default: /var/lib/edgeml-inference/collected
  want:
    description: For the action plugin. The inputs that the device is to send, as C(model:digest).
    type: list
    elements: str
    default: []
  remove:
    description: For the action plugin. The inputs that are stored, for the device to remove, as C(model:digest).
    type: list
    elements: str
    default: []
extends_documentation_fragment:
  - edgeml.fleet.retries
attributes:
  check_mode:
    support: full
    description: Says what would be taken, and takes and removes nothing.
  diff_mode:
    support: full
    description: Shows how many inputs wait on the device before and after.
  idempotent:
    support: full
    description: A second run takes what was collected in between.
author:
  - The edgeml.fleet authors (@edgeml)
requirements:
  - Python 3.8 or later; its standard library only
seealso:
  - module: edgeml.fleet.collected_dataset
"""

EXAMPLES = r"""
- name: Take at most 10 MB of each device
  edgeml.fleet.collected_inputs:
    destination: /srv/collected
    max_bytes: 10000000
  register: taken
"""

RETURN = r"""
brought:
  description: How many inputs came.
  returned: success
  type: int
  sample: 214
bytes:
  description: How many bytes they have.
  returned: success
  type: int
  sample: 124120
left:
  description: How many inputs wait on the device, beyond O(max_bytes).
  returned: success
  type: int
  sample: 0
refused:
  description:
    - What the device sent that is no collected input, or another one than it is called, with the reason. It stays on
      the device.
  returned: success
  type: list
  elements: str
  sample: []
removed:
  description: How many inputs the device removed.
  returned: success
  type: int
  sample: 214
waiting:
  description: The inputs that wait on the device, the oldest first, each with its model, digest and size.
  returned: to the action plugin
  type: list
  elements: dict
inputs:
  description: The inputs that the action plugin wants, each with its content in base64.
  returned: to the action plugin
  type: list
  elements: dict
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.edgeml.fleet.plugins.module_utils._device.collected import answer_collect
from ansible_collections.edgeml.fleet.plugins.module_utils._device.request import (
    CollectRequest,
    argument_spec,
    make_request,
)


def main() -> None:
    """Run the module."""
    module = AnsibleModule(argument_spec("collected_inputs"), supports_check_mode=True)
    result = answer_collect(make_request(CollectRequest, module.params), module.check_mode)
    if result.pop("failed", False):
        module.fail_json(**result)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
