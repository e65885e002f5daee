# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""JSON documents, taken apart to be damaged in one place."""

from __future__ import annotations

import copy
from typing import Any

Place = tuple[Any, ...]
"""The keys and indices that lead to a value, from the top."""


def places(document: Any, place: Place = ()) -> list[Place]:
    """The path to every value in a document, from the top."""
    found = [place]
    if isinstance(document, (dict, list)):
        for key, value in document.items() if isinstance(document, dict) else enumerate(document):
            found += places(value, (*place, key))
    return found


def replaced(document: Any, place: Place, value: Any) -> Any:
    """A copy of the document with one value replaced."""
    if not place:
        return value
    copied = copy.deepcopy(document)
    inner: Any = copied
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    return copied
