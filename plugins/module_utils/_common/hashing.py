# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""Reading bytes of a promised size: one loop, for the model repository and for the device's store."""

from __future__ import annotations

import hashlib
import re
from typing import Any, BinaryIO, Protocol

from .errors import IntegrityError, with_path

_SHA256 = re.compile(r"[0-9a-f]{64}\Z")
CHUNK_BYTES = 1 << 20
# A file above this size is described block by block, so that a part of it can be verified.
BLOCK_BYTES = 1 << 20


class Target(Protocol):
    """What takes bytes."""

    def write(self, chunk: bytes) -> object:
        """Take them."""


class BlockDigests:
    """The SHA-256 of each block of what is written to it."""

    def __init__(self) -> None:
        self._done: list[str] = []
        self._hash = hashlib.sha256()
        self._left = BLOCK_BYTES

    def write(self, chunk: bytes) -> None:
        """Add bytes, as many as there are."""
        rest = memoryview(chunk)
        while rest:
            part, rest = rest[: self._left], rest[self._left :]
            self._hash.update(part)
            self._left -= len(part)
            if self._left == 0:
                self._done.append(self._hash.hexdigest())
                self._hash, self._left = hashlib.sha256(), BLOCK_BYTES

    def found(self) -> tuple[str, ...]:
        """The digests; none for what is one block."""
        last = () if self._left == BLOCK_BYTES else (self._hash.hexdigest(),)
        found = (*self._done, *last)
        return found if len(found) > 1 else ()


def is_sha256(value: Any) -> bool:
    """Whether it is a SHA-256 as documents spell it: 64 lower-case hexadecimal digits."""
    return isinstance(value, str) and _SHA256.match(value) is not None


def read_hashed(source: BinaryIO, size: int, origin: str, target: Target | None = None) -> str:
    """Read ``source`` to its end, copying it to ``target`` if given; return its SHA-256. ``origin`` names it in errors.

    Raises IntegrityError as soon as there are more than ``size`` bytes, or at the end when there are fewer.
    """
    digest = hashlib.sha256()
    total = 0
    while True:
        with with_path(origin):
            chunk = source.read(CHUNK_BYTES)
        if not chunk:
            break
        total += len(chunk)
        if total > size:
            raise IntegrityError(f"{origin}: expected {size} bytes; found more")
        digest.update(chunk)
        if target is not None:
            target.write(chunk)
    if total != size:
        raise IntegrityError(f"{origin}: expected {size} bytes; found {total}")
    return digest.hexdigest()
