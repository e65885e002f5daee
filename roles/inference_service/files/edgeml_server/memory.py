# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How much memory there is for another model, and giving memory back to the system."""

from __future__ import annotations

import ctypes
import os
from typing import NamedTuple

_libc = ctypes.CDLL(None)


def trim_heap() -> None:
    """Return the C library's free memory to the system, after a model was freed (glibc; elsewhere nothing)."""
    if hasattr(_libc, "malloc_trim"):
        _libc.malloc_trim(0)


class Room(NamedTuple):
    """Bytes that this process may still take, and what sets that limit."""

    bytes: int
    limit: str


def room(root: str = "/") -> Room:
    """The least of the machine's MemAvailable and of what each control group (v1, v2) around this process has left.

    The page cache counts as used in a control group; its inactive part is given up when memory is needed, and is taken
    as free here, as the kubelet does (https://kubernetes.io/docs/concepts/scheduling-eviction/node-pressure-eviction/).
    ``root`` is where proc and sys are mounted.
    """
    found = [Room(_meminfo(root, "MemAvailable"), "MemAvailable")]
    for line in _read(os.path.join(root, "proc/self/cgroup")).splitlines():
        _hierarchy, controllers, path = line.split(":", 2)
        if controllers == "":
            base, names = "sys/fs/cgroup", ("memory.max", "memory.current", "inactive_file")
        elif "memory" in controllers.split(","):
            base = "sys/fs/cgroup/memory"
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        else:
            continue
        while True:
            left = _left(os.path.join(root, base) + path.rstrip("/"), *names)
            if left is not None:
                found.append(Room(max(0, left), f"the memory limit of the control group {path}"))
            if path in ("", "/"):
                break
            path = os.path.dirname(path)
    return min(found)


def _left(directory: str, limit_name: str, used_name: str, cache_name: str) -> int | None:
    limit, used = (_read(os.path.join(directory, name)).strip() for name in (limit_name, used_name))
    if not limit.isdigit() or not used.isdigit():
        return None
    statistics = dict(line.split() for line in _read(os.path.join(directory, "memory.stat")).splitlines())
    return int(limit) - int(used) + int(statistics.get(cache_name, 0))


def _meminfo(root: str, name: str) -> int:
    lines = _read(os.path.join(root, "proc/meminfo")).splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))


def _read(path: str) -> str:
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            return file.read()
    except OSError:
        return ""
