# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""Records and JSON values.

A record is a ``typing.NamedTuple``, not a dataclass: the import of ``dataclasses`` and what it generates for each class
took a quarter of a call's processor time on a small board.
"""

from __future__ import annotations

import math
from typing import Any, Mapping

_MISSING: Any = type("Nothing", (), {"__repr__": lambda self: "nothing"})()
# What a field may hold, by its annotation. A field of any other annotation is checked by whoever builds its value.
_TYPES: dict[str, tuple[type, ...]] = {
    "str": (str,),
    "bool": (bool,),
    "int": (int,),
    "float": (int, float),
    "int | None": (int, type(None)),
    "str | None": (str, type(None)),
    "Mapping[str, Any]": (dict,),
    "Mapping[str, str]": (dict,),
    "Mapping[str, Any] | None": (dict, type(None)),
    "Sequence[str]": (list, tuple),
}


def is_whole(value: Any) -> bool:
    """Return whether it is a whole number; true and false are none."""
    return isinstance(value, int) and not isinstance(value, bool)


def is_number(value: Any) -> bool:
    """Return whether it is a number, also one that is not finite; true and false are none."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def finite_json(value: Any) -> Any:
    """The value without NaN and infinities, which JSON does not have: such a number is None."""
    if isinstance(value, Mapping):
        return {name: finite_json(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite_json(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def spelled_types(kind: Any) -> dict[str, str]:
    """The annotation of each field of a record, as it is written."""
    return {name: getattr(hint, "__forward_arg__", str(hint)) for name, hint in kind.__annotations__.items()}


def build(kind: Any, document: Mapping[str, Any], finite: bool = True) -> Any:
    """A record of the type ``kind`` from its fields. Raises TypeError, which names the field, for a value of another
    type, for a number that is not finite (unless ``finite`` is false), and for a field that is missing or unknown."""
    for name, annotation in spelled_types(kind).items():
        expected = _TYPES.get(annotation)
        if expected is None or (name not in document and name in kind._field_defaults):
            continue
        value = document.get(name, _MISSING)
        right = isinstance(value, expected) and (bool in expected or not isinstance(value, bool))
        if not right or (finite and isinstance(value, float) and not math.isfinite(value)):
            raise TypeError(f"{kind.__name__}.{name}: expected {annotation}; found {value!r}")
    return kind(**document)


def as_document(record: Any) -> dict[str, Any]:
    """A record's fields as JSON values: those of the records in it, too."""
    return {
        name: as_document(value) if hasattr(value, "_asdict") else value for name, value in record._asdict().items()
    }
