# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""Rows as a table for people."""

from __future__ import annotations

from typing import Any, Mapping, Sequence


def text_table(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The rows as aligned lines, under a heading made of the first row's keys."""
    if not rows:
        return []
    cells = [[str(name) for name in rows[0]]]
    cells += [["-" if row.get(name) is None else str(row[name]) for name in rows[0]] for row in rows]
    widths = [max(len(line[column]) for line in cells) for column in range(len(cells[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip() for line in cells]
