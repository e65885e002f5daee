# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the role container_runtime leaves on a device. No container runs: an emulated device cannot do that."""

from __future__ import annotations

import json
import tomllib
from typing import Any

import pytest

Host = Any  # pytest-testinfra has no types

PRUNE_TIMER = "edgeml-container-prune.timer"


@pytest.fixture
def engine(host: Host) -> str:
    return {"edge-s2": "podman", "edge-l1": "docker"}[host.check_output("hostname")]


@pytest.fixture
def podman(engine: str) -> None:
    if engine != "podman":
        pytest.skip("this device has Docker")


@pytest.fixture
def docker(engine: str) -> None:
    if engine != "docker":
        pytest.skip("this device has Podman")


def test_device_has_the_processor_of_its_fleet(host: Host, architecture: str) -> None:
    assert host.check_output("uname -m") == architecture


def test_only_the_chosen_engine_is_installed(host: Host, engine: str) -> None:
    assert [name for name in ("podman", "docker.io") if host.package(name).is_installed] == [
        {"podman": "podman", "docker": "docker.io"}[engine]
    ]


@pytest.mark.parametrize("suffix", ["service", "timer"])
def test_prune_units_belong_to_root(host: Host, suffix: str) -> None:
    unit = host.file(f"/etc/systemd/system/edgeml-container-prune.{suffix}")
    assert (unit.user, unit.group, oct(unit.mode)) == ("root", "root", "0o644")


def test_prune_timer_waits(host: Host) -> None:
    assert host.service(PRUNE_TIMER).is_enabled
    assert host.service(PRUNE_TIMER).is_running


@pytest.mark.usefixtures("podman")
def test_podman_has_its_limits(host: Host) -> None:
    storage = tomllib.loads(host.file("/etc/containers/storage.conf").content_string)
    assert storage["storage"]["graphroot"] == "/tmp/containers"
    assert storage["storage"]["driver"] == "overlay"
    containers = tomllib.loads(host.file("/etc/containers/containers.conf.d/50-edgeml.conf").content_string)
    assert containers["containers"]["log_driver"] == "k8s-file"
    assert containers["containers"]["log_size_max"] > 0
    assert host.package("crun").is_installed


@pytest.mark.usefixtures("podman")
def test_podman_does_nothing_by_itself(host: Host) -> None:
    for unit in (
        "podman.socket",
        "podman.service",
        "podman-auto-update.service",
        "podman-auto-update.timer",
    ):
        assert not host.service(unit).is_enabled, unit
    assert not host.service("podman.socket").is_running
    assert host.service("podman-restart.service").is_enabled


@pytest.mark.usefixtures("docker")
def test_docker_is_configured_and_enabled(host: Host) -> None:
    config = host.file("/etc/docker/daemon.json")
    assert (config.user, config.group, oct(config.mode)) == ("root", "root", "0o644")
    content = json.loads(config.content_string)
    assert content["log-driver"] == "local"
    assert content["log-opts"] == {"max-size": "10485760", "max-file": "3"}
    assert content["live-restore"] is True
    assert host.service("docker").is_enabled


@pytest.mark.usefixtures("docker")
def test_docker_is_not_started_in_a_container(host: Host) -> None:
    assert not host.service("docker").is_running
