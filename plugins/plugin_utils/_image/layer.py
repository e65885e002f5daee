# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""The files of an image, and how they become a layer: the same files are the same bytes, wherever and whenever."""

from __future__ import annotations

import hashlib
import io
import tarfile
from dataclasses import dataclass
from typing import BinaryIO, Iterator, Mapping

# 1980-01-01, the earliest time that every form of archive can say. It does not follow SOURCE_DATE_EPOCH: a layer whose
# files are the same has to stay the same, or each new image would send all of them again.
FILE_TIME = 315_532_800
DIRECTORY_MODE = 0o755


@dataclass(frozen=True)
class Entry:
    """One file of an image: its mode, and its ``content``, or for a symbolic link its ``target``."""

    mode: int
    content: bytes = b""
    target: str | None = None


# By path, without a slash at its beginning. Directories are made where a file needs them.
Files = Mapping[str, Entry]


@dataclass(frozen=True)
class Layer:
    """A layer that is written: its title, where it is, its size in bytes and its SHA-256."""

    title: str
    path: str
    size: int
    sha256: str


def write_layer(title: str, files: Files, path: str, directories: Mapping[str, int] | None = None) -> Layer:
    """Write a layer at ``path``: a tar archive (ustar), sorted, of root's, with one time for all files.

    ``directories`` have a mode of their own, or stand for an empty one. Raises OSError, and ValueError for a path that
    ustar cannot say (above 255 bytes).
    """
    modes = {**dict.fromkeys(_parents([*files, *(directories or {})]), DIRECTORY_MODE), **(directories or {})}
    with open(path, "wb") as target:
        digest = _Digest(target)
        with tarfile.open(fileobj=digest, mode="w|", format=tarfile.USTAR_FORMAT) as archive:
            for name in sorted({*files, *modes}):
                archive.addfile(*(_directory(name, modes[name]) if name in modes else _file(name, files[name])))
    return Layer(title, path, digest.size, digest.sha256.hexdigest())


def read_tar(source: BinaryIO) -> Iterator[tuple[str, Entry]]:
    """The files and links of a tar archive, by their paths; of hard links each has the content."""
    with tarfile.open(fileobj=source) as archive:
        for member in archive:
            name = member.name.lstrip("./")
            if member.issym():
                yield name, Entry(0o777, target=member.linkname)
            elif member.isreg() or member.islnk():
                content = archive.extractfile(member)
                yield name, Entry(member.mode & 0o777, content.read() if content else b"")


class _Digest(io.RawIOBase):
    """Counts and hashes what is written to the target."""

    def __init__(self, target: BinaryIO) -> None:
        self.sha256 = hashlib.sha256()
        self.size = 0
        self._target = target

    # tarfile writes nothing but bytes; the base takes any buffer.
    def write(self, chunk: bytes) -> int:  # type: ignore[override]
        self.sha256.update(chunk)
        self.size += len(chunk)
        return self._target.write(chunk)


def _parents(paths: list[str]) -> set[str]:
    found: set[str] = set()
    for path in paths:
        parts = path.split("/")[:-1]
        found.update("/".join(parts[: length + 1]) for length in range(len(parts)))
    return found


def _entry(name: str, kind: bytes, mode: int) -> tarfile.TarInfo:
    # The numbers of user and group are 0, root's.
    entry = tarfile.TarInfo(name)
    entry.type, entry.mode, entry.mtime = kind, mode, FILE_TIME
    return entry


def _directory(name: str, mode: int) -> tuple[tarfile.TarInfo]:
    return (_entry(name, tarfile.DIRTYPE, mode),)


def _file(name: str, file: Entry) -> tuple[tarfile.TarInfo] | tuple[tarfile.TarInfo, BinaryIO]:
    if file.target is not None:
        link = _entry(name, tarfile.SYMTYPE, 0o777)
        link.linkname = file.target
        return (link,)
    entry = _entry(name, tarfile.REGTYPE, file.mode)
    entry.size = len(file.content)
    return entry, io.BytesIO(file.content)
