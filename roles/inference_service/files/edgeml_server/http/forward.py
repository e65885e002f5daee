# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Requests that only the process that serves now can answer, when they reach the one that served before it."""

from __future__ import annotations

import asyncio

from edgeml_server.common.errors import UnavailableError

from .body import BodyReader
from .messages import Request, Response

# A load may take long; the client has its own limit.
_SECONDS = 600.0


class Forwarder:
    """Asks the process that listens on the Unix socket ``path``."""

    def __init__(self, path: str, bodies: BodyReader) -> None:
        self._path = path
        self._bodies = bodies

    async def forward(self, request: Request, method: str, target: str) -> Response:
        """Send the request's body on to ``target``, and return the response. Raises as ``BodyReader.read``, and
        UnavailableError."""
        body = await self._bodies.read(request)
        try:
            return await asyncio.get_running_loop().run_in_executor(None, self._ask, method, target, body)
        finally:
            self._bodies.release(len(body))

    def _ask(self, method: str, target: str, body: bytes | bytearray | memoryview) -> Response:
        # Few processes ever need it, and it imports much.
        import http.client

        from edgeml_server.common.unix_http import UnixConnection

        connection = UnixConnection(self._path, _SECONDS)
        try:
            connection.request(method, target, body or None)
            response = connection.getresponse()
            content_type = response.getheader("content-type", "application/json")
            return Response(response.read(), response.status, content_type.encode("latin-1"))
        except (OSError, http.client.HTTPException) as error:
            raise UnavailableError(f"the process that serves now does not answer: {error}; try again") from error
        finally:
            connection.close()
