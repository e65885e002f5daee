# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a model's runtime answers in a process of its own, without this project's code: the judge of the server."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from ai_edge_litert.interpreter import Interpreter
from conformance_cases import Case, Values

Array = Any

_ONNX_TYPES = {
    "tensor(float)": np.float32,
    "tensor(double)": np.float64,
    "tensor(float16)": np.float16,
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
    "tensor(int8)": np.int8,
    "tensor(uint8)": np.uint8,
    "tensor(bool)": np.bool_,
}
_SIZE = 64
_RUNS = 3
_CRASHED = "the runtime's process ended"

INPUTS: Mapping[str, Mapping[str, Any]] = {
    "ch_PP-OCRv4_det_infer.onnx": {"x": [1, 3, 64, 96]},
    "ch_PP-OCRv4_rec_infer.onnx": {"x": [1, 3, 48, 160]},
    "ch_ppocr_mobile_v2.0_cls_infer.onnx": {"x": [1, 3, 48, 192]},
    "320n.onnx": {"images": [1, 3, 320, 320]},
    "melspectrogram.onnx": {"input": [1, 1760]},
    "melspectrogram.tflite": {"input": [1, 1760]},
    "model.onnx": {"input_lengths": np.array([_SIZE])},
    "silero_vad.onnx": {"sr": np.array(16000), "input": [1, 512], "state": [2, 1, 128]},
    "silero_vad_16k_op15.onnx": {"sr": np.array(16000), "input": [1, 512]},
    "silero_vad_op18_ifless.onnx": {"sr": np.array(16000), "input": [1, 512]},
    "silero_vad_half.onnx": {"input": [1, 576]},
}
"""The shapes, or the values, of inputs where neither follows from the model's file, by the names of file and input."""

_IDS = ("deepcut", "oskut", "attacut", "nakdimon")
"""Models of texts: their inputs are small whole numbers, whatever their type."""


@dataclass(frozen=True)
class Answer:
    """What the runtime answers to one request, or why not. ``exact``: asked again, it answers the same bits."""

    inputs: Mapping[str, Values]
    outputs: Mapping[str, Values]
    error: str = ""
    exact: bool = True


@dataclass(frozen=True)
class Reference:
    """What the runtime does with a model: ``error`` where it does not load it."""

    answers: Sequence[Answer] = ()
    error: str = ""

    @property
    def crashed(self) -> bool:
        """Whether the runtime ended its process."""
        return self.error == _CRASHED


class Judge:
    """Runs models in a process beside this one, and in a new one after a crash."""

    def __init__(self) -> None:
        self._pool = self._start()

    def ask(self, case: Case) -> Reference:
        """What the runtime answers."""
        try:
            return self._pool.submit(_reference, case).result()
        except BrokenProcessPool:
            self._pool = self._start()
            return Reference(error=_CRASHED)

    def close(self) -> None:
        """End the process."""
        self._pool.shutdown()

    @staticmethod
    def _start() -> ProcessPoolExecutor:
        return ProcessPoolExecutor(1, mp_context=get_context("spawn"))


class _Onnx:
    def __init__(self, path: Path) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 4
        self._path, self._options = str(path), options
        self._session = self._load()
        self.inputs = [(node.name, _ONNX_TYPES.get(node.type), node.shape) for node in self._session.get_inputs()]

    def _load(self) -> Any:
        return onnxruntime.InferenceSession(self._path, self._options, providers=["CPUExecutionProvider"])

    def run(self, inputs: Mapping[str, Values]) -> dict[str, Values]:
        names = [node.name for node in self._session.get_outputs()]
        return dict(zip(names, self._session.run(names, inputs), strict=True))

    def renew(self) -> None:
        self._session = self._load()


class _Litert:
    def __init__(self, path: Path) -> None:
        self._path = str(path)
        interpreter = self._load()
        signature = interpreter.get_signature_runner() if len(interpreter.get_signature_list()) == 1 else None
        if signature is not None:
            self._inputs, self._outputs = signature.get_input_details(), signature.get_output_details()
        else:
            self._inputs = {tensor["name"]: tensor for tensor in interpreter.get_input_details()}
            self._outputs = {tensor["name"]: tensor for tensor in interpreter.get_output_details()}
        self.inputs = [(name, each["dtype"], list(each["shape_signature"])) for name, each in self._inputs.items()]

    def _load(self) -> Any:
        return Interpreter(model_path=self._path, num_threads=1)

    def run(self, inputs: Mapping[str, Values]) -> dict[str, Values]:
        interpreter = self._load()
        for name, values in inputs.items():
            interpreter.resize_tensor_input(self._inputs[name]["index"], values.shape)
        interpreter.allocate_tensors()
        for name, values in inputs.items():
            interpreter.set_tensor(self._inputs[name]["index"], values)
        interpreter.invoke()
        return {name: interpreter.get_tensor(tensor["index"]) for name, tensor in self._outputs.items()}

    def renew(self) -> None:
        """Each run has an interpreter of its own."""


def _reference(case: Case) -> Reference:
    with tempfile.TemporaryDirectory() as directory:
        for name, content in case.files.items():
            Path(directory, name).write_bytes(content)
        path = Path(directory, next(iter(case.files)))
        try:
            model: Any = _Onnx(path) if case.format == "onnx" else _Litert(path)
        except Exception as error:
            return Reference(error=_first_line(error))
        requests = case.requests or _made_requests(path.name, model)
        return Reference([_answer(model, inputs) for inputs in requests])


def _answer(model: Any, inputs: Mapping[str, Values]) -> Answer:
    try:
        # The second run of a model that draws random numbers may repeat the first, the third does not.
        outputs, *again = [model.run(inputs) for _run in range(_RUNS)]
        model.renew()
        again.append(model.run(inputs))
    except Exception as error:
        return Answer(inputs, {}, _first_line(error))
    exact = all(
        not isinstance(values, np.ndarray) or same(values, other[name])
        for name, values in outputs.items()
        for other in again
    )
    return Answer(inputs, outputs, exact=exact)


def same(first: Values, second: Values) -> bool:
    """Whether two arrays are the same to the last bit; any NaN is as good as another."""
    if first.dtype != second.dtype or first.shape != second.shape:
        return False
    if first.dtype.kind != "f":
        return bool((first == second).all())
    equal = (first == second) & (np.signbit(first) == np.signbit(second))
    return bool((equal | (np.isnan(first) & np.isnan(second))).all())


def _made_requests(name: str, model: Any) -> list[dict[str, Array]]:
    """Two requests of the usual sizes; further ones with more rows and other sizes, where the model takes them."""
    generator = np.random.default_rng(int(hashlib.sha256(name.encode()).hexdigest()[:8], 16))
    made = [_inputs(name, model, generator, 1, 1), _inputs(name, model, generator, 1, 1)]
    for rows, factor in ((3, 1), (1, 2), (2, 3)):
        further = _inputs(name, model, generator, rows, factor)
        shapes = [[values.shape for values in inputs.values()] for inputs in (further, *made)]
        if shapes[0] in shapes[1:] or _answer(model, further).error:
            continue
        made.append(further)
    return made


def _inputs(name: str, model: Any, generator: np.random.Generator, rows: int, factor: int) -> dict[str, Array]:
    inputs = {}
    for key, dtype, declared in model.inputs:
        known = INPUTS.get(name, {}).get(key)
        if isinstance(known, np.ndarray):
            inputs[key] = known.astype(dtype) if not known.ndim else np.full(rows, known[0] * factor, dtype)
            continue
        shape = []
        for place, size in enumerate(declared):
            if isinstance(size, int | np.integer) and size >= 0:
                shape.append(int(size))
            elif str(size).startswith("batch") or (place == 0 and len(declared) > 1):
                shape.append(rows)
            else:
                shape.append((known[place] if known else _SIZE) * factor)
        inputs[key] = _values(name, generator, dtype, shape)
    return inputs


def _values(name: str, generator: np.random.Generator, dtype: Any, shape: Sequence[int]) -> Array:
    kind = np.dtype(dtype)
    if name.startswith(_IDS) or kind in (np.int32, np.int64):
        return generator.integers(0, 10, shape).astype(kind)
    if kind.kind in "iu":
        limits = np.iinfo(kind)
        return generator.integers(limits.min, limits.max, shape, endpoint=True).astype(kind)
    return generator.uniform(0, 1, shape).astype(kind)


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
