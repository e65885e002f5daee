# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""Files that are whole, as they were or as they shall be, whatever interrupts the writing.

Every write is staged beside its target, fsynced (file and directory) and put in place by one rename.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
from typing import Any, Iterator, NamedTuple

from .errors import with_path

_DIRECTORY_MODE = 0o750


class DurableTree:
    """A directory tree that survives a crash at any point. Its group may read everything; only its owner writes.

    ``staging``, below the root and so on the same filesystem, holds what is being written; nothing reads it.
    """

    def __init__(self, root: str) -> None:
        self.root = root
        self.staging = os.path.join(root, "staging")

    def directory(self, path: str) -> None:
        """Make a directory of the tree and the ones above it, open to the tree's group, fsynced."""
        if is_directory(path):
            return
        if path != self.root:
            self.directory(os.path.dirname(path))
        os.mkdir(path, _DIRECTORY_MODE)
        os.chmod(path, _DIRECTORY_MODE)
        os.chown(path, -1, os.stat(self.root).st_gid)
        fsync_directory(os.path.dirname(path))

    def staged(self, name: str) -> str:
        """The path in the staging directory at which ``name`` is written; the directory is made where it is missing."""
        self.directory(self.staging)
        return os.path.join(self.staging, name)

    def replace(self, path: str, content: bytes, mode: int) -> None:
        """Put a whole file in place of the one at ``path``, in one atomic step."""
        staged = self.staged(os.path.basename(path))
        self.write(staged, content, mode)
        os.rename(staged, path)
        fsync_directory(os.path.dirname(path))

    def replace_link(self, path: str, target: str) -> None:
        """Have the symbolic link at ``path`` lead to ``target``, in one atomic step."""
        staged = self.staged(os.path.basename(path))
        remove_file(staged)
        os.symlink(target, staged)
        os.rename(staged, path)
        fsync_directory(os.path.dirname(path))

    def write(self, path: str, content: bytes, mode: int) -> None:
        """Write a new file, durably. In place: for files in a directory that nothing reads yet."""
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with with_path(path), open(descriptor, "wb") as file:
            file.write(content)
            self.seal(file, mode)

    def seal(self, file: Any, mode: int) -> None:
        """Give an open file the tree's group and ``mode``, and bring it to the disk."""
        file.flush()
        os.fchown(file.fileno(), -1, os.stat(self.root).st_gid)
        os.fchmod(file.fileno(), mode)
        os.fsync(file.fileno())


def write_whole(path: str, text: str) -> None:
    """Put a file, readable by everybody, in place of what is at ``path``. Raises OSError."""
    # The controller's alone; on a small board the import takes its time.
    import tempfile

    directory = os.path.dirname(os.path.abspath(path))
    with tempfile.NamedTemporaryFile("w", encoding="utf-8", dir=directory, prefix=".", delete=False) as file:
        try:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
            os.chmod(file.name, 0o644)
            os.replace(file.name, path)
        except BaseException:
            os.unlink(file.name)
            raise


@contextlib.contextmanager
def hold_directory(path: str) -> Iterator[bool]:
    """Hold a directory as long as the block lasts; yields False where another process does. Raises OSError where there
    is none."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True
    finally:
        os.close(descriptor)


def fsync_directory(path: str) -> None:
    """Bring the entries of a directory to the disk: a rename is durable only then. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with with_path(path):
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


class Room(NamedTuple):
    """What is free of a disk: bytes, and files (inodes); None of them where the filesystem makes them as needed."""

    bytes: int
    files: int | None


def free_room(path: str) -> Room:
    """What is free of the disk of ``path``. Raises OSError."""
    status = os.statvfs(path)
    return Room(status.f_bavail * status.f_frsize, status.f_favail if status.f_files else None)


def is_directory(path: str) -> bool:
    """Whether there is a directory, or a link to one: the store may be on a disk of its own."""
    try:
        return stat.S_ISDIR(os.stat(path).st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False


def file_status(path: str) -> os.stat_result | None:
    """What is at ``path`` itself, or None. Raises OSError where that is unknown: a failing disk is not empty."""
    try:
        return os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None


def remove_file(path: str) -> None:
    """Remove the file at ``path``, if there is one. Raises OSError."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)


def remove_tree(path: str) -> None:
    """Remove a directory with all below it, as far as that can be done."""
    # Imported by a call that removes something, and no other.
    import shutil

    shutil.rmtree(path, ignore_errors=True)
