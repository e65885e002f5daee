# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether a version can stand in for another: it takes the same inputs and gives the same outputs. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from edgeml_server.common.errors import ModelError
from edgeml_server.common.tensors import TensorSpec

from .backend import Backend
from .served import ServedModel, full_name


def check_interfaces(candidate: ServedModel, active: ServedModel) -> None:
    """Raise ModelError unless each part of the candidate takes the inputs of the active one's, and has its outputs."""
    if set(candidate.parts) != set(active.parts):
        raise ModelError(
            f"model {active.name!r}: expected the parts of {active.version}, {', '.join(active.parts)}; "
            f"{candidate.version} has {', '.join(candidate.parts)}"
        )
    for part, loaded in active.parts.items():
        name, old, new = full_name(active.name, part), loaded.backend, candidate.parts[part].backend
        if _interface(new) != _interface(old):
            raise ModelError(
                f"model {name!r}: expected the inputs of {active.version}, {_shown(old.inputs)}; "
                f"{candidate.version} has {_shown(new.inputs)}"
            )
        if not {spec.name for spec in old.outputs} <= {spec.name for spec in new.outputs}:
            raise ModelError(
                f"model {name!r}: expected the outputs of {active.version}, {_shown(old.outputs)}; "
                f"{candidate.version} has {_shown(new.outputs)}"
            )


def _interface(backend: Backend) -> set[tuple[str, str, tuple[int, ...]]]:
    return {(spec.name, spec.datatype, spec.shape) for spec in backend.inputs}


def _shown(specs: Sequence[TensorSpec]) -> str:
    return ", ".join(f"{spec.name} {spec.datatype} {list(spec.shape)}" for spec in specs)
