# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""Where objects come from: web servers and directories, each with ``blobs/sha256/<digest>`` below it."""

from __future__ import annotations

import errno
import io
import os
import stat
from typing import BinaryIO, Callable, Protocol
from urllib.parse import unquote, urlsplit

from .._release.release import File
from .failures import Kind, SourceError
from .options import FetchOptions


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

    def open(self, file: File, start: int, fresh: bool) -> Stream:
        """The bytes of ``file`` from ``start`` on; ``fresh``: past all caches. Raises SourceError."""

    def close(self) -> None:
        """Let go of all connections."""


class Directory:
    """A directory of this machine, such as a stick that somebody brought."""

    def __init__(self, location: str) -> None:
        self.name = location
        self._path = unquote(urlsplit(location).path)

    def open(self, file: File, start: int, fresh: bool) -> Stream:
        """The bytes of ``file`` from ``start`` on. Raises SourceError."""
        path = os.path.join(self._path, "blobs", "sha256", file.sha256)
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            absent = error.errno in (errno.ENOENT, errno.ENOTDIR, errno.EACCES)
            raise SourceError(Kind.REFUSED if absent else Kind.BUSY, f"{path}: {error.strerror}") from error
        source = io.FileIO(descriptor)
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_size != file.size:
            source.close()
            raise SourceError(Kind.MISMATCH, f"{path}: expected {file.size} bytes; found {status.st_size}")
        source.seek(start)
        return _DirectoryStream(source, path, start)

    def close(self) -> None:
        """There is nothing to let go of."""


class _DirectoryStream:
    def __init__(self, source: BinaryIO, path: str, start: int) -> None:
        self.start = start
        self._source, self._path = source, path

    def read(self, count: int) -> bytes:
        try:
            return self._source.read(count)
        except OSError as error:
            raise SourceError(Kind.INTERRUPTED, f"{self._path}: {error.strerror}") from error

    def close(self) -> None:
        self._source.close()


def open_sources(options: FetchOptions, open_web: Callable[[str], Source]) -> list[Source]:
    """The sources of ``options``, in their order; ``open_web`` makes one of an address on the web."""
    return [
        Directory(location) if urlsplit(location).scheme == "file" else open_web(location)
        for location in options.sources
    ]
