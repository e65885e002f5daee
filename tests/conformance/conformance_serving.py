# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A model published, verified, installed, loaded into the real server and asked over HTTP, beside its runtime.

The client is written from the protocol's description and shares no code with the server.
"""

from __future__ import annotations

import enum
import http.client
import importlib.metadata
import json
import math
import re
import struct
import tempfile
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import releases
from conformance_cases import Case
from conformance_reference import Answer, Array, Reference, same
from server_process import Device, Reply

from ansible_collections.edgeml.fleet.plugins.module_utils._common.errors import EdgemlError
from ansible_collections.edgeml.fleet.plugins.module_utils._device.store import Store
from ansible_collections.edgeml.fleet.plugins.plugin_utils._publish.writer import publish

_OK = 200
_RUNTIMES = {"onnx": "onnxruntime", "tflite": "ai-edge-litert"}
# 64 million numbers in JSON; the largest input here has 150 thousand.
_REQUEST_BYTES_MAX = 256 << 20
_RELATIVE, _ABSOLUTE = 1e-5, 1e-7
# In a batch, numbers are added in another order; the absolute difference grows with the largest of the outputs.
_BATCHED_RELATIVE, _BATCHED_ABSOLUTE = 1e-3, 1e-5
_BATCH_ROWS, _AT_ONCE = 8, 8
_TYPES: Mapping[str, str] = {
    "bool": "BOOL",
    "uint8": "UINT8",
    "uint16": "UINT16",
    "uint32": "UINT32",
    "uint64": "UINT64",
    "int8": "INT8",
    "int16": "INT16",
    "int32": "INT32",
    "int64": "INT64",
    "float16": "FP16",
    "float32": "FP32",
    "float64": "FP64",
}
_DTYPES = {name: np.dtype(dtype) for dtype, name in _TYPES.items()}


class InfinityError(ValueError):
    """JSON cannot hold an infinity; binary data can."""


class Kind(enum.Enum):
    """What became of a model, or of a request to it."""

    SAME = "the same bits"
    CLOSE = "within tolerance"
    RANDOM = "random, by type and shape"
    RUNTIME = "the runtime refuses it as well"
    PROTOCOL = "a type that the protocol cannot carry"
    SIZES = "a size that no golden input shows"
    OTHER = "refused for another reason"
    WRONG = "wrong values"
    CRASHED = "the server ended"


# The worst first.
ORDER = (
    Kind.CRASHED,
    Kind.WRONG,
    Kind.OTHER,
    Kind.SIZES,
    Kind.RUNTIME,
    Kind.PROTOCOL,
    Kind.CLOSE,
    Kind.RANDOM,
    Kind.SAME,
)


class Form(enum.Enum):
    """How a model is published and asked."""

    PUBLISHED = "with golden inputs, one request after the other"
    WITHOUT_GOLDEN = "without golden inputs"
    BATCHED = "with golden inputs, many requests at once, in batches where the server has proved that it may"


@dataclass(frozen=True)
class Found:
    """What became of a model in one form, and why."""

    source: str
    name: str
    form: Form
    kind: Kind
    detail: str


@dataclass
class Outcome:
    """What was found while a model was asked; the worst counts."""

    kind: Kind = Kind.SAME
    detail: str = ""

    def note(self, kind: Kind, detail: str = "") -> None:
        """Keep the worse of what was found before and this."""
        if ORDER.index(kind) < ORDER.index(self.kind):
            self.kind, self.detail = kind, detail


@dataclass
class ServedModels:
    """A server and its device below a directory, started anew after its end: it takes one model after the other."""

    directory: Path
    form: Form = Form.PUBLISHED
    _device: Device | None = None
    _count: int = 0
    _repositories: list[tempfile.TemporaryDirectory[str]] = field(default_factory=list)

    def close(self) -> None:
        """End the server and remove its files."""
        if self._device is not None:
            self._device.stop()
            self._device = None
        for each in self._repositories:
            each.cleanup()
        self._repositories = []

    def ask(self, case: Case, reference: Reference) -> Found:
        """Publish and load a model, ask it everything that the reference was asked, and compare."""
        outcome = Outcome()
        try:
            self._ask(case, reference, None if self.form is Form.WITHOUT_GOLDEN else _golden(reference), outcome)
        except (ConnectionError, http.client.HTTPException) as error:
            outcome.note(Kind.CRASHED, repr(error))
            self.close()
        return Found(case.source, case.name, self.form, outcome.kind, outcome.detail)

    def _ask(self, case: Case, reference: Reference, golden: bytes | None, outcome: Outcome) -> None:
        device = self._running()
        self._count += 1
        model = f"model-{self._count}"
        try:
            self._publish(device, model, case, golden)
        except EdgemlError as error:
            outcome.note(*_refusal(str(error), reference.error))
            return
        loaded = device.load(model)
        if loaded.status != _OK:
            outcome.note(*_refusal(_error(loaded), reference.error))
            return
        if reference.error:
            outcome.note(Kind.OTHER, f"the server loads it, the runtime by itself does not: {reference.error}")
            return
        batched = self.form is Form.BATCHED
        requests = [(answer, binary) for answer in reference.answers for binary in (False, True)]
        with ThreadPoolExecutor(_AT_ONCE if batched else 1) as clients:
            asked = [clients.submit(_ask_once, device, model, answer, binary, batched) for answer, binary in requests]
        for each in asked:
            outcome.note(*each.result())
        device.post(f"/v2/repository/models/{model}/unload", local=True)
        device.activate(model, None)

    def _running(self) -> Device:
        if self._device is None:
            self._repositories.append(tempfile.TemporaryDirectory(dir=self.directory))
            self._device = Device(Path(self._repositories[-1].name))
            batch_rows = _BATCH_ROWS if self.form is Form.BATCHED else 1
            self._device.start(max_request_bytes=_REQUEST_BYTES_MAX, workers=1, batch_rows=batch_rows)
        return self._device

    def _publish(self, device: Device, model: str, case: Case, golden: bytes | None) -> None:
        """Publish the release, which verifies it as the controller does, and install what the repository has."""
        root = device.directory / "repository"
        runtime = _RUNTIMES[case.format]
        variant = releases.variant_entry(
            case.files,
            name=case.format,
            format=case.format,
            runtime={"name": runtime, "minimum": importlib.metadata.version(runtime)},
        )
        made = releases.make_release(
            model=model, files=case.files, golden=golden, variants=[variant], description=f"{case.source} {case.name}"
        )
        with tempfile.TemporaryDirectory(dir=self.directory) as directory:
            for digest, content in made.blobs.items():
                Path(directory, digest).write_bytes(content)
            publish(str(root), made.document, {digest: f"{directory}/{digest}" for digest in made.blobs})
        store = Store(device.store.root)
        with store.lock():
            releases.put(store, releases.read_release(root, model, "1.0.0"))
            releases.activate(store, model, "1.0.0")


def _ask_once(device: Device, model: str, answer: Answer, binary: bool, batched: bool) -> tuple[Kind, str]:
    try:
        body, headers = request_of(answer.inputs, binary)
    except InfinityError:
        return Kind.SAME, ""
    except ValueError as error:
        return Kind.PROTOCOL, str(error)
    reply = device.request("POST", f"/v2/models/{model}/infer", body, headers)
    if reply.status != _OK:
        reason = f"{reply.status}: {_error(reply)}"
        # A failure of the runtime itself is no fault of the request by what the server knows, or it is: both are told.
        return _refusal(reason, answer.error)
    if answer.error:
        return Kind.OTHER, f"the server answers, the runtime by itself does not: {answer.error}"
    return _compare(reply, answer, batched)


def _refusal(reason: str, by_itself: str) -> tuple[Kind, str]:
    carried = ("which the protocol cannot carry", "which the protocol can carry", "which this server cannot carry")
    if any(each in reason for each in carried):
        return Kind.PROTOCOL, reason
    if by_itself:
        return Kind.RUNTIME, reason
    if "as the release says or its golden inputs show" in reason:
        return Kind.SIZES, reason
    return Kind.OTHER, reason


def _compare(reply: Reply, answer: Answer, batched: bool) -> tuple[Kind, str]:
    actual = outputs_of(reply)
    if list(actual) != list(answer.outputs):
        return Kind.WRONG, f"outputs: expected {list(answer.outputs)}; found {list(actual)}"
    worst = Kind.SAME
    for name, expected in answer.outputs.items():
        kind, detail = _compare_values(actual[name], _as_carried(expected, reply), answer.exact, batched)
        if kind is Kind.WRONG:
            return kind, f"output {name!r}: {detail}"
        if kind is not Kind.SAME:
            worst = kind
    return worst, ""


def _compare_values(actual: Array, expected: Array, exact: bool, batched: bool) -> tuple[Kind, str]:
    if (actual.dtype, actual.shape) != (expected.dtype, expected.shape):
        return Kind.WRONG, (
            f"expected {expected.dtype} {list(expected.shape)}; found {actual.dtype} {list(actual.shape)}"
        )
    if same(actual, expected):
        return Kind.SAME, ""
    if not exact:
        return Kind.RANDOM, ""
    if expected.dtype.kind == "f":
        relative, absolute = _RELATIVE, _ABSOLUTE
        if batched:
            largest = np.abs(expected[np.isfinite(expected)].astype(np.float64)).max(initial=1.0)
            relative, absolute = _BATCHED_RELATIVE, _BATCHED_ABSOLUTE * float(largest)
        if np.allclose(actual, expected, relative, absolute, equal_nan=True):
            return Kind.CLOSE, ""
    places = np.argwhere(~np.asarray(actual == expected))
    first = tuple(int(index) for index in places[0]) if len(places) else ()
    return Kind.WRONG, f"{len(places)} of {actual.size} values differ, at {list(first)}: expected {expected[first]!r}"


def _as_carried(expected: Array, reply: Reply) -> Array:
    """The values as the protocol carries them: JSON has neither infinities nor the sign of a NaN."""
    if expected.dtype.kind == "f" and "inference-header-content-length" not in reply.headers:
        return np.where(np.isfinite(expected), expected, np.array(math.nan, expected.dtype))
    return expected.astype(object) if expected.dtype.kind in "OUS" else expected


# ---- the protocol ----


def request_of(inputs: Mapping[str, Array], binary: bool) -> tuple[bytes, dict[str, str]]:
    """The body of a request and its headers. Raises ValueError for values that the protocol does not carry."""
    items = []
    tail = b""
    for name, values in inputs.items():
        datatype = datatype_of(values)
        item: dict[str, Any] = {"name": name, "datatype": datatype, "shape": list(values.shape)}
        if binary:
            data = _encoded(values, datatype)
            item["parameters"] = {"binary_data_size": len(data)}
            tail += data
        else:
            item["data"] = _listed(values)
        items.append(item)
    document = {"inputs": items, "parameters": {"binary_data_output": binary}}
    head = json.dumps(document, allow_nan=False).encode("utf-8")
    return head + tail, {"Inference-Header-Content-Length": str(len(head))} if binary else {}


def outputs_of(reply: Reply) -> dict[str, Array]:
    """The arrays in a reply."""
    length = reply.headers.get("inference-header-content-length")
    document = json.loads(reply.body[: None if length is None else int(length)])
    position = int(length or 0)
    outputs = {}
    for item in document["outputs"]:
        size = item.get("parameters", {}).get("binary_data_size")
        if size is None:
            values = item["data"]
            if item["datatype"] != "BYTES":
                values = np.array([math.nan if value is None else value for value in values], _DTYPES[item["datatype"]])
        else:
            values = _decoded(reply.body[position : position + size], item["datatype"])
            position += size
        if item["datatype"] == "BYTES":
            texts = np.empty(len(values), object)
            texts[:] = values
            values = texts
        outputs[item["name"]] = values.reshape(item["shape"])
    if length is not None and position != len(reply.body):
        raise ValueError(f"the reply has {len(reply.body)} bytes; its parts end at {position}")
    return outputs


def datatype_of(values: Array) -> str:
    """The protocol's name of an array's type. Raises ValueError where it has none."""
    if not isinstance(values, np.ndarray):
        raise ValueError(f"{type(values).__name__}: no tensor")
    if values.dtype.kind in "OUS":
        return "BYTES"
    if str(values.dtype) not in _TYPES:
        raise ValueError(f"{values.dtype}: no type of the protocol")
    return _TYPES[str(values.dtype)]


def _listed(values: Array) -> list[Any]:
    flat = values.reshape(-1)
    if values.dtype.kind == "f":
        if np.isinf(values).any():
            raise InfinityError("JSON has no infinities")
        return [None if math.isnan(value) else value for value in flat.tolist()]
    return [_text(value) for value in flat.tolist()] if values.dtype.kind in "OUS" else list(flat.tolist())


def _text(value: Any) -> str:
    return value.decode("utf-8") if isinstance(value, bytes) else str(value)


def _encoded(values: Array, datatype: str) -> bytes:
    if datatype != "BYTES":
        return bytes(np.ascontiguousarray(values).tobytes())
    texts = [_text(value).encode("utf-8") for value in values.reshape(-1).tolist()]
    return b"".join(struct.pack("<I", len(text)) + text for text in texts)


def _decoded(data: bytes, datatype: str) -> Any:
    if datatype != "BYTES":
        return np.frombuffer(data, _DTYPES[datatype])
    texts = []
    position = 0
    while position < len(data):
        (length,) = struct.unpack_from("<I", data, position)
        texts.append(data[position + 4 : position + 4 + length].decode("utf-8"))
        position += 4 + length
    return texts


def _golden(reference: Reference) -> bytes | None:
    """A golden file of the first answer; None where there is no answer, it changes, or JSON cannot hold it."""
    if not reference.answers or reference.answers[0].error or not reference.answers[0].exact:
        return None
    answer = reference.answers[0]
    try:
        document: dict[str, Any] = {
            key: [
                {"name": name, "datatype": datatype_of(array), "shape": list(array.shape), "data": _listed(array)}
                for name, array in values.items()
            ]
            for key, values in (("inputs", answer.inputs), ("outputs", answer.outputs))
        }
    except ValueError:
        return None
    return json.dumps({**document, "tolerance": {"absolute": _ABSOLUTE, "relative": _RELATIVE}}).encode("utf-8")


def _error(reply: Reply) -> str:
    try:
        return re.sub(r"/\S*/(?=model)", "", str(json.loads(reply.body)["error"]))
    except (ValueError, KeyError):
        return repr(reply.body[:200])
