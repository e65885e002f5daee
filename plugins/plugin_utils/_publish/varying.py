# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""Outputs whose sizes vary from sample to sample, such as boxes: arrays with rows filled up with NaN at the end."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Mapping, Sequence

from ansible_collections.edgeml.fleet.plugins.module_utils._release.datatypes import NUMBERS

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Varying:
    """An output as the model has it: its datatype, and the shape of each sample's."""

    datatype: str
    shapes: Sequence[Sequence[int]]

    @property
    def is_exact(self) -> bool:
        """Whether its values are no floats, and so are the same everywhere or wrong."""
        return self.datatype not in ("FP16", "FP32", "FP64")

    def sizes(self) -> Array:
        """How many values each sample has."""
        import numpy as np

        return np.array([math.prod(shape) for shape in self.shapes])

    def sample(self, values: Array, row: int) -> Array:
        """A sample's values as the model has them; ``values`` are the filled ones of all samples."""
        import numpy as np

        shape = self.shapes[row]
        exact = values[row].reshape(-1)[: math.prod(shape)].reshape(tuple(shape))
        return np.ascontiguousarray(exact.astype(np.dtype(NUMBERS[self.datatype][0])))


def varying_outputs(said: Mapping[str, Any]) -> dict[str, Varying]:
    """The outputs with varying sizes, by what the tool that ran the samples said."""
    datatypes = {spec["name"]: spec["datatype"] for spec in said.get("outputs", ())}
    return {name: Varying(datatypes[name], shapes) for name, shapes in said.get("shapes", {}).items()}


def filled_sizes(values: Array) -> Array:
    """How many values each row of an array has before the NaN at its end."""
    import numpy as np

    there = ~np.isnan(values.reshape(len(values), -1).astype(np.float64))
    return np.where(there.any(axis=1), there.shape[1] - there[:, ::-1].argmax(axis=1), 0)


def like(values: Array, other: Array) -> Array:
    """The rows of an array in the shape of another's: cut, or filled up with NaN, where they are of another size."""
    import numpy as np

    if values.shape == other.shape:
        return values
    flat, size = values.reshape(len(values), -1), math.prod(other.shape[1:])
    found = np.full((len(values), size), np.nan, values.dtype)
    found[:, : flat.shape[1]] = flat[:, :size]
    return found.reshape(other.shape)
