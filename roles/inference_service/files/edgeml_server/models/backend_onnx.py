# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""ONNX models, run by ONNX Runtime, on the CPU or by another of its execution providers."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import onnxruntime
from edgeml_device._release.onnx_file import ML_DOMAIN, OnnxFile, labels_beyond_utf8, read_onnx
from onnxruntime.capi import onnxruntime_pybind11_state as runtime_errors

from edgeml_server.common.errors import InvalidRequestError, ModelError
from edgeml_server.common.tensors import Array, TensorSpec

from .backend import Backend, BackendOptions, Form, RunError, first_line
from .onnx_texts import run_with_any_texts
from .provider import open_session, provider_for

_DATATYPES = {
    "tensor(bool)": "BOOL",
    "tensor(uint8)": "UINT8",
    "tensor(uint16)": "UINT16",
    "tensor(uint32)": "UINT32",
    "tensor(uint64)": "UINT64",
    "tensor(int8)": "INT8",
    "tensor(int16)": "INT16",
    "tensor(int32)": "INT32",
    "tensor(int64)": "INT64",
    "tensor(float16)": "FP16",
    "tensor(float)": "FP32",
    "tensor(double)": "FP64",
    "tensor(string)": "BYTES",
}

# What some exporters write for every size that they do not know, however different the sizes are.
_NO_NAMES = {"", "?", "*", "-1", "None"}

# A larger model is never so quick that it matters, and takes time to be read through.
_QUICK_BYTES_MAX = 1 << 20
_OPTIMISED, _WEIGHTS = "model.onnx", "model.onnx.data"
_ENGINE = "engine.onnx"
_EXTERNAL = "session.optimized_model_external_initializers"
_NOT_PACKED = "session.disable_prepacking"
# Beside the weights, the packed copies that kernels make of them: they are mapped as well. Older runtimes, which do not
# know the entry, pack while they load.
_SAVE_PACKED = "session.save_external_prepacked_constant_initializers"
# Smaller constants stay in the graph, where shapes are worked out from them.
_WEIGHT_BYTES_MIN = 1024


_DICTIONARIES = ("seq(map(int64,tensor(float)))", "seq(map(string,tensor(float)))")

_STANDARD_DOMAINS = {"", ML_DOMAIN}
# Those that repeat, choose, or make tensors of sizes that are values of their inputs.
_UNBOUNDED = {
    *("If", "Loop", "Scan", "SequenceMap"),
    *("AffineGrid", "BlackmanWindow", "HammingWindow", "HannWindow", "MelWeightMatrix"),
    *("CenterCropPad", "Col2Im", "ConstantOfShape", "DFT", "Expand", "MaxUnpool", "OneHot", "Pad"),
    *("Range", "RegexFullMatch", "Resize", "STFT", "StringSplit", "Tile", "Upsample"),
}

# Of several, the last that says something.
_METADATA = {"producer": ["producer_name"], "description": ["graph_description", "description"]}

_RUN_ERRORS = (
    runtime_errors.EPFail,
    runtime_errors.Fail,
    runtime_errors.NotImplemented,
    runtime_errors.RuntimeException,
)


class OnnxBackend(Backend):
    """One ONNX Runtime session."""

    platform = "onnx_onnxv1"
    runtime = f"onnxruntime {onnxruntime.__version__}"

    def __init__(self, path: str, options: BackendOptions) -> None:
        self.runtime = self.runtime_with(options)
        try:
            session = open_session(path, _session_options(options), provider_for(options.provider))
        except ModelError:
            raise
        except Exception as error:
            raise ModelError(f"{path}: ONNX Runtime {onnxruntime.__version__} cannot load it: {error}") from error
        file = _read_file(path)
        for name in labels_beyond_utf8(file):
            raise ModelError(
                f"{path}: output {name!r}: expected class labels in UTF-8; found others. Export the model with labels "
                "in UTF-8, or with a tensor instead of the dictionary (the option zipmap=False)"
            )
        self._labels = {name: list(labels) for name, labels in file.class_labels.items()}
        self.inputs = [
            _spec(path, "input", node, node.name in file.inputs_of_any_rank) for node in session.get_inputs()
        ]
        self.outputs = [self._output(path, node) for node in session.get_outputs()]
        self.classes = {name: [str(label) for label in labels] for name, labels in self._labels.items()}
        # Of an engine the operators cannot be seen.
        self.couples_rows = file.couples_rows or options.settings.get("engine") == "yes"
        self.metadata = _metadata(session.get_modelmeta())
        self._session: Any = session
        small = os.path.getsize(path) <= _QUICK_BYTES_MAX
        plain = options.threads == 1 and not options.settings and options.provider == "cpu"
        self.bounded = plain and small and has_bounded_time(file)

    @classmethod
    def runtime_with(cls, options: BackendOptions) -> str:
        return (
            cls.runtime if options.provider == "cpu" else f"{cls.runtime} {provider_for(options.provider).identity()}"
        )

    @classmethod
    def forms(cls, path: str, directory: str, options: BackendOptions) -> Iterator[Form]:
        """The optimised graph with its weights in a file of their own, which the runtime maps: without packed copies of
        those of matrix multiplications, with them, in that file too, or packed at each load. Of a provider that
        compiles: its engine."""
        provider = provider_for(options.provider)
        if provider.makes_engine:
            try:
                provider.make_engine(path, os.path.join(directory, _ENGINE), _session_options(options))
            except Exception as error:
                raise ModelError(f"{path}: {provider.name} makes no engine of it: {first_line(error)}") from error
            yield Form(_ENGINE, {"engine": "yes"}, engine=True)
        elif options.provider == "cpu":
            # What is saved is not run: nothing needs to be packed.
            _save_optimised(path, directory, options, _NOT_PACKED)
            yield Form(_OPTIMISED, {"optimised": "yes", "prepacking": "no"})
            # There may be no room for packed copies; and of some quantised convolutions the runtime cannot read again
            # what it saved (1.32).
            with contextlib.suppress(ModelError):
                _save_optimised(path, directory, options, _SAVE_PACKED)
                yield Form(_OPTIMISED, {"optimised": "yes"})
            _save_optimised(path, directory, options, _NOT_PACKED)
            yield Form(_OPTIMISED, {"optimised": "yes"})

    def run(self, inputs: Mapping[str, Array], outputs: Sequence[str]) -> list[Array]:
        try:
            results = self._run(inputs, outputs)
        except runtime_errors.InvalidArgument as error:
            raise InvalidRequestError(f"ONNX Runtime refuses the inputs: {_reason(error)}") from error
        except _RUN_ERRORS as error:
            raise RunError(f"ONNX Runtime: {_reason(error)}") from error
        if self._labels:
            return [
                _matrix(result, self._labels[name]) if name in self._labels else result
                for name, result in zip(outputs, results)
            ]
        return results

    def close(self) -> None:
        self._session = None

    def _run(self, inputs: Mapping[str, Array], outputs: Sequence[str]) -> list[Any]:
        try:
            results: list[Any] = self._session.run(outputs, inputs)
            return results
        except UnicodeError:
            return run_with_any_texts(self._session, inputs, outputs)

    def _output(self, path: str, node: Any) -> TensorSpec:
        """An output as clients see it: of the dictionaries that ZipMap makes, one for each row, they see the scores."""
        if node.type in _DICTIONARIES and node.name in self._labels:
            return TensorSpec(node.name, "FP32", (-1, len(self._labels[node.name])))
        self._labels.pop(node.name, None)
        return _spec(path, "output", node)


def _save_optimised(path: str, directory: str, options: BackendOptions, packing: str) -> None:
    """Save the optimised graph of the model at ``path``, and its weights beside it, in place of what was saved before.

    Raises ModelError.
    """
    # Whoever has the files mapped keeps them.
    for name in (_OPTIMISED, _WEIGHTS):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(os.path.join(directory, name))
    settings = _session_options(options)
    settings.optimized_model_filepath = os.path.join(directory, _OPTIMISED)
    settings.add_session_config_entry(f"{_EXTERNAL}_file_name", _WEIGHTS)
    settings.add_session_config_entry(f"{_EXTERNAL}_min_size_in_bytes", str(_WEIGHT_BYTES_MIN))
    settings.add_session_config_entry(packing, "1")
    try:
        onnxruntime.InferenceSession(path, settings, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise ModelError(f"{path}: the optimised graph cannot be saved: {first_line(error)}") from error


def _session_options(options: BackendOptions) -> Any:
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = options.threads
    settings.inter_op_num_threads = 1
    # Only what is fatal: each error reaches the client already, and would let clients fill the journal.
    settings.log_severity_level = 4
    # Waiting threads sleep: a third of the processor time at sparse load, and the latency is no worse.
    settings.add_session_config_entry("session.intra_op.allow_spinning", "0")
    for library in options.libraries:
        settings.register_custom_ops_library(library)
    if options.settings.get("optimised") == "yes":
        settings.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    if options.settings.get("prepacking") == "no":
        settings.add_session_config_entry(_NOT_PACKED, "1")
    return settings


def _metadata(found: Any) -> dict[str, str]:
    """What the file says about itself in UTF-8; nothing else can be read, or shown."""
    named: dict[str, str] = {}
    with contextlib.suppress(UnicodeDecodeError):
        named.update(found.custom_metadata_map)
    for key, attributes in _METADATA.items():
        with contextlib.suppress(UnicodeDecodeError):
            texts = [getattr(found, attribute) for attribute in attributes]
            named.update((key, text) for text in texts if text)
    return named


def _read_file(path: str) -> OnnxFile:
    try:
        return read_onnx(path)
    except ValueError:
        # ONNX Runtime reads another form, too (ORT format), whose inputs are taken for scalars.
        return OnnxFile()


def _matrix(rows: Sequence[Mapping[Any, float]], labels: Sequence[Any]) -> Array:
    """The scores of each row in the order of the classes."""
    return np.array([[row[label] for label in labels] for row in rows], np.float32).reshape(-1, len(labels))


def has_bounded_time(file: OnnxFile) -> bool:
    """Whether all operators of an ONNX file take a time that the sizes of its inputs determine."""
    if not file.operators or file.functions:
        return False
    return all(operator.domain in _STANDARD_DOMAINS and operator.name not in _UNBOUNDED for operator in file.operators)


def _reason(error: BaseException) -> str:
    """Return the first line of an error without its code: ``[ONNXRuntimeError] : 1 : FAIL : …``."""
    return re.sub(r"^\[ONNXRuntimeError\] : \d+ : \w+ : ", "", first_line(error))


def _spec(path: str, kind: str, node: Any, any_rank: bool = False) -> TensorSpec:
    if node.type not in _DATATYPES:
        raise ModelError(
            f"{path}: {kind} {node.name!r}: expected one of {', '.join(_DATATYPES)}; found {node.type}, "
            f"which the protocol cannot carry. Export the model with an {kind} of one of these types"
        )
    shape = tuple(size if isinstance(size, int) and size >= 0 else -1 for size in node.shape)
    symbols = tuple(size if isinstance(size, str) and size not in _NO_NAMES else None for size in node.shape)
    return TensorSpec(node.name, _DATATYPES[node.type], shape, symbols, any_rank)


BACKEND = OnnxBackend
