# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Public names for a model's tensors: clients see one set of names, whatever each variant's file calls them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from edgeml_server.common.errors import ModelError
from edgeml_server.common.tensors import Array, TensorSpec

from .backend import Backend, BackendWrapper


class RenamedBackend(BackendWrapper):
    """A loaded model whose tensors have other names.

    ``inputs`` and ``outputs`` are the file's names by the public ones; a tensor that they leave out keeps its name.
    Raises ModelError when they do not fit the model.
    """

    def __init__(self, backend: Backend, inputs: Mapping[str, str], outputs: Mapping[str, str]) -> None:
        super().__init__(backend)
        self._names = (inputs, outputs)
        self.inputs = _renamed("inputs", backend.inputs, inputs)
        self.outputs = _renamed("outputs", backend.outputs, outputs)
        public = {own.name: spec.name for spec, own in zip(self.outputs, backend.outputs)}
        self.classes = {public[name]: names for name, names in backend.classes.items()}
        self._own_inputs = {spec.name: own.name for spec, own in zip(self.inputs, backend.inputs)}
        self._own_outputs = {spec.name: own.name for spec, own in zip(self.outputs, backend.outputs)}

    def run(self, inputs: Mapping[str, Array], outputs: Sequence[str]) -> list[Array]:
        own = {self._own_inputs[name]: values for name, values in inputs.items()}
        return self._backend.run(own, [self._own_outputs[name] for name in outputs])

    def with_own_state(self) -> Backend:
        return RenamedBackend(self._backend.with_own_state(), self._names[0], self._names[1])


def _renamed(kind: str, specs: Sequence[TensorSpec], names: Mapping[str, str]) -> list[TensorSpec]:
    own = [spec.name for spec in specs]
    unknown = sorted(set(names.values()) - set(own))
    if unknown:
        raise ModelError(f"tensors.{kind}: expected the file's names, {', '.join(own)}; found {unknown[0]!r}")
    public = {name: shown for shown, name in names.items()}
    renamed = [spec._replace(name=public.get(spec.name, spec.name)) for spec in specs]
    if len({spec.name for spec in renamed}) < len(renamed):
        raise ModelError(
            f"tensors.{kind}: expected each public name once; found {', '.join(spec.name for spec in renamed)}"
        )
    return renamed
