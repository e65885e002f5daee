# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""An object that is on its way: the bytes that have come, on the disk, and what is known of them."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import io
import os
import stat
import time
from typing import BinaryIO, Callable, Iterable

from .._common.errors import with_path
from .._common.files import DurableTree, file_status, fsync_directory, remove_file
from .._common.hashing import BLOCK_BYTES, CHUNK_BYTES, read_hashed
from .._release.release import File
from .failures import FetchError, Kind

CONTENT_MODE = 0o440
# Each fsync has an SD card write whole erase blocks: there is one for so many bytes or seconds, not one for each block.
SYNC_BYTES = 16 << 20
SYNC_SECONDS = 60.0
PART = ".part"
REFUSED = ".refused"


class CorruptBlockError(Exception):
    """A block has another SHA-256 than the manifest says, and was dropped."""


class Partial:
    """The first bytes of ``file`` in the directory ``directory`` of ``tree``, as ``name``, which is its digest.

    All blocks but the last were verified before the next one came. While one process has it, another waits.
    """

    def __init__(self, tree: DurableTree, directory: str, file: File, name: str | None = None) -> None:
        self.file = file
        self._tree = tree
        self._directory = directory
        self.path = os.path.join(directory, name or file.sha256)
        self._part = self.path + PART
        self._blocks = file.blocks or (file.sha256,)
        self._block_bytes = BLOCK_BYTES if file.blocks else file.size
        self._target: BinaryIO | None = None
        self._hash = hashlib.sha256()
        self._unsynced = 0
        self._synced = time.monotonic()
        # How many bytes there are, and how many of them are whole blocks, which were verified.
        self.size = self.verified = 0

    def open(self) -> bool:
        """Take what is there of the object; False while another process has it."""
        # Another fetch may make it at the same time.
        with contextlib.suppress(FileExistsError):
            self._tree.directory(self._directory)
        descriptor = os.open(self._part, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            found = file_status(self._part)
            # Who had it may have finished it, or somebody removed it.
            if found is None or not os.path.samestat(found, os.fstat(descriptor)):
                raise BlockingIOError
        except BlockingIOError:
            os.close(descriptor)
            return False
        except BaseException:
            os.close(descriptor)
            raise
        self._target = io.FileIO(descriptor, "r+")
        self._resume()
        return True

    def close(self) -> None:
        """Let another process have it; what came is kept."""
        if self._target is not None:
            self._target.close()
            self._target = None

    def is_complete(self) -> bool:
        """Whether all bytes are there, each block as promised."""
        return self.verified == self.file.size

    def write(self, chunk: bytes | memoryview) -> None:
        """Add bytes. Raises CorruptBlockError at the end of a block that is wrong, which is dropped with the rest of
        ``chunk``; FetchError where the disk has no room for them."""
        rest = memoryview(chunk)
        while rest:
            part = rest[: min(self._end_of_block(), self.file.size) - self.size]
            rest = rest[len(part) :]
            self._append(part)
            self._hash.update(part)
            if self.size in (self._end_of_block(), self.file.size):
                self._end_block()
            self._sync(len(part))

    def block(self, position: int) -> str:
        """The SHA-256 that the block that begins at ``position`` has to have."""
        return self._blocks[position // self._block_bytes]

    @property
    def block_bytes(self) -> int:
        """How many bytes a block has, but for the last one."""
        return self._block_bytes

    def drop_block(self) -> None:
        """Forget what there is of a block that is not whole."""
        self._truncate(self.verified)

    def is_finished(self) -> bool:
        """Whether the object is there, whole and under its name."""
        return _has_size(self.path, self.file)

    def held_bytes(self) -> int:
        """How many bytes have come, whole or in part, whoever has them open."""
        return _held_bytes(self.path, self.file)

    def is_begun(self) -> bool:
        """Whether there is a file for what comes of it."""
        return _is_begun(self.path)

    def is_refused(self) -> bool:
        """Whether ``refuse`` was called for it."""
        return file_status(self.path + REFUSED) is not None

    def refuse(self) -> None:
        """Forget all that there is, and note that the object is of no use: nobody may fetch it once more."""
        self.close()
        os.close(os.open(self.path + REFUSED, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
        remove_file(self._part)
        remove_file(self.path)
        fsync_directory(self._directory)

    def finish(self) -> str:
        """Read the whole object once more, bring it to the disk and give it its name; return its path.

        Raises CorruptBlockError where it is not what the manifest promises; the blocks before the first wrong one stay.
        """
        target = self._require()
        target.seek(0)
        with with_path(self._part):
            actual = read_hashed(target, self.file.size, self._part)
        if actual != self.file.sha256:
            self._drop_from_first_wrong_block()
            raise CorruptBlockError(f"{self.file.path}: expected SHA-256 {self.file.sha256}; found {actual}")
        self._tree.seal(target, CONTENT_MODE)
        os.rename(self._part, self.path)
        fsync_directory(self._directory)
        return self.path

    # ---- the parts ----

    def _resume(self) -> None:
        """Find what can be kept: read the last whole block, and one before it only if that one is wrong."""
        found = os.fstat(self._require().fileno()).st_size
        number = min(found, self.file.size) // self._block_bytes
        if found >= self.file.size:
            number = len(self._blocks)
        while number and not self._block_is_right(number - 1):
            number -= 1
            found = 0
        self.verified = min(number * self._block_bytes, self.file.size)
        if not self.verified <= found <= min(self.verified + self._block_bytes, self.file.size):
            found = self.verified
        self._truncate(found)
        self._hash = hashlib.sha256()
        self._read(self.verified, self.size, self._hash.update)

    def _block_is_right(self, number: int) -> bool:
        digest = hashlib.sha256()
        start = number * self._block_bytes
        self._read(start, min(start + self._block_bytes, self.file.size), digest.update)
        return digest.hexdigest() == self._blocks[number]

    def _read(self, start: int, end: int, take: Callable[[bytes], object]) -> None:
        target = self._require()
        target.seek(start)
        with with_path(self._part):
            while start < end:
                chunk = target.read(min(CHUNK_BYTES, end - start))
                if not chunk:
                    break
                take(chunk)
                start += len(chunk)

    def _drop_from_first_wrong_block(self) -> None:
        right = [self._block_is_right(number) for number in range(len(self._blocks))]
        if all(right):
            # The manifest contradicts itself, and nothing would ever be right.
            remove_file(self._part)
            raise FetchError(
                Kind.CORRUPT,
                f"{self.file.path}: all blocks are as the manifest promises, and the whole file is not: the manifest "
                "contradicts itself. Publish the release as a new version",
            )
        self._truncate(right.index(False) * self._block_bytes)

    def _end_of_block(self) -> int:
        return self.verified + self._block_bytes

    def _end_block(self) -> None:
        actual = self._hash.hexdigest()
        number = self.verified // self._block_bytes
        if actual != self._blocks[number]:
            self._truncate(self.verified)
            raise CorruptBlockError(
                f"{self.file.path}: block {number + 1} of {len(self._blocks)}: expected SHA-256 "
                f"{self._blocks[number]}; found {actual}"
            )
        self.verified = self.size
        self._hash = hashlib.sha256()

    def _sync(self, written: int) -> None:
        """Bring what was written to the disk, now and then."""
        self._unsynced += written
        if self._unsynced >= SYNC_BYTES or time.monotonic() - self._synced >= SYNC_SECONDS:
            with with_path(self._part):
                os.fdatasync(self._require().fileno())
            fsync_directory(self._directory)
            self._unsynced, self._synced = 0, time.monotonic()

    def _append(self, part: memoryview) -> None:
        target = self._require()
        target.seek(self.size)
        try:
            while part:
                written = target.write(part)
                self.size += written
                part = part[written:]
        except OSError as error:
            self._truncate(self.verified)
            kept = f"{self.verified} of {self.file.size} bytes are kept, and the fetch goes on from there"
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise FetchError(Kind.DISK, f"{self._part}: the disk is full; {kept}") from error
            raise FetchError(Kind.DISK, f"{self._part}: {error.strerror}; {kept}") from error

    def _truncate(self, size: int) -> None:
        with with_path(self._part):
            os.ftruncate(self._require().fileno(), size)
        self.size = size
        if size <= self.verified:
            self.verified = size
            self._hash = hashlib.sha256()

    def _require(self) -> BinaryIO:
        if self._target is None:
            raise ValueError("the object is not open")
        return self._target


def is_fetched(directory: str, file: File) -> bool:
    """Whether all of ``file`` is in ``directory``, verified."""
    return _has_size(os.path.join(directory, file.sha256), file)


def is_begun(directory: str, file: File) -> bool:
    """Whether there is a file for what comes of ``file``."""
    return _is_begun(os.path.join(directory, file.sha256))


def held_bytes(directory: str, file: File) -> int:
    """How many bytes of ``file`` have come, whole or in part."""
    return _held_bytes(os.path.join(directory, file.sha256), file)


def delta_paths(directory: str, files: Iterable[File]) -> dict[str, list[str]]:
    """What there is of deltas of ``files``, by the file's SHA-256: whole ones, parts, and notes that one is of no
    use."""
    found: dict[str, list[str]] = {file.sha256: [] for file in files}
    # Once for all files: a release has up to a thousand of them, and so has the directory.
    for name in sorted(os.listdir(directory)) if found else ():
        sha256, dot, rest = name.partition(".")
        if sha256 in found and dot and rest != PART[1:]:
            found[sha256].append(os.path.join(directory, name))
    return found


def deltas_held(directory: str, files: Iterable[File]) -> dict[str, dict[str, int | None]]:
    """How many bytes of deltas of each file have come, by the SHA-256 of both; None for one that is of no use."""
    held: dict[str, dict[str, int | None]] = {}
    for sha256, paths in delta_paths(directory, files).items():
        found = held.setdefault(sha256, {})
        for path in paths:
            status, name = file_status(path), os.path.basename(path)[len(sha256) + 1 :]
            if name.endswith(REFUSED):
                found[name[: -len(REFUSED)]] = None
            elif status is not None:
                found.setdefault(name[: -len(PART)] if name.endswith(PART) else name, status.st_size)
    return held


def remove_deltas(directory: str, files: Iterable[File]) -> None:
    """Remove what there is of deltas of ``files``, which are made."""
    for paths in delta_paths(directory, files).values():
        for path in paths:
            remove_file(path)


def _has_size(path: str, file: File) -> bool:
    status = file_status(path)
    return status is not None and stat.S_ISREG(status.st_mode) and status.st_size == file.size


def _is_begun(path: str) -> bool:
    return any(file_status(name) is not None for name in (path, path + PART))


def _held_bytes(path: str, file: File) -> int:
    if _has_size(path, file):
        return file.size
    status = file_status(path + PART)
    return min(status.st_size, file.size) if status is not None else 0
