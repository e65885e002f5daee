# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""Connections to web servers where http.client is not enough: answers that others go before, and proxies."""

from __future__ import annotations

import http.client
import socket
import ssl
from typing import Mapping

from .address import Address

_INTERIM_MAX = 32
_SWITCHING_PROTOCOLS = 101


class _FinalResponse(http.client.HTTPResponse):
    """The answer to a request, and not one that is sent before it, such as 103 Early Hints. http.client passes over
    100 alone."""

    def begin(self) -> None:
        """Read the status and the headers. Raises HTTPException."""
        super().begin()
        passed = 0
        while 100 <= self.status < 200 and self.status != _SWITCHING_PROTOCOLS:
            passed += 1
            if passed > _INTERIM_MAX:
                raise http.client.HTTPException(f"{passed} interim answers and no final one; the last is {self.status}")
            # It would not begin a second time.
            vars(self)["headers"] = None
            super().begin()


class _Tunnel(http.client.HTTPSConnection):
    """A connection by TLS through a proxy. The one of http.client leaves out the brackets of an IPv6 address before
    Python 3.12."""

    def __init__(
        self, address: Address, proxy: Address, headers: Mapping[str, str], timeout: float, context: ssl.SSLContext
    ) -> None:
        super().__init__(address.host, address.port, timeout=timeout, context=context)
        self._address, self._proxy, self._headers = address, proxy, headers
        self._seconds, self._tls = timeout, context

    def connect(self) -> None:
        """Have the proxy connect, and begin TLS with who is behind it. Raises OSError or HTTPException."""
        self.sock = socket.create_connection((self._proxy.host, self._proxy.port), self._seconds)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        target = f"{self._address.bracketed}:{self._address.port}"
        lines = [f"CONNECT {target} HTTP/1.1", f"Host: {target}"]
        lines += [f"{name}: {value}" for name, value in self._headers.items()]
        self.sock.sendall("\r\n".join([*lines, "", ""]).encode("ascii"))
        response = _FinalResponse(self.sock, method="CONNECT")
        try:
            # TLS has the client speak first: nothing of it is read with the headers.
            response.begin()
        finally:
            response.close()
        if not 200 <= response.status < 300:
            raise OSError(f"the proxy {self._proxy} answers {response.status} {response.reason} to CONNECT {target}")
        self.sock = self._tls.wrap_socket(self.sock, server_hostname=self.host)


def make_connection(
    address: Address,
    timeout: float,
    context: ssl.SSLContext | None = None,
    proxy: Address | None = None,
    proxy_headers: Mapping[str, str] | None = None,
) -> http.client.HTTPConnection:
    """A connection to ``address`` that does not stand yet: with ``context`` by TLS, with ``proxy`` through that one.

    ``proxy_headers`` are for the proxy alone; without TLS they go with each request. No socket waits longer than
    ``timeout`` seconds.
    """
    connection: http.client.HTTPConnection
    if context is None:
        first = proxy or address
        connection = http.client.HTTPConnection(first.host, first.port, timeout=timeout)
    elif proxy is None:
        connection = http.client.HTTPSConnection(address.host, address.port, timeout=timeout, context=context)
    else:
        connection = _Tunnel(address, proxy, proxy_headers or {}, timeout, context)
    connection.response_class = _FinalResponse
    return connection
