# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The application: checks a request's header, authenticates its client, calls its endpoint."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from edgeml_server.common.errors import (
    ForbiddenError,
    InvalidRequestError,
    MethodNotAllowedError,
    NotFoundError,
    RequestError,
    UnauthorizedError,
    UnavailableError,
)
from edgeml_server.common.log import Log
from edgeml_server.common.tensors import shown
from edgeml_server.observe.metrics import Metrics

from .authenticator import Authenticator
from .exchange import ClientGoneError, Exchange
from .forward import Forwarder
from .framing import check_framing, path_of
from .lifecycle import Lifecycle, Phase
from .limits import check_header
from .messages import Request, Response, error_response
from .routes import OPEN_PATHS, Router

_PROBE_HEADER = b"edgeml-probe"

_log = Log(__name__)


class Application:
    """Answers requests. ``authenticator`` authenticates clients over TCP; None accepts all of them."""

    def __init__(self, router: Router, forwarder: Forwarder, lifecycle: Lifecycle, metrics: Metrics) -> None:
        self._router = router
        self._forwarder = forwarder
        self._lifecycle = lifecycle
        self._metrics = metrics
        self.authenticator: Authenticator | None = None

    async def answer(self, exchange: Exchange) -> Response | None:
        """Return the response to a request; None: its client is gone."""
        try:
            response = await self._respond(exchange)
        except ClientGoneError:
            return None
        except RequestError as error:
            response = error_response(error)
        except asyncio.CancelledError:
            # The server cancels the requests that are still running when the time to drain is over.
            response = error_response(UnavailableError("the server stopped before the request was done"))
        except Exception as error:
            _log.error("internal error", traceback=True, method=exchange.method, path=shown(exchange.target))
            response = error_response(RequestError(f"internal error: {error}"))
        if self._lifecycle.phase in (Phase.HANDED_OVER, Phase.STOPPING):
            exchange.keep_alive = False
        return response

    async def _respond(self, exchange: Exchange) -> Response:
        check_header(exchange.fields)
        headers = exchange.headers
        try:
            check_framing(exchange)
            path = path_of(exchange.target)
        except InvalidRequestError:
            exchange.keep_alive = False
            raise
        from_unix_socket = exchange.from_unix_socket
        trusted = self.authenticator is None or from_unix_socket
        if not trusted and path not in OPEN_PATHS:
            await self._authenticate(headers)
            trusted = True
        route = self._router.find(path)
        if route is None:
            raise NotFoundError(f"no such URL: {shown(path)}")
        method = "GET" if exchange.method == "HEAD" else exchange.method
        if method != route.method:
            allowed = "GET, HEAD" if route.method == "GET" else route.method
            raise MethodNotAllowedError(f"{path}: expected {allowed}; found {exchange.method}", allowed)
        if route.unix_socket_only and not from_unix_socket:
            raise ForbiddenError("models are loaded and unloaded over the server's Unix socket only")
        is_probe = from_unix_socket and _PROBE_HEADER in headers
        request = Request(exchange, headers, route.model, route.part, route.version, trusted, is_probe)
        if route.of_current_process and self._lifecycle.phase is Phase.HANDED_OVER:
            return await self._forwarder.forward(request, method, exchange.target.decode("ascii"))
        return await route.endpoint(request)

    async def _authenticate(self, headers: Mapping[bytes, bytes]) -> None:
        assert self.authenticator is not None
        try:
            await self.authenticator.authenticate(headers.get(b"authorization"))
        except UnauthorizedError:
            self._metrics.unauthorized.inc()
            raise
