# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The filter ``telemetry_problems``."""

from __future__ import annotations

from typing import Any, Callable, Collection, Mapping

from ansible_collections.edgeml.fleet.plugins.filter.timer_calendar import CALENDAR_SECONDS
from ansible_collections.edgeml.fleet.plugins.filter.tls_problems import tls_problems

DOCUMENTATION = r"""
name: telemetry_problems
short_description: Find what keeps the role telemetry from watching, or from being watched
version_added: 0.2.0
author: The edgeml.fleet authors (@edgeml)
description:
  - Compares the role's options with each other and with the inventory, before anything is changed.
options:
  _input:
    description: The role's options by their names without C(telemetry_), each with its type.
    type: dict
    required: true
  groups:
    description: The groups of the inventory.
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Refuse what cannot work
  ansible.builtin.assert:
    that: values | edgeml.fleet.telemetry_problems(groups) == []
"""

RETURN = r"""
_value:
  description: The problems, each a sentence that names the variables; empty if there are none.
  type: list
  elements: str
"""

_LOOPBACK = ("127.0.0.1", "::1", "localhost")
_FORWARD_SECONDS = tuple(seconds for seconds in CALENDAR_SECONDS if 10 <= seconds <= 3600)


def telemetry_problems(values: Mapping[str, Any], groups: Collection[str]) -> list[str]:
    """Return what keeps a device from being watched with these options, or of a host that watches, from watching."""
    return _server_problems(values, groups) if values["server"] else _device_problems(values)


def _device_problems(values: Mapping[str, Any]) -> list[str]:
    found = []
    asks_clients = values["tls_certificate"] and values["tls_client_ca"]
    is_protected = values["allow_unprotected"] or values["listen_address"] in _LOOPBACK or asks_clients
    if values["node_exporter"] and not is_protected:
        found.append(
            f"telemetry_listen_address is {values['listen_address']}: set telemetry_tls_certificate, telemetry_tls_key "
            "and telemetry_tls_client_ca, or telemetry_allow_unprotected"
        )
    if values["tls_certificate"]:
        found += tls_problems(values["tls_certificate"], values["tls_key"], values["tls_client_ca"])
    url = values["forward_url"]
    if url and not url.startswith(("http://", "https://")):
        found.append(f"telemetry_forward_url: expected an address with https://; found {url}")
    if values["forward_seconds"] not in _FORWARD_SECONDS:
        found.append(f"telemetry_forward_seconds: expected one of {', '.join(map(str, _FORWARD_SECONDS))}")
    if values["forward_batches"] < 1:
        found.append("telemetry_forward_batches: expected at least 1")
    if bool(values["forward_certificate"]) != bool(values["forward_key"]):
        found.append("telemetry_forward_certificate and telemetry_forward_key: expected both or none")
    return found


def _server_problems(values: Mapping[str, Any], groups: Collection[str]) -> list[str]:
    found = []
    if values["server_group"] not in groups:
        found.append(f"telemetry_server_group: expected a group of the inventory; found {values['server_group']}")
    for name in ("server_scrape_seconds", "server_retention_days"):
        if values[name] < 1:
            found.append(f"telemetry_{name}: expected at least 1")
    # nginx before the store, for devices that forward.
    if values["server_store"] and values["server_store_tls_certificate"]:
        client_ca = values["server_store_tls_client_ca"]
        found += tls_problems(values["server_store_tls_certificate"], values["server_store_tls_key"], client_ca)
        if not client_ca:
            found.append(
                "telemetry_server_store_tls_client_ca is required: devices are told apart by their certificates"
            )
    return found


class FilterModule:
    """The filter for Ansible."""

    def filters(self) -> dict[str, Callable[..., list[str]]]:
        """Name the filter."""
        return {"telemetry_problems": telemetry_problems}
