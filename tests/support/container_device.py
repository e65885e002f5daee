# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The role's unit of a container, rendered for a device that is a directory of this machine."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import jinja2
from links import PYTHON_PATH, REPOSITORY

ROLE = REPOSITORY / "roles" / "inference_service"
COMMAND = ROLE / "files" / "device" / "edgeml"
# The image is empty: the programs are this machine's, read-only.
# What Podman would have of a device, and lacks here: systemd as the first process, and the right to raise limits.
_PROCESSES = "nproc=1024:1024"
_CONTAINERS_CONF = f"""
[containers]
cgroups = "{{}}"
default_ulimits = ["nofile=4096:4096", "{_PROCESSES}"]
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
{{}}
"""
# crun, which is Debian's, does nothing where both generations of control groups have controllers; runc needs some.
_CONTROL_GROUPS_OF_BOTH = Path("/sys/fs/cgroup/unified/cgroup.controllers")
# Where Podman keeps images and containers, and which Docker Engine is asked, where a test says so.
STORAGE, DOCKER_HOST = "CONTAINERS_STORAGE_CONF", "DOCKER_HOST"
PROGRAMS = ("/usr", "/lib", "/lib64", sys.base_prefix, str(Path(sys.prefix).resolve()), str(REPOSITORY))


class ContainerDevice:
    """The paths of a device below ``directory``, with the role's own templates. Its service runs as root."""

    def __init__(self, directory: Path, engine: str, name: str) -> None:
        self.directory = directory
        self.engine = engine
        self.name = name
        self.environment = {name: os.environ[name] for name in (STORAGE, DOCKER_HOST) if name in os.environ}
        self._is_podman = Path(engine).name == "podman"
        self._cgroups = "enabled" if _CONTROL_GROUPS_OF_BOTH.exists() else "disabled"
        if self._is_podman:
            runtime = 'runtime = "runc"' if _CONTROL_GROUPS_OF_BOTH.exists() else ""
            (directory / "containers.conf").write_text(_CONTAINERS_CONF.format(self._cgroups, runtime))
            self.environment["CONTAINERS_CONF"] = str(directory / "containers.conf")
        self.command = directory / "edgeml"
        self.command.write_text(f'#!/bin/sh\nPYTHONPATH={PYTHON_PATH} exec {sys.executable} {COMMAND} "$@"\n')
        self.command.chmod(0o755)
        paths = [str(directory / name) for name in ("etc", "store", "run", "log")]
        runner = {
            "name": Path(engine).name,
            "engine": engine,
            "container": name,
            "user": "root",
            "python": sys.executable,
            "code": str(PYTHON_PATH),
            "mounts": [*paths, *PROGRAMS],
            "memory_max": "512M",
        }
        self.runner = directory / "runner.json"
        self.runner.write_text(json.dumps(runner))
        self._paths = dict(
            zip(
                ("/etc/edgeml", "/var/lib/edgeml/store", "/run/edgeml", "/var/lib/edgeml-inference"),
                paths,
                strict=False,
            )
        )

    def unit(self, watchdog_seconds: int, suffix: str = "") -> str:
        """The text of the unit, or with the suffix ``-bridge`` of the one that serves while an image is swapped."""
        mounts = [{"path": path, "writable": False} for path in PROGRAMS]
        mounts += [{"path": path, "writable": number >= 2} for number, path in enumerate(self._paths)]
        service = {
            "user": "root",
            "command": [sys.executable, "-m", "edgeml_server", "--config", "/etc/edgeml/server.json"],
            "environment": {"PYTHONPATH": str(PYTHON_PATH), "PYTHONDONTWRITEBYTECODE": "1"},
            "mounts": mounts,
            "memory_max": "512M",
            "tasks_max": 256,
            "open_files_max": 4096,
            "umask": "0027",
            "watchdog_seconds": watchdog_seconds,
            "start_seconds": 240,
            "stop_seconds": 30,
            "restart_seconds": 1,
        }
        text = render(
            f"{Path(self.engine).name}{suffix}.service",
            __inference_service_description=service,
            __inference_service_engine=self.engine,
            __inference_service_container=self.name,
            __inference_service_python=sys.executable,
            __inference_service_values={"runner": Path(self.engine).name},
        )
        store = f"--store {self._paths['/var/lib/edgeml/store']}"
        for before, after in {
            "edgeml recover": f"edgeml recover {store}",
            "edgeml crashed": f"edgeml crashed {store}",
            "edgeml container-environment": (
                f"edgeml container-environment {store} --runner {self.runner} --file /run/edgeml-container.env"
            ),
            "/run/edgeml-container.env": str(self.directory / "container.env"),
            "/usr/local/bin/edgeml": str(self.command),
            "OnFailure=edgeml-rescue.service\n": "",
            "Type=notify\n": f"Type=notify\nStandardOutput=append:{self.directory}/log.txt\nStandardError=inherit\n",
            **self._paths,
        }.items():
            assert before in text or suffix, before
            text = text.replace(before, after)
        # The limits of Podman's are those of the unit's control group, of version 2; a limit of the command's is in the
        # place of all those of the configuration.
        text = text.replace("--cgroups=split", f"--cgroups={self._cgroups}")
        return text.replace("--ulimit=", f"--ulimit={_PROCESSES} --ulimit=") if self._is_podman else text


def render(template: str, **variables: Any) -> str:
    """A template of a runner, as Ansible renders it."""
    loader = jinja2.FileSystemLoader(ROLE / "templates" / "runners")
    environment = jinja2.Environment(
        loader=loader, trim_blocks=True, undefined=jinja2.StrictUndefined, autoescape=False
    )
    return environment.get_template(template).render({"ansible_managed": "Ansible managed", **variables})
