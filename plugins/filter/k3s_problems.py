# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The filter ``k3s_problems``."""

from __future__ import annotations

import re
from typing import Any, Callable, Mapping

DOCUMENTATION = r"""
name: k3s_problems
short_description: Find what keeps the role k3s from running K3s on a device
version_added: 0.2.0
author: The edgeml.fleet authors (@edgeml)
description:
  - Compares the role's options with each other and with the device, before anything is changed there.
options:
  _input:
    description: The role's options by their names without C(k3s_), each with its type.
    type: dict
    required: true
  device:
    description:
      - What the device is. Its C(architecture), C(memory_megabytes), free C(disk_megabytes), the C(controllers) of its
        control groups (version 2) as a text, and the SHA-256 of its C(files) by their paths.
    type: dict
    required: true
  architectures:
    description: For each architecture of a kernel, the names of K3s' files C(binary) and C(images).
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Refuse what cannot work
  ansible.builtin.assert:
    that: values | edgeml.fleet.k3s_problems(device, architectures) == []
  vars:
    architectures:
      aarch64: {binary: k3s-arm64, images: k3s-airgap-images-arm64.tar.zst}
"""

RETURN = r"""
_value:
  description: The problems, each a sentence with what was expected and what was found; empty if there are none.
  type: list
  elements: str
"""

_CONTROLLERS = ("cpu", "cpuset", "memory", "pids")
_MEMORY_MEGABYTES = {"server": 1800, "agent": 500}
_SHA256 = re.compile(r"[0-9a-f]{64}")
_BINARY = "/usr/local/bin/k3s"


def k3s_problems(
    values: Mapping[str, Any], device: Mapping[str, Any], architectures: Mapping[str, Mapping[str, str]]
) -> list[str]:
    """Return what keeps K3s with these options from running on this device."""
    names = architectures.get(device["architecture"])
    if names is None:
        return [f"K3s is built for {', '.join(architectures)}, but this device is {device['architecture']}"]
    return _option_problems(values, names) + _device_problems(values, device)


def _option_problems(values: Mapping[str, Any], names: Mapping[str, str]) -> list[str]:
    found = [f"k3s_{name} is required" for name in ("version", "source") if not values[name]]
    if values["mode"] == "agent":
        found += [f"k3s_{name} is required for an agent" for name in ("server", "token") if not values[name]]
    for name in names.values():
        digest = values["sha256"].get(name, "")
        if not _SHA256.fullmatch(digest):
            found.append(f"k3s_sha256 needs {name} with 64 hexadecimal digits, but has {digest or 'nothing'}")
    return found


def _device_problems(values: Mapping[str, Any], device: Mapping[str, Any]) -> list[str]:
    found = []
    memory = values["memory_min_megabytes"] or _MEMORY_MEGABYTES[values["mode"]]
    if device["memory_megabytes"] < memory:
        found.append(
            f"a K3s {values['mode']} needs {memory} MB of memory, but the device has {device['memory_megabytes']} MB"
        )
    missing = [name for name in _CONTROLLERS if name not in device["controllers"].split()]
    if missing:
        found.append(
            f"K3s needs control groups of version 2 with {', '.join(_CONTROLLERS)}, but the device has "
            f"{device['controllers'] or 'none'}. On a Raspberry Pi add 'cgroup_enable=memory' to "
            "/boot/firmware/cmdline.txt and restart it"
        )
    # What K3s has unpacked is there already where its binary is.
    disk = values["disk_min_megabytes"]
    if _BINARY not in device["files"] and device["disk_megabytes"] < disk:
        found.append(f"K3s needs {disk} MB free below /var/lib/rancher, but there are {device['disk_megabytes']} MB")
    return found


class FilterModule:
    """The filter for Ansible."""

    def filters(self) -> dict[str, Callable[..., list[str]]]:
        """Name the filter."""
        return {"k3s_problems": k3s_problems}
