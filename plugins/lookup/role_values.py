# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The lookup ``role_values``."""

from __future__ import annotations

DOCUMENTATION = r"""
name: role_values
short_description: Read a role's variables as the types that its argument spec gives them
version_added: 0.2.0
author: The edgeml.fleet authors (@edgeml)
description:
  - A role's argument spec checks a copy of each variable, and leaves the variable as it is. So a number that arrives
    as text, from C(-e port=8090) or an INI inventory, stays text, and V(false) as text is true where it is asked for.
  - This lookup returns the values with the types of the spec. A list or a mapping may be given as text in JSON or YAML.
  - It reads a file and all variables of the role each time, so note its result once with C(set_fact).
options:
  _terms:
    description: Path of the role, whose entry point C(main) is read.
    type: list
    elements: path
    required: true
"""

EXAMPLES = r"""
- name: Note the role's values with their types
  ansible.builtin.set_fact:
    values: "{{ lookup('edgeml.fleet.role_values', role_path) }}"
"""

RETURN = r"""
_raw:
  description: For each role a mapping of its values, by the variables' names without the role's name.
  type: list
  elements: dict
"""

import os
from typing import Any

import yaml
from ansible.errors import AnsibleLookupError
from ansible.plugins.loader import lookup_loader
from ansible.plugins.lookup import LookupBase

from ansible_collections.edgeml.fleet.plugins.plugin_utils._options import OptionError, typed_options


class LookupModule(LookupBase):
    """The lookup for Ansible."""

    def run(self, terms: list[str], variables: dict[str, Any] | None = None, **kwargs: Any) -> list[dict[str, Any]]:
        """Return the values of each role."""
        return [self._values(path, variables or {}) for path in terms]

    def _values(self, role: str, variables: dict[str, Any]) -> dict[str, Any]:
        path = os.path.join(role, "meta", "argument_specs.yml")
        with open(path, encoding="utf-8") as file:
            options = yaml.load(file, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
        options = options["argument_specs"]["main"]["options"]
        prefix = f"{os.path.basename(os.path.normpath(role))}_"
        read = lookup_loader.get("ansible.builtin.vars", loader=self._loader, templar=self._templar)
        given = dict(zip(options, read.run(list(options), variables)))
        try:
            found = typed_options(given, options)
        except OptionError as error:
            raise AnsibleLookupError(f"the variables of the role {os.path.basename(role)}: {error}") from error
        return {name[len(prefix) :]: value for name, value in found.items()}
