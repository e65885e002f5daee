# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""An object that is made from a delta, which came as an object, too: what is right of it is kept, whatever fails."""

from __future__ import annotations

import contextlib
from io import BufferedIOBase
from typing import Callable, Iterable

from .._common.errors import IntegrityError
from .._common.files import DurableTree, free_room
from .._release.release import File
from .failures import FetchError, Kind
from .partial import CorruptBlockError, Partial, held_bytes, is_begun


def delta_part(tree: DurableTree, directory: str, file: File, sha256: str, size: int) -> Partial:
    """What there is of a delta of ``file`` in ``directory``: the delta has this SHA-256 and ``size`` in bytes."""
    named = File(f"{file.path}: its delta", size, sha256)
    return Partial(tree, directory, named, f"{file.sha256}.{sha256}")


def make_from_delta(
    path: str,
    partial: Partial,
    open_blob: Callable[[str, int], BufferedIOBase],
    after_block: Callable[[], object] = lambda: None,
) -> None:
    """Make what is missing of an open object from the delta at ``path``; each block is verified before it is kept.

    Raises IntegrityError for a delta that is damaged or makes anything else, FetchError where the disk has no room,
    and OSError.
    """
    # A fetch without a delta does not pay for the import.
    from .._release.delta import made_blocks

    partial.drop_block()
    position = 0
    with open(path, "rb") as delta, contextlib.closing(made_blocks(delta, partial.file, open_blob, path)) as blocks:
        for block in blocks:
            new = block[max(0, partial.size - position) :]
            position += len(block)
            try:
                partial.write(new)
            except CorruptBlockError as error:
                raise IntegrityError(f"{error}: the delta or its base is damaged") from error
            after_block()


def check_space(
    tree: DurableTree, directory: str, files: Iterable[File], headroom_percent: int, delta: Partial | None = None
) -> None:
    """Raise FetchError unless what is missing of the files, and of a delta, fits on the disk, with headroom."""
    files = list(files)
    free = free_room(tree.root)
    needed = sum(file.size - held_bytes(directory, file) for file in files)
    inodes = sum(not is_begun(directory, file) for file in files)
    if delta is not None:
        needed += delta.file.size - delta.held_bytes()
        inodes += not delta.is_begun()
    names = ", ".join(file.path for file in files[:3])
    if needed > free.bytes * (100 - headroom_percent) // 100:
        raise FetchError(
            Kind.DISK,
            f"{directory}: {names} need {needed} bytes more; {free.bytes} are free, of which {headroom_percent}% are "
            "to stay free",
        )
    if free.files is not None and inodes > free.files:
        raise FetchError(
            Kind.DISK,
            f"{directory}: {names} need {inodes} inodes more; {free.files} are free, though there is room for the "
            "bytes. Remove files from this disk (df -i)",
        )
