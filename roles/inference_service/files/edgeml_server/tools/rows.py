# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Many rows, run through a loaded model in batches that it takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from edgeml_server.common.tensors import Array, TensorSpec
from edgeml_server.models.backend import Backend

BATCH_ROWS = 32


def run_rows(
    backend: Backend, inputs: Mapping[str, Array], *, batch_rows: int = BATCH_ROWS, filled: bool = False
) -> dict[str, Array]:
    """Return the outputs for all rows of the inputs, as ``run_batches`` computes them. Raises what that raises."""
    return joined(run_batches(backend, inputs, batch_rows=batch_rows, filled=filled))


def joined(batches: Sequence[Mapping[str, Array]]) -> dict[str, Array]:
    """The outputs of batches, one after the other. Raises ValueError where their shapes do not fit each other."""
    return {name: np.concatenate([batch[name] for batch in batches]) for name in batches[0]}


def run_batches(
    backend: Backend, inputs: Mapping[str, Array], *, batch_rows: int = BATCH_ROWS, filled: bool = False
) -> list[dict[str, Array]]:
    """Return the outputs of each batch of the inputs' rows: of the model's own size, or else of ``batch_rows``.

    Where that size is fixed, the rows that do not fill a batch are left out; with ``filled``, the last row is repeated
    to fill it, and the outputs of the copies are dropped.

    Inputs that are ``given_once`` go with each of the rows, which then run one by one.
    Raises ValueError when the inputs have different numbers of rows, or too few for one batch.
    """
    names = [spec.name for spec in backend.outputs]
    once = given_once(backend, inputs)
    rows = [spec for spec in backend.inputs if inputs[spec.name].ndim and spec.name not in once]
    counts = {len(inputs[spec.name]) for spec in rows}
    if len(counts) > 1 or (once and not rows):
        found = {spec.name: len(inputs[spec.name]) for spec in backend.inputs if inputs[spec.name].ndim}
        raise ValueError(f"expected as many rows of each input; found {found}")
    count = counts.pop() if counts else 1
    sizes = {_batch_size(spec) for spec in rows} - {None}
    if len(sizes) > 1:
        raise ValueError(f"expected one size of batches; the model's inputs have {sorted(map(str, sizes))}")
    fixed = sizes.pop() if sizes else None
    size = fixed or (1 if once else min(count, batch_rows))
    batches = []
    for start in range(0, count - size + 1 if fixed and not filled else count, size):
        batch = {spec.name: _slice(spec, inputs[spec.name], start, size) for spec in backend.inputs}
        missing = size - min(size, count - start) if fixed else 0
        if missing:
            batch = {name: _filled(values, missing) for name, values in batch.items()}
        batch.update({name: inputs[name] for name in once})
        outputs = [np.atleast_1d(output) for output in backend.run(batch, names)]
        kept = [output[: len(output) - missing] for output in outputs] if missing else outputs
        batches.append(dict(zip(names, kept)))
    if not batches:
        raise ValueError(f"expected at least {size} rows, one batch of the model; found {count}")
    return batches


def given_once(backend: Backend, inputs: Mapping[str, Array]) -> set[str]:
    """The inputs that are of the model's own fixed size, where others have another number of rows.

    Such is the state of a recurrent layer, whose first dimension is that of the layers.
    """
    counts = {spec.name: len(inputs[spec.name]) for spec in backend.inputs if inputs[spec.name].ndim}
    if len(set(counts.values())) < 2:
        return set()
    return {spec.name for spec in backend.inputs if counts.get(spec.name) == _batch_size(spec)}


def _batch_size(spec: TensorSpec) -> int | None:
    """The number of rows that the model takes at once; None for any."""
    if not spec.shape:
        return None if spec.any_rank else 1
    return None if spec.shape[0] == -1 else spec.shape[0]


def _slice(spec: TensorSpec, values: Array, start: int, size: int) -> Array:
    if not values.ndim:
        return values
    return values[start : start + size] if spec.shape or spec.any_rank else values[start : start + 1].reshape(())


def _filled(values: Array, missing: int) -> Array:
    return np.concatenate([values, np.repeat(values[-1:], missing, axis=0)]) if values.ndim else values
