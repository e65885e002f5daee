# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""What a device is: its architecture, the memory it may use, and the inference runtimes installed on it."""

from __future__ import annotations

import glob
import os
import platform
import time
from typing import Any

RUNTIMES = ("onnxruntime", "ai-edge-litert")
SITE_PACKAGES = "/opt/edgeml/venv-*/lib/python3*/site-packages"


def device_facts(site_packages: str = SITE_PACKAGES) -> dict[str, Any]:
    """Return ``architecture`` (as ``uname -m``), ``memory_bytes``, ``memory_available_bytes``, ``cpu_count``,
    ``python_version``, ``board`` (text, empty when unknown) and ``runtimes`` (package name to version).

    ``memory_bytes`` is the least of the machine's memory and the memory limits of the control groups around
    this process, so that a container is judged by what it may use.
    """
    meminfo = _meminfo()
    groups = _cgroup_memory()
    return {
        "architecture": platform.machine(),
        "memory_bytes": min([meminfo["MemTotal"], *(limit for limit, _used in groups)]),
        "memory_available_bytes": min([meminfo["MemAvailable"], *(max(limit - used, 0) for limit, used in groups)]),
        "cpu_count": os.cpu_count() or 1,
        "python_version": platform.python_version(),
        "board": _read("/proc/device-tree/model").rstrip("\0\n"),
        "runtimes": installed_runtimes(site_packages),
    }


def boot_id() -> str:
    """What the kernel calls this boot; another after each restart of the device."""
    return _read("/proc/sys/kernel/random/boot_id").strip()


def boot_seconds() -> float:
    """Seconds since the device started, suspended ones included: no jump of the wall clock touches them."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def installed_runtimes(site_packages: str = SITE_PACKAGES) -> dict[str, str]:
    """Return the versions of the inference runtimes in the service's virtual environment, by package name.

    ``site_packages`` is a pattern for the environment's directory of packages. Told from the names of the
    ``.dist-info`` directories: to import importlib.metadata takes longer on a small board than all the rest.
    """
    found = {}
    for runtime in RUNTIMES:
        name = runtime.replace("-", "_")
        for path in sorted(glob.glob(os.path.join(site_packages, f"{name}-*.dist-info"))):
            found[runtime] = os.path.basename(path)[len(name) + 1 : -len(".dist-info")]
    return found


def _meminfo() -> dict[str, int]:
    amounts = {}
    for line in _read("/proc/meminfo").splitlines():
        name, value = line.split(":", 1)
        amounts[name] = int(value.split()[0]) * 1024
    return amounts


def _cgroup_memory() -> list[tuple[int, int]]:
    """Limit and use, in bytes, of memory in this process's control groups (v1 and v2), from its own up to the root.

    File pages that the kernel can drop do not count as used.
    """
    found = []
    for line in _read("/proc/self/cgroup").splitlines():
        _hierarchy, controllers, path = line.split(":", 2)
        if controllers == "":
            base, limit_name, use_name, droppable = "/sys/fs/cgroup", "memory.max", "memory.current", "inactive_file"
        elif "memory" in controllers.split(","):
            base, limit_name, use_name = "/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes"
            droppable = "total_inactive_file"
        else:
            continue
        while True:
            limit, use = (_read(f"{base}{path}/{name}").strip() for name in (limit_name, use_name))
            if limit.isdigit():
                stat = dict(line.split(" ", 1) for line in _read(f"{base}{path}/memory.stat").splitlines())
                used = int(use) - int(stat.get(droppable, 0)) if use.isdigit() else 0
                found.append((int(limit), used))
            if path in ("", "/"):
                break
            path = os.path.dirname(path)
    return found


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""
