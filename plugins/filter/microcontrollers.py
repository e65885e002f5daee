# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The filter ``microcontrollers``."""

from __future__ import annotations

import re
from typing import Any, Callable, Iterable, Mapping

from ansible.errors import AnsibleFilterError

from ansible_collections.edgeml.fleet.plugins.module_utils._common.errors import ManifestError
from ansible_collections.edgeml.fleet.plugins.module_utils._release.names import check_name
from ansible_collections.edgeml.fleet.plugins.module_utils._smp.address import AddressError, parse_address

DOCUMENTATION = r"""
name: microcontrollers
short_description: Find the microcontrollers behind a gateway
version_added: 0.2.0
author: The edgeml.fleet authors (@edgeml)
description:
  - Reads them from the variables of their hosts, which are the only place that says which one is behind which gateway.
options:
  _input:
    description:
      - The variables of hosts. Those with C(mcu_gateway) are microcontrollers, and have C(mcu_port) and C(mcu_class) as
        well. C(mcu_usb_serial) gives the port of a USB device a name that stays.
    type: list
    elements: dict
    required: true
  gateway:
    description: The gateway's name in the inventory.
    type: str
    required: true
  directory:
    description: The directory of their stores on the gateway.
    type: str
    required: true
"""

EXAMPLES = r"""
- name: Show what is behind this device
  ansible.builtin.debug:
    msg: >-
      {{ groups.microcontrollers | map('extract', hostvars)
         | edgeml.fleet.microcontrollers(inventory_hostname, '/var/lib/edgeml/mcu') }}
"""

RETURN = r"""
_value:
  description:
    - For each microcontroller, sorted by name, its C(name), C(port), C(device_class), C(store), and C(usb_serial).
    - The last may be empty.
  type: list
  elements: dict
"""

_USB_SERIAL = re.compile(r"[A-Za-z0-9._:-]{1,64}\Z")
_LINK = "/dev/edgeml/"


def microcontrollers(hosts: Iterable[Mapping[str, Any]], gateway: str, directory: str) -> list[dict[str, str]]:
    """Return the microcontrollers behind ``gateway``. Raises AnsibleFilterError with every problem."""
    found: list[dict[str, str]] = []
    problems: list[str] = []
    for host in hosts:
        if str(host.get("mcu_gateway", "")) == gateway:
            name = str(host["inventory_hostname"])
            item = {
                "name": name,
                "port": str(host.get("mcu_port") or f"{_LINK}{name}"),
                "device_class": str(host.get("mcu_class") or ""),
                "store": f"{directory}/{name}",
                "usb_serial": str(host.get("mcu_usb_serial") or ""),
            }
            found.append(item)
            problems += [f"{name}: {problem}" for problem in _problems(item)]
    ports = [item["port"].partition("@")[0] for item in found]
    problems += [
        f"mcu_port: expected each once; found {port} twice" for port in sorted({*ports}) if ports.count(port) > 1
    ]
    if problems:
        raise AnsibleFilterError("; ".join(problems))
    return sorted(found, key=lambda item: item["name"])


def _problems(item: Mapping[str, str]) -> list[str]:
    problems = []
    try:
        check_name(item["name"], "inventory_hostname")
        check_name(item["device_class"], "mcu_class")
        parse_address(item["port"])
    except (ManifestError, AddressError) as error:
        problems.append(str(error))
    if item["usb_serial"] and not _USB_SERIAL.match(item["usb_serial"]):
        problems.append(f"mcu_usb_serial: expected letters, digits and ._:- ; found {item['usb_serial']!r}")
    if item["port"].startswith(_LINK) and not item["usb_serial"]:
        problems.append("expected mcu_port, or mcu_usb_serial, by which the port is found; found neither")
    return problems


class FilterModule:
    """What Ansible looks for."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """The filters of this file by their names."""
        return {"microcontrollers": microcontrollers}
