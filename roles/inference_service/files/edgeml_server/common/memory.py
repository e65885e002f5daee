# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How much memory is left for another model, and returning freed memory to the system."""

from __future__ import annotations

import ctypes
from typing import NamedTuple

from edgeml_device._device.facts import cgroup_memory, meminfo

_libc = ctypes.CDLL(None)


def trim_heap() -> None:
    """Return the C library's free memory to the system, after a model was freed (glibc; elsewhere nothing)."""
    if hasattr(_libc, "malloc_trim"):
        _libc.malloc_trim(0)


class MemoryHeadroom(NamedTuple):
    """Bytes that this process may still allocate, and what sets that limit."""

    bytes: int
    limit: str


def memory_headroom(root: str = "/") -> MemoryHeadroom:
    """Return the least of the machine's MemAvailable and of what each control group (v1, v2) of this process has left.

    ``root`` is where proc and sys are mounted.
    """
    found = [MemoryHeadroom(meminfo(root)["MemAvailable"], "MemAvailable")]
    for path, limit, used in cgroup_memory(root):
        found.append(MemoryHeadroom(max(0, limit - used), f"the memory limit of the control group {path}"))
    return min(found)
