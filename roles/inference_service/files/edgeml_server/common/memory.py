# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How much memory is left for another model, and returning freed memory to the system."""

from __future__ import annotations

import ctypes
import os
from typing import NamedTuple

from edgeml_device._device.facts import cgroup_memory, meminfo

_libc = ctypes.CDLL(None)


def trim_heap() -> None:
    """Return the C library's free memory to the system, after a model was freed (glibc; elsewhere nothing)."""
    if hasattr(_libc, "malloc_trim"):
        _libc.malloc_trim(0)


def private_memory(status: str | os.PathLike[str] = "/proc/self/status") -> int:
    """Return the bytes of this process's memory that are no file's, which a second process like it needs as well."""
    with open(status, encoding="utf-8") as file:
        sizes = dict(line.split(":", 1) for line in file)
    return sum(int(sizes[name].split()[0]) << 10 for name in ("RssAnon", "RssShmem"))


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
