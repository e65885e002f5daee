# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The lookup ``device_profiles``."""

from __future__ import annotations

DOCUMENTATION = r"""
name: device_profiles
short_description: Read the signed profiles of device classes
version_added: 0.2.0
author: The edgeml.fleet authors (@edgeml)
description:
  - Reads the profiles that M(edgeml.fleet.device_profiles) keeps in a model repository, and fails for one that another
    key signed.
options:
  _terms:
    description: Directories of model repositories.
    type: list
    elements: path
    required: true
  public_key:
    description: The key that signed them, a file in PEM.
    type: path
    required: true
  declared:
    description: >-
      Whether to return each class once as the option C(devices) of M(edgeml.fleet.model_release) has it, with the least
      memory of its profiles, and not each profile.
    type: bool
    default: false
"""

EXAMPLES = r"""
- name: Show what each class needs for an inference
  ansible.builtin.debug:
    msg: "{{ query('edgeml.fleet.device_profiles', '/srv/models', public_key='/etc/edgeml/keys/controller.pub') }}"
"""

RETURN = r"""
_raw:
  description: Profiles, or declared devices.
  type: list
  elements: dict
"""

import glob
import os
from typing import Any

from ansible.errors import AnsibleLookupError
from ansible.plugins.lookup import LookupBase

from ansible_collections.edgeml.fleet.plugins.module_utils._common.errors import ArgumentError
from ansible_collections.edgeml.fleet.plugins.plugin_utils._profiles import DIRECTORY
from ansible_collections.edgeml.fleet.plugins.plugin_utils._publish.profiles import declared_devices, read_profile


class LookupModule(LookupBase):
    """The lookup for Ansible."""

    def run(self, terms: list[str], variables: dict[str, Any] | None = None, **kwargs: Any) -> list[dict[str, Any]]:
        """Return the profiles, in the order of their classes and models."""
        if "public_key" not in kwargs:
            raise AnsibleLookupError("device_profiles: public_key is required: the key that signed the profiles")
        paths = [
            path
            for term in terms
            for path in sorted(glob.glob(os.path.join(glob.escape(os.path.expanduser(term)), DIRECTORY, "*", "*.json")))
        ]
        try:
            profiles = [read_profile(path, os.path.expanduser(str(kwargs["public_key"]))) for path in paths]
        except ArgumentError as error:
            raise AnsibleLookupError(str(error)) from error
        return declared_devices(profiles) if kwargs.get("declared") else profiles
