# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""JSON: with orjson where it is installed, with the standard library elsewhere (32-bit ARM). Same results."""

from __future__ import annotations

import importlib
import json
from typing import Any

import numpy as np


def _import_orjson() -> Any:
    try:
        return importlib.import_module("orjson")
    except ImportError:
        return None


_orjson = _import_orjson()


def loads(text: bytes | bytearray | memoryview) -> Any:
    """Parse JSON in UTF-8. Raises ValueError."""
    if _orjson is not None:
        return _orjson.loads(text)
    decoded = bytes(text).decode("utf-8")
    try:
        found = json.loads(decoded, parse_constant=_refuse_constant)
        if "\\u" in decoded:
            # JSON can spell half a character, which UTF-8 cannot.
            json.dumps(found, ensure_ascii=False).encode("utf-8")
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    return found


def dumps(document: Any) -> bytes:
    """Write JSON in UTF-8. Takes contiguous numeric arrays; NaN and infinities become ``null``.

    Texts that were made of bytes that are no UTF-8 become these bytes again, as in Triton's replies.
    """
    if _orjson is not None:
        try:
            written: bytes = _orjson.dumps(document, option=_orjson.OPT_SERIALIZE_NUMPY)
            return written
        except _orjson.JSONEncodeError:
            # It writes nothing else than UTF-8.
            pass
    text = json.dumps(document, separators=(",", ":"), ensure_ascii=False, default=_array_as_list)
    return text.encode("utf-8", "surrogateescape")


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _array_as_list(value: Any) -> Any:
    if not isinstance(value, np.ndarray):
        raise TypeError(f"{type(value).__name__} is not JSON")
    if value.dtype.kind == "f" and not np.isfinite(value).all():
        return np.where(np.isfinite(value), value, np.array(None)).tolist()
    return value.tolist()
