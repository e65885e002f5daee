# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The interface to model runtimes, and the choice of a runtime by format.

To add a runtime, write one module with a subclass of Backend and name it in ``_BACKENDS``: the module is imported
only when a model of its format is loaded.
"""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

from edgeml_server.common.errors import ModelError
from edgeml_server.common.tensors import Array, TensorSpec

_REASON_CHARACTERS_MAX = 400
_BACKENDS = {"ncnn": "backend_ncnn", "onnx": "backend_onnx", "tflite": "backend_litert"}


class BackendOptions(NamedTuple):
    """``threads``: processors that one inference may use; ``settings``: those of a prepared model, for its backend.

    ``libraries``: files with custom operators; ``signature``: the one that is served of a file with several (None: the
    file decides); ``runs``: how many inferences may run at once; ``provider``: what ONNX Runtime computes on.
    """

    threads: int
    settings: Mapping[str, str] = MappingProxyType({})
    libraries: Sequence[str] = ()
    signature: str | None = None
    runs: int = 1
    provider: str = "cpu"


class Form(NamedTuple):
    """A way to load a model. ``entrypoint`` is a file that was made for it, or empty: the model's own file.

    An ``engine`` is what each load of the model's own file would compile anew.
    """

    entrypoint: str
    settings: Mapping[str, str]
    engine: bool = False


class RunError(Exception):
    """The runtime failed on inputs that have the datatypes and fit the shapes of the model; the text is one line."""


class Backend(ABC):
    """One loaded model. ``run`` is called from several threads at once; the other methods are not."""

    platform: str
    runtime: str
    """Name and version of the runtime, such as ``onnxruntime 1.27.0``."""
    inputs: Sequence[TensorSpec]
    outputs: Sequence[TensorSpec]
    metadata: Mapping[str, str]
    """What the file says about itself, such as its producer."""
    bounded: bool = False
    """Whether the time of a run, all of it in the caller's thread, depends on the sizes of the inputs alone."""
    couples_rows: bool = False
    """Whether an operator computes with what all rows of a batch have in common, such as the largest value."""
    classes: Mapping[str, Sequence[str]] = MappingProxyType({})
    """The names of an output's classes in the order of its scores, where the model itself has them."""

    @abstractmethod
    def __init__(self, path: str, options: BackendOptions) -> None:
        """Load the model file at ``path``. Raises ModelError if it cannot serve."""

    @classmethod
    def runtime_with(cls, options: BackendOptions) -> str:
        """The runtime, and with these options what a prepared model must fit beside it."""
        return cls.runtime

    @classmethod
    def forms(cls, path: str, directory: str, options: BackendOptions) -> Iterator[Form]:
        """Other ways to load the model file at ``path`` than as it is, those first whose load has least to do.

        What one needs is in ``directory`` until the next is asked for. Raises ModelError where one cannot be made.
        """
        return iter(())

    @abstractmethod
    def run(self, inputs: Mapping[str, Array], outputs: Sequence[str]) -> list[Array]:
        """Return the named outputs for ``inputs``, which have the datatypes and fit the shapes of ``self.inputs``.

        Raises InvalidRequestError when the runtime reports invalid inputs, RunError for any other failure of it.
        """

    def with_own_state(self) -> Backend:
        """Return the model with a state of its own, which it keeps from one run to the next. Raises ModelError."""
        raise ModelError(
            "sequences: expected a LiteRT model that keeps state; this one keeps none. Leave sequences out of the "
            "manifest: ONNX models carry their state through inputs and outputs"
        )

    @abstractmethod
    def close(self) -> None:
        """Free the model. Nothing else is called afterwards."""


class BackendWrapper(Backend):
    """A loaded model with another way to run it."""

    def __init__(self, backend: Backend) -> None:
        self.platform = backend.platform
        self.runtime = backend.runtime
        self.inputs = backend.inputs
        self.outputs = backend.outputs
        self.metadata = backend.metadata
        self.bounded = backend.bounded
        self.classes = backend.classes
        self.couples_rows = backend.couples_rows
        self._backend = backend

    def close(self) -> None:
        self._backend.close()


def first_line(error: BaseException) -> str:
    """Return the first line of a runtime's error, shortened: some append a stack trace."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:_REASON_CHARACTERS_MAX]


def backend_for(model_format: str) -> type[Backend]:
    """Return the runtime for ``model_format``, imported. Raises ModelError when there is none."""
    if model_format not in _BACKENDS:
        raise ModelError(f"format {model_format!r}: expected {', '.join(_BACKENDS)}, which this server can run")
    try:
        module = importlib.import_module(f".{_BACKENDS[model_format]}", __package__)
    except ImportError as error:
        raise ModelError(f"format {model_format!r}: its runtime is not installed: {error}") from error
    backend: type[Backend] = module.BACKEND
    return backend
