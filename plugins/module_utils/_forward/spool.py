# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.
"""The batches that a device has recorded and that are not known to be stored yet: a file each, whole or not at all.

::

    <sequence>.<time>.<start>.<boot>.<trusted>.<lines>.gz    in their order; times in milliseconds
    aside/                                                   those whose time nobody knows, or that are not taken
    staging/                                                 what is being written

The text in a file is Prometheus' text format with times, compressed by gzip: several files one after the other are one
text again, and so are sent as they are.
"""

from __future__ import annotations

import contextlib
import errno
import os
import zlib
from typing import Iterable, NamedTuple

from .._common.errors import StoreError
from .._common.files import DurableTree, free_room, fsync_directory, remove_file
from .clock import Reading

# What is left to others on the disk: with less, each batch takes the place of the oldest one.
FREE_BYTES_MIN = 16 << 20
_MODE = 0o640
_GZIP = 31
_SUFFIX = ".gz"


class Batch(NamedTuple):
    """What was recorded at one moment: its number, what the clocks said, and how many samples (``lines``) it has."""

    sequence: int
    reading: Reading
    lines: int

    @property
    def name(self) -> str:
        """The name of its file."""
        taken = self.reading
        trust = "trusted" if taken.trusted else "unknown"
        return f"{self.sequence:012}.{taken.time_ms}.{taken.boot_ms}.{taken.boot}.{trust}.{self.lines}{_SUFFIX}"


def parse_name(name: str) -> Batch | None:
    """The batch of a file's name; None for another file."""
    parts = name[: -len(_SUFFIX)].split(".")
    if not name.endswith(_SUFFIX) or len(parts) != 6:
        return None
    try:
        reading = Reading(int(parts[1]), int(parts[2]), parts[3], parts[4] == "trusted")
        return Batch(int(parts[0]), reading, int(parts[5]))
    except ValueError:
        return None


def write_batch(samples: Iterable[str], time_ms: int) -> bytes:
    """The content of a batch's file: samples without a time, such as ``up{device="a"} 1``, at ``time_ms``."""
    text = "".join(f"{sample} {time_ms}\n" for sample in samples)
    compressor = zlib.compressobj(6, zlib.DEFLATED, _GZIP)
    return compressor.compress(text.encode("utf-8")) + compressor.flush()


def read_batch(content: bytes) -> list[str]:
    """The samples of a batch's file, without their time. Raises StoreError for a file that is damaged."""
    try:
        lines = zlib.decompress(content, _GZIP).decode("utf-8").splitlines()
    except (zlib.error, ValueError) as error:
        raise StoreError(f"damaged: {error}") from error
    return [line.rpartition(" ")[0] for line in lines]


class Spool:
    """The directory of the batches. It keeps at most ``batches_max``; then the oldest one goes."""

    def __init__(self, root: str, batches_max: int) -> None:
        self.root = root
        self.aside = os.path.join(root, "aside")
        self._tree = DurableTree(root)
        self._max = batches_max

    def batches(self, directory: str | None = None) -> list[Batch]:
        """The batches in their order, or those of ``aside``."""
        try:
            names = os.listdir(directory or self.root)
        except FileNotFoundError:
            return []
        return sorted(batch for batch in map(parse_name, names) if batch is not None)

    def tidy(self) -> None:
        """Remove what a power cut left: a file that was being written, and a batch beside itself with the right time.

        Raises OSError.
        """
        with contextlib.suppress(FileNotFoundError):
            for name in os.listdir(self._tree.staging):
                remove_file(os.path.join(self._tree.staging, name))
        kept: dict[int, Batch] = {}
        for batch in sorted(self.batches(), key=lambda batch: batch.reading.trusted):
            if batch.sequence in kept:
                self.remove(kept[batch.sequence])
            kept[batch.sequence] = batch

    def add(self, batch: Batch, samples: Iterable[str]) -> None:
        """Keep a batch; older ones may have to make room. Raises OSError where that is not enough."""
        content = write_batch(samples, batch.reading.time_ms)
        kept = self._oldest_first()
        surplus = len(kept) + 1 - self._max
        if surplus < 1 and kept and self._free_bytes() < FREE_BYTES_MIN:
            surplus = 1
        dropped = 0
        while True:
            for path in kept[dropped : max(dropped, surplus)]:
                remove_file(path)
                dropped += 1
            try:
                self._tree.replace(self.path(batch), content, _MODE)
            except OSError as error:
                if error.errno != errno.ENOSPC or dropped == len(kept):
                    raise
                surplus = dropped + 1
            else:
                return

    def read(self, batch: Batch) -> bytes:
        """The content of a batch's file. Raises OSError."""
        with open(self.path(batch), "rb") as file:
            return file.read()

    def remove(self, batch: Batch) -> None:
        """Forget a batch."""
        remove_file(self.path(batch))

    def correct(self, batch: Batch, time_ms: int) -> Batch:
        """Give a batch the time at which it was really recorded, and return it. Raises StoreError, OSError."""
        content = write_batch(read_batch(self.read(batch)), time_ms)
        corrected = batch._replace(reading=batch.reading._replace(time_ms=time_ms, trusted=True))
        self._tree.replace(self.path(corrected), content, _MODE)
        self.remove(batch)
        return corrected

    def set_aside(self, batch: Batch) -> None:
        """Keep a batch, and send it no more. Raises OSError."""
        self._tree.directory(self.aside)
        os.rename(self.path(batch), os.path.join(self.aside, batch.name))
        fsync_directory(self.aside)

    def take_back(self) -> int:
        """Have the batches that were set aside sent again; return how many they are. Raises OSError."""
        aside = self.batches(self.aside)
        for batch in aside:
            os.rename(os.path.join(self.aside, batch.name), self.path(batch))
        return len(aside)

    def path(self, batch: Batch) -> str:
        """The path of a batch's file."""
        return os.path.join(self.root, batch.name)

    def _oldest_first(self) -> list[str]:
        """All files, those first that are missed least."""
        aside = [os.path.join(self.aside, batch.name) for batch in self.batches(self.aside)]
        return aside + [self.path(batch) for batch in self.batches()]

    def _free_bytes(self) -> int:
        with contextlib.suppress(FileNotFoundError):
            return free_room(self.root).bytes
        return FREE_BYTES_MIN
