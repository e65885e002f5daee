# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""Reading bytes of a promised size: one loop, for the model repository and for the device's store."""

from __future__ import annotations

import hashlib
from typing import BinaryIO

from .errors import IntegrityError, with_path

CHUNK_BYTES = 1 << 20


def read_hashed(source: BinaryIO, size: int, origin: str, target: BinaryIO | None = None) -> str:
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
