# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""What an image for a microcontroller says of itself: the header and the trailer that ``imgtool sign`` writes around a
firmware or a model. Pure.

Whether its signature is right is for the bootloader, which has the key; this checks all else that a bootloader checks.
"""

from __future__ import annotations

import hashlib
import re
import struct
from typing import Iterator, NamedTuple

from .._common.errors import EdgemlError

IMAGE_BYTES_MAX = 64 << 20

_MAGIC = 0x96F3B83D
_HEADER = struct.Struct("<IIHHIIBBHII")
_PROTECTED, _UNPROTECTED = 0x6908, 0x6907
_INFO = struct.Struct("<HH")
_ENTRY = struct.Struct("<HH")
_KEY_HASH, _SHA256, _SIGNATURE, _DEPENDENCY, _SECURITY_COUNTER = 0x01, 0x10, 0x22, 0x40, 0x50
_DEPENDENCY_FORM = struct.Struct("<BxxxBBHI")
_ENTRIES_MAX = 64
_VERSION = re.compile(r"([0-9]{1,3})\.([0-9]{1,3})\.([0-9]{1,5})(?:\+([0-9]{1,10}))?\Z")


class McuImageError(EdgemlError, ValueError):
    """The bytes are no image that a bootloader would take; the text says what was expected and what was found."""


class McuVersion(NamedTuple):
    """The version of an image, as imgtool has it: ``1.2.0+3``. In this order one is newer than another."""

    major: int
    minor: int
    revision: int
    build: int = 0

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}.{self.revision}+{self.build}"


class Dependency(NamedTuple):
    """Another image, by its number, and the least version of it that is needed."""

    image: int
    minimum: McuVersion


class McuImage(NamedTuple):
    """A signed image. ``hash`` is the SHA-256 that its signature is of; ``payload_start`` and ``payload_size`` say
    where the firmware or the model is in its bytes."""

    version: McuVersion
    hash: bytes
    security_counter: int | None
    dependencies: tuple[Dependency, ...]
    payload_start: int
    payload_size: int
    is_signed: bool


def parse_version(text: str) -> McuVersion:
    """Read a version such as ``1.2.0`` or ``1.2.0+3``. Raises McuImageError."""
    match = _VERSION.match(text)
    numbers = [int(number or 0) for number in match.groups()] if match else []
    if not match or numbers[0] > 255 or numbers[1] > 255 or numbers[2] > 65535 or numbers[3] >= 1 << 32:
        raise McuImageError(f"version: expected one such as 1.2.0+3; found {text[:80]!r}")
    return McuVersion(*numbers)


def parse_image(data: bytes) -> McuImage:
    """Read an image, and compare it with the SHA-256 in it. Raises McuImageError."""
    if len(data) < _HEADER.size:
        raise McuImageError(f"expected the header of a signed image, {_HEADER.size} bytes; found {len(data)}")
    magic, _address, header_size, protected_size, size, _flags, *version, _padding = _HEADER.unpack_from(data)
    if magic != _MAGIC:
        raise McuImageError(f"expected an image that imgtool signed (magic {_MAGIC:#x}); found {magic:#x}")
    end = header_size + size
    if header_size < _HEADER.size or not size or end + protected_size > len(data) or len(data) > IMAGE_BYTES_MAX:
        raise McuImageError(
            f"expected a header of {header_size} bytes, {size} bytes and {protected_size} bytes of protected entries; "
            f"found {len(data)} bytes: the image is cut off, or was not signed with --pad-header"
        )
    counter: int | None = None
    dependencies: list[Dependency] = []
    at = end
    if protected_size:
        entries, at = _entries(data, end, _PROTECTED)
        if at - end != protected_size:
            raise McuImageError(f"expected {protected_size} bytes of protected entries; found {at - end}")
        for kind, value in entries:
            if kind == _SECURITY_COUNTER:
                counter = _counter(value)
            elif kind == _DEPENDENCY:
                dependencies.append(_dependency(value))
    entries, last = _entries(data, at, _UNPROTECTED)
    if last != len(data):
        raise McuImageError(
            f"expected {last} bytes; found {len(data)}: sign it without --pad, the bootloader writes what is behind"
        )
    hashes = [value for kind, value in entries if kind == _SHA256]
    digest = hashlib.sha256(data[:at]).digest()
    if hashes != [digest]:
        found = ", ".join(value.hex() for value in hashes) or "none"
        raise McuImageError(f"expected the SHA-256 {digest.hex()} in it; found {found}: the image is damaged")
    return McuImage(
        version=McuVersion(*version),
        hash=digest,
        security_counter=counter,
        dependencies=tuple(dependencies),
        payload_start=header_size,
        payload_size=size,
        is_signed=any(kind == _SIGNATURE for kind, _value in entries)
        and any(kind == _KEY_HASH for kind, _value in entries),
    )


def _entries(data: bytes, start: int, magic: int) -> tuple[list[tuple[int, bytes]], int]:
    """The entries (types and values) of the area that begins at ``start``, and where it ends."""
    if start + _INFO.size > len(data):
        raise McuImageError(
            f"expected the entries of a signed image at byte {start}; found the end: the image is cut off"
        )
    found, size = _INFO.unpack_from(data, start)
    end = start + size
    if found != magic or size < _INFO.size or end > len(data):
        raise McuImageError(
            f"expected whole entries ({magic:#x}) at byte {start}; found {found:#x}, {size} bytes of which "
            f"{len(data) - start} are there: the image is cut off, or damaged"
        )
    return list(_walk(data, start + _INFO.size, end)), end


def _walk(data: bytes, at: int, end: int) -> Iterator[tuple[int, bytes]]:
    count = 0
    while at < end:
        count += 1
        if at + _ENTRY.size > end or count > _ENTRIES_MAX:
            raise McuImageError(f"expected at most {_ENTRIES_MAX} whole entries; found more, or a part, at byte {at}")
        kind, length = _ENTRY.unpack_from(data, at)
        at += _ENTRY.size
        if at + length > end:
            raise McuImageError(f"expected an entry of {length} bytes at byte {at}; found {end - at}")
        yield kind, data[at : at + length]
        at += length


def _counter(value: bytes) -> int:
    if len(value) != 4:
        raise McuImageError(f"security counter: expected 4 bytes; found {len(value)}")
    return int.from_bytes(value, "little")


def _dependency(value: bytes) -> Dependency:
    if len(value) != _DEPENDENCY_FORM.size:
        raise McuImageError(f"dependency: expected {_DEPENDENCY_FORM.size} bytes; found {len(value)}")
    image, *version = _DEPENDENCY_FORM.unpack(value)
    return Dependency(image, McuVersion(*version))
