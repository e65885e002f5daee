# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""Words: what people read, files keep and code compares."""

from __future__ import annotations

import enum


class Word(str, enum.Enum):
    """An enumeration whose members are texts."""

    def __str__(self) -> str:
        """Return the text itself, also in an f-string of Python 3.12 and later."""
        return str(self.value)
