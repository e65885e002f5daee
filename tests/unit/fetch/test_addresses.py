# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Fetching from where addresses and redirects lead to: by IPv6, by a proxy that knows its users, and to nowhere."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest
from authorities import Authority
from fetches import FILE, OBJECTS, fetch, refused
from object_server import ConnectProxy, ObjectServer, honest, serving, status

from ansible_collections.edgeml.fleet.plugins.module_utils._common import address as addresses
from ansible_collections.edgeml.fleet.plugins.module_utils._fetch.failures import Kind


@pytest.mark.parametrize("has_port", [True, False])
def test_a_source_is_reached_by_its_address_of_ipv6(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_port: bool
) -> None:
    with ObjectServer(OBJECTS, host="::1") as server:
        if not has_port:
            monkeypatch.setitem(addresses._PORTS, "http", server.port)
        fetch(tmp_path, server.url if has_port else "http://[::1]")
    assert server.asked[0].headers["host"].startswith("[::1]")


@pytest.mark.parametrize("location", ["", "//[::1]"])
def test_a_redirect_leads_to_an_address_of_ipv6(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, location: str) -> None:
    with ObjectServer(OBJECTS, host="::1") as server:
        monkeypatch.setitem(addresses._PORTS, "http", server.port)
        with ObjectServer(OBJECTS, status(308, Location=f"{location or server.url}/{FILE.sha256}")) as first:
            fetch(tmp_path, first.url)
    assert [asked.target for asked in server.asked] == [f"/{FILE.sha256}"]


NOWHERE = ["http://127.0.0.1:99999/", "http://127.0.0.1:port/", "http://[::1/", "http://a b/", "/a b"]


@pytest.mark.parametrize("location", [*NOWHERE, "file:///etc/passwd", "/caf\xe9"])
def test_a_redirect_to_no_address_ends_its_source_and_no_other(tmp_path: Path, location: str) -> None:
    with serving(OBJECTS, (status(302, Location=location),), (honest(),)) as (lost, good):
        error = refused(tmp_path, lost.url)
        fetch(tmp_path, lost.url, good.url)
    assert error.kind is Kind.REDIRECTED
    assert "expected the object, or a redirect to http:// or https://; found one to" in str(error)
    assert len(lost.asked) == 2


def test_redirects_in_a_chain_are_followed_from_where_each_leads_to(tmp_path: Path) -> None:
    chain = [status(301, Location="/mirror/"), status(308, Location="a/b"), status(307, Location="../c#part")]
    with ObjectServer(OBJECTS, *chain, status(302, Location=f"d/{FILE.sha256}"), honest()) as server:
        fetch(tmp_path, server.url)
    targets = [asked.target for asked in server.asked[1:]]
    assert targets == ["/mirror/", "/mirror/a/b", "/mirror/c", f"/mirror/d/{FILE.sha256}"]


def test_a_redirect_to_the_source_itself_by_its_other_name_keeps_the_token(tmp_path: Path) -> None:
    """A server that names its default port is no other one."""
    (tmp_path / "token").write_text("secret")
    with pytest.MonkeyPatch.context() as patch, ObjectServer(OBJECTS) as server:
        patch.setitem(addresses._PORTS, "http", server.port)
        server.script = [status(302, Location=f"{server.url}/x/{FILE.sha256}"), honest()]
        fetch(tmp_path, "http://127.0.0.1", token_file=str(tmp_path / "token"))
    assert [asked.headers.get("authorization") for asked in server.asked] == ["Bearer secret"] * 2


def test_what_lets_somebody_in_is_in_no_message(tmp_path: Path) -> None:
    """A store of objects redirects to an address that is signed."""
    signed = "http://me:secret1@127.0.0.1:{port}/x?signature=secret2"
    with serving(OBJECTS, (honest(),), (status(403),)) as (first, other):
        first.script = [status(302, Location=signed.format(port=other.port))]
        refusal = refused(tmp_path, first.url)
        first.script = [status(302, Location=signed.format(port=99999))]
        redirect = refused(tmp_path, first.url)
    assert other.asked[0].target == "/x?signature=secret2"
    assert f"{other.url}/x?...: the server answers 403" in str(refusal)
    assert redirect.kind is Kind.REDIRECTED
    assert "secret" not in f"{refusal} {redirect}"


def test_a_proxy_that_knows_its_users_is_told_who_asks_and_the_source_is_not(tmp_path: Path) -> None:
    with ObjectServer(OBJECTS) as proxy:
        fetch(tmp_path, "http://[fd00::a]", proxy=proxy.url.replace("//", "//camera:p%40ss@"))
    [asked] = proxy.asked
    assert asked.target == f"http://[fd00::a]/blobs/sha256/{FILE.sha256}"
    assert base64.b64decode(asked.headers["proxy-authorization"].split()[1]) == b"camera:p@ss"
    assert "authorization" not in asked.headers


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
@pytest.mark.parametrize("answers", [(200,), (100, 103, 200)])
def test_a_proxy_leads_to_a_source_by_tls(tmp_path: Path, host: str, answers: tuple[int, ...]) -> None:
    authority = Authority("site")
    ca_file = str(authority.write(tmp_path / "ca.pem"))
    certificate = authority.issue("models", tmp_path / "models.pem")
    with ConnectProxy(*answers) as proxy, ObjectServer(OBJECTS, host=host, tls=certificate) as server:
        fetch(tmp_path, server.url, proxy=proxy.url.replace("//", "//camera:p%40ss@"), ca_file=ca_file)
    [asked] = proxy.asked
    assert asked.target == asked.headers["host"] == server.url.partition("//")[2]
    assert base64.b64decode(asked.headers["proxy-authorization"].split()[1]) == b"camera:p@ss"
    assert server.asked[0].headers["host"] == asked.target
    assert "proxy-authorization" not in server.asked[0].headers


def test_a_proxy_that_does_not_lead_there_is_named(tmp_path: Path) -> None:
    with ConnectProxy(407) as proxy:
        error = refused(tmp_path, "https://[fd00::a]", proxy=proxy.url.replace("//", "//camera:secret@"))
    assert error.kind is Kind.UNREACHABLE
    assert f"the proxy {proxy.url}/ answers 407 Status to CONNECT [fd00::a]:443" in str(error)
    assert "secret" not in str(error)
