# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What applying a delta costs, in a process of its own: usage: apply_delta_cost.py PYTHONPATH DELTA BASE RESULT

Prints the processor time and the elapsed time, both as passes of SHA-256 over the result, and how many KiB of memory
applying took more than hashing. The result is a file as releases name it: with the SHA-256 of each block.
"""

from __future__ import annotations

import hashlib
import os
import sys
import time
from collections.abc import Callable
from io import BufferedIOBase

sys.path.insert(0, sys.argv[1])
from ansible_collections.edgeml.fleet.plugins.module_utils._common.hashing import BLOCK_BYTES
from ansible_collections.edgeml.fleet.plugins.module_utils._release.delta import apply_delta
from ansible_collections.edgeml.fleet.plugins.module_utils._release.release import File

ROUNDS = 5


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


def main() -> None:
    """Measure in turns, and take the shortest of each."""
    delta, base, result = sys.argv[2:5]
    file = with_blocks(result)

    def open_base(_sha256: str, _size: int) -> BufferedIOBase:
        return os.fdopen(os.open(base, os.O_RDONLY), "rb")

    def apply() -> None:
        with open(delta, "rb") as source:
            apply_delta(source, file, open_base, lambda _block: None)

    before = most_kib()
    rounds = [(timed(lambda: hashed(result)), timed(apply)) for _round in range(ROUNDS)]
    for clock in (0, 1):
        print(min(applying[clock] for _hashing, applying in rounds) / min(hashing[clock] for hashing, _rest in rounds))
    print(most_kib() - before)


if __name__ == "__main__":
    main()
