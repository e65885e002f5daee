# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What endpoints receive and return, and how an error becomes a response. Every error is ``{"error": "…"}``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Awaitable, Callable, Mapping, NamedTuple

from edgeml_server.common import json_codec
from edgeml_server.common.errors import MethodNotAllowedError, RequestError, UnauthorizedError, UnavailableError

if TYPE_CHECKING:
    from .exchange import Exchange

_JSON = b"application/json"
_RETRY_AFTER_SECONDS = b"1"


class Request(NamedTuple):
    """What an endpoint needs to know about a request."""

    exchange: Exchange
    headers: Mapping[bytes, bytes]
    model: str = ""
    part: str = ""
    version: str | None = None
    trusted: bool = True
    """Whether the client is authenticated. Only the health endpoints answer other clients."""
    is_probe: bool = False
    """Whether the device itself measures the model with this request. Such requests do not count as traffic."""

    @property
    def name(self) -> str:
        """The name under which what the URL names is served."""
        return f"{self.model}/{self.part}" if self.part else self.model


class Response(NamedTuple):
    """What an endpoint returns."""

    body: bytes
    status: int = 200
    content_type: bytes = _JSON
    headers: tuple[tuple[bytes, bytes], ...] = ()


Endpoint = Callable[[Request], Awaitable[Response]]


def json_response(document: Any, status: int = 200) -> Response:
    """Return ``document`` as a JSON response."""
    return Response(json_codec.dumps(document), status)


def error_response(error: RequestError) -> Response:
    """Return the response for an error, with the headers that its status requires."""
    headers: tuple[tuple[bytes, bytes], ...] = ()
    if isinstance(error, UnavailableError):
        headers = ((b"retry-after", _RETRY_AFTER_SECONDS),)
    elif isinstance(error, UnauthorizedError):
        headers = ((b"www-authenticate", b'Basic realm="edgeml", charset="UTF-8"'), (b"www-authenticate", b"Bearer"))
    elif isinstance(error, MethodNotAllowedError):
        headers = ((b"allow", error.allowed.encode("ascii")),)
    return Response(json_codec.dumps({"error": str(error)}), error.status, headers=headers)
