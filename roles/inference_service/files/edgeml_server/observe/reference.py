# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A release's drift reference: how some statistics of its tensors were distributed when it was made."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from edgeml_server.common.errors import ModelError
from edgeml_server.common.tensors import Array, TensorSpec, is_whole

SCHEMA = 1
SERIES_MAX = 64
_BINS_MAX = 1000
_STATISTICS = {
    "mean": lambda rows: rows.mean(axis=1),
    "deviation": lambda rows: rows.std(axis=1),
    "minimum": lambda rows: rows.min(axis=1),
    "maximum": lambda rows: rows.max(axis=1),
    "argmax": lambda rows: rows.argmax(axis=1),
}


class Series(NamedTuple):
    """One statistic of a tensor's rows and how it was distributed: ``counts`` in the bins between the ``edges``.

    An edge belongs to the bin above it; the first and the last bin have no end. Without edges the values are the bins'
    numbers. The statistic is one of _STATISTICS, or a number: the element at that place of each row.
    """

    name: str
    tensor: str
    statistic: str | int
    edges: Array | None
    counts: Array

    def values(self, tensor: Array) -> Array:
        """The statistic of each row."""
        rows = tensor.reshape(len(tensor), -1) if tensor.ndim else tensor.reshape(1, 1)
        if isinstance(self.statistic, int):
            return rows[:, self.statistic]
        return _STATISTICS[self.statistic](rows)

    def histogram(self, values: Array) -> Array:
        """How many of the values fall into each bin."""
        return np.bincount(self.bins(values), minlength=len(self.counts))

    def bins(self, values: Array) -> Array:
        """The number of the bin that each of the values falls into; NaN falls into the last."""
        if self.edges is None:
            return np.clip(values, 0, len(self.counts) - 1).astype(np.int64)
        return np.searchsorted(self.edges, values, side="right")


def read_reference(path: str, tensors: Sequence[TensorSpec]) -> tuple[Series, ...]:
    """Read the reference file at ``path``, made for a model with these ``tensors``. Raises ModelError."""
    try:
        with open(path, "rb") as file:
            document = json.load(file)
        if document["schema"] != SCHEMA:
            raise ValueError(f"schema: expected {SCHEMA}; found {document['schema']!r}")
        known = {spec.name: spec for spec in tensors}
        found = tuple(_series(item, known) for item in document["series"])
        if not 1 <= len(found) <= SERIES_MAX or len({series.name for series in found}) < len(found):
            raise ValueError(f"series: expected 1 to {SERIES_MAX} with different names; found {len(found)}")
        return found
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise ModelError(f"{path}: not a drift reference for this model: {error!r}") from error


def _series(item: Mapping[str, Any], tensors: Mapping[str, TensorSpec]) -> Series:
    name, tensor, statistic = item["name"], item["tensor"], item["statistic"]
    if not isinstance(name, str) or tensor not in tensors or tensors[tensor].datatype == "BYTES":
        raise ValueError(f"expected a name and one of the tensors of numbers; found {name!r}, {tensor!r}")
    sizes = tensors[tensor].shape[1:]
    fits = (
        0 <= statistic < (math.prod(sizes) if -1 not in sizes else 0)
        if is_whole(statistic)
        else (statistic in _STATISTICS)
    )
    if not fits:
        raise ValueError(
            f"{name}: statistic: expected {', '.join(_STATISTICS)} or a place in a row; found {statistic!r}"
        )
    counts = np.array(item["counts"], np.float64)
    edges = None if item.get("edges") is None else np.array(item["edges"], np.float64)
    if counts.ndim != 1 or not 2 <= len(counts) <= _BINS_MAX or not (counts >= 0).all() or not 0 < counts.sum() < 1e15:
        raise ValueError(f"{name}: counts: expected 2 to {_BINS_MAX} numbers, not all 0")
    if edges is not None and (edges.shape != (len(counts) - 1,) or not (np.diff(edges) > 0).all()):
        raise ValueError(f"{name}: edges: expected {len(counts) - 1}, ascending")
    return Series(name, tensor, statistic, edges, counts)
