# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""strace's log of an action, done again to the model of a filesystem."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from .filesystem_model import Directory, File, Filesystem, Link, Node
from .strace import Call

# Options of strace with which a log holds every byte that is written.
WHOLE_LOG = ["-s", str(1 << 24)]
# They change what the model has not: owner, mode, times.
_NO_MATTER = re.compile("chmod|chown|fchmod|fchmodat|fchown|fchownat|lchown|utimensat")
_STRING = re.compile(r'"((?:\\x[0-9a-f]{2})*)"(\.\.\.)?')


@dataclass
class _Open:
    """An open file or directory."""

    node: Node
    appends: bool = False
    position: int = 0


class Replay:
    """The calls of an action on what is below ``root``, done one after the other to the model."""

    def __init__(self, root: Path) -> None:
        self.filesystem = Filesystem(root)
        self._root = root
        self._open: dict[int, _Open] = {}

    def steps(self, calls: list[Call]) -> Iterator[Call | None]:
        """Yield each call that changes something before it is done, and None at the end."""
        for call in calls:
            if call.changes:
                yield call
            if call.succeeded:
                self.filesystem.begin_call()
                self._do(call)
        yield None

    def _do(self, call: Call) -> None:
        act = getattr(self, f"_{call.name}", None)
        if act is not None:
            act(call, [_decoded(text) for text in re.split(r", ", call.arguments)])
        elif call.changes and not _NO_MATTER.fullmatch(call.name):
            raise NotImplementedError(f"the model has no {call}")

    # ---- the calls, by their names ----

    def _openat(self, call: Call, arguments: list[str | bytes]) -> None:
        found = self._place(arguments[0], arguments[1])
        if found is None:
            return
        directory, name = found
        flags = str(arguments[2]).split("|")
        node = self.filesystem.find(directory, [name] if name else [])
        if node is None:
            node = File()
            self.filesystem.set_entry(directory, name, node)
        if "O_TRUNC" in flags and isinstance(node, File):
            node.content = b""
        self._open[_number(call.result)] = _Open(node, "O_APPEND" in flags)

    def _close(self, _call: Call, arguments: list[str | bytes]) -> None:
        self._open.pop(_number(arguments[0]), None)

    def _fcntl(self, call: Call, arguments: list[str | bytes]) -> None:
        opened = self._open.get(_number(arguments[0]))
        if opened is not None and str(arguments[1]).startswith("F_DUPFD"):
            self._open[_number(call.result)] = opened

    def _lseek(self, call: Call, arguments: list[str | bytes]) -> None:
        opened = self._open.get(_number(arguments[0]))
        if opened is not None:
            opened.position = _number(call.result)

    def _read(self, call: Call, arguments: list[str | bytes]) -> None:
        opened = self._open.get(_number(arguments[0]))
        if opened is not None:
            opened.position += _number(call.result)

    def _write(self, call: Call, arguments: list[str | bytes]) -> None:
        opened = self._open.get(_number(arguments[0]))
        if opened is None:
            return
        assert isinstance(opened.node, File)
        start = len(opened.node.content) if opened.appends else opened.position
        data = _bytes(arguments[1])[: _number(call.result)]
        opened.node.content = _overwritten(opened.node.content, start, data)
        opened.position = start + len(data)

    def _pwrite64(self, call: Call, arguments: list[str | bytes]) -> None:
        opened = self._open.get(_number(arguments[0]))
        if opened is not None:
            assert isinstance(opened.node, File)
            data = _bytes(arguments[1])[: _number(call.result)]
            opened.node.content = _overwritten(opened.node.content, _number(arguments[3]), data)

    def _ftruncate(self, _call: Call, arguments: list[str | bytes]) -> None:
        opened = self._open.get(_number(arguments[0]))
        if opened is not None:
            assert isinstance(opened.node, File)
            size = _number(arguments[1])
            opened.node.content = opened.node.content[:size].ljust(size, b"\0")

    def _fallocate(self, _call: Call, arguments: list[str | bytes]) -> None:
        opened = self._open.get(_number(arguments[0]))
        if opened is not None:
            assert isinstance(opened.node, File)
            assert arguments[1] == "0", "the model knows no other mode"
            size = _number(arguments[2]) + _number(arguments[3])
            opened.node.content = opened.node.content.ljust(size, b"\0")

    def _fsync(self, _call: Call, arguments: list[str | bytes]) -> None:
        opened = self._open.get(_number(arguments[0]))
        if opened is not None:
            self.filesystem.fsync(opened.node)

    _fdatasync = _fsync

    def _mkdir(self, _call: Call, arguments: list[str | bytes]) -> None:
        self._set(b"", arguments[0], Directory())

    def _mkdirat(self, _call: Call, arguments: list[str | bytes]) -> None:
        self._set(arguments[0], arguments[1], Directory())

    def _symlink(self, _call: Call, arguments: list[str | bytes]) -> None:
        self._set(b"", arguments[1], Link(os.fsdecode(_bytes(arguments[0]))))

    def _symlinkat(self, _call: Call, arguments: list[str | bytes]) -> None:
        self._set(arguments[1], arguments[2], Link(os.fsdecode(_bytes(arguments[0]))))

    def _link(self, _call: Call, arguments: list[str | bytes]) -> None:
        self._set(b"", arguments[1], self._node(b"", arguments[0]))

    def _linkat(self, _call: Call, arguments: list[str | bytes]) -> None:
        self._set(arguments[2], arguments[3], self._node(arguments[0], arguments[1]))

    def _rename(self, _call: Call, arguments: list[str | bytes]) -> None:
        self._move(b"", arguments[0], b"", arguments[1])

    def _renameat(self, _call: Call, arguments: list[str | bytes]) -> None:
        self._move(*arguments[:4])

    _renameat2 = _renameat

    def _unlink(self, _call: Call, arguments: list[str | bytes]) -> None:
        self._set(b"", arguments[0], None)

    _rmdir = _unlink

    def _unlinkat(self, _call: Call, arguments: list[str | bytes]) -> None:
        self._set(arguments[0], arguments[1], None)

    # ---- the parts ----

    def _move(self, start: str | bytes, path: str | bytes, new_start: str | bytes, new_path: str | bytes) -> None:
        if self._place(start, path) is None and self._place(new_start, new_path) is None:
            return
        node = self._node(start, path)
        self._set(new_start, new_path, node)
        self._set(start, path, None)

    def _set(self, start: str | bytes, path: str | bytes, node: Node | None) -> None:
        found = self._place(start, path)
        if found is not None:
            self.filesystem.set_entry(*found, node)

    def _node(self, start: str | bytes, path: str | bytes) -> Node:
        found = self._place(start, path)
        node = self.filesystem.find(found[0], [found[1]]) if found else None
        assert node is not None, f"{path!r}: not in the model"
        return node

    def _place(self, start: str | bytes, path: str | bytes) -> tuple[Directory, str] | None:
        """The directory and the name that a path means, beginning at the descriptor ``start``; None for elsewhere.

        The name is empty for the root itself.
        """
        text = os.fsdecode(_bytes(path))
        opened = self._open.get(_number(start))
        if opened is not None and not os.path.isabs(text):
            assert isinstance(opened.node, Directory)
            begin, parts = opened.node, Path(text).parts
        elif Path(text).is_relative_to(self._root):
            begin, parts = self.filesystem.root, Path(text).relative_to(self._root).parts
        else:
            return None
        parent = self.filesystem.find(begin, parts[:-1])
        assert isinstance(parent, Directory), f"{text}: no such directory in the model"
        return parent, parts[-1] if parts else ""


def _decoded(text: str) -> str | bytes:
    """A string of the log as the bytes that it means; anything else as it is."""
    found = _STRING.fullmatch(text)
    if found is None:
        return text
    assert not found[2], "the log holds a string in part"
    return bytes.fromhex(found[1].replace(r"\x", ""))


def _bytes(argument: str | bytes) -> bytes:
    assert isinstance(argument, bytes), argument
    return argument


def _number(argument: str | bytes) -> int:
    found = re.match(r"-?\d+", str(argument))
    return int(found[0]) if found else -1


def _overwritten(content: bytes, start: int, data: bytes) -> bytes:
    return content[:start].ljust(start, b"\0") + data + content[start + len(data) :]
