# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A model of a filesystem that promises no more than POSIX does, and of what it may hold after a power cut.

In the manner of ALICE (Pillai and others, "All File Systems Are Not Created Equal", OSDI 2014): the content of a file
is safe once the file was fsynced, an entry of a directory once the directory was. Until then each of them may be
there or not, independently of all others.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(eq=False)
class File:
    """A file: its content, and the part of its history that is on the disk."""

    content: bytes = b""
    durable: bytes = b""


@dataclass(eq=False)
class Link:
    """A symbolic link. Its target is on the disk as soon as its entry is."""

    target: str


@dataclass(eq=False)
class Directory:
    """A directory: its entries, and those of them that are on the disk."""

    entries: dict[str, Node] = field(default_factory=dict)
    durable: dict[str, Node] = field(default_factory=dict)


Node = File | Link | Directory
Survives = Callable[[File], bytes]


@dataclass(frozen=True)
class Change:
    """An entry that was set, or removed (``node`` is None), by the call number ``call``, and is not safe yet."""

    call: int
    directory: Directory
    name: str
    node: Node | None


class Filesystem:
    """What is below a directory of this machine, as if it had been on the disk for long, and what is done to it."""

    def __init__(self, path: Path) -> None:
        self.root = _read(path, {})
        self._changes: list[Change] = []
        self._call = 0

    # ---- calls ----

    def begin_call(self) -> None:
        """What comes is of one call: a rename's two changes are told from others by this."""
        self._call += 1

    def find(self, directory: Directory, names: Iterable[str]) -> Node | None:
        """The node at a path, or None."""
        node: Node | None = directory
        for name in names:
            node = node.entries.get(name) if isinstance(node, Directory) else None
        return node

    def set_entry(self, directory: Directory, name: str, node: Node | None) -> None:
        """Set or remove an entry."""
        if node is None:
            del directory.entries[name]
        else:
            directory.entries[name] = node
        self._changes.append(Change(self._call, directory, name, node))

    def fsync(self, node: Node) -> None:
        """Bring a file's content, or a directory's entries, to the disk."""
        if isinstance(node, File):
            node.durable = node.content
        elif isinstance(node, Directory):
            node.durable = dict(node.entries)
            self._changes = [change for change in self._changes if change.directory is not node]

    # ---- power cut ----

    def now(self) -> Image:
        """What is there while there is power."""
        return Image(self.root, self._changes, _CONTENTS["kept"])

    def survivors(self) -> Iterator[tuple[str, Image]]:
        """What may be there after a power cut now: a description, and the image."""
        for which, changes in self._survivals():
            for what, content in _CONTENTS.items():
                yield f"{which}; unsynced content {what}", Image(self.root, changes, content)

    def _survivals(self) -> Iterator[tuple[str, list[Change]]]:
        """Sets of the changes that are not safe: none, all, each one and each call's alone, and all but these."""
        every = self._changes
        yield "no unsynced entry", []
        yield "all unsynced entries", every
        parts = {f"entry {change.name!r}": [change] for change in every}
        for call in {change.call for change in every}:
            both = [change for change in every if change.call == call]
            parts[f"entries {[change.name for change in both]}"] = both
        for told, part in parts.items():
            yield f"only {told}", part
            yield f"all but {told}", [change for change in every if change not in part]


class Image:
    """What a disk holds after a power cut."""

    def __init__(self, root: Directory, changes: Iterable[Change], content: Survives) -> None:
        self._root = root
        self._changes = list(changes)
        self._content = content

    def key(self) -> tuple[object, ...]:
        """Equal for images that hold the same."""
        numbers: dict[File, int] = {}
        found: list[object] = []
        for path, node in self._walk(self._root, ""):
            if isinstance(node, File):
                found.append((path, numbers.setdefault(node, len(numbers)), self._content(node)))
            else:
                found.append((path, node.target if isinstance(node, Link) else None))
        return tuple(found)

    def write(self, target: Path) -> None:
        """Write what the disk holds into the directory ``target``, which is made."""
        target.mkdir()
        written: dict[File, Path] = {}
        for path, node in self._walk(self._root, ""):
            place = target / path
            if isinstance(node, Directory):
                place.mkdir()
            elif isinstance(node, Link):
                place.symlink_to(node.target)
            elif node in written:
                os.link(written[node], place)
            else:
                place.write_bytes(self._content(node))
                written[node] = place

    def _walk(self, directory: Directory, path: str) -> Iterator[tuple[str, Node]]:
        entries: dict[str, Node | None] = {**directory.durable}
        for change in self._changes:
            if change.directory is directory:
                entries[change.name] = change.node
        for name, node in sorted(entries.items()):
            if node is not None:
                yield os.path.join(path, name), node
                if isinstance(node, Directory):
                    yield from self._walk(node, os.path.join(path, name))


def _added(file: File) -> tuple[bytes, bytes]:
    """What of the file is safe, and what was written after it; nothing is safe of what was overwritten."""
    if file.content.startswith(file.durable):
        return file.durable, file.content[len(file.durable) :]
    return b"", file.content


def _zeros(file: File) -> bytes:
    safe, added = _added(file)
    return safe + bytes(len(added))


def _half(file: File) -> bytes:
    safe, added = _added(file)
    return safe + added[: len(added) // 2]


_CONTENTS: dict[str, Survives] = {
    "lost": lambda file: file.durable,
    "kept": lambda file: file.content,
    "read as zeros": _zeros,
    "cut in half": _half,
}


def _read(path: Path, seen: dict[int, File]) -> Directory:
    """The directory ``path`` of this machine with its hard links, all of it on the disk."""
    entries: dict[str, Node] = {}
    for entry in os.scandir(path):
        if entry.is_symlink():
            entries[entry.name] = Link(os.readlink(entry.path))
        elif entry.is_dir():
            entries[entry.name] = _read(Path(entry.path), seen)
        else:
            content = Path(entry.path).read_bytes()
            entries[entry.name] = seen.setdefault(entry.inode(), File(content, content))
    return Directory(entries, dict(entries))
