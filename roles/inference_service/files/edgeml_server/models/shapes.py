# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Checks the sizes of inputs before they reach a runtime, and distinguishes client errors from model failures.

Kernels check less than one expects: with a size of 0, or one far larger than the model was made for, some read memory
that is not theirs, and end the process with every model in it. So a variable size may be 1 to ``FACTOR`` times that of
the golden inputs, or to ``FLOOR`` where that is more; a release allows others by ``size_ranges`` in its golden file.
Without golden inputs only 0 is known to be unusual.
"""

from __future__ import annotations

import threading
from typing import Mapping, NamedTuple, Sequence

from edgeml_server.common.errors import InvalidRequestError
from edgeml_server.common.tensors import Array, TensorSpec, shown

from .backend import Backend, BackendWrapper, RunError

FACTOR = 64
FLOOR = 1024
_KNOWN_SHAPES_MAX = 64
_REMEMBERED_BYTES_MAX = 1 << 20


class SizeRange(NamedTuple):
    """The sizes that a dimension may have, both included; ``most`` None: any from ``least`` on."""

    least: int
    most: int | None

    def __str__(self) -> str:
        return f"{self.least} or more" if self.most is None else f"{self.least} to {self.most}"


SizeRanges = Mapping[str, Sequence[SizeRange]]


def usual_range(golden_size: int | None) -> SizeRange:
    """The sizes that a variable dimension may have, by that of the golden inputs (None: there are none)."""
    if golden_size is None:
        return SizeRange(1, None)
    return SizeRange(min(1, golden_size), max(FLOOR, FACTOR * golden_size))


class ShapeCheckedBackend(BackendWrapper):
    """A loaded model that refuses unusual sizes, and blames a request for a failure only with evidence.

    ``golden`` are inputs that the model has answered, None when there are none; ``allowed`` is what the release says
    of its inputs' sizes.
    """

    def __init__(self, backend: Backend, golden: Mapping[str, Array] | None, allowed: SizeRanges) -> None:
        super().__init__(backend)
        self._ranges = {spec.name: _ranges(spec, golden, allowed.get(spec.name)) for spec in backend.inputs}
        self._names = [spec.name for spec in backend.inputs]
        self._lock = threading.Lock()
        self._answered = golden
        self._known_shapes = {self._shapes(golden)} if golden is not None else set()

    def with_own_state(self) -> Backend:
        # What it has answered was answered in another state, and to ask it again would change this one.
        return ShapeCheckedBackend(self._backend.with_own_state(), None, self._ranges)

    def run(self, inputs: Mapping[str, Array], outputs: Sequence[str]) -> list[Array]:
        self._check_sizes(inputs)
        try:
            results = self._backend.run(inputs, outputs)
        except RunError as error:
            if self._is_the_requests_fault(inputs, outputs):
                sizes = ", ".join(f"{name!r} {list(inputs[name].shape)}" for name in self._names)
                raise InvalidRequestError(f"the model cannot run on inputs of these sizes: {sizes}: {error}") from None
            raise
        shapes = self._shapes(inputs)
        if shapes not in self._known_shapes:
            self._remember(shapes, inputs)
        return results

    def _check_sizes(self, inputs: Mapping[str, Array]) -> None:
        for name, values in inputs.items():
            ranges = self._ranges[name]
            if len(ranges) != values.ndim:
                ranges = [usual_range(None)] * values.ndim
            for place, (size, allowed) in enumerate(zip(values.shape, ranges)):
                if size < allowed.least or (allowed.most is not None and size > allowed.most):
                    raise InvalidRequestError(
                        f"input {name!r}: shape: expected {allowed} at place {place}, as the release says or its "
                        f"golden inputs show; found {shown(list(values.shape))}"
                    )

    def _is_the_requests_fault(self, inputs: Mapping[str, Array], outputs: Sequence[str]) -> bool:
        """Whether the model fails on sizes that it has never answered, and still answers what it has."""
        answered = self._answered
        if answered is None or self._shapes(inputs) in self._known_shapes:
            return False
        try:
            self._backend.run(answered, outputs)
        except Exception:
            return False
        return True

    def _remember(self, shapes: object, inputs: Mapping[str, Array]) -> None:
        with self._lock:
            if len(self._known_shapes) < _KNOWN_SHAPES_MAX:
                self._known_shapes.add(shapes)
            if self._answered is None and sum(values.nbytes for values in inputs.values()) <= _REMEMBERED_BYTES_MAX:
                self._answered = {name: values.copy() for name, values in inputs.items()}

    def _shapes(self, inputs: Mapping[str, Array]) -> object:
        return tuple([inputs[name].shape for name in self._names])


def _ranges(
    spec: TensorSpec, golden: Mapping[str, Array] | None, allowed: Sequence[SizeRange] | None
) -> Sequence[SizeRange]:
    if allowed is not None:
        return allowed
    shape = None if golden is None else golden[spec.name].shape
    if spec.any_rank:
        return [usual_range(size) for size in shape or ()]
    return [
        usual_range(None if shape is None else shape[place]) if size == -1 else SizeRange(size, size)
        for place, size in enumerate(spec.shape)
    ]
