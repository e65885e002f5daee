#!/usr/bin/python
# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: device_credentials
short_description: Read the certificates of a machine, and replace them with their keys
version_added: 0.2.0
description:
  - Reads the certificates and authorities of the services that the roles of this collection set up, and returns them.
    Keys are not read.
  - Makes a new key on the machine, and returns a request of it; the key waits beside the one in use.
  - Puts certificates and authorities in place, with the key that waits, and has the service take them. Where the
    service refuses, the files are put back, and the task fails.
  - M(edgeml.fleet.rotation_wave) calls it for one wave after the other, and knows which certificate is to be replaced.
options:
  places:
    description:
      - Where credentials are. Without it, where the roles C(inference_service), C(pull_agent), C(model_repository),
        C(report_mailbox), C(site_cache) and C(mqtt_broker) put them. A place without any file is passed over.
    type: list
    elements: dict
    suboptions:
      name:
        description: What the place is called.
        type: str
        required: true
      certificate:
        description: Path of a certificate.
        type: str
        default: ""
      key:
        description: Path of its key.
        type: str
        default: ""
      authorities:
        description: Paths of files with the authorities that the service believes.
        type: list
        elements: str
        default: []
      revocations:
        description: Path of a file with revocation lists.
        type: str
        default: ""
      check:
        description: A command that ends with 0 where the service could use the files.
        type: list
        elements: str
        default: []
      reload:
        description: A command that has the service use the files, and ends with 0 when it does.
        type: list
        elements: str
        default: []
  request:
    description: Names of places of which a new key and a request are wanted.
    type: list
    elements: str
    default: []
  changes:
    description: What is put in place. Nothing is compared first, each change is made.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: Name of the place.
        type: str
        required: true
      files:
        description: Texts in PEM of files with authorities and revocation lists, by their paths.
        type: dict
        default: {}
      certificate:
        description: >-
          A certificate of the key that waits, in PEM: both take the place of those in use. Without it and without files
          the service is only told to take what is there.
        type: str
        default: ""
attributes:
  check_mode:
    support: full
    description: Makes no key, and changes nothing.
  diff_mode:
    support: none
    description: M(edgeml.fleet.rotation_wave) has it.
  idempotent:
    support: partial
    description: A key that waits already is used. Each of O(changes) is made.
author:
  - The edgeml.fleet authors (@edgeml)
requirements:
  - Python 3.8 or later; its standard library only
  - The command C(openssl), for O(request)
seealso:
  - module: edgeml.fleet.rotation_wave
"""

EXAMPLES = r"""
- name: See which certificates a machine has
  edgeml.fleet.device_credentials:
  become: true
  register: found
"""

RETURN = r"""
places:
  description: What is there now.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: Name of the place.
      type: str
      returned: always
    certificate:
      description: The certificate, in PEM; empty where there is none.
      type: str
      returned: always
    key_fits:
      description: Whether the key is that of the certificate.
      type: bool
      returned: always
    authorities:
      description: Texts of the files with authorities, by their paths.
      type: dict
      returned: always
    revocations:
      description: Text of the file with revocation lists, by its path.
      type: dict
      returned: always
    changing:
      description: Whether an earlier change was interrupted before the service had taken it.
      type: bool
      returned: always
requests:
  description: The requests for O(request), in PEM, by the names of their places.
  returned: success
  type: dict
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.edgeml.fleet.plugins.module_utils._common.errors import EdgemlError
from ansible_collections.edgeml.fleet.plugins.module_utils._enrolment.places import (
    PLACES,
    Place,
    change_place,
    read_places,
    request_certificate,
)

_TEXT: dict[str, Any] = {"type": "str", "default": ""}
_TEXTS: dict[str, Any] = {"type": "list", "elements": "str", "default": []}
_PLACE: dict[str, Any] = {
    "name": {"type": "str", "required": True},
    "certificate": _TEXT,
    # A path.
    "key": {**_TEXT, "no_log": False},
    "authorities": _TEXTS,
    "revocations": _TEXT,
    "check": _TEXTS,
    "reload": _TEXTS,
}
_CHANGE: dict[str, Any] = {
    "name": {"type": "str", "required": True},
    "files": {"type": "dict", "default": {}},
    "certificate": _TEXT,
}


def _place(given: dict[str, Any]) -> Place:
    return Place._make(tuple(value) if isinstance(value, list) else value for value in map(given.get, Place._fields))


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "places": {"type": "list", "elements": "dict", "options": _PLACE},
            "request": _TEXTS,
            "changes": {"type": "list", "elements": "dict", "default": [], "options": _CHANGE},
        },
        supports_check_mode=True,
    )
    params = module.params
    places = PLACES if params["places"] is None else tuple(_place(given) for given in params["places"])
    named = {place.name: place for place in places}
    strange = [
        name for name in [*params["request"], *(change["name"] for change in params["changes"])] if name not in named
    ]
    if strange:
        module.fail_json(msg=f"expected a place of {', '.join(named)}; found {strange[0]}")
    requests = {}
    try:
        if not module.check_mode:
            for name in params["request"]:
                requests[name] = request_certificate(named[name])
            for change in params["changes"]:
                change_place(named[change["name"]], change["files"], change["certificate"])
        found = read_places(places)
    except (EdgemlError, OSError) as error:
        module.fail_json(msg=str(error))
    changed = bool(params["request"] or params["changes"])
    module.exit_json(changed=changed, places=found, requests=requests)


if __name__ == "__main__":
    main()
