# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The devices of this scenario, asked over their published ports and, by a program on them, over the Unix socket."""

from __future__ import annotations

import base64
import json
import os
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families
from testinfra.host import Host

GUARD_SECONDS = 60
FLEET = Path(__file__).resolve().parents[3] / ".ansible" / os.environ.get("FLEET", "quickstart")
# Emulated programs take long to start: this one needs little of Python's library.
_LOCAL = """
import http.client, json, socket, sys
connection = http.client.HTTPConnection("localhost")
connection.sock = socket.socket(socket.AF_UNIX)
connection.sock.connect("/run/edgeml/server.sock")
connection.request("POST", sys.argv[1], sys.argv[2])
reply = connection.getresponse()
print(reply.status, reply.read().decode())
"""


class Server:
    """The server behind a port of this machine, without TLS."""

    def __init__(self, port: int) -> None:
        self._url = f"http://127.0.0.1:{port}"

    def ask(self, path: str, document: object = None) -> tuple[int, Any]:
        """Send a request, POST with ``document`` as its JSON; return the reply's status and JSON."""
        body = None if document is None else json.dumps(document).encode("utf-8")
        try:
            with urllib.request.urlopen(self._url + path, body, timeout=GUARD_SECONDS) as reply:
                return reply.status, json.load(reply)
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.load(error)

    def metrics(self) -> dict[str, float]:
        """Every sample, named as in the text: ``name{label="value",…}``, the labels in alphabetical order."""
        with urllib.request.urlopen(f"{self._url}/metrics", timeout=GUARD_SECONDS) as reply:
            text = reply.read().decode("utf-8")
        samples = {}
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                labels = ",".join(f'{name}="{value}"' for name, value in sorted(sample.labels.items()))
                samples[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
        return samples


def post_locally(host: Host, path: str, document: object) -> tuple[int, Any]:
    """POST over the Unix socket, as root on the device; return the reply's status and JSON."""
    said = host.check_output("python3 -c %s %s %s", _LOCAL, path, json.dumps(document))
    status, _space, body = said.partition(" ")
    return int(status), json.loads(body)


def basic(name: str, secret: str) -> str:
    """A value of the header Authorization."""
    return "Basic " + base64.b64encode(f"{name}:{secret}".encode()).decode("ascii")
