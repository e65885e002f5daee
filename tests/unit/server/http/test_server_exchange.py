# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A request as it arrives: its body is whole, counted, limited, and where a runtime can read it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import numpy as np
import pytest
from edgeml_server.common.errors import TooLargeError
from edgeml_server.common.tensors import aligned_memory
from edgeml_server.http.exchange import ClientGoneError, Exchange, Source

BODY = bytes(range(256)) * 400
ALIGNMENT = 16


class Client(Source):
    """Stands for a connection: notes what it is asked for."""

    def __init__(self, length: int | None) -> None:
        self.paused = 0
        self.read: list[int] = []
        fields = [] if length is None else [(b"content-length", b"%d" % length)]
        self.exchange = Exchange(
            self,
            method="POST",
            target=b"/",
            version="1.1",
            fields=fields,
            from_unix_socket=False,
            keep_alive=True,
        )

    def pause_reading(self) -> None:
        self.paused += 1

    def read_body(self, exchange: Exchange) -> None:
        self.read.append(exchange.rest_bytes)

    def send(self, *parts: bytes) -> None:
        """Have the body arrive: what follows the first part into its place, if there is one."""
        for part in parts:
            rest = self.exchange.rest
            if rest is None:
                self.exchange.add(part)
            else:
                rest[: len(part)] = part
                self.exchange.placed(len(part))
        self.exchange.end()


def read(client: Client, arrive: Callable[[], None], limit: int = 1 << 30) -> tuple[bytes, int]:
    """Read a body that arrives while it is waited for; returns it and how many bytes were counted."""
    counted = 0

    def count(size: int) -> None:
        nonlocal counted
        counted += size
        if counted > limit:
            raise TooLargeError("too large")

    async def run() -> bytes:
        reading: Awaitable[bytes | bytearray | memoryview] = client.exchange.read(count, bytearray)
        task = asyncio.ensure_future(reading)
        await asyncio.sleep(0)
        arrive()
        return bytes(await task)

    return asyncio.run(run()), counted


@pytest.mark.parametrize("length", [len(BODY), None])
@pytest.mark.parametrize("cut", [0, 1, 1000, len(BODY)])
def test_the_body_is_whole_however_it_comes(length: int | None, cut: int) -> None:
    client = Client(length)
    client.exchange.add(BODY[:cut])
    middle = (cut + len(BODY)) // 2
    assert read(client, lambda: client.send(BODY[cut:middle], BODY[middle:])) == (BODY, len(BODY))
    assert client.read == [0 if length is None else len(BODY) - cut]


def test_a_body_that_is_there_is_not_waited_for() -> None:
    client = Client(len(BODY))
    client.send(BODY)
    assert read(client, lambda: None) == (BODY, len(BODY))
    assert client.read == []


def test_nothing_is_read_ahead_without_a_limit() -> None:
    client = Client(len(BODY))
    client.exchange.add(BODY[:1000])
    assert client.paused == 0
    client.exchange.add(BODY[1000:50_000])
    assert client.paused == 1


@pytest.mark.parametrize("length", [len(BODY), None])
def test_what_the_limit_refuses_is_not_kept(length: int | None) -> None:
    client = Client(length)
    with pytest.raises(TooLargeError):
        read(client, lambda: client.send(BODY[:1000], BODY[1000:2000], BODY[2000:]), limit=1500)
    assert client.exchange.rest is None


def test_who_leaves_early_ends_the_reading() -> None:
    client = Client(len(BODY))
    with pytest.raises(ClientGoneError):
        read(client, client.exchange.abandon)
    with pytest.raises(ClientGoneError):
        read(client, lambda: None)


@pytest.mark.parametrize("offset", [0, 1, 15, 16, 123])
def test_memory_is_aligned_where_the_tensors_begin(offset: int) -> None:
    memory = aligned_memory(1000, offset)
    assert len(memory) == 1000
    assert np.frombuffer(memory, np.uint8)[offset:].ctypes.data % ALIGNMENT == 0
