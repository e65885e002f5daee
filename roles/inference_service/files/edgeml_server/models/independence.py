# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The proof that a model's rows are independent, without which its requests never run together.

Every row must have the same outputs alone as in a batch: with rows before, behind and around it, in reverse order, next
to rows that no golden input resembles, and next to rows of another scale. So models are found whose answer for one
client depends on another's request: that walk along the first axis (an LSTM over time, a running sum), that normalise
over it, or whose activations are quantised by the largest value of the batch. Those whose file has an operator for the
last are never batched: which values a client's rows have, such as a word that no golden row has, shows no proof.
"""

from __future__ import annotations

import functools
from typing import Callable, Iterator, Mapping, NamedTuple, Sequence

import numpy as np

from edgeml_server.common.tensors import Array

from .backend import Backend

GOLDEN_ROWS_MAX = 4
_SCALES = (1000.0, -0.001)
# How close a row's outputs in a batch must be to those alone: runtimes may add in another order. The absolute
# difference grows with the largest of the outputs, from which small ones may be differences.
_RELATIVE, _ABSOLUTE = 1e-3, 1e-5


_Run = Callable[[Mapping[str, Array]], Sequence[Array]]


class _Row(NamedTuple):
    """One row of each input, and the outputs that the model has for it alone."""

    inputs: Mapping[str, Array]
    alone: Sequence[Array]


def has_independent_rows(backend: Backend, golden: Mapping[str, Array]) -> bool:
    """Whether each row of the golden inputs has the same outputs in every batch as alone. Not proved is no."""
    if backend.couples_rows:
        return False
    if any(not spec.shape or spec.shape[0] != -1 for spec in [*backend.inputs, *backend.outputs]):
        return False
    counts = {len(values) for values in golden.values()}
    if len(counts) != 1 or 0 in counts:
        return False
    names = [spec.name for spec in backend.outputs]

    def run(inputs: Mapping[str, Array]) -> Sequence[Array]:
        return backend.run(inputs, names)

    try:
        own = [
            _alone(run, {name: values[place : place + 1] for name, values in golden.items()})
            for place in range(min(counts.pop(), GOLDEN_ROWS_MAX))
        ]
        foreign = list(_foreign_rows(run, own[0].inputs))
        if len(own) + len(foreign) < 2:
            return False
        return all(_same_in_batch(run, rows) for rows in _arrangements(own, foreign))
    except Exception:
        return False


def _alone(run: _Run, inputs: Mapping[str, Array]) -> _Row:
    return _Row(inputs, run(inputs))


def _foreign_rows(run: _Run, row: Mapping[str, Array]) -> Iterator[_Row]:
    """Rows unlike the golden one, as far as the model takes them: it may refuse what is out of its range."""
    scaled = [functools.partial(_scaled, scale) for scale in _SCALES]
    makers: list[Callable[[Array], Array]] = [_zeros, _backwards, *scaled]
    for make in makers:
        try:
            yield _alone(run, {name: make(values) for name, values in row.items()})
        except Exception:
            continue


def _zeros(values: Array) -> Array:
    return np.full_like(values, "" if values.dtype == object else 0)


def _backwards(values: Array) -> Array:
    return np.ascontiguousarray(values.reshape(-1)[::-1].reshape(values.shape))


def _scaled(scale: float, values: Array) -> Array:
    """Numbers on another scale; of what has no scale (whole numbers may be places in a table) the largest or least."""
    if values.dtype.kind == "f":
        with np.errstate(over="ignore"):
            return (values * scale).astype(values.dtype)
    if values.dtype == object or not values.size:
        return values
    return np.full_like(values, values.max() if scale > 1 else values.min())


def _arrangements(own: Sequence[_Row], foreign: Sequence[_Row]) -> Iterator[Sequence[_Row]]:
    """Batches with each golden row at the start, at the end and in the middle."""
    yield own
    yield own[::-1]
    yield [*own, *foreign]
    yield [*foreign, *own]
    around = [row for each in own for row in (*foreign, each)] + [*foreign]
    yield around
    yield around[::-1]


def _same_in_batch(run: _Run, rows: Sequence[_Row]) -> bool:
    batch = {name: np.concatenate([row.inputs[name] for row in rows]) for name in rows[0].inputs}
    results = run(batch)
    return all(len(result) == len(rows) for result in results) and all(
        _same(result[place : place + 1], alone)
        for place, row in enumerate(rows)
        for result, alone in zip(results, row.alone)
    )


def _same(first: Array, second: Array) -> bool:
    if first.shape != second.shape:
        return False
    if first.dtype.kind != "f":
        return bool((first == second).all())
    finite = np.abs(second[np.isfinite(second)].astype(np.float64))
    absolute = _ABSOLUTE * max(1.0, float(finite.max(initial=0.0)))
    return bool(np.isclose(first, second, rtol=_RELATIVE, atol=absolute, equal_nan=True).all())
