# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Names of classes: where they come from, and Triton's classification extension, which answers with them."""

from __future__ import annotations

import ast
import json
import math
from typing import Any, Mapping, Sequence

import numpy as np

from edgeml_server.common.errors import InvalidRequestError, ModelError
from edgeml_server.common.tensors import Array, TensorSpec

ClassNames = Mapping[str, Sequence[str]]
"""The names of an output's classes, in the order of its scores."""

# What exporters call them in a file's own metadata.
_KEYS = ("names", "classes", "labels", "class_names")
_TEXT_CHARACTERS_MAX = 1 << 18


def class_names(
    declared: ClassNames, own: ClassNames, metadata: Mapping[str, str], outputs: Sequence[TensorSpec]
) -> dict[str, Sequence[str]]:
    """Return the names of each output's classes: as the manifest declares them, else as the model ``own`` has them.

    Those of its file's metadata belong to the one output with as many scores. Raises ModelError when what the manifest
    declares does not fit the model.
    """
    specs = {spec.name: spec for spec in outputs}
    for name, names in declared.items():
        if name not in specs:
            raise ModelError(f"classes: expected the names of outputs, {', '.join(specs)}; found {name!r}")
        size = specs[name].shape[-1] if specs[name].shape else -1
        if size not in (-1, len(names)):
            raise ModelError(f"classes: output {name!r}: expected {size} names; found {len(names)}")
    found = {**own, **declared}
    if not found:
        for names in filter(None, (_parsed(metadata.get(key, "")) for key in _KEYS)):
            fitting = [spec.name for spec in outputs if spec.shape and spec.shape[-1] == len(names)]
            if len(fitting) == 1:
                return {fitting[0]: names}
    return found


def classify(values: Array, count: int, names: Sequence[str]) -> Array:
    """Return the ``count`` highest scores of each row as texts ``score:class`` or ``score:class:name``, as Triton does.

    Raises InvalidRequestError for an output that has no numbers.
    """
    if values.dtype.kind not in "fiu":
        raise InvalidRequestError("classification: expected an output of numbers; this one has none")
    rows = values.reshape(len(values), math.prod(values.shape[1:])) if values.ndim > 1 else values.reshape(1, -1)
    count = min(count, rows.shape[1])
    texts = np.empty((len(rows), count), dtype=object)
    for place, row in enumerate(rows):
        texts[place] = [_text(row[index], int(index), names) for index in _highest(row, count)]
    return texts if values.ndim > 1 else texts.reshape(-1)


def _highest(row: Array, count: int) -> Array:
    """The places of the highest values, the highest first; of equal ones the first, and NaN last."""
    if row.dtype.kind == "f":
        row = np.where(np.isnan(row), -np.inf, row)
    backwards = np.argsort(row[::-1], kind="stable")[::-1]
    return (len(row) - 1 - backwards)[:count]


def _text(value: Any, index: int, names: Sequence[str]) -> str:
    score = f"{value:f}" if isinstance(value, np.floating) else str(value)
    return f"{score}:{index}:{names[index]}" if index < len(names) else f"{score}:{index}"


def _parsed(text: str) -> list[str]:
    """Names as exporters write them: a list in JSON, or Python's own list or dictionary of them; [] for others."""
    if not text or len(text) > _TEXT_CHARACTERS_MAX:
        return []
    for parse in (json.loads, ast.literal_eval):
        try:
            found = parse(text)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            continue
        if isinstance(found, dict):
            places = {str(place): name for place, name in found.items()}
            found = [places.get(str(place)) for place in range(len(places))]
        if isinstance(found, (list, tuple)) and found and all(isinstance(name, str) for name in found):
            return list(found)
    return []
