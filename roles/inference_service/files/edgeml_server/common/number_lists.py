# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Large requests in JSON: the numbers of an input go straight into an array, without an object of Python for each.

pysimdjson does that where it is installed. It accepts and reads what orjson does, so whatever it refuses goes to the
usual parser, which says why.
"""

from __future__ import annotations

import importlib
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np

Array = Any

LARGE_BYTES = 32 << 10
"""Below this there is nothing to gain."""

# A parser keeps about two and a half times the size of its largest document. Those of larger ones are not kept.
_KEPT_BYTES = 4 << 20

_thread = threading.local()

_BUFFER_TYPES = {"f": "d", "i": "i", "u": "u"}
# What pysimdjson raises for a document or an element that it does not take.
_REFUSALS = (ValueError, TypeError, RuntimeError)


class NumberList:
    """A list of a JSON document that is nested evenly: ``lengths`` are its length and those of the lists in it.

    What the elements are is not known before they are asked for.
    """

    def __init__(self, parsed: Any, lengths: list[int]) -> None:
        self._parsed = parsed
        self.lengths = lengths

    def array(self, kind: str) -> Array | None:
        """The elements, flat, as the widest type of NumPy's ``kind`` (``f``, ``i``, ``u``); None if they do not fit."""
        if kind not in _BUFFER_TYPES:
            return None
        try:
            return np.frombuffer(self._parsed.as_buffer(of_type=_BUFFER_TYPES[kind]), f"{kind}8")
        except _REFUSALS:
            return None

    def as_list(self) -> list[Any]:
        """The list as any JSON parser returns it."""
        found: list[Any] = self._parsed.as_list()
        return found


def parse_large_request(text: bytes | bytearray, large_bytes: int = LARGE_BYTES) -> dict[str, Any] | None:
    """Parse an inference request of ``large_bytes`` or more; its inputs' ``data`` are ``NumberList`` then.

    None: it is smaller, pysimdjson is not installed, or the document needs the usual parser.
    """
    # Anything else than an object at the start is refused, and so is a byte order mark.
    if len(text) < large_bytes or text[:1] != b"{":
        return None
    try:
        simdjson = importlib.import_module("simdjson")
        return _document(simdjson, _parse(simdjson, text), text)
    except (ImportError, *_REFUSALS):
        return None


def _parse(simdjson: Any, text: bytes | bytearray) -> Any:
    """Parse with this thread's parser, whose memory serves one document after the other."""
    parser = getattr(_thread, "parser", None)
    try:
        if parser is None or len(text) > _KEPT_BYTES:
            parser = simdjson.Parser()
            if len(text) <= _KEPT_BYTES:
                _thread.parser = parser
        return parser.parse(text)
    except RuntimeError:
        # Something still holds the document before this one, such as an error's traceback.
        return simdjson.Parser().parse(text)


def _document(simdjson: Any, parsed: Any, text: bytes | bytearray) -> dict[str, Any] | None:
    document = _members(parsed)
    numbers: list[NumberList] = []
    inputs = document.get("inputs")
    if isinstance(inputs, simdjson.Array):
        document["inputs"] = [_input(simdjson, item, numbers) for item in inputs]
    plain = {name: _plain(simdjson, value) for name, value in document.items()}
    # An element may be a list where its neighbours are none, which nothing but the number of lists tells. A bracket in
    # a text counts as well; then the usual parser has the document.
    lists = sum(map(_lists, plain.values())) + sum(_lists_in(found.lengths) for found in numbers)
    return None if _has_more(text, b"[", lists) else plain


def _has_more(text: bytes | bytearray, character: bytes, count: int) -> bool:
    """Whether a text has a character more than ``count`` times. ``bytes.count`` takes longer where it is rare."""
    place = -1
    for _turn in range(count):
        place = text.find(character, place + 1)
    return text.find(character, place + 1) >= 0


def _members(found: Any) -> dict[str, Any]:
    """The members of an object, of which only texts, numbers and constants are converted. Raises ValueError."""
    names = list(found.keys())
    if len(set(names)) < len(names):
        raise ValueError("a name is given twice")
    return {name: found[name] for name in names}


def _input(simdjson: Any, item: Any, numbers: list[NumberList]) -> Any:
    if not isinstance(item, simdjson.Object):
        return _plain(simdjson, item)
    found = {}
    for name, value in _members(item).items():
        if name == "data" and isinstance(value, simdjson.Array):
            found[name] = NumberList(value, _lengths(simdjson, value))
            numbers.append(found[name])
        else:
            found[name] = _plain(simdjson, value)
    return found


def _plain(simdjson: Any, value: Any) -> Any:
    if isinstance(value, simdjson.Array):
        return value.as_list()
    return value.as_dict() if isinstance(value, simdjson.Object) else value


def _lengths(simdjson: Any, data: Any) -> list[int]:
    """The lengths of the nested lists, level by level. Raises ValueError where those of one level differ."""
    lengths = []
    level = [data]
    while level:
        found = set(map(len, level))
        if len(found) > 1:
            raise ValueError("lists of several lengths")
        lengths.append(found.pop())
        nested = bool(lengths[-1]) and isinstance(level[0][0], simdjson.Array)
        level = [item for each in level for item in each] if nested else []
        if not all(isinstance(item, simdjson.Array) for item in level):
            raise ValueError("lists beside other elements")
    return lengths


def _lists_in(lengths: list[int]) -> int:
    """How many lists a list with these lengths is made of, itself included."""
    return sum(int(np.prod(lengths[:depth], dtype=np.int64)) for depth in range(len(lengths)))


def _lists(value: Any) -> int:
    return sum(isinstance(item, list) for item in _values(value))


def _values(value: Any) -> Iterator[Any]:
    """A value of JSON and all that is in it."""
    waiting = [value]
    while waiting:
        item = waiting.pop()
        yield item
        if isinstance(item, list):
            waiting += item
        elif isinstance(item, dict):
            waiting += item.values()
