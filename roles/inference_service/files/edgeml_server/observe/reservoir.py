# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which of many inputs stay when there is room for few: a fair share for each reason, class and hour. Pure.

Inputs that have reason, class and hour in common are one cell. When there is no room, the largest cell gives way; and
of a cell that is the largest itself, what stays is a uniform sample of all that it was offered (Vitter, Random
sampling with a reservoir, ACM Transactions on Mathematical Software 11(1), 1985). So neither a class that the model
always gets wrong nor a camera that was covered for a minute takes the place of everything else.
"""

from __future__ import annotations

import random
from collections.abc import Collection
from typing import NamedTuple


class Cell(NamedTuple):
    """What the inputs of a cell have in common: the reason, the class that was answered, the hour of the request."""

    reason: str
    predicted: object
    hour: int


class Held(NamedTuple):
    """An input that is kept: the ``size`` of its file, ``time`` of its request, its cell, whether it has a label."""

    size: int
    time: float
    cell: Cell
    labelled: bool


class Reservoir:
    """At most ``rows`` inputs of ``bytes`` together, by their digests."""

    def __init__(self, rows: int, size: int, chance: random.Random) -> None:
        self._rows = rows
        self._bytes = size
        self._chance = chance
        self._held: dict[str, Held] = {}
        self._cells: dict[Cell, list[str]] = {}
        self._offered: dict[Cell, int] = {}
        self.bytes = 0

    def __len__(self) -> int:
        """How many inputs are kept."""
        return len(self._held)

    def get(self, digest: str) -> Held | None:
        """The input with this digest, if it is kept."""
        return self._held.get(digest)

    def is_full(self, size: int) -> bool:
        """Whether one more input of this size has no room."""
        return len(self._held) >= self._rows or self.bytes + size > self._bytes

    def admit(self, cell: Cell, size: int) -> list[str] | None:
        """Which inputs give way for one of ``cell``, for the caller to ``remove``; None where it is not taken."""
        offered = self._offered[cell] = self._offered.get(cell, 0) + 1
        if size > self._bytes:
            return None
        left = {name: list(digests) for name, digests in self._cells.items()} if self.is_full(size) else {}
        rows, held_bytes, gone = len(self._held), self.bytes, list[str]()
        while rows >= self._rows or held_bytes + size > self._bytes:
            largest = max(left, key=lambda name: len(left[name]))
            own = left.get(cell, [])
            if len(own) >= len(left[largest]):
                # Each input that this cell was ever offered stays with the same chance.
                if not gone and self._chance.random() * offered >= len(own):
                    return None
                largest = cell
            digests = left[largest]
            digest = digests.pop(self._chance.randrange(len(digests)))
            rows, held_bytes = rows - 1, held_bytes - self._held[digest].size
            gone.append(digest)
        return gone

    def put(self, digest: str, held: Held) -> None:
        """Note an input that is kept from now on, in place of the same one."""
        self.remove(digest)
        self._held[digest] = held
        self._cells.setdefault(held.cell, []).append(digest)
        self.bytes += held.size

    def remove(self, digest: str) -> None:
        """Note that an input is kept no more, if it was."""
        held = self._held.pop(digest, None)
        if held is None:
            return
        self.bytes -= held.size
        self._cells[held.cell].remove(digest)
        if not self._cells[held.cell]:
            del self._cells[held.cell]

    def retain(self, digests: Collection[str]) -> None:
        """Note that all others were taken away."""
        for digest in [digest for digest in self._held if digest not in digests]:
            self.remove(digest)

    def older_than(self, time: float) -> list[str]:
        """The inputs of requests before ``time``."""
        return [digest for digest, held in self._held.items() if held.time < time]

    def forget_offers(self, hour: int) -> None:
        """Forget how many inputs were offered to cells of hours before ``hour`` that have none."""
        for cell in [cell for cell in self._offered if cell.hour < hour and cell not in self._cells]:
            del self._offered[cell]
