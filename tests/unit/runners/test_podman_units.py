# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Podman's container file says the same as the unit that works with each Podman."""

from __future__ import annotations

from typing import Any

from container_device import render

SERVICE: dict[str, Any] = {
    "user": "edgeml",
    "command": ["/opt/edgeml/venv/bin/python", "-m", "edgeml_server", "--config", "/etc/edgeml/server.json"],
    "environment": {"PYTHONPATH": "/opt/edgeml/app", "MALLOC_ARENA_MAX": "1"},
    "mounts": [
        {"path": "/var/lib/edgeml/store", "writable": False},
        {"path": "/run/edgeml", "writable": True},
    ],
    "memory_max": "60%",
    "tasks_max": 256,
    "open_files_max": 16384,
    "umask": "0027",
    "watchdog_seconds": 60,
    "start_seconds": 180,
    "stop_seconds": 30,
    "restart_seconds": 2,
}


def lines(template: str) -> list[str]:
    """The lines of a template of Podman's."""
    text = render(
        template,
        __inference_service_description=SERVICE,
        __inference_service_engine="/usr/bin/podman",
        __inference_service_container="edgeml-inference",
        __inference_service_python="/opt/edgeml/venv/bin/python",
        __inference_service_values={"runner": "podman", "load_seconds": 120},
    )
    return text.replace("\\\n", "").splitlines()


def values(name: str, template: str) -> list[str]:
    """What a key has in a template."""
    return [line.partition("=")[2] for line in lines(template) if line.startswith(f"{name}=")]


def options(name: str) -> list[str]:
    """What an option of `podman run` has in the unit."""
    (start,) = values("ExecStart", "podman.service")
    return [word.partition("=")[2] for word in start.split() if word.startswith(f"--{name}=")]


def test_both_have_the_same_mounts_environment_image_and_command() -> None:
    file = "podman.container"
    assert values("Mount", file) == options("mount")
    environment = [entry for entry in options("env") if "=" in entry]
    assert [entry for entry in values("Environment", file) if not entry.startswith("WATCHDOG_USEC=")] == environment
    (start,) = values("ExecStart", "podman.service")
    assert start.endswith(f" {values('Image', file)[0]} {values('Exec', file)[0]}")
    assert values("User", file) == options("user")
    assert values("Network", file) == options("network") == ["host"]
    assert values("Ulimit", file) == [f"nofile={limit}" for limit in (entry[7:] for entry in options("ulimit"))]
    assert values("DropCapability", file) == ["all"]
    assert options("cap-drop") == ["ALL"]
    assert (values("ReadOnly", file), values("NoNewPrivileges", file)) == (["true"], ["true"])
    assert "--read-only" in start.split()
    assert options("security-opt") == ["no-new-privileges"]


def test_both_have_the_same_limits_and_hooks() -> None:
    for name in ("MemoryMax", "TasksMax", "Restart", "RestartSec", "TimeoutStopSec", "OnFailure", "ExecReload"):
        assert values(name, "podman.container") == values(name, "podman.service") != [], name
    hooks = [value for value in values("ExecStartPre", "podman.service") if not value.startswith("-/usr/bin/podman")]
    assert values("ExecStartPre", "podman.container") == hooks


def test_podman_passes_on_no_request_for_more_time_so_the_file_leaves_it_from_the_beginning() -> None:
    assert values("TimeoutStartSec", "podman.container") == ["300"]
    assert values("WatchdogSec", "podman.container") == ["180"]
    assert "WATCHDOG_USEC=60000000" in values("Environment", "podman.container")
