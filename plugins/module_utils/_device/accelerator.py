# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""What an accelerator computes with beside its runtime: NVIDIA's software on a Jetson, and the power mode of the board.

Read from files that NVIDIA's Jetson Linux writes; other boards have none of them. Imports nothing of the collection, as
``facts``.
"""

from __future__ import annotations

import os
import re
from typing import NamedTuple

# "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI: aarch64, DATE: …"
_RELEASE = re.compile(r"#\s*R(\d+) \(release\), REVISION: (\d+(?:\.\d+)*)")
# "pmode:0002 fmode:quiet"; nvpmodel writes it with each change of the mode.
_MODE = re.compile(r"pmode:(\d+)")
# "< POWER_MODEL ID=2 NAME=MAXN_SUPER >"
_MODE_NAME = re.compile(r"^<\s*POWER_MODEL\s+ID=(\d+)\s+NAME=(\S+)\s*>", re.MULTILINE)
# The first Jetson Linux of each JetPack: https://developer.nvidia.com/embedded/jetpack-archive
_JETPACKS: tuple[tuple[tuple[int, ...], str], ...] = (
    ((38, 2), "7.0"),
    ((36, 4, 3), "6.2"),
    ((36, 4), "6.1"),
    ((36, 3), "6.0"),
    ((35, 1), "5"),
    ((32, 1), "4"),
)


class Accelerator(NamedTuple):
    """``software`` is the version of Jetson Linux, such as ``36.4.3``, and ``jetpack`` that of the JetPack with it, as
    far as it tells; ``power_mode`` is the name of the mode that ``nvpmodel`` has set, or its number. Empty where the
    board has no such thing."""

    software: str = ""
    jetpack: str = ""
    power_mode: str = ""

    @property
    def words(self) -> str:
        """What it is, in one line; nothing for none."""
        parts = (f"Jetson Linux {self.software}" if self.software else "", self.power_mode)
        return ", ".join(filter(None, parts))


def read_accelerator(root: str = "/") -> Accelerator:
    """What this device has. ``root`` is where its file system begins."""
    release = _RELEASE.search(_read(os.path.join(root, "etc/nv_tegra_release")))
    software = f"{release[1]}.{release[2]}" if release else ""
    return Accelerator(software, _jetpack(software), power_mode(root))


def power_mode(root: str = "/") -> str:
    """The power mode of a Jetson, which sets how many cores are on, and their highest clocks; empty elsewhere."""
    found = _MODE.search(_read(os.path.join(root, "var/lib/nvpmodel/status")))
    if found is None:
        return ""
    number = int(found[1])
    modes = _MODE_NAME.findall(_read(os.path.join(root, "etc/nvpmodel.conf")))
    return next((str(name) for mode, name in modes if int(mode) == number), str(number))


def _jetpack(software: str) -> str:
    if not software:
        return ""
    version = tuple(int(part) for part in software.split("."))
    # A later Jetson Linux has a JetPack that nobody here knows.
    for first, name in _JETPACKS:
        if first[0] == version[0] and first <= version:
            return name
    return ""


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""
