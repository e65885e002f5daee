#!/usr/bin/python
# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: device_wipe
short_description: Remove everything of the fleet from a device
version_added: 0.2.0
description:
  - Stops and disables the units of this collection, and removes keys, certificates and credentials, the store with its
    models, the log of predictions, the runtime and the command C(edgeml).
  - What other software may use stays, that is Debian packages, the user C(edgeml), the settings of the clock and of the
    journal, and container engines with their images. Lines of the units stay in the journal until it drops them.
  - Files are removed and not overwritten, because flash memory writes elsewhere. Who must be sure destroys the card, or
    has it encrypted from the beginning.
  - Nothing asks before. The playbook C(edgeml.fleet.decommission) calls it for the devices that are named, and for no
    other.
options:
  root:
    description:
      - Directory below which the device's files are, such as a card of a dead device that is mounted. Units are stopped
        for V(/) only.
    type: path
    default: /
attributes:
  check_mode:
    support: full
    description: Says what would be removed, and removes nothing.
  diff_mode:
    support: full
    description: Lists the paths that are removed.
  idempotent:
    support: full
    description: After an interruption the next call goes on; a device without anything of the fleet is left as it is.
author:
  - The edgeml.fleet authors (@edgeml)
requirements:
  - Python 3.8 or later; its standard library only
seealso:
  - module: edgeml.fleet.device_decommission
"""

EXAMPLES = r"""
- name: Remove everything of the fleet
  edgeml.fleet.device_wipe:
  become: true

- name: Remove it from the card of a dead device
  edgeml.fleet.device_wipe:
    root: /mnt/card
  delegate_to: localhost
  become: true
"""

RETURN = r"""
paths:
  description: What was removed, or in check mode would be.
  returned: success
  type: list
  elements: str
  sample: [/etc/edgeml, /var/lib/edgeml]
units:
  description: The units that were stopped, or in check mode would be.
  returned: success
  type: list
  elements: str
  sample: [edgeml-inference.service]
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.edgeml.fleet.plugins.module_utils._device.wipe import WipeError, wipe


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={"root": {"type": "path", "default": "/"}},
        supports_check_mode=True,
    )
    try:
        found = wipe(module.params["root"], module.check_mode)
    except WipeError as error:
        module.fail_json(msg=str(error))
    result = {"changed": found.changed, "paths": found.paths, "units": found.units}
    if module._diff:
        result["diff"] = {"before": "".join(f"{path}\n" for path in found.paths), "after": ""}
    module.exit_json(**result)


if __name__ == "__main__":
    main()
