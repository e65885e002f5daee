#!/usr/bin/python
# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: device_profiles
short_description: Keep what was measured of device classes in a model repository, signed
version_added: 0.2.0
description:
  - Makes one profile for each class of what M(edgeml.fleet.device_profile) measured on its devices. Times, memory and
    power are medians over the devices, the memory that the class has is the least.
  - Signs it as a DSSE envelope, and puts it in place of the profile of the same class and model.
  - An action plugin. It runs on the controller and connects to no device.
options:
  repository:
    description: Directory of the model repository.
    type: path
    required: true
  signing_key:
    description: Private key in PEM without a passphrase, as C(edgeml-publish keys new --online) makes it.
    type: path
    required: true
  devices:
    description: >-
      Names of the devices, each with its C(device_class) and with what was measured there in C(profile_measured), where
      the task of M(edgeml.fleet.device_profile) registered it.
    type: list
    elements: str
    required: true
attributes:
  check_mode:
    support: full
    description: Makes the profiles, and writes none.
  diff_mode:
    support: full
    description: Shows the profiles before and after.
  idempotent:
    support: none
    description: What is measured again is another measurement, and is kept as such.
author:
  - The edgeml.fleet authors (@edgeml)
requirements:
  - On the controller, the Python packages tuf, securesystemslib and cryptography
seealso:
  - module: edgeml.fleet.device_profile
"""

EXAMPLES = r"""
- name: Keep what was measured of one device
  edgeml.fleet.device_profiles:
    repository: /srv/models
    signing_key: /etc/edgeml/keys/controller.pem
    devices: [edge-17]
  delegate_to: localhost
  run_once: true
"""

RETURN = r"""
profiles:
  description: The profiles, by the names of their classes.
  returned: success
  type: dict
rows:
  description: The profiles as rows of a table.
  returned: success
  type: list
  elements: dict
"""
