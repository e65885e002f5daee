# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""nginx in front of the server, with either HTTP parser: a third parser that agrees where each request ends."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import onnx_models
import pytest
from links import REPOSITORY
from raw_requests import VALID, cuts, replies
from server_process import Device

# As `make setup` unpacks it: as an installed package it would begin to listen on port 80.
NGINX = shutil.which("nginx") or str(REPOSITORY / ".cache/nginx/usr/sbin/nginx")
PARSERS = ("httptools", "h11")
# What concerns one connection only, nginx keeps to itself; or it passes the wish for another protocol on, as for
# WebSockets.
UPGRADES = {"hop-by-hop": "", "passed-on": "proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection $wish;"}
CONFIGURATION = """
user root root; worker_processes 1; error_log stderr warn; pid {directory}/nginx.pid;
events {{}}
http {{
    access_log off;
    client_body_temp_path {directory}/body; proxy_temp_path {directory}/proxy; fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi; scgi_temp_path {directory}/scgi;
    map $http_upgrade $wish {{ default upgrade; "" ""; }}
    {servers}
}}
"""
SERVER = """
    upstream {name} {{ server unix:{behind}; keepalive 4; }}
    server {{
        listen unix:{front};
        location / {{
            proxy_pass http://{name}; proxy_http_version 1.1; proxy_set_header Connection ""; {upgrade}
        }}
    }}
"""


class Proxied(NamedTuple):
    """A server, and the sockets on which nginx stands in front of it, by how it treats ``Upgrade``."""

    device: Device
    fronts: dict[str, str]


@pytest.fixture(scope="module")
def proxied(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Proxied]]:
    """A server with each parser, both behind one nginx."""
    directory = tmp_path_factory.mktemp("nginx")
    made = {parser: Proxied(Device(tmp_path_factory.mktemp(parser)), {}) for parser in PARSERS}
    try:
        for parser, each in made.items():
            each.device.publish("plus", "1.0.0", onnx_models.plus(1))
            each.device.spawn(hidden_by=each.device.hide("httptools") if parser == "h11" else None)
            each.fronts.update({upgrade: str(directory / f"{parser}-{upgrade}") for upgrade in UPGRADES})
        for each in made.values():
            each.device.wait_ready()
        nginx = start_nginx(directory, made)
        try:
            yield made
        finally:
            subprocess.run([*nginx, "-s", "stop"], check=True)
    finally:
        for each in made.values():
            each.device.stop()


def start_nginx(directory: Path, proxied: dict[str, Proxied]) -> list[str]:
    """Start nginx, which listens when its command ends; return the command."""
    servers = [
        SERVER.format(
            name=f"{parser}-{name}", behind=each.device.socket_path, front=each.fronts[name], upgrade=directive
        )
        for parser, each in proxied.items()
        for name, directive in UPGRADES.items()
    ]
    (directory / "nginx.conf").write_text(CONFIGURATION.format(directory=directory, servers="".join(servers)))
    command = [NGINX, "-p", str(directory), "-c", str(directory / "nginx.conf")]
    subprocess.run(command, check=True)
    return command


@pytest.mark.parametrize("upgrade", UPGRADES)
@pytest.mark.parametrize("name", [name for name in VALID if name != "java-a-request-as-body"])
def test_nginx_gets_the_answers_that_a_client_gets(proxied: dict[str, Proxied], name: str, upgrade: str) -> None:
    data, statuses = VALID[name]
    for segments in cuts(data, name):
        for each in proxied.values():
            direct = replies(each.device.socket_path, *segments)
            assert [status for status, _body in direct] == statuses, segments
            assert replies(each.fronts[upgrade], *segments) == direct, segments
