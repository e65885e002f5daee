# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""Checks of JSON values. Each raises ManifestError: the field, what was expected, what was found. Pure."""

from __future__ import annotations

import re
from typing import Any, Iterable, Mapping

from .._common.errors import ManifestError
from .._common.records import is_number, is_whole

FILE_BYTES_MAX = 1 << 40
SECONDS_MAX = 3600
# JSON can spell half a character, which UTF-8 cannot.
_SURROGATE = re.compile("[\ud800-\udfff]")


def check_entries(value: Any, field: str, most: int) -> Mapping[str, Any]:
    """An object with names of the author's choice, 1 to ``most`` of them."""
    if not isinstance(value, Mapping) or not 1 <= len(value) <= most:
        found = f"{len(value)} entries" if isinstance(value, Mapping) else shown(value)
        raise ManifestError(f"{field}: expected an object with 1 to {most} entries; found {found}")
    return value


def check_fields(
    value: Any, field: str, required: tuple[str, ...], optional: tuple[str, ...] = ()
) -> Mapping[str, Any]:
    """An object that has the ``required`` fields, and none beside them and the ``optional`` ones."""
    if not isinstance(value, Mapping):
        raise ManifestError(f"{field}: expected an object; found {shown(value)}")
    missing = [name for name in required if name not in value]
    if missing:
        raise ManifestError(f"{field}: missing {', '.join(missing)}")
    unknown = [shown(name) for name in value if name not in required and name not in optional]
    if unknown:
        raise ManifestError(f"{field}: unknown {', '.join(unknown[:5])}; expected {', '.join(required + optional)}")
    return value


def check_list(value: Any, field: str, most: int) -> list[Any]:
    """A list of 1 to ``most`` entries."""
    if not isinstance(value, list) or not 1 <= len(value) <= most:
        found = f"{len(value)} entries" if isinstance(value, list) else shown(value)
        raise ManifestError(f"{field}: expected a list of 1 to {most} entries; found {found}")
    return value


def check_text(value: Any, field: str) -> None:
    """A text that UTF-8 can spell."""
    if not isinstance(value, str) or len(value) > 4096 or _SURROGATE.search(value):
        raise ManifestError(f"{field}: expected a text of at most 4096 Unicode characters; found {shown(value)}")


def check_count(value: Any, field: str) -> int:
    """A whole number from 0."""
    if not is_whole(value) or not 0 <= value <= FILE_BYTES_MAX:
        raise ManifestError(f"{field}: expected a whole number from 0 to {FILE_BYTES_MAX}; found {shown(value)}")
    return int(value)


def check_seconds(value: Any, field: str) -> float | None:
    """Seconds above 0; None where there is no value."""
    if value is None:
        return None
    if not is_number(value) or not 0 < value <= SECONDS_MAX:
        raise ManifestError(f"{field}: expected seconds above 0, at most {SECONDS_MAX}; found {shown(value)}")
    return float(value)


def check_unique(values: Iterable[Any], field: str) -> None:
    """No value twice."""
    seen = set()
    for value in values:
        if value in seen:
            raise ManifestError(f"{field}: expected each once; found {shown(value)} twice")
        seen.add(value)


def shown(value: Any) -> str:
    """A value as errors quote it: as Python spells it, and not whole where it is long."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}... ({len(text)} characters)"
