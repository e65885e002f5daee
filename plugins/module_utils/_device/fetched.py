# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""The store's fetched objects: whole ones, verified, and parts; a swap takes them without copying."""

from __future__ import annotations

import contextlib
import fcntl
import os
from io import BufferedIOBase
from typing import TYPE_CHECKING, Iterable

from .._common.errors import ArgumentError, IntegrityError
from .._common.files import DurableTree, Room, file_status, fsync_directory, is_directory, remove_file
from .._common.hashing import CHUNK_BYTES, is_sha256
from .._fetch.failures import FetchError
from .._fetch.from_delta import check_space, delta_part, make_from_delta
from .._fetch.partial import (
    PART,
    CorruptBlockError,
    Partial,
    delta_paths,
    deltas_held,
    held_bytes,
    is_begun,
    is_fetched,
    remove_deltas,
)
from .._release.release import File
from .blobs import Blobs

if TYPE_CHECKING:
    from .request import SentPart


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

    def open_object(self, sha256: str, size: int) -> BufferedIOBase:
        """Open a whole object. Raises IntegrityError for one that is not there."""
        file = File(sha256, size, sha256)
        path = os.path.join(self.directory, sha256)
        if self.has(file):
            with contextlib.suppress(FileNotFoundError):
                return open(path, "rb")
        raise IntegrityError(f"{path}: expected an object of {size} bytes; found none")

    def bytes_of(self, file: File) -> int:
        """How many bytes of an object are there, in whole or in part."""
        return held_bytes(self.directory, file)

    def add_part(self, file: File, part: SentPart) -> None:
        """Add what was sent of an object, and verify each block that it completes.

        A wrong block is dropped, and so is a part that begins behind the object's end. Raises FetchError where the disk
        has no room.
        """
        partial = Partial(self._tree, self.directory, file)
        # Another process fetches it.
        if not partial.open():
            return
        # How much is there is said with what is lacking.
        with contextlib.closing(partial), contextlib.suppress(CorruptBlockError):
            _add(partial, part)
        if partial.is_finished():
            remove_deltas(self.directory, (file,))

    def add_delta_part(self, file: File, part: SentPart, blobs: Blobs, headroom_percent: int) -> None:
        """Add what was sent of a delta, as ``add_part`` does. Once the delta is whole, it makes the object ``file``.

        Raises IntegrityError for a delta that is of no use: the blocks that it made right stay, and it is not taken
        once more. Raises FetchError where the disk has no room for it.
        """
        if not is_sha256(part.delta) or not 0 < part.delta_size < file.size:
            raise ArgumentError(
                f"sent_part: {file.path}: expected the SHA-256 of a delta of 1 to {file.size - 1} bytes; found "
                f"{part.delta!r:.80} of {part.delta_size}"
            )
        delta = delta_part(self._tree, self.directory, file, str(part.delta), part.delta_size)
        if delta.is_refused():
            raise IntegrityError("it was refused before")
        if not delta.is_finished() and delta.open():
            try:
                with contextlib.closing(delta):
                    check_space(self._tree, self.directory, (file,), headroom_percent, delta)
                    _add(delta, part)
            except FetchError:
                remove_deltas(self.directory, (file,))
                raise
            except CorruptBlockError as error:
                raise IntegrityError(str(error)) from error
        partial = Partial(self._tree, self.directory, file)
        if not delta.is_finished() or not partial.open():
            return
        try:
            with contextlib.closing(partial):
                make_from_delta(delta.path, partial, blobs.open_blob)
                partial.finish()
        except IntegrityError:
            delta.refuse()
            raise
        remove_deltas(self.directory, (file,))

    def held_deltas(self, files: Iterable[File]) -> dict[str, dict[str, int | None]]:
        """How many bytes of deltas of each file are there, by the SHA-256 of both; None for one that is of no use."""
        return deltas_held(self.directory, self._not_made(files))

    def delta_bytes_of(self, files: Iterable[File]) -> int:
        """How many bytes of deltas are there for those of the files that are not made yet."""
        found = delta_paths(self.directory, self._not_made(files)).values()
        return sum(status.st_size for paths in found for status in map(file_status, paths) if status)

    def move(self, files: Iterable[File], blobs: Blobs) -> list[File]:
        """Make objects ones of ``blobs``, and return those that were there at all. Hold the store's lock."""
        found = [file for file in files if self.has(file)]
        if not found:
            return []
        self._tree.directory(blobs.directory)
        for file in found:
            os.rename(os.path.join(self.directory, file.sha256), blobs.path(file))
        # In this order: a power cut between the two leaves each in both places, or in the old one.
        fsync_directory(blobs.directory)
        remove_deltas(self.directory, found)
        for file in found:
            # On some file systems a power cut can leave a file that was renamed with both names.
            remove_file(os.path.join(self.directory, file.sha256 + PART))
        fsync_directory(self.directory)
        return found

    def superfluous(self, needed: Iterable[File]) -> Room:
        """What ``remove`` would free."""
        paths = self._superfluous(needed)
        return Room(sum(os.lstat(path).st_size for path in paths), len(paths))

    def is_begun(self, file: File) -> bool:
        """Whether there is a file for what comes of an object."""
        return is_begun(self.directory, file)

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

    def _not_made(self, files: Iterable[File]) -> list[File]:
        return [file for file in files if not self.has(file)] if is_directory(self.directory) else []

    def _superfluous(self, needed: Iterable[File]) -> list[str]:
        if not is_directory(self.directory):
            return []
        kept = {file.sha256 for file in needed}
        names = [name for name in os.listdir(self.directory) if name.split(".")[0] not in kept]
        return [os.path.join(self.directory, name) for name in sorted(names)]


def _add(partial: Partial, part: SentPart) -> None:
    """Add what was sent to an open object, and finish it with the last bytes. Raises as ``Partial.write`` does."""
    if part.path is None:
        return
    file = partial.file
    with open(part.path, "rb") as source:
        source.seek(max(0, partial.size - part.offset))
        while part.offset <= partial.size < file.size:
            chunk = source.read(min(CHUNK_BYTES, file.size - partial.size))
            if not chunk:
                break
            partial.write(chunk)
        if partial.is_complete():
            partial.finish()
