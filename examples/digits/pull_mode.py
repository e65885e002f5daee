# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a device in pull mode asks: the web server of the demonstration, and what the controller knows of it.

On a fleet of your own the roles model_repository and report_mailbox set these servers up, with TLS, and with
certificates that say who may write where (docs/pull.md). Here one nginx on this machine is both, at the address by
which the containers reach it.
"""

from __future__ import annotations

import ipaddress
import json
import shutil
import socket
import subprocess
from pathlib import Path
from typing import Any

import docker

CLONE = Path(__file__).resolve().parents[2]
FLEET = "demo"
# In the field it is a quarter of an hour.
POLL_SECONDS = 5
_NGINX = """
user root root; worker_processes 1; daemon off; pid {directory}/nginx.pid;
events {{}}
http {{
    access_log {directory}/access.log;
    client_body_temp_path {directory}/body; proxy_temp_path {directory}/proxy; fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi; scgi_temp_path {directory}/scgi;
    server {{
        listen {address}:{port};
        location / {{ root {models}; }}
        location /reports/ {{ root {directory}/mailbox; dav_methods PUT MKCOL MOVE; client_max_body_size 1m; }}
    }}
}}
"""


class PullMode:
    """nginx as the origin of the signed repository ``models`` and as the mailbox, until the block ends.

    ``scratch`` has all of its files, and in ``keys/dev.pem`` the key that signs.
    """

    def __init__(self, scratch: Path, models: Path, device: str) -> None:
        self.device = device
        self._scratch = scratch
        self._models = models
        self._directory = scratch / "nginx"
        self._mailbox = self._directory / "mailbox"
        (self._mailbox / "reports").mkdir(parents=True)
        pool = docker.from_env().networks.get("bridge").attrs["IPAM"]["Config"][0]
        # Docker names the gateway only where somebody chose it or the engine was started anew: the first address.
        address = pool.get("Gateway") or str(next(ipaddress.ip_network(pool["Subnet"]).hosts()))
        with socket.create_server((address, 0)) as free:
            port = free.getsockname()[1]
        self.url = f"http://{address}:{port}"
        configuration = self._directory / "nginx.conf"
        configuration.write_text(_NGINX.format(directory=self._directory, models=models, address=address, port=port))
        program = shutil.which("nginx") or str(CLONE / ".cache/nginx/usr/sbin/nginx")
        self._command = [program, "-c", str(configuration), "-e", str(self._directory / "error.log")]

    def __enter__(self) -> PullMode:
        """Start nginx."""
        self._process = subprocess.Popen(self._command)
        return self

    def __exit__(self, *_exception: object) -> None:
        """End nginx."""
        self._process.terminate()
        self._process.wait()

    @property
    def polls(self) -> int:
        """How often the device has looked."""
        return (self._directory / "access.log").read_text().count('"GET /metadata/timestamp.json')

    def agent_variables(self) -> dict[str, Any]:
        """The variables of the playbook that has the device ask by itself."""
        return {
            "pull_agent_hosts": self.device,
            "pull_agent_fleet": FLEET,
            "pull_agent_sources": [self.url],
            "pull_agent_root": (self._scratch / "keys/root.json").read_text(),
            "pull_agent_authority_directory": str(self._scratch / "authority"),
            "pull_agent_mailbox": f"{self.url}/reports",
            "pull_agent_poll_seconds": POLL_SECONDS,
        }

    def enrolment_variables(self) -> dict[str, Any]:
        """The variables of the playbook that makes the fleet's authority."""
        return {
            "enroll_create": True,
            "enroll_authority": str(self._scratch / "authority"),
            "enroll_source": str(self._mailbox),
        }

    def inventory(self) -> Path:
        """Write what a rollout knows of the device beside the inventory: it pulls, and nobody connects to it."""
        key = str(self._scratch / "keys/dev.pem")
        settings = {
            "fleet": FLEET,
            "repository": str(self._models),
            "fleet_key": key,
            "online_key": key,
            "mailbox": str(self._mailbox / "reports"),
            "ca_file": str(self._scratch / "authority/ca.pem"),
            "report_seconds": 600,
        }
        hosts = {self.device: {"rollout_transport": "pull", "ansible_port": 1}}
        path = self._scratch / "pull.json"
        path.write_text(json.dumps({"edge": {"vars": {"rollout_pull": settings}, "hosts": hosts}}))
        return path
