# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""What a device holds already, and makes files of: blobs for deltas, and single blocks."""

from __future__ import annotations

from io import BufferedIOBase
from typing import Callable, Collection, Iterable, Mapping, NamedTuple

from .._common.errors import IntegrityError
from .._common.hashing import BLOCK_BYTES
from .._release.release import File


class HeldBlock(NamedTuple):
    """Where a block is: in the blob with this SHA-256 and size, from ``offset`` on."""

    sha256: str
    size: int
    offset: int


def _open_none(sha256: str, _size: int) -> BufferedIOBase:
    raise IntegrityError(f"{sha256}: no blob is held")


class Held(NamedTuple):
    """What there is: the SHA-256 of each of the ``blobs``, and where ``blocks`` are, by theirs.

    ``open_blob`` opens one by its SHA-256 and size, and raises IntegrityError for one that is gone.
    """

    blobs: Collection[str] = ()
    blocks: Mapping[str, HeldBlock] = {}
    open_blob: Callable[[str, int], BufferedIOBase] = _open_none

    def has(self, file: File) -> bool:
        """Whether there is a blob of this file now: a swap may take one while a fetch waits for it."""
        try:
            self.open_blob(file.sha256, file.size).close()
        except (IntegrityError, OSError):
            return False
        return True


def blocks_of(files: Iterable[File]) -> dict[str, HeldBlock]:
    """Where the blocks of files are that are held, by the SHA-256 that their manifests give."""
    return {
        block: HeldBlock(file.sha256, file.size, number * BLOCK_BYTES)
        for file in files
        for number, block in enumerate(file.blocks)
    }
