# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""What a device is asked and what it answers: one schema, for the modules, the command and the controller.

Pure: values, and their spelling as JSON. A call of the command ``edgeml call`` reads one request from its standard
input and answers with two lines on its standard output::

    {"code": "<digest>", "module": "model_swap", "check_mode": false, "arguments": {"model": "digits", …}}

    {"edgeml_code": "<digest>"}
    {"edgeml_result": {"changed": true, …}}

The first line comes before anything is done: it is the digest of the device's own code. Unless that is the request's,
nothing is done, and there is no second line. Arguments that have their default are left out.
"""

from __future__ import annotations

import json
import os
from typing import Any, Mapping, NamedTuple, Sequence, TypedDict, Union

from .._common.errors import ArgumentError
from .._common.records import build, spelled_types
from .._fetch.options import FetchOptions
from .state import STRATEGIES, Limits, ModelServer

STORE = "/var/lib/edgeml/store"
# Where the inference server keeps inputs for retraining.
COLLECTED = "/var/lib/edgeml-inference/collected"
# What says which microcontrollers are behind a device, where it has any.
MICROCONTROLLERS = "/etc/edgeml/mcu.json"
# A manifest has at most 1 MiB, and blobs that come with a call 64 KiB, in base64.
REQUEST_BYTES_MAX = 4 << 20

_SERVER = ModelServer()
# What Ansible's argument spec says of an option beside its type and its default.
_SPECS: dict[str, dict[str, Any]] = {
    "state": {"choices": ["present", "staged", "shadow", "active", "previous", "absent"]},
    "sources": {"elements": "str"},
    "windows": {"elements": "str"},
    # A path, and nothing secret.
    "token_file": {"no_log": False},
    # It may have a password in it.
    "proxy": {"no_log": True},
    "verify": {"choices": ["quick", "full"]},
    "strategy": {"choices": list(STRATEGIES)},
    "staged_blobs": {"type": "path"},
    "store": {"type": "path"},
    "spool": {"type": "path"},
    "want": {"elements": "str"},
    "remove": {"elements": "str"},
    "keep_versions": {"elements": "str"},
    # Not secret, but nothing for a log.
    "inline_blobs": {"no_log": True},
    "inline_deltas": {"no_log": True},
}

_CODE = '{"edgeml_code": '
_RESULT = '{"edgeml_result": '
_ANSIBLE_TYPES = {
    "str": "str",
    "str | None": "str",
    "bool": "bool",
    "int": "int",
    "float": "float",
    "Mapping[str, str]": "dict",
    "Sequence[str]": "list",
    "Mapping[str, Any] | None": "dict",
    "Limits": "dict",
    "FetchOptions": "dict",
    "SentPart": "dict",
}


class SentPart(NamedTuple):
    """A part of a file that the controller sent: the file's SHA-256, the position of the part's first byte in the file,
    and where the part is on the device, if it came. Or a part of the ``delta`` with that SHA-256, of ``delta_size``
    bytes, which makes the file."""

    sha256: str | None = None
    offset: int = 0
    path: str | None = None
    delta: str | None = None
    delta_size: int = 0


class InfoRequest(NamedTuple):
    """What ``model_info`` asks: its options, as its documentation describes them."""

    model: str | None = None
    probe: bool = False
    history: int = 0
    candidate: str | None = None
    store: str = STORE
    server: str = _SERVER.server


class CollectRequest(NamedTuple):
    """What ``collected_inputs`` asks of a device: its options, as its documentation describes them."""

    want: Sequence[str] = []
    remove: Sequence[str] = []
    spool: str = COLLECTED


class SwapRequest(NamedTuple):
    """What ``model_swap`` asks of a device: its options, as its documentation describes them."""

    model: str
    version: str
    state: str = "active"
    manifest: Mapping[str, Any] | None = None
    withdrawn: Mapping[str, Any] | None = None
    fetch: FetchOptions = FetchOptions()
    sent_part: SentPart = SentPart()
    staged_blobs: str | None = None
    inline_blobs: Mapping[str, str] = {}
    inline_deltas: Mapping[str, str] = {}
    unavailable_blobs: Mapping[str, str] = {}
    controller_sends: bool = False
    verify: str = "quick"
    strategy: str = _SERVER.strategy
    server_unit: str = _SERVER.unit
    min_ready_seconds: float = 2.0
    trial_seconds: float = 300.0
    trial_limits: Limits = Limits()
    retry: bool = False
    accept_no_way_back: bool = False
    shadow_seconds: float = 900.0
    headroom_percent: int = 20
    keep: int = 1
    keep_versions: Sequence[str] = []
    rollout_id: str | None = None
    reason: str = ""
    store: str = STORE
    server: str = _SERVER.server


# Options that are records themselves.
_RECORDS: dict[str, Any] = {"Limits": Limits, "FetchOptions": FetchOptions, "SentPart": SentPart}
Request = Union[InfoRequest, SwapRequest, CollectRequest]
MODULES: dict[str, Any] = {
    "model_info": InfoRequest,
    "model_swap": SwapRequest,
    "collected_inputs": CollectRequest,
}
# The options of a module that its action plugin alone reads, on the controller.
_RETRY: dict[str, dict[str, Any]] = {"retry_seconds": {"type": "float", "default": 0.0}}
_CONTROLLER_OPTIONS: dict[str, dict[str, dict[str, Any]]] = {
    "model_info": _RETRY,
    "collected_inputs": {
        "destination": {"type": "path", "required": True},
        "max_bytes": {"type": "int", "default": 64 << 20},
        **_RETRY,
    },
    "model_swap": {"repository": {"type": "path"}, "jitter_seconds": {"type": "float", "default": 0.0}, **_RETRY},
}


class Blob(TypedDict):
    """A file that a device lacks: its name in the release, its size in bytes, its SHA-256, and how many bytes it has of
    it, and of each delta of it, by that one's SHA-256; None for one that it refused."""

    path: str
    size: int
    sha256: str
    held_bytes: int
    held_deltas: dict[str, int | None]


class InfoResult(TypedDict, total=False):
    """What ``model_info`` returns: its return values, as its documentation describes them."""

    changed: bool
    failed: bool
    msg: str
    server_live: bool
    models: list[dict[str, Any]]
    model: dict[str, Any]
    device: dict[str, Any]
    expires: dict[str, str]


class SwapResult(TypedDict, total=False):
    """What ``model_swap`` returns: its return values, as its documentation describes them."""

    changed: bool
    failed: bool
    msg: str
    model: str
    version: str
    live: str | None
    before: dict[str, Any]
    after: dict[str, Any]
    active_seconds: float | None
    variant: str | None
    trial: dict[str, Any] | None
    tested: dict[str, Any] | None
    missing_blobs: list[Blob]
    fetched: dict[str, Any] | None
    warnings: list[str]
    held_blobs: list[str]
    refused_deltas: list[dict[str, Any]]
    sent: dict[str, Any]
    order: dict[str, Any] | None
    withdrawn: str
    baseline: dict[str, Any] | None
    candidate: dict[str, Any] | None
    refused: bool
    failure: dict[str, Any]
    server_down: bool
    diff: dict[str, Any]


class CollectResult(TypedDict, total=False):
    """What ``collected_inputs`` returns: its return values, as its documentation describes them."""

    changed: bool
    failed: bool
    msg: str
    waiting: list[dict[str, Any]]
    inputs: list[dict[str, str]]
    removed: int
    brought: int
    bytes: int
    left: int
    refused: list[str]


RESULTS: dict[str, Any] = {
    "model_info": InfoResult,
    "model_swap": SwapResult,
    "collected_inputs": CollectResult,
}


class Call(NamedTuple):
    """One call of the command. ``code`` is the digest of the caller's code; ``request`` None where it is another's."""

    code: str
    check_mode: bool = False
    request: Request | None = None


class Answer(NamedTuple):
    """What the command said: the digest of its ``code``, None if it never began; and its ``result``, JSON text, None if
    it did not come to it."""

    code: str | None
    result: str | None


def argument_spec(module: str) -> dict[str, dict[str, Any]]:
    """Ansible's argument spec of a module."""
    return {**_options(MODULES[module]), **_CONTROLLER_OPTIONS.get(module, {})}


def _options(kind: Any) -> dict[str, dict[str, Any]]:
    return {name: _option(kind, name, annotation) for name, annotation in spelled_types(kind).items()}


def _option(kind: Any, name: str, annotation: str) -> dict[str, Any]:
    option: dict[str, Any] = {"type": _ANSIBLE_TYPES[annotation], **_SPECS.get(name, {})}
    if annotation in _RECORDS:
        return {**option, "default": {}, "options": _options(_RECORDS[annotation])}
    if name not in kind._field_defaults:
        return {**option, "required": True}
    default = kind._field_defaults[name]
    return option if default is None else {**option, "default": default}


def make_request(kind: Any, arguments: Mapping[str, Any]) -> Any:
    """The request that a module's arguments make, whatever else is among them. Raises TypeError for a wrong type."""
    values = {name: value for name, value in arguments.items() if name in kind._fields}
    for name, annotation in spelled_types(kind).items():
        if annotation in _RECORDS and name in values:
            given = {option: value for option, value in values[name].items() if value is not None}
            values[name] = build(_RECORDS[annotation], given, finite=False)
    return build(kind, values, finite=False)


def write_call(code: str, module: str, check_mode: bool, arguments: Mapping[str, Any]) -> bytes:
    """The command's standard input. ``arguments`` are the module's, of their types.

    Raises TypeError or ValueError for what JSON cannot spell.
    """
    defaults = {name: option.get("default") for name, option in _options(MODULES[module]).items()}
    given = {name: arguments[name] for name in defaults if arguments.get(name, defaults[name]) != defaults[name]}
    call = {"code": code, "module": module, "check_mode": check_mode, "arguments": given}
    return json.dumps(call, separators=(",", ":")).encode("ascii")


def read_call(text: bytes, own_code: str | None) -> Call:
    """Parse the command's standard input. Raises ArgumentError for anything that no controller of this code writes."""
    if len(text) > REQUEST_BYTES_MAX:
        raise ArgumentError(f"the request: expected at most {REQUEST_BYTES_MAX} bytes; found more")
    try:
        document = json.loads(text.decode("utf-8"))
        code = document["code"]
        if not isinstance(code, str):
            raise TypeError(f"code: expected text; found {code!r}")
        if code != own_code:
            return Call(code)
        kind, check_mode = MODULES[document["module"]], document["check_mode"]
        if not isinstance(check_mode, bool):
            raise TypeError(f"check_mode: expected true or false; found {check_mode!r}")
        arguments = dict(document["arguments"])
        unknown = set(arguments).difference(kind._fields)
        if unknown:
            raise TypeError(f"arguments: unknown: {', '.join(sorted(unknown))}")
        for name in arguments:
            if _SPECS.get(name, {}).get("type") == "path" and isinstance(arguments[name], str):
                arguments[name] = os.path.expanduser(os.path.expandvars(arguments[name]))
        return Call(code, check_mode, make_request(kind, arguments))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ArgumentError(f"the request: expected a call of edgeml; found {error!r}") from error


def tell_from_the_beginning(last: dict[str, Any], first: Mapping[str, Any]) -> None:
    """Have the last call's result speak of the time before the first one, which made room on the device."""
    if "diff" in last and "diff" in first:
        last.update(before=first["before"], diff={"before": first["diff"]["before"], "after": last["diff"]["after"]})


def write_code(code: str | None) -> str:
    """The first line of an answer."""
    return f"{_CODE}{json.dumps(code)}}}\n"


def write_result(result: Mapping[str, Any]) -> str:
    """The second line of an answer."""
    return f"{_RESULT}{json.dumps(result)}}}\n"


def read_answer(text: str) -> Answer:
    """Find an answer's lines in what came back, whatever a login's banner or a shell put around them."""
    code = result = None
    for line in text.splitlines():
        line = line.strip()
        if code is None and line.startswith(_CODE) and line.endswith("}"):
            code = line[len(_CODE) : -1].strip('"')
        elif code is not None and line.startswith(_RESULT) and line.endswith("}"):
            result = line[len(_RESULT) : -1]
            break
    return Answer(code, result)
