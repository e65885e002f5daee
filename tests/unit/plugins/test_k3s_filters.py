# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What keeps K3s from running on a device, and which of its files a device lacks."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.edgeml.fleet.plugins.filter.k3s_missing import k3s_missing
from ansible_collections.edgeml.fleet.plugins.filter.k3s_problems import k3s_problems

ARCHITECTURES = {
    "aarch64": {"binary": "k3s-arm64", "images": "k3s-airgap-images-arm64.tar.zst"},
    "x86_64": {"binary": "k3s", "images": "k3s-airgap-images-amd64.tar.zst"},
}
DIGESTS = {"k3s-arm64": "a" * 64, "k3s-airgap-images-arm64.tar.zst": "b" * 64}
VALUES = {
    "mode": "server",
    "server": "",
    "token": "",
    "version": "v1.37.1+k3s1",
    "source": "/srv/k3s",
    "sha256": DIGESTS,
    "memory_min_megabytes": 0,
    "disk_min_megabytes": 3072,
}
# A Raspberry Pi 4 with 2 GB of memory.
DEVICE = {
    "architecture": "aarch64",
    "memory_megabytes": 1846,
    "disk_megabytes": 20000,
    "controllers": "cpuset cpu io memory pids",
    "files": {},
}


def problems(device: dict[str, Any] | None = None, **values: Any) -> list[str]:
    return k3s_problems({**VALUES, **values}, {**DEVICE, **(device or {})}, ARCHITECTURES)


def test_a_device_that_has_all_is_taken() -> None:
    assert problems() == []
    assert problems({"memory_megabytes": 906}, mode="agent", server="https://10.0.0.5:6443", token="secret") == []


def test_each_number_that_does_not_suffice_is_told() -> None:
    found = problems({"memory_megabytes": 906, "disk_megabytes": 900, "controllers": "cpuset cpu io pids"})
    assert found == [
        "a K3s server needs 1800 MB of memory, but the device has 906 MB",
        (
            "K3s needs control groups of version 2 with cpu, cpuset, memory, pids, but the device has cpuset "
            "cpu io pids. On a Raspberry Pi add 'cgroup_enable=memory' to /boot/firmware/cmdline.txt and restart it"
        ),
        "K3s needs 3072 MB free below /var/lib/rancher, but there are 900 MB",
    ]


def test_the_numbers_are_the_operators_to_set() -> None:
    assert (
        problems({"memory_megabytes": 906, "disk_megabytes": 900}, memory_min_megabytes=900, disk_min_megabytes=900)
        == []
    )


def test_the_disk_counts_only_before_k3s_is_there() -> None:
    assert problems({"disk_megabytes": 900, "files": {"/usr/local/bin/k3s": "c" * 64}}) == []


def test_a_device_without_control_groups_of_version_2_is_refused() -> None:
    (found,) = problems({"controllers": ""})
    assert "but the device has none." in found


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"version": ""}, ["k3s_version is required"]),
        ({"source": ""}, ["k3s_source is required"]),
        ({"mode": "agent"}, ["k3s_server is required for an agent", "k3s_token is required for an agent"]),
        (
            {"sha256": {"k3s-arm64": "a" * 64}},
            ["k3s_sha256 needs k3s-airgap-images-arm64.tar.zst with 64 hexadecimal digits, but has nothing"],
        ),
        (
            {"sha256": {**DIGESTS, "k3s-arm64": "A" * 64}},
            [f"k3s_sha256 needs k3s-arm64 with 64 hexadecimal digits, but has {'A' * 64}"],
        ),
    ],
)
def test_options_that_do_not_suffice_are_named(values: dict[str, Any], expected: list[str]) -> None:
    assert problems(**values) == expected


def test_another_architecture_is_refused() -> None:
    assert problems({"architecture": "riscv64"}) == ["K3s is built for aarch64, x86_64, but this device is riscv64"]


def test_a_file_is_missing_that_is_not_there_or_has_another_content() -> None:
    binary = {"name": "k3s-arm64", "path": "/usr/local/bin/k3s"}
    images = {"name": "k3s-airgap-images-arm64.tar.zst", "path": "/images/k3s-airgap-images-arm64.tar.zst"}
    found = {binary["path"]: "a" * 64, images["path"]: "b" * 64}
    assert k3s_missing([binary, images], DIGESTS, found) == []
    assert k3s_missing([binary, images], DIGESTS, {**found, binary["path"]: "c" * 64}) == [binary]
    assert k3s_missing([binary, images], DIGESTS, {binary["path"]: "a" * 64}) == [images]
