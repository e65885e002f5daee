# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the roles of nginx leave on a device: a repository, a cache of it and a mailbox, with TLS, and confined."""

from __future__ import annotations

import json
from typing import Any

import pytest

Host = Any  # pytest-testinfra has no types

# Asks the device's own nginx, and prints status, headers and content. The certificate is its own authority.
ASK = """
import json, ssl, sys, urllib.error, urllib.request
context = ssl.create_default_context(cafile="/etc/nginx/edgeml/certificate.pem")
request = urllib.request.Request("https://127.0.0.1:" + sys.argv[3] + sys.argv[1], headers=json.loads(sys.argv[2]))
try:
    reply = urllib.request.urlopen(request, context=context, timeout=60)
except urllib.error.HTTPError as error:
    reply = error
print(json.dumps([reply.status, dict(reply.headers), reply.read().decode()]))
"""


def ask(host: Host, path: str, port: int = 443, **headers: str) -> tuple[int, dict[str, str], str]:
    """The reply to a request: status, headers and content."""
    status, found, content = json.loads(
        host.check_output("python3 -c %s %s %s %s", ASK, path, json.dumps(headers), str(port))
    )
    return status, found, content


def test_device_has_the_processor_of_its_fleet(host: Host, architecture: str) -> None:
    assert host.check_output("uname -m") == architecture


def test_it_serves_a_repository(host: Host) -> None:
    status, headers, content = ask(host, "/digits/1.0.0/manifest.json")
    assert (status, content) == (200, "digits/1.0.0/manifest.json\n")
    assert headers["Cache-Control"] == "public, max-age=31536000, immutable"
    status, headers, content = ask(host, "/metadata/timestamp.json")
    assert (status, content) == (200, "metadata/timestamp.json\n")
    assert headers["Cache-Control"] == "public, max-age=60, must-revalidate"


def test_it_serves_parts(host: Host) -> None:
    status, headers, content = ask(host, "/digits/1.0.0/manifest.json", Range="bytes=7-11")
    assert (status, content, headers["Content-Range"]) == (206, "1.0.0", "bytes 7-11/27")


@pytest.mark.parametrize("path", ["/", "/digits/", "/digits/1.0.0/withdrawn.json", "/metadata/2.root.json"])
def test_it_serves_nothing_else(host: Host, path: str) -> None:
    assert ask(host, path)[0] == 404


def test_the_cache_keeps_what_the_repository_serves(host: Host) -> None:
    path = f"/blobs/sha256/{'0' * 64}"
    for expected in ({"HIT", "MISS"}, {"HIT"}):
        status, headers, content = ask(host, path, port=8443)
        assert (status, content) == (200, f"{path[1:]}\n")
        assert headers["X-Cache"] in expected
        assert "ETag" not in headers
    assert ask(host, "/metadata/timestamp.json", port=8443)[0] == 404


# Delivers a report with the device's own nginx, and prints the statuses of the replies.
DELIVER = """
import http.client, ssl
context = ssl.create_default_context(cafile="/etc/nginx/edgeml/certificate.pem")
context.load_cert_chain("/etc/nginx/edgeml/certificate.pem", "/etc/nginx/edgeml/key.pem")
path = "/reports/models/7.json"
moved = {"Destination": "https://localhost:9443" + path, "Overwrite": "F"}
for method, url, body, headers in (
    ("MKCOL", "/reports/models/", None, {}), ("PUT", path + ".part", b"{}", {}), ("MOVE", path + ".part", None, moved),
    ("GET", path, None, {}), ("MKCOL", "/reports/edge-9/", None, {}),
):
    connection = http.client.HTTPSConnection("localhost", 9443, context=context, timeout=60)
    connection.request(method, url, body, headers)
    print(connection.getresponse().status)
"""


def test_the_mailbox_takes_a_report_and_cleans_up(host: Host) -> None:
    directory = "/var/lib/edgeml-mailbox/files/reports/models"
    host.check_output(f"rm -rf {directory}")
    assert host.check_output("python3 -c %s", DELIVER).split() == ["201", "201", "204", "403", "403"]
    report = host.file(f"{directory}/7.json")
    assert (report.content_string, report.user) == ("{}", "www-data")
    timer = host.service("edgeml-clean-mailbox.timer")
    assert timer.is_running
    assert timer.is_enabled
    host.check_output(f"touch --date=2020-01-01 {report.path}")
    host.check_output("systemctl start edgeml-clean-mailbox.service")
    assert not host.file(report.path).exists


def test_it_starts_with_the_machine_and_listens_on_one_port(host: Host) -> None:
    service = host.service("nginx")
    assert service.is_running
    assert service.is_enabled
    listening = host.check_output("python3 -c %s", LISTENING).split()
    assert "443" in listening
    assert "80" not in listening


# The ports on which something listens by IPv4; the device has neither ss nor netstat.
LISTENING = """
for line in open("/proc/net/tcp").read().splitlines()[1:]:
    fields = line.split()
    if fields[3] == "0A":
        print(int(fields[1].split(":")[1], 16))
"""


def test_the_key_is_for_root_alone(host: Host) -> None:
    key = host.file("/etc/nginx/edgeml/key.pem")
    assert (key.user, key.group, key.mode) == ("root", "root", 0o600)
    assert host.file("/etc/nginx/edgeml").mode == 0o700


def test_the_unit_is_confined(host: Host) -> None:
    shown = host.check_output("systemctl show nginx.service --property=ProtectSystem,NoNewPrivileges,PrivateDevices")
    assert sorted(shown.splitlines()) == ["NoNewPrivileges=yes", "PrivateDevices=yes", "ProtectSystem=strict"]
