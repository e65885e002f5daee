# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The filter ``server_credentials``."""

from __future__ import annotations

from typing import Any, Callable, Iterable, Mapping

from ansible.errors import AnsibleFilterError

from ansible_collections.edgeml.fleet.plugins.module_utils._common.credentials import CredentialsError, make_document

DOCUMENTATION = r"""
name: server_credentials
short_description: Hash the credentials of an inference server's clients
version_added: 0.1.0
author: The edgeml.fleet authors (@edgeml)
description:
  - Hashes each secret with scrypt.
  - The same credentials on the same device give the same result, so that a second run of a playbook changes nothing.
options:
  _input:
    description: The credentials, each with a C(name) and a C(secret) of at least 16 characters.
    type: list
    elements: dict
    required: true
  device:
    description: Name of the device; equal secrets on two devices have different hashes.
    type: str
    required: true
"""

EXAMPLES = r"""
- name: Write the credentials
  ansible.builtin.copy:
    content: "{{ credentials | edgeml.fleet.server_credentials(inventory_hostname) | to_nice_json }}"
    dest: /etc/edgeml/credentials.json
    mode: "0640"
"""

RETURN = r"""
_value:
  description: The content of the server's file of credentials.
  type: dict
"""


def server_credentials(credentials: Iterable[Mapping[str, Any]], device: str) -> dict[str, Any]:
    """Return the content of the server's file of credentials."""
    try:
        return make_document(credentials, device)
    except CredentialsError as error:
        raise AnsibleFilterError(f"server_credentials: {error}") from error


class FilterModule:
    """The filter for Ansible."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Name the filter."""
        return {"server_credentials": server_credentials}
