# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""What a device is: its architecture, the memory it may use, and the inference runtimes installed on it.

Imports nothing of the collection: the role provision puts this file and ``accelerator`` into a fact of the device.
"""

from __future__ import annotations

import glob
import hashlib
import locale
import os
import re
import sys
import time
from typing import Any

RUNTIMES = ("onnxruntime", "ai-edge-litert", "tflite-runtime", "ncnn")
# Packages that bring a runtime with execution providers of their own.
_ALSO = {"onnxruntime": ("onnxruntime-gpu", "onnxruntime-openvino")}
# In the words of x86-64 and of ARM. Which instructions a kernel lists changes with the kernel.
_PROCESSOR = re.compile(r"(model name|CPU (implementer|architecture|variant|part))\s*:")
SITE_PACKAGES = "/opt/edgeml/venv-*/lib/python3*/site-packages"


def device_facts(site_packages: str = SITE_PACKAGES) -> dict[str, Any]:
    """Return ``architecture`` (as ``uname -m`` of a kernel that is as wide as its programs), ``memory_bytes``,
    ``memory_available_bytes``, ``cpu_count``, ``python_version``, ``board`` (text, empty when unknown) and ``runtimes``
    (package name to version).

    ``memory_bytes`` is the least of the machine's memory and the memory limits of the control groups around
    this process, so that a container is judged by what it may use.
    """
    machine, groups = meminfo(), cgroup_memory()
    return {
        "architecture": architecture(os.uname().machine, sys.maxsize > 1 << 32),
        "memory_bytes": min([machine["MemTotal"], *(limit for _path, limit, _used in groups)]),
        "memory_available_bytes": min(
            [machine["MemAvailable"], *(max(limit - used, 0) for _path, limit, used in groups)]
        ),
        "cpu_count": os.cpu_count() or 1,
        "python_version": ".".join(str(part) for part in sys.version_info[:3]),
        "board": read_text("/proc/device-tree/model").rstrip("\0\n"),
        "runtimes": _serving_runtimes(site_packages),
    }


def architecture(machine: str, wide: bool) -> str:
    """What programs here are built for. ``machine`` is the kernel's word; ``wide``: this program has 64 bits.

    A 64-bit kernel with 32-bit programs is common on ARM, and calls itself aarch64, or armv8l when asked from there.
    """
    return "armv7l" if not wide and machine in ("aarch64", "armv8l") else machine


def has_locale(name: str) -> bool:
    """Whether programs on this device can use a locale. Not for threads: the process has it for a moment."""
    before = locale.setlocale(locale.LC_ALL)
    try:
        locale.setlocale(locale.LC_ALL, name)
    except locale.Error:
        return False
    locale.setlocale(locale.LC_ALL, before)
    return True


def processor_id(root: str = "/") -> str:
    """What tells this kind of processor from others: a digest of what it calls itself."""
    lines = read_text(os.path.join(root, "proc/cpuinfo")).splitlines()
    kept = {line.strip() for line in lines if _PROCESSOR.match(line)}
    return hashlib.sha256("\n".join(sorted(kept)).encode("utf-8")).hexdigest()[:16]


def boot_id() -> str:
    """What the kernel calls this boot; another after each restart of the device."""
    return read_text("/proc/sys/kernel/random/boot_id").strip()


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
        for package in (runtime, *_ALSO.get(runtime, ())):
            name = package.replace("-", "_")
            for path in sorted(glob.glob(os.path.join(site_packages, f"{name}-*.dist-info"))):
                found[runtime] = os.path.basename(path)[len(name) + 1 : -len(".dist-info")]
    return found


def _serving_runtimes(site_packages: str) -> dict[str, str]:
    """The runtimes of the image that serves, and without one those that are installed."""
    if not __package__:
        # The fact of the role provision is a program of its own, without the files beside this one.
        return installed_runtimes(site_packages)
    # Imported here, because the server needs other facts only.
    from .request import STORE
    from .runner import read_image, read_runner

    if not read_runner().code:
        return installed_runtimes(site_packages)
    image = read_image(STORE)
    return dict(image.runtimes) if image is not None else {}


def meminfo(root: str = "/") -> dict[str, int]:
    """The kernel's account of memory, in bytes by name. ``root`` is where proc is mounted."""
    amounts = {}
    for line in read_text(os.path.join(root, "proc/meminfo")).splitlines():
        name, value = line.split(":", 1)
        amounts[name] = int(value.split()[0]) * 1024
    return amounts


def cgroup_memory(root: str = "/") -> list[tuple[str, int, int]]:
    """Path, limit and use, in bytes, of this process's control groups (v1 and v2) with a limit, from its own up.

    The page cache counts as used in a control group; its inactive part is given up when memory is needed, and is taken
    as free here, as the kubelet does (https://kubernetes.io/docs/concepts/scheduling-eviction/node-pressure-eviction/).
    ``root`` is where proc and sys are mounted.
    """
    found = []
    for line in read_text(os.path.join(root, "proc/self/cgroup")).splitlines():
        _hierarchy, controllers, path = line.split(":", 2)
        if controllers == "":
            base, names = "sys/fs/cgroup", ("memory.max", "memory.current", "inactive_file")
        elif "memory" in controllers.split(","):
            base = "sys/fs/cgroup/memory"
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        else:
            continue
        while True:
            directory = os.path.join(root, base) + path.rstrip("/")
            limit, use = (read_text(os.path.join(directory, name)).strip() for name in names[:2])
            if limit.isdigit() and use.isdigit():
                stat = dict(line.split() for line in read_text(os.path.join(directory, "memory.stat")).splitlines())
                found.append((path, int(limit), int(use) - int(stat.get(names[2], 0))))
            if path in ("", "/"):
                break
            path = os.path.dirname(path)
    return found


def read_text(path: str) -> str:
    """What a file says, such as one of the kernel's; nothing where it is not there or cannot be read."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""
