# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""nginx, with a configuration that a role writes."""

from __future__ import annotations

import shutil
import socket
import subprocess
from pathlib import Path
from typing import Any

import jinja2
import yaml
from links import REPOSITORY

# As `make setup` unpacks it: as an installed package it would begin to listen on port 80.
NGINX = shutil.which("nginx") or str(REPOSITORY / ".cache/nginx/usr/sbin/nginx")
CONFIGURATION = """
user root root; worker_processes 1; error_log {directory}/error.log; pid {directory}/nginx.pid;
events {{}}
http {{
    access_log off;
    client_body_temp_path {directory}/body; proxy_temp_path {directory}/proxy; fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi; scgi_temp_path {directory}/scgi;
    include {directory}/server.conf;
}}
"""


def defaults(role: str) -> dict[str, Any]:
    """The role's variables, without its name before theirs, and an address that is free on this machine."""
    values = yaml.safe_load((REPOSITORY / "roles" / role / "defaults/main.yml").read_text())
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    named = {name.removeprefix(f"{role}_"): value for name, value in values.items()}
    return {**named, "listen_address": "127.0.0.1", "listen_port": port}


def rendered(role: str, template: str, **variables: Any) -> str:
    """A template of the role."""
    environment = jinja2.Environment(trim_blocks=True, undefined=jinja2.StrictUndefined, autoescape=False)
    return environment.from_string((REPOSITORY / "roles" / role / "templates" / template).read_text()).render(variables)


class Nginx:
    """A server with the configuration ``server``, and its files in ``directory``, which exists."""

    def __init__(self, directory: Path, server: str) -> None:
        (directory / "server.conf").write_text(server)
        (directory / "nginx.conf").write_text(CONFIGURATION.format(directory=directory))
        self._command = [NGINX, "-p", str(directory), "-c", str(directory / "nginx.conf")]
        subprocess.run(self._command, check=True)
        self.runs = True

    def stop(self) -> None:
        """End it."""
        self.runs = False
        subprocess.run([*self._command, "-s", "stop"], check=True)
