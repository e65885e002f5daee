# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Addresses on the web, taken apart."""

from __future__ import annotations

import re

import pytest
from object_server import ObjectServer, status

from ansible_collections.edgeml.fleet.plugins.module_utils._common import address as addresses
from ansible_collections.edgeml.fleet.plugins.module_utils._common.address import parse_address
from ansible_collections.edgeml.fleet.plugins.module_utils._common.errors import EdgemlError
from ansible_collections.edgeml.fleet.plugins.module_utils._common.mailbox import MailboxClient, enrolment_url


@pytest.mark.parametrize(
    ("url", "origin", "target", "shown"),
    [
        ("http://models.example", ("http", "models.example", 80), "/", "http://models.example/"),
        ("https://Models.Example:443/a", ("https", "models.example", 443), "/a", "https://models.example/a"),
        ("http://me:secret@h:8080/a#b", ("http", "h", 8080), "/a", "http://h:8080/a"),
        ("https://h//a;b?signature=secret", ("https", "h", 443), "//a;b?signature=secret", "https://h//a;b?..."),
        ("http://h?signature=secret", ("http", "h", 80), "/?signature=secret", "http://h/?..."),
        ("http://[fd00::a]/a", ("http", "fd00::a", 80), "/a", "http://[fd00::a]/a"),
        ("https://[fd00::1]:8443", ("https", "fd00::1", 8443), "/", "https://[fd00::1]:8443/"),
    ],
)
def test_an_address_says_whom_it_leads_to_and_hides_who_asks(
    url: str, origin: tuple[str, str, int], target: str, shown: str
) -> None:
    address = parse_address(url)
    assert (address.origin, address.target, str(address)) == (origin, target, shown)
    assert parse_address(address.url) == address


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("", "expected http:// or https:// and a host"),
        ("models", "and a host"),
        ("//h/a", "and a host"),
        ("file:///a", "and a host"),
        ("http:///a", "and a host"),
        ("http://h:99999/", "Port out of range"),
        ("http://h:a/", "Port could not be cast"),
        ("http://[::1/", "Invalid IPv6"),
        ("http://a b/", "expected ASCII without spaces"),
        ("http://h/\u00fc", "expected ASCII without spaces"),
        ("http://h/\n", "expected ASCII without spaces"),
    ],
)
def test_what_leads_to_no_web_server_is_an_error(url: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_address(url)


def test_a_mailbox_is_reached_by_an_address_of_ipv6_without_a_port(monkeypatch: pytest.MonkeyPatch) -> None:
    with ObjectServer({}, status(204), host="::1") as server:
        monkeypatch.setitem(addresses._PORTS, "http", server.port)
        client = MailboxClient("http://[::1]/reports/", error=EdgemlError)
        assert client.ask("GET", "camera").status == 204
        client.close()
    assert [asked.target for asked in server.asked] == ["/reports/camera"]


@pytest.mark.parametrize(
    ("url", "why"), [("https://h:99999", "Port out of range"), ("https://h/reports?to=camera", "expected no query")]
)
def test_a_mailbox_whose_address_leads_nowhere_is_named(url: str, why: str) -> None:
    with pytest.raises(EdgemlError, match=re.escape(f"expected an address with https://; found '{url}': {why}")):
        MailboxClient(url, error=EdgemlError)


@pytest.mark.parametrize("mailbox", ["https://h", "https://h:443/reports/", "https://me:secret@h/reports"])
def test_requests_for_certificates_go_to_the_server_of_the_mailbox(mailbox: str) -> None:
    assert enrolment_url(mailbox, EdgemlError) == "https://h/enroll"
