# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""The model of a microcontroller, asked through its port: golden inputs, and the probe set.

A release speaks of real numbers where the microcontroller computes with whole ones; what stands between is the scale
and the zero that its firmware names.
"""

from __future__ import annotations

import json
import math
import struct
from typing import Any, Callable, ContextManager, Mapping, NamedTuple, Sequence

from .._common.errors import ServerError, StoreError
from .._common.records import is_number, is_whole
from .._release.release import WHOLE, Tolerance
from .._smp.client import Info, SmpClient, Tensor
from .version import Version

GOLDEN_BYTES_MAX = 16 << 20
# TensorFlow's names of types, with those of the protocol, and struct's letters.
_TYPES: Mapping[str, tuple[str, str]] = {
    "int8": ("INT8", "b"),
    "uint8": ("UINT8", "B"),
    "int16": ("INT16", "h"),
    "int32": ("INT32", "i"),
    "float32": ("FP32", "f"),
}
_FLOATS = ("FP16", "FP32", "FP64")


class GoldenTensor(NamedTuple):
    """An input or an output of a golden file: its name, datatype and shape, and its values in one list."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    data: Sequence[Any]


class GoldenTest(NamedTuple):
    """The golden file of a model with one input and one output, and how far an output may be off."""

    path: str
    input: GoldenTensor
    output: GoldenTensor
    tolerance: Tolerance


def read_golden(version: Version) -> GoldenTest | None:
    """Read the golden file of a version that the store holds; None where its release has none. Raises StoreError."""
    part = version.release.parts[WHOLE]
    if part.golden is None:
        return None
    path = f"{version.directory}/{part.golden.path}"
    try:
        with open(path, "rb") as file:
            document = json.loads(file.read(GOLDEN_BYTES_MAX))
        (given,), (wanted,) = document["inputs"], document["outputs"]
        source, output = _golden_tensor(given), _golden_tensor(wanted)
        own = version.chosen.entries[WHOLE].tolerances.get(output.name)
        both = {**document["tolerance"], **(wanted.get("tolerance") or {})}
        tolerance = own or Tolerance(float(both["absolute"]), float(both["relative"]), int(both.get("steps", 0)))
        if not source.shape or not output.shape or source.shape[0] != output.shape[0]:
            raise ValueError(f"{source.shape} and {output.shape}")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise StoreError(
            f"{path}: expected a golden file with one input and one output, of as many samples; found {error!r}"
        ) from error
    return GoldenTest(path, source, output, tolerance)


class PortModel:
    """The model behind a port, as whoever asks an inference server sees it.

    ``session`` opens the port; ``active`` returns the version that the store has active.
    """

    def __init__(
        self, session: Callable[[], ContextManager[SmpClient]], active: Callable[[str], Version | None]
    ) -> None:
        self._session = session
        self._active = active

    def extensions(self) -> list[str]:
        """None: values are lists."""
        return []

    def inputs(self, model: str) -> Mapping[str, list[int]]:
        """The input, of one sample. Its name is that of the release: the microcontroller has none."""
        golden = self._golden(model)
        return {golden.input.name: [1, *golden.input.shape[1:]]} if golden is not None else {}

    def infer(self, model: str, request: Mapping[str, Any], data: bytes = b"") -> tuple[Mapping[str, Any], bytes]:
        """Ask one sample after the other. Raises ServerError."""
        version, golden = self._active(model), self._golden(model)
        try:
            (given,) = request["inputs"]
            count, values, datatype = int(given["shape"][0]), given["data"], str(given["datatype"])
            name = request["outputs"][0]["name"]
        except (KeyError, ValueError, TypeError, IndexError) as error:
            raise ServerError(
                f"{model}: expected one input with its shape and data, and one output: {error!r}"
            ) from error
        floats = golden.output.datatype in _FLOATS if golden is not None else datatype in _FLOATS
        answers: list[Any] = []
        seconds = 0.0
        size = len(values) // max(count, 1)
        with self._session() as client:
            info = client.info()
            for row in range(count):
                answer, took = ask(client, info, values[row * size : (row + 1) * size], datatype, floats=floats)
                answers += answer
                seconds += took
        output = {
            "name": name,
            "datatype": "FP32" if floats else _type_of(info.output, "output")[0],
            "shape": [count, len(answers) // max(count, 1)],
            "data": answers,
        }
        reply = {
            "model_name": model,
            "model_version": version.version if version else None,
            "outputs": [output],
            "parameters": {"seconds": seconds},
        }
        return reply, b""

    def _golden(self, model: str) -> GoldenTest | None:
        version = self._active(model)
        return read_golden(version) if version is not None else None


def check_golden(client: SmpClient, golden: GoldenTest, latency_seconds_max: float | None) -> None:
    """Ask the golden inputs, and compare. Raises ServerError for an answer that is off, or late."""
    info, count = client.info(), golden.input.shape[0]
    size, wide = len(golden.input.data) // count, len(golden.output.data) // count
    floats = golden.output.datatype in _FLOATS
    for row in range(count):
        sample = golden.input.data[row * size : (row + 1) * size]
        answer, seconds = ask(client, info, sample, golden.input.datatype, floats=floats)
        expected = golden.output.data[row * wide : (row + 1) * wide]
        if len(answer) != len(expected):
            raise ServerError(f"golden test: expected {len(expected)} values for a sample; found {len(answer)}")
        for place, (found, wanted) in enumerate(zip(answer, expected)):
            if not _is_near(found, wanted, golden.tolerance, floats):
                raise ServerError(
                    f"golden test: output {golden.output.name!r} at {[row, place]}: expected {wanted}, found {found} "
                    f"(tolerance {golden.tolerance.absolute:g} absolute + {golden.tolerance.relative:g} relative, "
                    f"{golden.tolerance.steps} steps)"
                )
        if latency_seconds_max is not None and seconds > latency_seconds_max:
            raise ServerError(
                f"golden test: an inference takes {seconds:.4f} s; the release allows {latency_seconds_max:g} s"
            )


def ask(
    client: SmpClient, info: Info, values: Sequence[Any], datatype: str, *, floats: bool
) -> tuple[list[Any], float]:
    """One inference: the values of the output for those of an input, real numbers if ``floats``, and what it took, in
    seconds. Raises ServerError."""
    found = client.infer(_packed(values, datatype, info.input))
    _name, letter = _type_of(info.output, "output")
    size = struct.calcsize(letter)
    if info.output is None or len(found.output) != size * math.prod(info.output.shape):
        raise ServerError(f"infer: expected {info.output} as output; found {len(found.output)} bytes")
    answer: list[Any] = list(struct.unpack(f"<{len(found.output) // size}{letter}", found.output))
    if floats and letter != "f":
        answer = [(value - info.output.zero) * info.output.scale for value in answer]
    return answer, found.microseconds / 1e6


def _golden_tensor(item: Mapping[str, Any]) -> GoldenTensor:
    shape = tuple(int(size) for size in item["shape"])
    data = item["data"]
    if not isinstance(data, list) or len(data) != math.prod(shape) or not all(map(is_number, data)):
        raise ValueError(f"{item['name']}: expected {math.prod(shape)} numbers")
    return GoldenTensor(str(item["name"]), str(item["datatype"]), shape, data)


def _type_of(tensor: Tensor | None, what: str) -> tuple[str, str]:
    if tensor is None or tensor.type not in _TYPES:
        raise ServerError(
            f"info: {what}: expected one of the types {', '.join(_TYPES)}; "
            f"found {tensor.type if tensor else 'none: no model is loaded'}"
        )
    return _TYPES[tensor.type]


def _packed(values: Sequence[Any], datatype: str, tensor: Tensor | None) -> bytes:
    """The bytes of an input: real numbers become the whole ones that the model computes with."""
    _name, letter = _type_of(tensor, "input")
    if tensor is None or len(values) != math.prod(tensor.shape) or not all(map(is_number, values)):
        raise ServerError(f"infer: expected {tensor} as input; found {len(values)} values")
    given: Sequence[Any] = values
    if letter != "f" and datatype in _FLOATS:
        if not tensor.scale > 0:
            raise ServerError(f"info: input: expected a scale above 0; found {tensor.scale:g}")
        bits = 8 * struct.calcsize(letter)
        least, most = (0, (1 << bits) - 1) if letter.isupper() else (-(1 << bits - 1), (1 << bits - 1) - 1)
        given = [min(max(_rounded(value / tensor.scale) + tensor.zero, least), most) for value in values]
    try:
        return struct.pack(f"<{len(given)}{letter}", *given)
    except (struct.error, OverflowError) as error:
        raise ServerError(f"infer: expected values of {tensor.type}; found others: {error}") from error


def _rounded(value: float) -> int:
    """The nearest whole number, halves away from 0, as TensorFlow Lite rounds. What is no number is 0."""
    if not math.isfinite(value):
        return 0 if math.isnan(value) else int(math.copysign(1 << 31, value))
    return int(math.copysign(math.floor(abs(value) + 0.5), value))


def _is_near(found: Any, wanted: Any, tolerance: Tolerance, floats: bool) -> bool:
    if floats:
        return bool(abs(found - wanted) <= tolerance.absolute + tolerance.relative * abs(wanted))
    return is_whole(wanted) and bool(abs(found - wanted) <= tolerance.steps)
