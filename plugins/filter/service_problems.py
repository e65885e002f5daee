# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The filter ``service_problems``."""

from __future__ import annotations

import re
from typing import Any, Callable, Mapping, Sequence

from ansible_collections.edgeml.fleet.plugins.filter.server_image import read_server_image
from ansible_collections.edgeml.fleet.plugins.filter.tls_problems import tls_problems
from ansible_collections.edgeml.fleet.plugins.module_utils._release.image import ARCHITECTURES

DOCUMENTATION = r"""
name: service_problems
short_description: Find what keeps the role inference_service from serving on a device
version_added: 0.2.0
author: The edgeml.fleet authors (@edgeml)
description:
  - Compares the role's options with each other and with the device, before anything is changed there.
options:
  _input:
    description: The role's options by their names without C(inference_service_), each with its type.
    type: dict
    required: true
  architecture:
    description: What the device's programs are built for.
    type: str
    required: true
  python:
    description: The tag of the device's Python, such as V(cp311).
    type: str
    required: true
  service_mgr:
    description: What manages the device's services, such as V(systemd) or V(supervisord).
    type: str
    default: systemd
  wheels:
    description: For each architecture, the runtimes that there are wheels of, and for each the tags of its Pythons.
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Refuse what cannot work
  ansible.builtin.assert:
    that: values | edgeml.fleet.service_problems('aarch64', 'cp311', wheels) == []
  vars:
    wheels:
      aarch64:
        onnxruntime: [cp311]
"""

RETURN = r"""
_value:
  description: The problems, each a sentence that names the variables; empty if there are none.
  type: list
  elements: str
"""

# What an execution provider of ONNX Runtime needs beside it, of those that the collection has wheels of.
PROVIDER_PACKAGES = {"qnn": "onnxruntime-qnn"}
CONTAINER_RUNNERS = ("docker", "podman", "k3s")
_LOOPBACK = re.compile(r"127\.[0-9.]+|::1|localhost")


def service_problems(
    values: Mapping[str, Any],
    architecture: str,
    python: str,
    wheels: Mapping[str, Mapping[str, Sequence[str]]],
    service_mgr: str = "systemd",
) -> list[str]:
    """Return what keeps the service with these options from running on a device of this architecture and Python.

    Raises AnsibleFilterError where the image's archive cannot be read.
    """
    in_container = values["runner"] in CONTAINER_RUNNERS
    return (
        ([] if in_container or values["lock"] else _wheel_problems(values["runtimes"], architecture, python, wheels))
        + _provider_problems(values, architecture, python, wheels)
        + _manager_problems(values, service_mgr)
        + _image_problems(values, architecture, in_container)
        + _tls_problems(values)
        + _open_problems(values)
    )


def _manager_problems(values: Mapping[str, Any], service_mgr: str) -> list[str]:
    supervised = values["runner"] == "supervisor"
    if supervised != (service_mgr == "supervisord"):
        needed = "supervisord" if supervised else "systemd"
        return [f"inference_service_runner is {values['runner']}, which needs {needed}; the device has {service_mgr}"]
    if supervised and values["share"]:
        return [f"inference_service_share needs systemd; the device has {service_mgr}"]
    return []


def _image_problems(values: Mapping[str, Any], architecture: str, in_container: bool) -> list[str]:
    if values["quadlet"] and values["runner"] != "podman":
        return [f"inference_service_quadlet is of Podman, but inference_service_runner is {values['runner']}"]
    if in_container and values["runtimes"]:
        problem = (
            f"inference_service_runtimes is {', '.join(values['runtimes'])}, but inference_service_runner is "
            f"{values['runner']}: the runtimes are those of its image"
        )
        return [problem]
    if values["image"] and not in_container:
        problem = (
            f"inference_service_image is {values['image']}, but inference_service_runner is {values['runner']}, "
            f"which has no image: expected one of {', '.join(CONTAINER_RUNNERS)}"
        )
        return [problem]
    if values["image"]:
        built_for = read_server_image(values["image"]).architecture
        if built_for != ARCHITECTURES.get(architecture):
            return [
                f"inference_service_image {values['image']} is built for {built_for}, but this device is {architecture}"
            ]
    return []


def _wheel_problems(
    runtimes: Sequence[str], architecture: str, python: str, wheels: Mapping[str, Mapping[str, Sequence[str]]]
) -> list[str]:
    if architecture not in wheels:
        return [f"the inference server has wheels for {', '.join(wheels)}, but this device is {architecture}"]
    found = wheels[architecture]
    if set(runtimes).difference(found):
        problem = (
            f"inference_service_runtimes is {', '.join(runtimes)}, but for this device ({architecture}) "
            f"there are wheels of {', '.join(found)} only"
        )
        return [problem]
    return [
        f"there are wheels of {runtime} for {', '.join(found[runtime])}, but the Python of this device is {python}"
        for runtime in runtimes or list(found)[:1]
        if python not in found[runtime]
    ]


def _provider_problems(
    values: Mapping[str, Any], architecture: str, python: str, wheels: Mapping[str, Mapping[str, Sequence[str]]]
) -> list[str]:
    provider, told = (
        values["execution_provider"],
        f"inference_service_execution_provider is {values['execution_provider']}",
    )
    if provider == "cpu":
        return []
    if values["runner"] != "native":
        return [
            f"{told}, but inference_service_runner is {values['runner']}: only a native service opens an accelerator"
        ]
    if values["lock"]:
        return []
    if values["runtimes"] and "onnxruntime" not in values["runtimes"]:
        return [f"{told}, but inference_service_runtimes is {', '.join(values['runtimes'])}, without onnxruntime"]
    package = PROVIDER_PACKAGES.get(provider)
    if package is None:
        return [f"{told}, of which the collection has no wheels: name a lock that has them in inference_service_lock"]
    tags = wheels.get(architecture, {}).get(package, [])
    if python not in tags:
        found = f"for {', '.join(tags)}" if tags else "not"
        return [f"{told}: there are wheels of {package} {found}, but this device is {architecture} with {python}"]
    return []


def _tls_problems(values: Mapping[str, Any]) -> list[str]:
    certificate, key, client_ca = (values[name] for name in ("tls_certificate", "tls_key", "tls_client_ca"))
    if bool(certificate) != bool(key):
        return ["inference_service_tls_certificate and inference_service_tls_key belong together"]
    if client_ca and not key:
        return [
            "inference_service_tls_client_ca needs both inference_service_tls_certificate and inference_service_tls_key"
        ]
    if not certificate or values["tls_keep"]:
        return []
    found = tls_problems(certificate, key, client_ca)
    names = "inference_service_tls_certificate, inference_service_tls_key, inference_service_tls_client_ca"
    return [f"{names}: {'; '.join(found)}"] if found else []


def _open_problems(values: Mapping[str, Any]) -> list[str]:
    """Whether everybody on the network could ask, though nobody said that they may."""
    known = values["tls_key"] and (values["credentials"] or values["tls_client_ca"])
    if values["allow_unprotected"] or known or _LOOPBACK.fullmatch(values["listen_address"]):
        return []
    problem = (
        f"inference_service_listen_address is {values['listen_address']}, so that everybody on the network could ask. "
        "Set inference_service_tls_certificate and inference_service_tls_key, with inference_service_credentials or "
        "inference_service_tls_client_ca; or inference_service_allow_unprotected"
    )
    return [problem]


class FilterModule:
    """The filter for Ansible."""

    def filters(self) -> dict[str, Callable[..., list[str]]]:
        """Name the filter."""
        return {"service_problems": service_problems}
