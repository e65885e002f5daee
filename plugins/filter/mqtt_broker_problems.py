# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The filter ``mqtt_broker_problems``."""

from __future__ import annotations

import re
from typing import Any, Callable, Mapping

from ansible_collections.edgeml.fleet.plugins.filter.tls_problems import tls_problems

DOCUMENTATION = r"""
name: mqtt_broker_problems
short_description: Find what keeps the role mqtt_broker from having a fleet's broker
version_added: 0.2.0
author: The edgeml.fleet authors (@edgeml)
description:
  - Checks the role's options before anything is changed.
options:
  _input:
    description: The role's options by their names without C(mqtt_broker_), each with its type.
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Refuse what cannot work
  ansible.builtin.assert:
    that: values | edgeml.fleet.mqtt_broker_problems == []
"""

RETURN = r"""
_value:
  description: The problems, each a sentence that names the variables; empty if there are none.
  type: list
  elements: str
"""

# As a name stands in the broker's list of rights, where it must not mean anything else.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_TLS = ("tls_certificate", "tls_key", "tls_client_ca")


def mqtt_broker_problems(values: Mapping[str, Any]) -> list[str]:
    """Return what keeps a broker from working with these options."""
    found = [] if values["fleets"] else ["mqtt_broker_fleets is required"]
    if not all(values[name] for name in _TLS):
        found.append("mqtt_broker_tls_certificate, mqtt_broker_tls_key and mqtt_broker_tls_client_ca are required")
    names = [*values["fleets"], *values["controllers"], *values["refused_devices"]]
    found += [
        f"expected a name of letters, digits, dots, hyphens and underscores; found {name}"
        for name in names
        if not _NAME.fullmatch(name)
    ]
    # Those that the machine has are kept.
    return found if values["tls_keep"] else found + tls_problems(*(values[name] for name in _TLS))


class FilterModule:
    """The filter for Ansible."""

    def filters(self) -> dict[str, Callable[..., list[str]]]:
        """Name the filter."""
        return {"mqtt_broker_problems": mqtt_broker_problems}
