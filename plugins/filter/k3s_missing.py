# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The filter ``k3s_missing``."""

from __future__ import annotations

from typing import Callable, Mapping, Sequence

DOCUMENTATION = r"""
name: k3s_missing
short_description: Find the files of K3s that a device lacks, or has with another content
version_added: 0.2.0
author: The edgeml.fleet authors (@edgeml)
description:
  - Compares the digests of the files on a device with those that a playbook names.
options:
  _input:
    description: The files, each with its C(name) at the source and its C(path) on the device.
    type: list
    elements: dict
    required: true
  sha256:
    description: The SHA-256 that each file must have, by its name.
    type: dict
    required: true
  found:
    description: The SHA-256 of the files on the device by their paths.
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Say what is missing
  ansible.builtin.debug:
    msg: "{{ files | edgeml.fleet.k3s_missing(digests, {}) }}"
  vars:
    files:
      - {name: k3s-arm64, path: /usr/local/bin/k3s}
    digests:
      k3s-arm64: 44b221d5f5f8eba25c0f97a1f3e1a1fbd1ab59ed5f5a1e6c5f9d3f7a3d6fae5c
"""

RETURN = r"""
_value:
  description: Those of the files that the device lacks, or has with another content.
  type: list
  elements: dict
"""


def k3s_missing(
    files: Sequence[Mapping[str, str]], sha256: Mapping[str, str], found: Mapping[str, str]
) -> list[Mapping[str, str]]:
    """Return those of ``files`` whose digest on the device is not the one of their name in ``sha256``."""
    return [file for file in files if found.get(file["path"]) != sha256[file["name"]]]


class FilterModule:
    """The filter for Ansible."""

    def filters(self) -> dict[str, Callable[..., list[Mapping[str, str]]]]:
        """Name the filter."""
        return {"k3s_missing": k3s_missing}
