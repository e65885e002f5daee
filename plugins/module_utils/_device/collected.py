# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""The inputs that the inference server has collected for retraining: listed, read and removed, for the controller.

The server's user owns the directory, and this runs as root: no link is followed, and only what has the name of a
collected input is read or removed.
"""

from __future__ import annotations

import base64
import contextlib
import os
import stat
from typing import Any, Iterator, NamedTuple

from .._common.errors import ArgumentError, EdgemlError
from .._release.collected_input import INPUT_BYTES_MAX, digest_of, directory_name, file_name, model_of
from .request import CollectRequest

_LISTED_MAX = 20_000
# In one answer, before base64: as small boards have memory for.
READ_BYTES_MAX = 6 << 20
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class _Held(NamedTuple):
    time: float
    model: str
    digest: str
    size: int


def answer_collect(request: CollectRequest, check_mode: bool) -> dict[str, Any]:
    """Remove what the controller has stored, read what it wants, or list what there is, where it asks for neither.

    Returns the module's result; one with ``failed`` and ``msg`` where it failed.
    """
    result: dict[str, Any] = {"changed": False, "removed": 0}
    try:
        removable, wanted = [[_place(name) for name in names] for names in (request.remove, request.want)]
        with contextlib.ExitStack() as stack:
            root = _open(stack, request.spool)
            if root is not None:
                directories = {
                    model: _open(stack, directory_name(model), root) for model, _digest in removable + wanted
                }
                if not check_mode:
                    result["removed"] = sum(_remove(directories[model], digest) for model, digest in removable)
                result["changed"] = result["removed"] > 0
                result["inputs"] = list(_read(directories, wanted))
                if not removable and not wanted:
                    result["waiting"] = _waiting(root)
            elif not removable and not wanted:
                result["waiting"] = []
    except (EdgemlError, OSError) as error:
        result.update(failed=True, msg=str(error))
    return result


def _place(name: str) -> tuple[str, str]:
    """The model and the digest that ``model:digest`` names. Raises ArgumentError."""
    directory, _colon, digest = name.rpartition(":")
    model = model_of(directory_name(directory))
    if model is None or digest_of(file_name(digest)) is None:
        raise ArgumentError(f"expected the name of a model and a digest, as digits:0d3e…; found {name[:100]!r}")
    return model, digest


def _open(stack: contextlib.ExitStack, path: str, directory: int | None = None) -> int | None:
    """A directory, opened; None where there is none."""
    try:
        found = os.open(path, _DIRECTORY, dir_fd=directory)
    except FileNotFoundError:
        return None
    stack.callback(os.close, found)
    return found


def _remove(directory: int | None, digest: str) -> int:
    if directory is None:
        return 0
    try:
        os.unlink(file_name(digest), dir_fd=directory)
    except (FileNotFoundError, IsADirectoryError):
        return 0
    return 1


def _read(directories: dict[str, int | None], wanted: list[tuple[str, str]]) -> Iterator[dict[str, str]]:
    """What there still is of the inputs that are wanted, as far as an answer has room."""
    room = READ_BYTES_MAX
    for model, digest in wanted:
        directory = directories[model]
        content = None if directory is None else _content(directory, file_name(digest))
        if content is None:
            continue
        room -= len(content)
        if room < 0:
            return
        yield {"model": model, "sha256": digest, "content": base64.b64encode(content).decode("ascii")}


def _content(directory: int, name: str) -> bytes | None:
    try:
        # A pipe would be waited for.
        file = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=directory)
    except OSError:
        # The server has made room, or it is none of its files.
        return None
    try:
        # A directory, or what else has such a name, is none.
        if not stat.S_ISREG(os.fstat(file).st_mode):
            return None
        with open(file, "rb", closefd=False) as opened:
            content = opened.read(INPUT_BYTES_MAX + 1)
    finally:
        os.close(file)
    return content if len(content) <= INPUT_BYTES_MAX else None


def _waiting(root: int) -> list[dict[str, Any]]:
    """The inputs that wait for the controller, the oldest first."""
    found: list[_Held] = []
    with contextlib.ExitStack() as stack:
        for name in sorted(os.listdir(root)):
            model = model_of(name)
            try:
                directory = None if model is None else _open(stack, name, root)
            except OSError:
                continue
            if model is not None and directory is not None:
                found += _held(directory, model)
    return [{"model": held.model, "sha256": held.digest, "bytes": held.size} for held in sorted(found)[:_LISTED_MAX]]


def _held(directory: int, model: str) -> Iterator[_Held]:
    for name in os.listdir(directory):
        digest = digest_of(name)
        if digest is None:
            continue
        try:
            status = os.stat(name, dir_fd=directory, follow_symlinks=False)
        except FileNotFoundError:
            continue
        if stat.S_ISREG(status.st_mode) and 0 < status.st_size <= INPUT_BYTES_MAX:
            yield _Held(status.st_mtime, model, digest, status.st_size)
