# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""The store's blobs: verified bytes, each named by its SHA-256, written once and never changed.

The stores of microcontrollers lie beside each other on one device. What one of them holds the others need not be sent:
they copy it, verified. So the link ``neighbours`` in such a store leads to the directory of all of them.
"""

from __future__ import annotations

import contextlib
import os
import stat
from io import BufferedIOBase
from typing import BinaryIO, Iterable, Iterator

from .._common.errors import IntegrityError, StoreError, with_path
from .._common.files import DurableTree, file_status, fsync_directory, is_directory, remove_file
from .._common.hashing import read_hashed
from .._release.release import File

CONTENT_MODE = 0o440
NEIGHBOURS = "neighbours"


class Blobs:
    """The blobs of the store ``tree``. Writing methods need the store's lock."""

    def __init__(self, tree: DurableTree) -> None:
        self._tree = tree
        self.directory = os.path.join(tree.root, "blobs", "sha256")

    def path(self, file: File) -> str:
        """Where the bytes of ``file`` are, or belong."""
        return os.path.join(self.directory, file.sha256)

    def missing(self, files: Iterable[File]) -> list[File]:
        """The files whose blob neither the store nor a neighbour holds with its promised size, each digest once.

        Reads no content.
        """
        absent = {file.sha256: file for file in files if not self._is_complete(file) and not self._neighbours_of(file)}
        return list(absent.values())

    def copy_from_neighbours(self, files: Iterable[File]) -> None:
        """Take over what only a neighbour holds, where there are any. Raises StoreError where none has it undamaged."""
        if not is_directory(os.path.join(self._tree.root, NEIGHBOURS)):
            return
        for file in files:
            if self._is_complete(file):
                continue
            problems = []
            for path in self._neighbours_of(file):
                try:
                    with open(path, "rb") as source:
                        self.add(file, source, path)
                    break
                except (OSError, IntegrityError) as error:
                    # Its store may have removed it meanwhile.
                    problems.append(str(error))
            else:
                raise StoreError(
                    f"{self.path(file)}: {file.path}: expected it here, or in a store beside this one; found none. Try "
                    f"again. {'; '.join(problems)}".rstrip()
                )

    def add(self, file: File, source: BinaryIO, origin: str) -> None:
        """Take ``file``'s bytes from ``source``: verified while they are written, visible only when they are right.

        ``origin`` names the source in errors. Raises IntegrityError on a wrong size or digest.
        """
        with self._added(file) as target:
            actual = read_hashed(source, file.size, origin, target)
            if actual != file.sha256:
                raise IntegrityError(f"{origin}: {file.path}: expected SHA-256 {file.sha256}; found {actual}")

    def add_delta(self, file: File, delta: BinaryIO, origin: str) -> None:
        """Make ``file`` of a delta and the blobs that it needs, as ``add`` does: visible only when it is right.

        Raises IntegrityError for a delta that does not make ``file``, and for a blob that is not held.
        """
        # A call without a delta does not pay for the import.
        from .._release.delta import apply_delta

        with self._added(file) as target:
            apply_delta(delta, file, self.open_blob, target.write, origin)

    def held(self) -> list[str]:
        """The SHA-256 of each blob, sorted."""
        return sorted(os.listdir(self.directory)) if is_directory(self.directory) else []

    def open_blob(self, sha256: str, size: int) -> BufferedIOBase:
        """Open a blob that a delta needs. Raises IntegrityError for one that is not held."""
        file = File(sha256, size, sha256)
        if not self._is_complete(file):
            raise IntegrityError(f"{self.path(file)}: expected a blob of {size} bytes, which a delta needs; found none")
        return open(self.path(file), "rb")

    def is_right(self, file: File) -> bool:
        """Whether the store holds the blob with its promised SHA-256. Reads all of it."""
        if not self._is_complete(file):
            return False
        try:
            with open(self.path(file), "rb") as blob:
                return read_hashed(blob, file.size, self.path(file)) == file.sha256
        except (OSError, IntegrityError):
            return False

    @contextlib.contextmanager
    def _added(self, file: File) -> Iterator[BinaryIO]:
        """What the block writes becomes the blob of ``file``, if the block ends well."""
        self._tree.directory(self.directory)
        staged = self._tree.staged(file.sha256)
        descriptor = os.open(staged, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            with with_path(staged), open(descriptor, "wb") as target:
                yield target
                self._tree.seal(target, CONTENT_MODE)
            os.rename(staged, self.path(file))
        except BaseException:
            remove_file(staged)
            raise
        fsync_directory(self.directory)

    def remove_unused(self, needed: Iterable[File] = ()) -> None:
        """Remove the blobs that no version uses, except the ``needed`` ones."""
        if not is_directory(self.directory):
            return
        spare = {file.sha256 for file in needed}
        for name in os.listdir(self.directory):
            path = os.path.join(self.directory, name)
            if name not in spare and os.lstat(path).st_nlink == 1:
                os.unlink(path)
        fsync_directory(self.directory)

    def _is_complete(self, file: File) -> bool:
        return _has_size(self.path(file), file.size)

    def _neighbours_of(self, file: File) -> list[str]:
        """Where other stores hold a file with its size."""
        directory = os.path.join(self._tree.root, NEIGHBOURS)
        if not is_directory(directory):
            return []
        own = os.path.realpath(self._tree.root)
        paths = [
            os.path.join(directory, name, "blobs", "sha256", file.sha256)
            for name in sorted(os.listdir(directory))
            if os.path.realpath(os.path.join(directory, name)) != own
        ]
        return [path for path in paths if _has_size(path, file.size)]


def _has_size(path: str, size: int) -> bool:
    status = file_status(path)
    return status is not None and stat.S_ISREG(status.st_mode) and status.st_size == size
