# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Reads request bodies, within a limit for each and a limit for all of them together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgeml_server.common import json_codec
from edgeml_server.common.errors import InvalidRequestError, TooLargeError, UnavailableError
from edgeml_server.common.tensors import aligned_memory, shown

from .messages import Request

# How many requests of the largest size may be in memory at once.
_LARGEST_BODIES = 4


class BodyReader:
    """Reads bodies of at most ``max_bytes`` each, and counts how many bytes of them are in memory."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._bytes_in_memory = 0

    async def read(self, request: Request, tensors_at: int | None = None) -> bytes | bytearray | memoryview:
        """Return the whole body. Its size counts as memory in use until the caller passes it to ``release``.

        ``tensors_at`` is where binary data begins, if it does: that is where a runtime can read it without a copy.
        Raises TooLargeError, UnavailableError when too many bodies are in memory, and ClientGoneError.
        """
        declared = request.headers.get(b"content-length", b"0")
        if declared.isdigit() and int(declared) > self._max_bytes:
            raise TooLargeError(f"expected a body of at most {self._max_bytes} bytes; found {int(declared)}")
        size = 0

        def count(part: int) -> None:
            nonlocal size
            size += part
            self._bytes_in_memory += part
            if size > self._max_bytes:
                raise TooLargeError(f"expected a body of at most {self._max_bytes} bytes; found more")
            if self._bytes_in_memory > _LARGEST_BODIES * self._max_bytes:
                raise UnavailableError(f"busy: {self._bytes_in_memory} bytes of requests are in memory; try again")

        def room(length: int) -> bytearray | memoryview:
            return bytearray(length) if tensors_at is None else aligned_memory(length, tensors_at)

        try:
            return await request.exchange.read(count, room)
        except BaseException:
            self.release(size)
            raise

    def release(self, size: int) -> None:
        """Stop counting ``size`` bytes that ``read`` returned."""
        self._bytes_in_memory -= size

    async def read_json(self, request: Request, default: Any = None) -> Any:
        """Return the parsed body, or ``default`` when it is empty. Raises as ``read``, and InvalidRequestError."""
        body = await self.read(request)
        self.release(len(body))
        if not body:
            return default
        try:
            return json_codec.loads(body)
        except ValueError as error:
            raise InvalidRequestError(f"expected JSON or nothing: {error}") from error

    async def read_options(self, request: Request, known: set[str]) -> Mapping[str, Any]:
        """Return the body's JSON object, which may have only the keys in ``known``; empty when there is no body."""
        options = await self.read_json(request, {})
        if not isinstance(options, dict) or set(options) - known:
            raise InvalidRequestError(f"expected an object with {', '.join(known)}; found {shown(options)}")
        return options
