# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""The probe set, asked: its questions are put to the serving model, in batches that the model takes."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass
from typing import Any, Mapping

from .._common.errors import EdgemlError, ServerError, StoreError
from .._common.records import is_number
from .._release.arrays import ArrayError, RowReader, Rows, unpacked
from .._release.probe_set import Output, ProbeSet, ProbeSetError
from .._release.probe_set_file import read_outputs, read_probe_set
from .client import InferenceServer
from .probe_scores import ProbeScores, unfilled
from .state import require

# A batch of a model with a variable first size: what one request takes at most.
BATCH_ROWS = 32
BATCH_BYTES = 4 << 20
# A number as JSON takes about this many times as many bytes as in binary.
_JSON_FACTOR = 3
_REASON_MAX = 500


@dataclass(frozen=True)
class Batching:
    """How samples are put into requests.

    ``rows`` samples in each; ``padded``: the model takes no fewer, so that the last request repeats its last sample.
    ``single``: inputs that have no axis for samples, and so one sample a request.
    """

    rows: int
    padded: bool = False
    single: tuple[str, ...] = ()


def probe_result(
    server: InferenceServer, model: str, probe_path: str, golden_path: str | None = None
) -> dict[str, Any]:
    """Return the result of ``measure_probe``, or the reason why the probe set could not be asked as ``error``."""
    try:
        return measure_probe(server, model, probe_path, golden_path)
    except EdgemlError as error:
        return {"error": str(error)[:_REASON_MAX]}


def measure_probe(
    server: InferenceServer, model: str, probe_path: str, golden_path: str | None = None
) -> dict[str, Any]:
    """Put the probe set to the server and compare its answers with the labels.

    Returns what ``ProbeScores.result`` returns, with ``version`` (which answered), ``latency_seconds`` (the median time
    of one request, as seen from this device), and for the metric accuracy its value as ``accuracy``.
    Raises StoreError for a damaged probe set, and ServerError when the server refuses a question or answers with
    something that does not fit the task.
    """
    try:
        probe = read_probe_set(probe_path)
        outputs = read_outputs(golden_path)
    except ProbeSetError as error:
        raise StoreError(str(error)) from error
    try:
        return _asked(server, model, probe, outputs.get(probe.output))
    except (ProbeSetError, ArrayError) as error:
        raise StoreError(f"{probe_path}: {error}") from error


def _asked(server: InferenceServer, model: str, probe: ProbeSet, known: Output | None) -> dict[str, Any]:
    if known is not None:
        probe.resolved(known)
    binary = "binary_tensor_data" in server.extensions()
    batching = plan_batches(probe, server.inputs(model), binary=binary)
    times: list[float] = []
    scores: ProbeScores | None = None
    version = None
    with contextlib.ExitStack() as stack:
        readers = [stack.enter_context(array.open()) for array in probe.inputs]
        reference = stack.enter_context(probe.expected.open()) if probe.expected is not None else None
        for start in range(0, probe.samples, batching.rows):
            count = min(batching.rows, probe.samples - start)
            sent = batching.rows if batching.padded else count
            question = _Question(probe, batching, readers, count=count, sent=sent)
            began = time.monotonic()
            answer, version = question.ask(server, model, binary=binary)
            times.append(time.monotonic() - began if answer.seconds is None else answer.seconds)
            per_sample = len(answer.values) // sent
            if scores is None:
                scores = ProbeScores(probe, *probe.resolved(Output(answer.datatype, per_sample)))
            references = _references(probe, reference, count)
            for row in range(count):
                scores.add(answer.values[row * per_sample : (row + 1) * per_sample], references[row])
    result = require(scores).result()
    if result["metric"] == "accuracy":
        result["accuracy"] = result["value"]
    return {"version": version, **result, "latency_seconds": round(sorted(times)[len(times) // 2], 6)}


def plan_batches(probe: ProbeSet, inputs: Mapping[str, list[int]], *, binary: bool) -> Batching:
    """Return how the samples are put into requests, for a model whose inputs have these shapes (-1: any size).

    Raises ServerError if the model has other inputs than the probe set.
    """
    asked = {array.name for array in probe.inputs}
    if inputs and set(inputs) != asked:
        raise ServerError(
            f"expected the model's inputs {', '.join(sorted(inputs))} in the probe set; it has "
            f"{', '.join(sorted(asked))}"
        )
    single = tuple(
        array.name for array in probe.inputs if len(inputs.get(array.name, array.shape)) == len(array.shape) - 1
    )
    fixed = {
        inputs[array.name][0]
        for array in probe.inputs
        if array.name not in single and inputs.get(array.name) and inputs[array.name][0] > 0
    }
    if len(fixed) > 1 or (single and fixed - {1}):
        raise ServerError(f"expected inputs of one first size; the model has {', '.join(map(str, sorted(fixed)))}")
    if single:
        return Batching(1, single=single)
    if fixed - {1} and probe.ragged:
        raise ServerError(f"ragged answers: expected a model that takes one sample a request; it takes {max(fixed)}")
    if fixed:
        (rows,) = fixed
        return Batching(rows, padded=True)
    if probe.ragged:
        return Batching(1)
    row_bytes = sum(array.row_bytes for array in probe.inputs) * (1 if binary else _JSON_FACTOR)
    return Batching(max(1, min(BATCH_ROWS, BATCH_BYTES // max(row_bytes, 1))))


@dataclass(frozen=True)
class _Answer:
    datatype: str
    values: list[Any]
    # What it took, where whoever computed it says so.
    seconds: float | None = None


class _Question:
    """One request: the next ``count`` samples, and copies of the last of them up to ``sent``."""

    def __init__(self, probe: ProbeSet, batching: Batching, readers: list[RowReader], *, count: int, sent: int) -> None:
        self._probe, self._sent = probe, sent
        self._rows = [
            (array, _padded(reader.read(count), count, sent), array.name in batching.single)
            for array, reader in zip(probe.inputs, readers)
        ]

    def ask(self, server: InferenceServer, model: str, *, binary: bool) -> tuple[_Answer, Any]:
        """Send it, and return the values of the output and which version answered."""
        inputs, tail = [], b""
        for array, rows, single in self._rows:
            shape = list(array.shape[1:]) if single else [self._sent, *array.shape[1:]]
            tensor: dict[str, Any] = {"name": array.name, "datatype": array.datatype, "shape": shape}
            if binary and isinstance(rows, bytes):
                tensor["parameters"] = {"binary_data_size": len(rows)}
                tail += rows
            else:
                tensor["data"] = unpacked(rows, array.datatype)
            inputs.append(tensor)
        output: dict[str, Any] = {"name": self._probe.output}
        if binary:
            output["parameters"] = {"binary_data": True}
        reply, data = server.infer(model, {"inputs": inputs, "outputs": [output]}, tail)
        return self._answer(reply, data), reply.get("model_version")

    def _answer(self, reply: Mapping[str, Any], data: bytes) -> _Answer:
        origin = f"output {self._probe.output!r}"
        try:
            item = next(item for item in reply["outputs"] if item["name"] == self._probe.output)
            size = (item.get("parameters") or {}).get("binary_data_size")
            values = unpacked(data if size is not None else list(item["data"]), item["datatype"])
            empty = not values and not self._probe.ragged
            if (size is not None and size != len(data)) or empty or len(values) % self._sent:
                raise ValueError(f"{len(values)} values")
            if item["datatype"] != "BYTES" and not all(isinstance(value, (int, float)) for value in values):
                raise ValueError(f"values that are not numbers, such as {next(map(repr, values))[:50]}")
        except (KeyError, StopIteration, TypeError, ValueError, AttributeError) as error:
            raise ServerError(f"{origin}: expected values for {self._sent} samples; found none: {error!r}") from error
        seconds = (reply.get("parameters") or {}).get("seconds")
        return _Answer(str(item["datatype"]), values, seconds if is_number(seconds) else None)


def _padded(rows: Rows, count: int, sent: int) -> Rows:
    last = len(rows) - len(rows) // count
    if isinstance(rows, bytes):
        return rows + rows[last:] * (sent - count)
    return rows + rows[last:] * (sent - count)


def _references(probe: ProbeSet, reader: RowReader | None, count: int) -> list[list[Any] | None]:
    array = probe.expected
    if array is None or reader is None:
        return [None] * count
    values = unpacked(reader.read(count), array.datatype)
    rows = [values[row * array.row_values : (row + 1) * array.row_values] for row in range(count)]
    return [list(unfilled(row)) for row in rows] if probe.ragged else list(rows)
