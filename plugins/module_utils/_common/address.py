# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""Addresses on the web, taken apart: whom they lead to, what is asked for there, and how they are shown."""

from __future__ import annotations

from typing import NamedTuple
from urllib.parse import urlsplit

_PORTS = {"http": 80, "https": 443}


class Address(NamedTuple):
    """An address without what it says of a user. ``target`` is its path, with its query.

    ``port`` is always one: http.client, where it is told none, takes the end of an IPv6 address for it. As a text it
    is the address as people may read it, without its query, which may be what lets somebody in.
    """

    scheme: str
    host: str
    port: int
    target: str

    @property
    def origin(self) -> tuple[str, str, int]:
        """Whom it leads to."""
        return self.scheme, self.host, self.port

    @property
    def bracketed(self) -> str:
        """The host as it stands before a port."""
        return f"[{self.host}]" if ":" in self.host else self.host

    @property
    def url(self) -> str:
        """All of it, for a proxy."""
        port = "" if self.port == _PORTS[self.scheme] else f":{self.port}"
        return f"{self.scheme}://{self.bracketed}{port}{self.target}"

    def __str__(self) -> str:
        url, query, _secret = self.url.partition("?")
        return url + ("?..." if query else "")


def parse_address(url: str) -> Address:
    """Take an address apart. Raises ValueError for one that does not lead to a web server."""
    if not url.isascii() or not url.isprintable() or " " in url:
        raise ValueError("expected ASCII without spaces")
    parts = urlsplit(url)
    if parts.scheme not in _PORTS or not parts.hostname:
        raise ValueError("expected http:// or https:// and a host")
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Address(parts.scheme, parts.hostname, parts.port or _PORTS[parts.scheme], target)
