# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""The store's fetched objects: whole ones, verified, and parts; a swap takes them without copying."""

from __future__ import annotations

import contextlib
import fcntl
import os
from typing import Iterable

from .._common.files import DurableTree, file_status, fsync_directory, is_directory, remove_file
from .._common.hashing import CHUNK_BYTES
from .._fetch.partial import (
    CorruptBlockError,
    Partial,
    delta_paths,
    held_bytes,
    is_fetched,
    remove_deltas,
)
from .._release.release import File
from .blobs import Blobs


class Fetched:
    """The objects below ``fetched`` in the store ``tree``, each named by its SHA-256; a part has the suffix ``.part``.

    What is of a delta has the name of the file that it makes, and behind a dot its own SHA-256.

    Fetches need no lock of the store: ``_fetch/partial.py`` has one for each object.
    """

    def __init__(self, tree: DurableTree) -> None:
        self._tree = tree
        self.directory = os.path.join(tree.root, "fetched")

    def has(self, file: File) -> bool:
        """Whether the whole object is there."""
        return is_fetched(self.directory, file)

    def bytes_of(self, file: File) -> int:
        """How many bytes of an object are there, in whole or in part."""
        return held_bytes(self.directory, file)

    def add_part(self, file: File, path: str, offset: int) -> None:
        """Add the bytes at ``path``, which begin at ``offset`` in the object, and verify each block that they complete.

        A wrong block is dropped, and so is a part that begins behind the object's end. Raises FetchError where the disk
        has no room.
        """
        partial = Partial(self._tree, self.directory, file)
        # Another process fetches it.
        if not partial.open():
            return
        try:
            with open(path, "rb") as source:
                source.seek(max(0, partial.size - offset))
                while offset <= partial.size < file.size:
                    chunk = source.read(min(CHUNK_BYTES, file.size - partial.size))
                    if not chunk:
                        break
                    partial.write(chunk)
            if partial.is_complete():
                partial.finish()
                remove_deltas(self.directory, file)
        except CorruptBlockError:
            # How much is there is said with what is lacking.
            pass
        finally:
            partial.close()

    def delta_bytes_of(self, file: File) -> int:
        """How many bytes of a delta for it are there, of a file that is not made yet."""
        if self.has(file) or not is_directory(self.directory):
            return 0
        return sum(status.st_size for status in map(file_status, delta_paths(self.directory, file)) if status)

    def move(self, file: File, blobs: Blobs) -> bool:
        """Make the object one of ``blobs``, and return whether it is there at all. Hold the store's lock."""
        if not self.has(file):
            return False
        self._tree.directory(blobs.directory)
        os.rename(os.path.join(self.directory, file.sha256), blobs.path(file))
        # In this order: a power cut between the two leaves it in both places, or in the old one.
        fsync_directory(blobs.directory)
        remove_deltas(self.directory, file)
        fsync_directory(self.directory)
        return True

    def superfluous_bytes(self, needed: Iterable[File]) -> int:
        """What ``remove`` would free."""
        return sum(os.lstat(path).st_size for path in self._superfluous(needed))

    def remove(self, needed: Iterable[File]) -> None:
        """Remove the objects and parts that are not ``needed`` and that nobody fetches now."""
        for path in self._superfluous(needed):
            with contextlib.suppress(FileNotFoundError, BlockingIOError):
                descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    remove_file(path)
                finally:
                    os.close(descriptor)

    def _superfluous(self, needed: Iterable[File]) -> list[str]:
        if not is_directory(self.directory):
            return []
        kept = {file.sha256 for file in needed}
        names = [name for name in os.listdir(self.directory) if name.split(".")[0] not in kept]
        return [os.path.join(self.directory, name) for name in sorted(names)]
