# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""Where objects come from: web servers and directories, with a model repository's blobs and deltas below them."""

from __future__ import annotations

import errno
import io
import os
import stat
from typing import BinaryIO, Callable, NamedTuple, Protocol
from urllib.parse import unquote, urlsplit

from .failures import Kind, SourceError
from .options import FetchOptions


class Wanted(NamedTuple):
    """What is asked for: the bytes from ``start`` to ``end`` of the ``size`` bytes that are at ``path`` below a source;
    ``fresh``: past all caches.
    """

    path: str
    size: int
    start: int
    end: int
    fresh: bool = False


def blob_path(sha256: str) -> str:
    """Where the blob with this digest is, below a source."""
    return f"blobs/sha256/{sha256}"


class Stream(Protocol):
    """The bytes of an object from a position on."""

    # Where the first byte that ``read`` returns belongs.
    start: int

    def read(self, count: int) -> bytes:
        """At most so many bytes, as soon as there are any; none at the end. Raises SourceError."""

    def close(self) -> None:
        """Let go of it, read to its end or not."""


class Source(Protocol):
    """A place that has objects."""

    # As it is shown, without a password.
    name: str

    def open(self, wanted: Wanted) -> Stream:
        """The bytes that are asked for, and maybe more: all of the object. Raises SourceError."""

    def open_document(self, path: str, bytes_max: int) -> Stream:
        """A small file of an unknown size, whole; one of more than ``bytes_max`` is none. Raises SourceError."""

    def has(self, path: str, size: int) -> bool:
        """Whether it says that it has an object of ``size`` bytes at ``path``. Raises SourceError."""

    def close(self) -> None:
        """Let go of all connections."""


class Directory:
    """A directory of this machine, such as a stick that somebody brought."""

    def __init__(self, location: str) -> None:
        self.name = location
        self._path = unquote(urlsplit(location).path)

    def open(self, wanted: Wanted) -> Stream:
        """The bytes that are asked for. Raises SourceError."""
        source, path, size = self._opened(wanted.path)
        if size != wanted.size:
            source.close()
            raise SourceError(Kind.MISMATCH, f"{path}: expected {wanted.size} bytes; found {size}")
        source.seek(wanted.start)
        return _DirectoryStream(source, path, wanted.start, wanted.end)

    def open_document(self, path: str, bytes_max: int) -> Stream:
        """A small file, whole. Raises SourceError."""
        source, name, size = self._opened(path)
        if size > bytes_max:
            source.close()
            raise SourceError(Kind.MISMATCH, f"{name}: expected at most {bytes_max} bytes; found {size}")
        return _DirectoryStream(source, name, 0, size)

    def has(self, path: str, size: int) -> bool:
        """Whether there is a file of this size."""
        source, _path, found = self._opened(path)
        source.close()
        return found == size

    def _opened(self, name: str) -> tuple[BinaryIO, str, int]:
        """A file of the directory, its path and its size. Raises SourceError."""
        path = os.path.join(self._path, name)
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            absent = error.errno in (errno.ENOENT, errno.ENOTDIR)
            kind = Kind.REFUSED if absent or error.errno == errno.EACCES else Kind.BUSY
            raise SourceError(kind, f"{path}: {error.strerror}", status=404 if absent else 0) from error
        source = io.FileIO(descriptor)
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            source.close()
            raise SourceError(Kind.MISMATCH, f"{path}: expected a regular file; found something else")
        return source, path, status.st_size

    def close(self) -> None:
        """There is nothing to let go of."""


class _DirectoryStream:
    def __init__(self, source: BinaryIO, path: str, start: int, end: int) -> None:
        self.start = start
        self._source, self._path = source, path
        self._left = end - start

    def read(self, count: int) -> bytes:
        try:
            chunk = self._source.read(min(count, self._left))
        except OSError as error:
            raise SourceError(Kind.INTERRUPTED, f"{self._path}: {error.strerror}") from error
        if self._left and not chunk:
            raise SourceError(Kind.INTERRUPTED, f"{self._path}: the file ends {self._left} bytes too early")
        self._left -= len(chunk)
        return chunk

    def close(self) -> None:
        self._source.close()


def open_sources(options: FetchOptions, open_web: Callable[[str], Source]) -> list[Source]:
    """The sources of ``options``, in their order; ``open_web`` makes one of an address on the web."""
    return [
        Directory(location) if urlsplit(location).scheme == "file" else open_web(location)
        for location in options.sources
    ]
