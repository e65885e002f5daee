# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""How a device that reaches nobody looks less often: by leaving out moments of its timer, up to three in four.

It never looks at other moments than its own, so that a fleet whose origin was away does not come back at once.
"""

from __future__ import annotations

import os

FACTOR_MAX = 4


def skipped_after(failures: int) -> int:
    """How many moments are left out after so many polls in a row that reached nobody: polls are then 2 times as far
    apart as the timer's moments, and from the second one on FACTOR_MAX times."""
    return min(1 << min(failures, 8), FACTOR_MAX) - 1


class Backoff:
    """What a device notes of polls that reached nobody, in ``directory``, which is in memory and made by the unit.

    Where there is none, nothing is noted and no moment is left out.
    """

    def __init__(self, directory: str) -> None:
        self._path = os.path.join(directory, "unreached")

    def skips(self) -> bool:
        """Whether this moment of the timer is left out, which is noted."""
        failures, skips = self._read()
        if skips < 1:
            return False
        self._write(failures, skips - 1)
        return True

    def failed(self) -> int:
        """Note a poll that reached nobody; return how many moments are left out now."""
        failures = self._read()[0] + 1
        skips = skipped_after(failures)
        return skips if self._write(failures, skips) else 0

    def reached(self) -> None:
        """Note that somebody was reached."""
        try:
            os.unlink(self._path)
        except OSError:
            return

    def _read(self) -> tuple[int, int]:
        try:
            with open(self._path, encoding="ascii") as file:
                failures, skips = file.read().split()
            return int(failures), int(skips)
        except (OSError, ValueError):
            return 0, 0

    def _write(self, failures: int, skips: int) -> bool:
        try:
            with open(self._path, "w", encoding="ascii") as file:
                file.write(f"{failures} {skips}\n")
        except OSError:
            return False
        return True
