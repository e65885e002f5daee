# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The filter ``typed``."""

from __future__ import annotations

from typing import Any, Callable, Mapping

from ansible.errors import AnsibleFilterError

from ansible_collections.edgeml.fleet.plugins.plugin_utils._options import OptionError, typed_options

DOCUMENTATION = r"""
name: typed
short_description: Variables as the types that an argument spec gives them
version_added: 0.1.0
author: The edgeml.fleet authors (@edgeml)
description:
  - A role's argument spec checks a copy of each variable, and leaves the variable as it is. So a number that arrives
    as text, from C(-e port=8090) or an INI inventory, stays text, and V(false) as text is true where it is asked for.
  - This filter returns the values with the types of the spec. A list or a mapping may be given as text in JSON or YAML.
options:
  _input:
    description: The values by the names of the options.
    type: dict
    required: true
  options:
    description: The options of a role's argument spec, by name.
    type: dict
    required: true
  prefix:
    description: What the names begin with, and is left out in the result.
    type: str
    default: ""
"""

EXAMPLES = r"""
- name: Show the port as a number
  ansible.builtin.debug:
    msg: "{{ ({'edge_port': '8090'} | edgeml.fleet.typed({'edge_port': {'type': 'int'}}, prefix='edge_')).port }}"
"""

RETURN = r"""
_value:
  description: The values by the names of the options, without the prefix, each with its type.
  type: dict
"""


def typed(values: Mapping[str, Any], options: Mapping[str, Mapping[str, Any]], prefix: str = "") -> dict[str, Any]:
    """Return the values with the types of their options, by the options' names without ``prefix``."""
    try:
        found = typed_options(values, options)
    except OptionError as error:
        raise AnsibleFilterError(f"typed: {error}") from error
    return {name[len(prefix) :]: value for name, value in found.items()}


class FilterModule:
    """The filter for Ansible."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Name the filter."""
        return {"typed": typed}
