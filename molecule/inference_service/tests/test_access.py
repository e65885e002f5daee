# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Access to edge-s1, after its certificate and one of its credentials were replaced."""

from __future__ import annotations

import http.client
import json
import ssl
from contextlib import closing

import pytest
from on_device import FLEET, GUARD_SECONDS, basic
from testinfra.host import Host

testinfra_hosts = ["ssh://edge-s1"]

PORT = 8101
CERTIFICATES = FLEET / "certificates"
LINE_3 = "correct horse battery staple"
OLD, NEW = "tokens have no spaces in them", "but this one has some of them"
GOOD = basic("line-3", LINE_3)


def context(authority: str = "second", client: str | None = "clients") -> ssl.SSLContext:
    """A client's context that trusts one of the server's authorities and has a certificate of one of the clients'."""
    made = ssl.create_default_context(cafile=str(CERTIFICATES / authority / "authority.pem"))
    if client is not None:
        own = CERTIFICATES / client
        made.load_cert_chain(own / "client-certificate.pem", own / "client-key.pem")
    return made


def status(
    method: str, path: str, authorization: str | None = GOOD, trusting: ssl.SSLContext | None = None
) -> tuple[int, str]:
    """Ask; return the reply's status and text."""
    with closing(
        http.client.HTTPSConnection("127.0.0.1", PORT, timeout=GUARD_SECONDS, context=trusting or context())
    ) as connection:
        connection.request(method, path, headers={"Authorization": authorization} if authorization else {})
        reply = connection.getresponse()
        return reply.status, reply.read().decode("utf-8")


@pytest.mark.parametrize("authorization", [GOOD, f"Bearer {LINE_3}", basic("prometheus", NEW), f"Bearer {NEW}"])
def test_who_has_both_is_let_in(authorization: str) -> None:
    assert status("GET", "/v2/models/digits", authorization)[0] == 200


@pytest.mark.parametrize("client", [None, "strangers"])
def test_without_a_certificate_of_the_authority_there_is_no_http(client: str | None) -> None:
    with pytest.raises((ssl.SSLError, ConnectionError)):
        status("GET", "/v2/health/live", GOOD, context(client=client))


def test_the_old_certificate_is_no_longer_shown() -> None:
    with pytest.raises(ssl.SSLCertVerificationError):
        status("GET", "/v2/health/live", GOOD, context("first"))


@pytest.mark.parametrize(
    "authorization", [None, basic("prometheus", OLD), f"Bearer {OLD}", basic("line-3", NEW), "Bearer ", "Basic !"]
)
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v2/models/digits"),
        ("POST", "/v2/models/digits/infer"),
        ("POST", "/v2/models/digits/feedback"),
        ("GET", "/metrics"),
        ("POST", "/v2/repository/index"),
        ("POST", "/v2/repository/models/digits/load"),
        ("POST", "/v2/repository/models/digits/unload"),
        ("POST", "/v2/repository/models/digits/shadow"),
    ],
)
def test_without_a_good_credential_nothing_is_told(method: str, path: str, authorization: str | None) -> None:
    code, text = status(method, path, authorization)
    assert code == 401
    assert list(json.loads(text)) == ["error"]


@pytest.mark.parametrize("call", ["index", "models/digits/load", "models/digits/unload", "models/digits/shadow"])
def test_nobody_on_the_network_changes_models(call: str) -> None:
    assert status("POST", f"/v2/repository/{call}")[0] == 403
    assert status("GET", "/v2/models/digits/ready")[0] == 200


def test_nobody_on_the_network_reads_the_log() -> None:
    paths = json.loads(status("GET", "/v2/openapi.json")[1])["paths"]
    assert not [path for path in paths if "log" in path or "prediction" in path]


# One login for all of it: on an emulated device it takes the time.
OTHERS = """
for path in /var/lib/edgeml-inference/predictions.db /etc/edgeml/tls-key.pem /etc/edgeml/credentials.json; do
  stat --format='%n %U:%G %a' $path
  setpriv --reuid=nobody --regid=nogroup --clear-groups test -r $path && echo "$path is open"
done
setpriv --reuid=nobody --regid=nogroup --clear-groups python3 -c '
import socket
try: socket.socket(socket.AF_UNIX).connect("/run/edgeml/server.sock")
except PermissionError: print("the socket is closed")'
cat /etc/edgeml/credentials.json
"""


def test_others_on_the_device_neither_read_the_log_nor_reach_the_socket(host: Host) -> None:
    said = host.run(OTHERS).stdout
    lines = said.splitlines()
    assert lines[:4] == [
        "/var/lib/edgeml-inference/predictions.db edgeml:edgeml 640",
        "/etc/edgeml/tls-key.pem root:edgeml 640",
        "/etc/edgeml/credentials.json root:edgeml 640",
        "the socket is closed",
    ]
    assert all(secret not in said for secret in (LINE_3, OLD, NEW))
