# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One inference: the bytes of a request to the bytes of its reply. Runs in a worker thread, keeps no state."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from edgeml_server.common import json_codec
from edgeml_server.common.errors import DeadlineError, InvalidRequestError
from edgeml_server.common.number_lists import parse_large_request
from edgeml_server.common.tensors import (
    DTYPES,
    Array,
    TensorSpec,
    check_shape,
    datatype_of,
    from_binary,
    from_json,
    is_whole,
    shown,
    to_binary,
    to_json,
)

from .backend import Backend
from .classes import ClassNames, classify
from .sequences import Place, Sequences

_ID_CHARACTERS_MAX = 128


class OutputForm(NamedTuple):
    """Whether an output is returned as binary data, and how many of its classes instead of all scores (0: these)."""

    binary: bool
    classes: int = 0


class Request(NamedTuple):
    """A checked request: the model's inputs as arrays, how each output that is wanted is to be returned, and its place
    in a sequence."""

    inputs: Mapping[str, Array]
    outputs: Mapping[str, OutputForm]
    id: str | None = None
    queue_timeout_us: int | None = None
    place: Place | None = None


class Reply(NamedTuple):
    """The body of a reply; ``header_length`` is the length of its JSON when binary data follows it."""

    body: bytes
    header_length: int | None = None


class Answer(NamedTuple):
    """What became of one request: it, the outputs that it wanted, the processor time of the model, and the reply."""

    request: Request
    outputs: Mapping[str, Array]
    run_seconds: float
    reply: Reply


def infer(
    backend: Backend,
    model: str,
    version: str,
    classes: ClassNames,
    sequences: Sequences | None,
    body: bytes | bytearray | memoryview,
    header_length: int | None,
    arrived: float,
) -> Answer:
    """Answer the request in ``body``, of which ``header_length`` bytes are JSON (None: all).

    ``classes`` are the names of each output's classes; ``sequences`` those of a model that has some: there a request
    that names none is one of its own. ``arrived`` is when it arrived by ``time.perf_counter()``.
    Raises InvalidRequestError, and DeadlineError when the request has waited for longer than it wants to.
    """
    request = parse_request(backend, body, header_length)
    if request.queue_timeout_us is not None and (time.perf_counter() - arrived) * 1e6 > request.queue_timeout_us:
        raise DeadlineError(f"timeout: the request waited for more than {request.queue_timeout_us} microseconds")
    names = list(request.outputs)
    started = time.thread_time()
    if request.place is None:
        results = backend.run(request.inputs, names)
    elif sequences is None:
        raise InvalidRequestError("sequence_id: expected none: this model's release asks for no sequences")
    else:
        results = sequences.run(request.place, request.inputs, names)
    outputs = dict(zip(names, results))
    run_seconds = time.thread_time() - started
    return Answer(request, outputs, run_seconds, _reply(model, version, classes, request, outputs))


def parse_request(backend: Backend, body: bytes | bytearray | memoryview, header_length: int | None) -> Request:
    """Check a request in full. Raises InvalidRequestError, which names what is wrong."""
    if header_length == 0:
        return _raw_request(backend, body)
    if header_length is not None and header_length > len(body):
        raise InvalidRequestError(
            f"Inference-Header-Content-Length: expected at most the body's {len(body)} bytes; found {header_length}"
        )
    try:
        document = None
        if header_length is None and not isinstance(body, memoryview):
            document = parse_large_request(body)
        if document is None:
            document = json_codec.loads(memoryview(body)[:header_length])
    except ValueError as error:
        raise InvalidRequestError(f"expected JSON: {error}") from error
    if not isinstance(document, dict):
        raise InvalidRequestError(f"expected a JSON object; found {shown(document)}")
    request_id = document.get("id")
    if request_id is not None and not isinstance(request_id, str):
        raise InvalidRequestError(f"id: expected a text; found {shown(request_id)}")
    binary = memoryview(body)[header_length:] if header_length is not None else None
    parameters = _parameters(document, "request")
    return Request(
        inputs=parse_inputs(backend.inputs, document.get("inputs"), binary),
        outputs=_outputs(backend.outputs, document.get("outputs"), _flag(parameters, "binary_data_output", False)),
        id=request_id,
        queue_timeout_us=_timeout(parameters),
        place=_place(parameters),
    )


def parse_inputs(specs: Sequence[TensorSpec], items: Any, binary: memoryview | None = None) -> dict[str, Array]:
    """Return the arrays of a request's ``inputs``, exactly those of the model. Raises InvalidRequestError.

    ``binary`` is what follows the request's JSON (None: nothing may).
    """
    if not isinstance(items, list):
        raise InvalidRequestError(f"inputs: expected a list; found {shown(items)}")
    expected = {spec.name: spec for spec in specs}
    arrays: dict[str, Array] = {}
    position = 0
    for item in items:
        name = item.get("name") if isinstance(item, dict) else None
        spec = expected.get(name) if isinstance(name, str) else None
        if name is None or spec is None:
            raise InvalidRequestError(f"inputs: expected the names {', '.join(expected)}; found {shown(name)}")
        if name in arrays:
            raise InvalidRequestError(f"inputs: {name!r} is given twice")
        if item.get("datatype") != spec.datatype:
            raise InvalidRequestError(
                f"input {name!r}: datatype: expected {spec.datatype}; found {shown(item.get('datatype'))}"
            )
        shape = check_shape(spec, item.get("shape"))
        size = _parameters(item, f"input {name!r}").get("binary_data_size")
        if size is None:
            arrays[name] = from_json(spec, shape, item.get("data"))
        else:
            if "data" in item:
                raise InvalidRequestError(f"input {name!r}: expected either data or binary_data_size; found both")
            arrays[name] = from_binary(spec, shape, _slice(binary, position, size, name))
            position += size
    missing = [name for name in expected if name not in arrays]
    if missing:
        raise InvalidRequestError(f"inputs: missing {', '.join(missing)}")
    if binary is not None and position != len(binary):
        raise InvalidRequestError(f"expected {position} bytes of binary data; found {len(binary)}")
    _check_symbols(specs, arrays)
    return arrays


def _check_symbols(specs: Sequence[TensorSpec], arrays: Mapping[str, Array]) -> None:
    """Raise InvalidRequestError when sizes differ to which the model gives one name."""
    seen: dict[str, tuple[str, int]] = {}
    for spec in specs:
        for symbol, size in zip(spec.symbols, arrays[spec.name].shape):
            if symbol is None:
                continue
            first, expected = seen.setdefault(symbol, (spec.name, size))
            if size != expected:
                raise InvalidRequestError(
                    f"input {spec.name!r}: shape: expected the size {symbol!r} to be {expected}, as in the shape of "
                    f"input {first!r}; found {size}"
                )


def _outputs(specs: Sequence[TensorSpec], items: Any, binary_by_default: bool) -> dict[str, OutputForm]:
    if items is None or items == []:
        return {spec.name: OutputForm(binary_by_default) for spec in specs}
    if not isinstance(items, list):
        raise InvalidRequestError(f"outputs: expected a list; found {shown(items)}")
    names = [spec.name for spec in specs]
    wanted: dict[str, OutputForm] = {}
    for item in items:
        name = item.get("name") if isinstance(item, dict) else None
        if name not in names:
            raise InvalidRequestError(f"outputs: expected names among {', '.join(names)}; found {shown(name)}")
        if name in wanted:
            raise InvalidRequestError(f"outputs: {name!r} is asked for twice")
        parameters = _parameters(item, f"output {name!r}")
        classes = parameters.get("classification", 0)
        if not is_whole(classes) or classes < 0:
            raise InvalidRequestError(f"classification: expected a whole number of classes; found {shown(classes)}")
        wanted[name] = OutputForm(_flag(parameters, "binary_data", binary_by_default), classes)
    return wanted


def _raw_request(backend: Backend, body: bytes | bytearray | memoryview) -> Request:
    """The whole body is the one input's binary data; its variable size, if it has one, follows from the length."""
    if len(backend.inputs) != 1:
        raise InvalidRequestError(f"raw binary data: expected a model with one input; it has {len(backend.inputs)}")
    spec = backend.inputs[0]
    variable = spec.shape.count(-1)
    if spec.any_rank:
        raise InvalidRequestError("raw binary data: expected an input with a declared shape; this one takes any")
    if spec.datatype == "BYTES":
        raise InvalidRequestError("raw binary data: expected an input of numbers; this one is of datatype BYTES")
    if variable > 1:
        raise InvalidRequestError(
            f"raw binary data: expected an input with at most one variable size; it has {list(spec.shape)}"
        )
    known_bytes = DTYPES[spec.datatype].itemsize * math.prod(size for size in spec.shape if size != -1)
    shape = [len(body) // known_bytes if size == -1 and known_bytes else size for size in spec.shape]
    values = from_binary(spec, check_shape(spec, shape), memoryview(body))
    return Request(
        inputs={spec.name: values}, outputs={output.name: OutputForm(binary=True) for output in backend.outputs}
    )


def _reply(model: str, version: str, classes: ClassNames, request: Request, values: Mapping[str, Array]) -> Reply:
    outputs = []
    tails = []
    for name, form in request.outputs.items():
        array = values[name]
        if form.classes:
            array = classify(array, form.classes, classes.get(name, ()))
        output: dict[str, Any] = {"name": name, "datatype": datatype_of(array), "shape": list(array.shape)}
        if form.binary:
            tails.append(to_binary(array))
            output["parameters"] = {"binary_data_size": len(tails[-1])}
        else:
            output["data"] = to_json(array)
        outputs.append(output)
    document: dict[str, Any] = {"model_name": model, "model_version": version, "outputs": outputs}
    if request.id is not None:
        document["id"] = request.id
    header = json_codec.dumps(document)
    if not tails:
        return Reply(header)
    return Reply(b"".join([header, *tails]), len(header))


def _parameters(item: Mapping[str, Any], where: str) -> Mapping[str, Any]:
    parameters = item.get("parameters")
    if parameters is None:
        return {}
    if not isinstance(parameters, dict):
        raise InvalidRequestError(f"{where}: parameters: expected an object; found {shown(parameters)}")
    return parameters


def _flag(parameters: Mapping[str, Any], name: str, default: bool) -> bool:
    value = parameters.get(name, default)
    if not isinstance(value, bool):
        raise InvalidRequestError(f"{name}: expected true or false; found {shown(value)}")
    return value


def _place(parameters: Mapping[str, Any]) -> Place | None:
    """As in Triton, 0 and the empty text are no sequence."""
    name = parameters.get("sequence_id", 0)
    if not (is_whole(name) and name >= 0) and not (isinstance(name, str) and len(name) <= _ID_CHARACTERS_MAX):
        raise InvalidRequestError(
            f"sequence_id: expected a whole number, or a text of at most {_ID_CHARACTERS_MAX} characters; found "
            f"{shown(name)}"
        )
    start, end = _flag(parameters, "sequence_start", False), _flag(parameters, "sequence_end", False)
    if not name and (start or end):
        raise InvalidRequestError("sequence_id: missing beside sequence_start or sequence_end")
    return Place(name, start, end) if name else None


def _timeout(parameters: Mapping[str, Any]) -> int | None:
    value = parameters.get("timeout")
    if value is not None and (not is_whole(value) or value < 0):
        raise InvalidRequestError(f"timeout: expected a whole number of microseconds; found {shown(value)}")
    # As in Triton, 0 is no timeout.
    return value or None


def _slice(binary: memoryview | None, position: int, size: Any, name: str) -> memoryview:
    if binary is None:
        raise InvalidRequestError(
            f"input {name!r}: binary_data_size needs the header Inference-Header-Content-Length; it is missing"
        )
    left = len(binary) - position
    if not is_whole(size) or not 0 <= size <= left:
        raise InvalidRequestError(
            f"input {name!r}: binary_data_size: expected 0 to {left}, the bytes that are left; found {shown(size)}"
        )
    return binary[position : position + size]
