# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Rejects requests that two HTTP parsers, such as a proxy's and the server's, can read in different ways.

The server runs on httptools or on h11. What one of them accepts and the other rejects or reads in another way is
rejected here for both, and the connection is closed, so that nothing behind such a request is taken for another one.
"""

from __future__ import annotations

from edgeml_server.common.errors import InvalidRequestError
from edgeml_server.common.tensors import shown

from .exchange import Exchange

_VERSIONS = ("1.0", "1.1")
_SCHEMES = (b"http", b"https")


def check_framing(exchange: Exchange) -> None:
    """Raise InvalidRequestError for a request whose end, or whose meaning, depends on who reads it."""
    version, headers = exchange.version, exchange.headers
    if version not in _VERSIONS:
        raise InvalidRequestError(f"expected HTTP/1.0 or HTTP/1.1; found HTTP/{version}")
    if exchange.method == "CONNECT":
        raise InvalidRequestError("expected another method than CONNECT: this server is no proxy")
    hosts = sum([name == b"host" for name, _value in exchange.fields])
    if hosts > 1 or (hosts == 0 and version == "1.1"):
        raise InvalidRequestError(f"expected one header Host; found {hosts}")
    encoding = headers.get(b"transfer-encoding")
    if encoding is None:
        return
    if b"content-length" in headers:
        raise InvalidRequestError("expected either Content-Length or Transfer-Encoding; found both")
    if encoding.lower() != b"chunked":
        raise InvalidRequestError(f"Transfer-Encoding: expected chunked; found {shown(encoding)}")
    if version == "1.0":
        raise InvalidRequestError("Transfer-Encoding: expected HTTP/1.1; found HTTP/1.0")


def path_of(target: bytes) -> str:
    """Return the path in a request's target, which may be a whole URL. Raises InvalidRequestError."""
    raw = target.partition(b"#")[0].partition(b"?")[0]
    if not raw.startswith(b"/"):
        scheme, separator, rest = raw.partition(b"://")
        if not separator or scheme.lower() not in _SCHEMES:
            raise InvalidRequestError(f"expected a path or a URL; found {shown(target)}")
        raw = b"/" + rest.partition(b"/")[2]
    try:
        path = raw.decode("ascii")
    except UnicodeDecodeError:
        raise InvalidRequestError(f"expected a path in ASCII; found {shown(target)}") from None
    if "%" not in path:
        return path
    # Imported here: few paths have one, and with the modules that it brings it takes time at each start.
    from urllib.parse import unquote

    return unquote(path)
