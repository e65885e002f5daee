# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What applying a delta costs, in a process of its own: usage: apply_delta_cost.py PYTHONPATH DELTA BASE RESULT

Prints the processor time and the elapsed time, both as passes of SHA-256 over the result; how much of the processor
time nothing can save that reads these streams: one pass, and expanding them; and how many KiB of memory applying took
more than hashing. The result is a file as releases name it: with the SHA-256 of each block.

Standard library only: it runs on devices.
"""

from __future__ import annotations

import hashlib
import os
import sys
import time
from collections.abc import Callable, Iterator
from io import BufferedIOBase
from typing import Any, TypeVar

sys.path.insert(0, sys.argv[1])
from ansible_collections.edgeml.fleet.plugins.module_utils._common.hashing import BLOCK_BYTES
from ansible_collections.edgeml.fleet.plugins.module_utils._release import delta as reading
from ansible_collections.edgeml.fleet.plugins.module_utils._release import delta_block
from ansible_collections.edgeml.fleet.plugins.module_utils._release.release import File

T = TypeVar("T")
# Other work on the machine makes single rounds slower, never faster.
ROUNDS_MIN, ROUNDS_S = 5, 2.0


def hashed(path: str) -> File:
    """The file, after one pass of SHA-256."""
    digest, size = hashlib.sha256(), 0
    with open(path, "rb") as result:
        for block in iter(lambda: result.read(BLOCK_BYTES), b""):
            digest.update(block)
            size += len(block)
    return File("model", size, digest.hexdigest())


def with_blocks(path: str) -> File:
    """The file as a release names it."""
    file = hashed(path)
    if file.size <= BLOCK_BYTES:
        return file
    with open(path, "rb") as result:
        blocks = [hashlib.sha256(result.read(BLOCK_BYTES)).hexdigest() for _start in range(0, file.size, BLOCK_BYTES)]
    return file._replace(blocks=tuple(blocks))


def most_kib() -> int:
    """Unlike ru_maxrss it knows nothing of the process that started this one."""
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM:"))


def timed(work: Callable[[], object]) -> tuple[float, float]:
    """The processor time and the elapsed time, in s."""
    processor, elapsed = time.process_time(), time.perf_counter()
    work()
    return time.process_time() - processor, time.perf_counter() - elapsed


def repeated(measure: Callable[[], T]) -> Iterator[T]:
    """What it returns some times, and more often if that takes no time."""
    began, count = time.perf_counter(), 0
    while count < ROUNDS_MIN or time.perf_counter() - began < ROUNDS_S:
        count += 1
        yield measure()


def main() -> None:
    """Measure in turns, and take the shortest of each."""
    delta, base, result = sys.argv[2:5]
    file = with_blocks(result)

    def open_base(_sha256: str, _size: int) -> BufferedIOBase:
        return os.fdopen(os.open(base, os.O_RDONLY), "rb")

    def apply() -> None:
        with open(delta, "rb") as source:
            reading.apply_delta(source, file, open_base, lambda _block: None)

    before = most_kib()
    rounds = list(repeated(lambda: (timed(lambda: hashed(result)), timed(apply))))
    memory = most_kib() - before
    expanding = min(repeated(lambda: spent_expanding(apply)))
    hashing = [min(hashes[clock] for hashes, _applies in rounds) for clock in (0, 1)]
    for clock in (0, 1):
        print(min(applies[clock] for _hashes, applies in rounds) / hashing[clock])
    print(1 + expanding / hashing[0])
    print(memory)


def spent_expanding(apply: Callable[[], object]) -> float:
    """The processor time that the codecs took of applying, in s."""
    spent = 0.0

    def timing(expand: Callable[..., Any]) -> Callable[..., Any]:
        def expand_timed(*arguments: Any) -> Any:
            nonlocal spent
            began = time.process_time()
            try:
                return expand(*arguments)
            finally:
                spent += time.process_time() - began

        return expand_timed

    # What is packed as one is expanded while it is read.
    places: tuple[tuple[Any, str], ...] = ((delta_block, "_decompress"), (reading._Unpacked, "read"))
    kept = [getattr(owner, name) for owner, name in places]
    for (owner, name), expand in zip(places, kept, strict=True):
        setattr(owner, name, timing(expand))
    try:
        apply()
    finally:
        for (owner, name), expand in zip(places, kept, strict=True):
            setattr(owner, name, expand)
    return spent


if __name__ == "__main__":
    main()
