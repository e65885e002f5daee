# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One request of a connection: its header, and its body as it arrives."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Callable

# From so many bytes on that nobody has asked for yet, the client is read from no more.
_UNREAD_BYTES_MAX = 32 << 10


class ClientGoneError(Exception):
    """The client closed the connection before its request was complete."""


class Source(ABC):
    """The connection that a request comes from."""

    @abstractmethod
    def pause_reading(self) -> None:
        """Read nothing more from the client."""

    @abstractmethod
    def read_body(self, exchange: Exchange) -> None:
        """Read the rest of the body, after the client was told to go on if it waits for that."""


class Exchange:
    """A request and what is known of its response. Names of header fields are in lower case."""

    def __init__(
        self,
        source: Source,
        *,
        method: str,
        target: bytes,
        version: str,
        fields: list[tuple[bytes, bytes]],
        from_unix_socket: bool,
        keep_alive: bool,
    ) -> None:
        self._source = source
        self.method = method
        self.target = target
        self.version = version
        self.fields = fields
        self.headers: Mapping[bytes, bytes] = dict(fields)
        """The fields by name; the last of several has won."""
        self.from_unix_socket = from_unix_socket
        self.keep_alive = keep_alive
        """Whether the connection stays open after the response."""
        self.expects_continue = self.headers.get(b"expect", b"").lower() == b"100-continue"
        """Whether the client waits to be told to send the body."""
        self.is_received = False
        """Whether all of the request has arrived."""
        self.is_answered = False
        self._parts: list[bytes] = []
        self._buffer: memoryview | None = None
        self._size = 0
        self._count: Callable[[int], None] | None = None
        self._arrived: asyncio.Future[None] | None = None
        self._is_discarded = False
        self._is_gone = False

    # ---- for who answers the request ----

    async def read(
        self, count: Callable[[int], None], room: Callable[[int], bytearray | memoryview]
    ) -> bytes | bytearray | memoryview:
        """Return the whole body; once.

        ``count`` is called with the number of bytes whenever some have arrived; an error that it raises is raised here,
        and the rest is not kept. ``room`` returns the memory for a body whose length is known beforehand. Raises
        ClientGoneError.
        """
        if self._is_gone:
            raise ClientGoneError
        count(self._size)
        if self.is_received:
            return self._joined()
        self._count = count
        length = self.headers.get(b"content-length")
        body: bytearray | memoryview | None = None
        if length is not None:
            body = room(int(length))
            self._buffer = memoryview(body)
            self._buffer[: self._size] = self._joined()
            self._parts.clear()
        self._arrived = asyncio.get_running_loop().create_future()
        self._source.read_body(self)
        try:
            await self._arrived
        finally:
            self._is_discarded = True
            self._buffer = None
        return self._joined() if body is None else body

    # ---- for the connection ----

    @property
    def rest(self) -> memoryview | None:
        """The memory for what is still to come of a body whose length is known; None: nobody wants it."""
        return None if self._buffer is None else self._buffer[self._size :]

    @property
    def rest_bytes(self) -> int:
        """The size of ``rest``."""
        return 0 if self._buffer is None else len(self._buffer) - self._size

    def add(self, part: bytes) -> None:
        """Take a part of the body."""
        if self._is_discarded or self.is_answered:
            return
        if self._buffer is not None:
            self._buffer[self._size : self._size + len(part)] = part
        else:
            self._parts.append(part)
        self.placed(len(part))
        if self._count is None and self._size > _UNREAD_BYTES_MAX:
            self._source.pause_reading()

    def placed(self, size: int) -> None:
        """Note that a part of the body has come, which is in its place."""
        self._size += size
        if self._count is None or self._is_discarded:
            return
        try:
            self._count(size)
        except Exception as error:
            self._is_discarded = True
            self._buffer = None
            self._end_reading(error)

    def end(self) -> None:
        """Note that the request is complete."""
        self.is_received = True
        self._end_reading(None)

    def abandon(self) -> None:
        """Note that the client is gone."""
        self._is_gone = not self.is_received
        if self._is_gone:
            self._end_reading(ClientGoneError())

    def _end_reading(self, error: Exception | None) -> None:
        if self._arrived is None or self._arrived.done():
            return
        if error is None:
            self._arrived.set_result(None)
        else:
            self._arrived.set_exception(error)

    def _joined(self) -> bytes:
        return self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
