# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""The class of a device by its device tree and its memory, such as ``pi-4-2gb``. Pure.

Boards are told by what their device tree is ``compatible`` with, from the board to its processor. The processor alone
tells too little: a Raspberry Pi Zero 2 W has that of a Raspberry Pi 3, at another clock and with half of the memory.

The fact of the role provision is made of this file: it imports nothing of the collection.
"""

from __future__ import annotations

import re

# The first that fits one of the entries decides.
_BOARDS = (
    ("pi-zero-2", re.compile(r"raspberrypi,model-zero-2")),
    ("pi-3", re.compile(r"raspberrypi,3-")),
    ("pi-4", re.compile(r"raspberrypi,4(-|00)")),
    ("pi-5", re.compile(r"raspberrypi,5(-|00)")),
    # Modules of NVIDIA, on whatever board: nvidia,<board>+<module>, or nvidia,<module>.
    ("jetson-nano", re.compile(r"nvidia,(.*\+)?p3448-")),
    ("jetson-xavier-nx", re.compile(r"nvidia,(.*\+)?p3668-")),
    ("jetson-agx-xavier", re.compile(r"nvidia,(.*\+)?p(2888|2972)-")),
    ("jetson-orin-nx", re.compile(r"nvidia,(.*\+)?p3767-000[01]")),
    ("jetson-orin-nano", re.compile(r"nvidia,(.*\+)?p3767-000[345]")),
    ("jetson-agx-orin", re.compile(r"nvidia,(.*\+)?p3701-")),
    # The same processor, with fewer of its pins.
    ("rk3588", re.compile(r"rockchip,rk3588s?\Z")),
)
_GIB = 1 << 30
# What is built, in GiB. The kernel has some less: firmware and graphics take their part first.
_MEMORY = (0.5, 1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128)


def device_class(compatible: str, memory_bytes: int, architecture: str) -> str:
    """Return the class of a device.

    ``compatible`` is the content of ``/proc/device-tree/compatible``, entries that end with NUL; empty where there is
    no device tree. ``memory_bytes`` is the memory that the kernel has. An unknown board is called by its processor, the
    last entry, and a machine without a device tree by its ``architecture``.
    """
    return f"{board_name(compatible) or architecture}-{memory_name(memory_bytes)}"


def board_name(compatible: str) -> str:
    """The board, or an unknown one's processor, in lower case; empty where there is no device tree."""
    entries = [entry for entry in compatible.split("\0") if entry]
    for name, pattern in _BOARDS:
        if any(pattern.match(entry) for entry in entries):
            return name
    processor = entries[-1].rpartition(",")[2] if entries else ""
    return re.sub(r"[^a-z0-9]+", "-", processor.lower()).strip("-")


def memory_name(memory_bytes: int) -> str:
    """The memory that is built in, by what the kernel has of it, such as ``512mb`` or ``2gb``."""
    built = next((size for size in _MEMORY if memory_bytes <= size * _GIB), float(-(-memory_bytes // _GIB)))
    return f"{int(built * 1024)}mb" if built < 1 else f"{int(built)}gb"
