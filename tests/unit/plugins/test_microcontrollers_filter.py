# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which microcontrollers are behind a gateway, by the variables of their hosts."""

from __future__ import annotations

from typing import Any

import pytest
from ansible.errors import AnsibleFilterError

from ansible_collections.edgeml.fleet.plugins.filter.microcontrollers import FilterModule, microcontrollers


def host(name: str, **variables: Any) -> dict[str, Any]:
    return {"inventory_hostname": name, "mcu_gateway": "gateway-1", "mcu_class": "mps2-an385", **variables}


def test_those_of_the_gateway_are_found_by_name() -> None:
    hosts = [
        host("meter-2", mcu_port="udp://10.0.7.2:1337"),
        host("meter-1", mcu_usb_serial="E66"),
        host("meter-3", mcu_gateway="gateway-2", mcu_port="wrong"),
        {"inventory_hostname": "gateway-1"},
    ]
    first, second = FilterModule().filters()["microcontrollers"](hosts, "gateway-1", "/srv/mcu")
    assert (first["name"], first["port"], first["store"]) == ("meter-1", "/dev/edgeml/meter-1", "/srv/mcu/meter-1")
    assert (second["name"], second["port"], second["usb_serial"]) == ("meter-2", "udp://10.0.7.2:1337", "")


@pytest.mark.parametrize(
    ("hosts", "reason"),
    [
        ([host("m")], "m: expected mcu_port, or mcu_usb_serial"),
        ([host("m", mcu_port="ttyACM0")], "m: port: expected /dev/<path>"),
        ([host("m", mcu_port="/dev/ttyACM0", mcu_class="")], "m: mcu_class: expected"),
        ([host("m", mcu_usb_serial='a", RUN+="reboot')], "m: mcu_usb_serial: expected letters"),
        (
            [host("a", mcu_port="/dev/ttyS0"), host("b", mcu_port="/dev/ttyS0@9600")],
            "mcu_port: expected each once; found /dev/ttyS0 twice",
        ),
    ],
)
def test_what_cannot_be_meant_is_named(hosts: list[dict[str, Any]], reason: str) -> None:
    with pytest.raises(AnsibleFilterError) as caught:
        microcontrollers(hosts, "gateway-1", "/srv/mcu")
    assert reason in str(caught.value)
