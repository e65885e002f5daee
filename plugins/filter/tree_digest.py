# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The filter ``tree_digest``."""

from __future__ import annotations

import hashlib
import os
from typing import Callable, Iterable, Iterator

from ansible.errors import AnsibleFilterError

DOCUMENTATION = r"""
name: tree_digest
short_description: A digest of all files in some directories
version_added: 0.2.0
author: The edgeml.fleet authors (@edgeml)
description:
  - SHA-256 of the files' paths within their directories and of their contents, on the controller. It is the same
    wherever the directories are.
  - Python's bytecode does not count.
options:
  _input:
    description: Paths of the directories.
    type: list
    elements: path
    required: true
"""

EXAMPLES = r"""
- name: Show the digest of the role's files
  ansible.builtin.debug:
    msg: "{{ [role_path ~ '/files'] | edgeml.fleet.tree_digest }}"
"""

RETURN = r"""
_value:
  description: The digest, in hexadecimal.
  type: str
"""


def tree_digest(directories: Iterable[str]) -> str:
    """Return the digest of all files in the directories, in hexadecimal."""
    total = hashlib.sha256()
    try:
        for number, directory in enumerate(directories):
            for path in sorted(_files(directory)):
                with open(path, "rb") as file:
                    content = hashlib.sha256(file.read()).hexdigest()
                total.update(f"{number} {os.path.relpath(path, directory)} {content}\n".encode())
    except OSError as error:
        raise AnsibleFilterError(f"tree_digest: {error}") from error
    return total.hexdigest()


def _files(directory: str) -> Iterator[str]:
    if not os.path.isdir(directory):
        raise FileNotFoundError(f"{directory} is no directory")
    for parent, names, files in os.walk(directory):
        names[:] = [name for name in names if name != "__pycache__"]
        yield from (os.path.join(parent, name) for name in files)


class FilterModule:
    """The filter for Ansible."""

    def filters(self) -> dict[str, Callable[..., str]]:
        """Name the filter."""
        return {"tree_digest": tree_digest}
