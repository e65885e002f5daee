# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a model answers to samples, one row for each, also where their sizes vary, as the number of boxes does."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from edgeml_server.common.tensors import Array
from edgeml_server.models.backend import Backend

from .rows import joined, run_batches

# The largest whole number up to which a float of 64 bits has each.
_EXACT_MAX = 1 << 53


@dataclass(frozen=True)
class Answers:
    """``outputs`` have one row for each sample. Those whose sizes vary are filled up with NaN at the end of each, whole
    numbers among them as floats of 64 bits; ``shapes`` has the shape of each sample's, and ``parts`` the values.
    """

    outputs: dict[str, Array]
    shapes: dict[str, list[list[int]]] = field(default_factory=dict)
    parts: list[dict[str, Array]] = field(default_factory=list)

    def rows(self) -> dict[str, Array]:
        """The outputs as clients get them, one after the other; without those that do not fit each other."""
        found = dict(self.outputs)
        for name in self.shapes:
            del found[name]
            if len({tuple(shape[1:]) for shape in self.shapes[name]}) == 1:
                found[name] = joined_alone(name, self.parts)
        return found


def answers_of(backend: Backend, samples: Mapping[str, Array]) -> Answers:
    """Run the samples in batches, and one by one where that shows that the sizes of their answers vary.

    Raises ValueError for such a model that takes only several samples at once, and for what floats cannot hold.
    """
    count = max((len(values) for values in samples.values() if values.ndim), default=1)
    batches = run_batches(backend, samples, filled=True)
    try:
        together = joined(batches)
    except ValueError:
        together = {}
    if together and all(len(values) == count for values in together.values()):
        return Answers(together)
    if any(spec.shape and spec.shape[0] > 1 for spec in backend.inputs):
        if not together:
            raise ValueError("expected a model that takes one sample at once, as the sizes of its answers vary")
        return Answers(together)
    parts = batches if len(batches) == count else run_each(backend, samples, count)
    shapes = {name: [list(part[name].shape) for part in parts] for name in parts[0]}
    varying = [
        name
        for name in shapes
        if len(set(map(tuple, shapes[name]))) > 1 and all(part[name].dtype != object for part in parts)
    ]
    if not varying:
        return Answers(together or joined(parts))
    outputs = {
        name: _filled(name, [part[name] for part in parts]) if name in varying else joined_alone(name, parts)
        for name in shapes
    }
    return Answers(outputs, {name: shapes[name] for name in varying}, parts)


def run_each(backend: Backend, samples: Mapping[str, Array], count: int) -> list[dict[str, Array]]:
    """The outputs of each of the first ``count`` samples, alone."""
    parts = []
    for row in range(count):
        one = {name: values[row : row + 1] if values.ndim else values for name, values in samples.items()}
        parts += run_batches(backend, one)
    return parts


def joined_alone(name: str, parts: Sequence[Mapping[str, Array]]) -> Array:
    """One output of all samples."""
    return joined([{name: part[name]} for part in parts])[name]


def _filled(name: str, parts: Sequence[Array]) -> Array:
    """The parts in one array, filled up with NaN at the end of each; flat, where more than one size varies."""
    if all(part.ndim > 1 and len(part) == 1 for part in parts):
        parts = [part[0] for part in parts]
    trailing = {part.shape[1:] for part in parts}
    if len(trailing) > 1:
        parts, trailing = [part.reshape(-1) for part in parts], {()}
    (rest,) = trailing
    kind = parts[0].dtype
    if kind.kind != "f":
        if any(part.size and np.abs(part.astype(np.float64)).max() > _EXACT_MAX for part in parts):
            raise ValueError(f"output {name!r} of varying sizes: expected whole numbers up to 2^53; found larger ones")
        kind = np.dtype(np.float64)
    found = np.full((len(parts), max(map(len, parts)) * math.prod(rest)), np.nan, kind)
    for row, part in enumerate(parts):
        found[row, : part.size] = part.reshape(-1)
    return found.reshape(len(parts), -1, *rest)
