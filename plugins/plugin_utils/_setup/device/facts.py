# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""What the device is."""

from __future__ import annotations

import os
import sys

from .commands import SetupError
from .files import read_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Mapping, Sequence


PACKAGE_MANAGERS = {
    "apt-get": "apt",
    "dnf": "dnf",
    "apk": "apk",
    "opkg": "opkg",
    "pacman": "pacman",
    "zypper": "zypper",
}
REQUIRED = {"service_mgr": "init system", "pkg_mgr": "package manager", "architecture": "architecture"}


def device_facts() -> dict[str, str]:
    """What this device is, in Ansible's words and by the names of Ansible's facts."""
    managers = [name for command, name in PACKAGE_MANAGERS.items() if os.path.exists("/usr/bin/" + command)]
    return {
        "architecture": os.uname().machine,
        "userspace_bits": "64" if sys.maxsize > 1 << 32 else "32",
        "python_version": ".".join(map(str, sys.version_info[:3])),
        "pkg_mgr": managers[0] if managers else "unknown",
        "service_mgr": "systemd" if os.path.isdir("/run/systemd/system") else _first_process(),
    }


def require(expected: Mapping[str, Sequence[str]], facts: Mapping[str, str]) -> None:
    """Refuse a device of which a fact is none of those expected. Raises SetupError, which names both."""
    for name, values in expected.items():
        if facts[name] not in values:
            raise SetupError(f"{REQUIRED[name]}: expected {' or '.join(values)}, but found {facts[name]}")


def _first_process() -> str:
    return (read_file("/proc/1/comm") or b"unknown").decode().strip()
