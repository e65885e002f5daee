# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""LiteRT (TensorFlow Lite) models, run on the CPU: by ai-edge-litert, or by tflite-runtime, its last predecessor, which
32-bit ARM has.

An interpreter holds the tensors of one inference: each inference that may run at once has its own, made when the model
is loaded. They share the model file's pages. Inputs and outputs have the names of the signature that the manifest
names, or of the model's only one, else those of its tensors. Quantised tensors are served as the integers they are, and
string tensors, which hold any bytes, as the datatype BYTES.

An interpreter also holds what a model keeps from one run to the next. No client may see in its answer what another one
asked: the variables of recurrent layers are reset before each run, and a model with resource variables, which nothing
resets, runs in a new interpreter each time.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Callable, NamedTuple

import numpy as np

from edgeml_server.common.errors import InvalidRequestError, ModelError
from edgeml_server.common.log import Log
from edgeml_server.common.tensors import DTYPES, Array, TensorSpec, text_from_bytes, text_to_bytes

from .backend import Backend, BackendOptions, BackendWrapper, Form, RunError, first_line
from .tflite_file import read_kept_state


def _import_runtime() -> tuple[str, Any, Any]:
    """The name of the runtime that is installed, its package and its module ``interpreter``."""
    for name in ("ai_edge_litert", "tflite_runtime"):
        try:
            package = importlib.import_module(name)
        except ModuleNotFoundError:
            continue
        return name.replace("_", "-"), package, importlib.import_module(f"{name}.interpreter")
    raise ModuleNotFoundError("neither ai_edge_litert nor tflite_runtime is there")


_NAME, _package, _interpreter = _import_runtime()


_log = Log(__name__)


class _Idle(NamedTuple):
    """An unused interpreter, and the shapes for which its tensors are allocated (None: not allocated yet)."""

    interpreter: Any
    shapes: Mapping[str, tuple[int, ...]] | None


class LitertBackend(Backend):
    """The interpreters of one model."""

    platform = "tensorflowlite"
    runtime = f"{_NAME} {_package.__version__}"

    def __init__(self, path: str, options: BackendOptions) -> None:
        self._path = path
        self._threads = options.threads
        kinds = _interpreter.OpResolverType
        without = options.settings.get("delegate") == "none"
        self._operators = kinds.BUILTIN_WITHOUT_DEFAULT_DELEGATES if without else kinds.AUTO
        self._signature = options.signature
        try:
            first = self._new_interpreter()
            self._check_signature(first)
            inputs, outputs = _named_tensors(first, self._signature)
            kept = read_kept_state(path)
        except (ValueError, RuntimeError) as error:
            raise ModelError(f"{path}: {self.runtime} cannot load it: {error}") from error
        self._has_state = any(kept)
        # Variables of the first graph are reset before each run; nothing resets those of others, nor resources.
        self._keeps_state = kept.resources or kept.variables_elsewhere
        self.inputs = [_spec(path, "input", name, tensor) for name, tensor in inputs.items()]
        self.outputs = [_spec(path, "output", name, tensor) for name, tensor in outputs.items()]
        self.metadata: Mapping[str, str] = {}
        self._input_index = {name: int(tensor["index"]) for name, tensor in inputs.items()}
        self._output_index = {name: int(tensor["index"]) for name, tensor in outputs.items()}
        # Each packs a copy of all weights, while no other thread runs: no client waits for that. Whoever runs takes one
        # out; taking and putting back are atomic. A model of variable sizes may refuse those that its file has: it is
        # allocated for the first inputs that come, the golden ones if there are any.
        more = 0 if self._keeps_state else options.runs - 1
        interpreters = [first, *(self._new_interpreter() for _each in range(more))]
        fixed = self._signature is None and all(-1 not in spec.shape for spec in self.inputs)
        self._idle = [_Idle(each, self._allocate(each) if fixed else None) for each in interpreters]
        if self._keeps_state:
            _log.info("resource variables: a new interpreter for each request", path=path)

    @classmethod
    def forms(cls, path: str, directory: str, options: BackendOptions) -> Iterator[Form]:
        """Without the default delegate, of which each interpreter packs a copy of all weights."""
        yield Form("", {"delegate": "none"})

    def run(self, inputs: Mapping[str, Array], outputs: Sequence[str]) -> list[Array]:
        interpreter, shapes = self._take()
        if shapes is not None:
            interpreter.reset_all_variables()
        results, shapes = self.run_in(interpreter, shapes, inputs, outputs)
        if not self._keeps_state:
            self._idle.append(_Idle(interpreter, shapes))
        return results

    def with_own_state(self) -> Backend:
        if not self._has_state:
            return super().with_own_state()
        return _LitertSequence(self, self._new_interpreter())

    def run_in(
        self,
        interpreter: Any,
        shapes: Mapping[str, tuple[int, ...]] | None,
        inputs: Mapping[str, Array],
        outputs: Sequence[str],
    ) -> tuple[list[Array], Mapping[str, tuple[int, ...]]]:
        """Run in an interpreter that is allocated for inputs of these ``shapes``; return the outputs and the shapes for
        which it is allocated now. One that failed is not used again."""
        wanted = {name: values.shape for name, values in inputs.items()}
        given = {name: _converted(values, text_to_bytes) for name, values in inputs.items()}
        if self._signature is not None:
            try:
                found = interpreter.get_signature_runner(self._signature)(**given)
            except (ValueError, RuntimeError) as error:
                raise RunError(f"LiteRT: {first_line(error)}") from error
            return [_converted(found[name], text_from_bytes) for name in outputs], wanted
        try:
            if wanted != shapes:
                for name, shape in wanted.items():
                    interpreter.resize_tensor_input(self._input_index[name], shape, strict=True)
                interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            raise InvalidRequestError(f"LiteRT refuses the inputs' shapes: {first_line(error)}") from error
        for name, values in given.items():
            interpreter.set_tensor(self._input_index[name], values)
        try:
            interpreter.invoke()
        except (ValueError, RuntimeError) as error:
            raise RunError(f"LiteRT: {first_line(error)}") from error
        found = [interpreter.get_tensor(self._output_index[name]) for name in outputs]
        return [_converted(values, text_from_bytes) for values in found], wanted

    def close(self) -> None:
        self._idle = []

    def _take(self) -> _Idle:
        try:
            return self._idle.pop()
        except IndexError:
            return _Idle(self._new_interpreter(), None)

    def _check_signature(self, interpreter: Any) -> None:
        known = list(interpreter.get_signature_list())
        if self._signature is not None and self._signature not in known:
            raise ValueError(f"signature: expected one of {', '.join(known) or 'none'}; found {self._signature!r}")

    def _allocate(self, interpreter: Any) -> Mapping[str, tuple[int, ...]]:
        """Allocate the tensors of a model of fixed shapes, and return the shapes of its inputs. Raises ModelError."""
        try:
            interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            raise ModelError(f"{self._path}: {self.runtime} cannot load it: {error}") from error
        return {spec.name: spec.shape for spec in self.inputs}

    def _new_interpreter(self) -> Any:
        return _interpreter.Interpreter(
            model_path=self._path, num_threads=self._threads, experimental_op_resolver_type=self._operators
        )


class _LitertSequence(BackendWrapper):
    """The model in an interpreter of its own, whose variables are never reset."""

    def __init__(self, owner: LitertBackend, interpreter: Any) -> None:
        super().__init__(owner)
        self._owner = owner
        self._interpreter = interpreter
        self._shapes: Mapping[str, tuple[int, ...]] | None = None

    def run(self, inputs: Mapping[str, Array], outputs: Sequence[str]) -> list[Array]:
        results, self._shapes = self._owner.run_in(self._interpreter, self._shapes, inputs, outputs)
        return results

    def close(self) -> None:
        self._interpreter = None


def _named_tensors(interpreter: Any, key: str | None) -> tuple[dict[str, Any], dict[str, Any]]:
    """The inputs' and the outputs' details by name."""
    if key is not None or len(interpreter.get_signature_list()) == 1:
        signature = interpreter.get_signature_runner(key)
        return signature.get_input_details(), signature.get_output_details()
    inputs = {tensor["name"]: tensor for tensor in interpreter.get_input_details()}
    return inputs, {tensor["name"]: tensor for tensor in interpreter.get_output_details()}


def _converted(values: Array, convert: Callable[[Any], Any]) -> Array:
    """Texts as the runtime's bytes, or the other way round; numbers as they are. With NumPy's own type for bytes an
    element would lose the zeros at its end."""
    if values.dtype != object:
        return values
    converted = np.empty(values.size, object)
    converted[:] = [convert(element) for element in values.reshape(-1)]
    return converted.reshape(values.shape)


def _spec(path: str, kind: str, name: str, tensor: Mapping[str, Any]) -> TensorSpec:
    dtype = np.dtype(object if tensor["dtype"] is np.bytes_ else tensor["dtype"])
    datatype = next((known for known, candidate in DTYPES.items() if candidate == dtype), None)
    if datatype is None:
        raise ModelError(
            f"{path}: {kind} {name!r}: expected numbers, booleans or strings; found {dtype}, which this server cannot "
            "carry"
        )
    # The signature of a shape is empty in models that an old converter wrote.
    sizes = tensor["shape_signature"] if len(tensor["shape_signature"]) else tensor["shape"]
    return TensorSpec(name, datatype, tuple(map(int, sizes)))


BACKEND = LitertBackend
