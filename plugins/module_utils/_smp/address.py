# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""The address of a microcontroller's port. Pure.

It is ``/dev/<path>``, with the speed behind an ``@`` where it is not 115200, or ``udp://host:port``.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from .._common.errors import EdgemlError

SPEED = 115200

_SERIAL = re.compile(r"(?P<path>/dev/[A-Za-z0-9._:/+-]+?)(@(?P<speed>[0-9]{3,8}))?\Z")
_UDP = re.compile(r"udp://(?P<host>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):(?P<port>[0-9]{1,5})\Z")


class AddressError(EdgemlError, ValueError):
    """A text is no address of a port."""


class SerialAddress(NamedTuple):
    """A serial line: the path of its device, and its speed in bits per second."""

    path: str
    speed: int = SPEED


class UdpAddress(NamedTuple):
    """Host and port of a microcontroller that speaks UDP."""

    host: str
    port: int


def is_port(address: str) -> bool:
    """Whether an address is that of a microcontroller's port, and not that of an inference server."""
    return address.startswith(("/dev/", "udp://"))


def parse_address(address: str) -> SerialAddress | UdpAddress:
    """Read an address. Raises AddressError."""
    serial, udp = _SERIAL.match(address), _UDP.match(address)
    if serial and ".." not in serial["path"].split("/"):
        speed = int(serial["speed"] or SPEED)
        if speed_code(speed) is not None:
            return SerialAddress(serial["path"], speed)
    if udp and 0 < int(udp["port"]) < 65536:
        return UdpAddress(udp["host"].strip("[]"), int(udp["port"]))
    raise AddressError(
        f"port: expected /dev/<path>, with @<bits per second> behind it if need be, or udp://<host>:<port>; "
        f"found {address!r}"
    )


def speed_code(speed: int) -> int | None:
    """What termios calls a speed, in bits per second; None for one that it does not know."""
    # Not every call needs it.
    import termios

    code: int | None = getattr(termios, f"B{speed}", None)
    return code
