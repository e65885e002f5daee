# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Inference requests with the binary extension, wrong in one or several places, and what must not become of them."""

from __future__ import annotations

import http.client
import json
from collections.abc import Callable, Iterator
from random import Random
from typing import Any, NamedTuple

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from server_process import Device, plus_input, read_reply

REQUESTS_PER_EXAMPLE = 10
"""Each of Hypothesis's requests is sent as it is, and then with bytes of it changed at random."""
_STATUSES = {200, 400, 404, 413, 431, 503}


class Fuzzed(NamedTuple):
    """A request: the model's name, the header ``Inference-Header-Content-Length`` (None: none), and the body."""

    model: str
    header_length: str | None
    body: bytes
    seed: int = 0

    def damaged(self) -> Iterator[Fuzzed]:
        """This request with bytes changed, inserted, removed and cut off."""
        random = Random(self.seed)
        for _ in range(REQUESTS_PER_EXAMPLE - 1):
            body = bytearray(self.body)
            for _ in range(random.randint(1, 4)):
                start = random.randrange(len(body) + 1)
                anything = random.randbytes(random.randrange(4))
                inserted = random.choice([anything, b"0", b"-", b"9999999999", b'"', b"[", b"}"])
                body[start : start + random.choice([0, 1, 1, len(inserted), 8])] = inserted
            if random.random() < 0.1:
                del body[random.randrange(len(body) + 1) :]
            yield self._replace(body=bytes(body))


_DATATYPES = [
    "BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64", "FP16", "FP32", "FP64", "BYTES",
]  # fmt: skip
_ITEM_BYTES = {"BOOL": 1, "FP16": 2, "FP32": 4, "FP64": 8}
_NUMBERS = st.one_of(st.integers(-2, 9), st.sampled_from([2**31 - 1, 2**31, 2**32, 2**63 - 1, 2**63, 2**64, -(2**63)]))
_ANYTHING = st.recursive(
    st.none() | st.booleans() | _NUMBERS | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


def _input(name: str, datatype: str, count: int, data: bytes) -> tuple[dict[str, Any], bytes]:
    parameters = {"binary_data_size": len(data)}
    return {"name": name, "datatype": datatype, "shape": [count], "parameters": parameters}, data


def _data(random: Random, datatype: str, count: int) -> bytes:
    if datatype == "BOOL":
        return bytes(random.choices([0, 1], k=count))
    if datatype == "BYTES":
        texts = [random.choice(["", "a", "é", "text"]).encode("utf-8") for _ in range(count)]
        return b"".join(len(text).to_bytes(4, "little") + text for text in texts)
    return random.randbytes(count * (_ITEM_BYTES.get(datatype) or int(datatype.lstrip("UINT")) // 8))


@st.composite
def fuzzed_requests(draw: Callable[..., Any]) -> Fuzzed:
    """A request that is right but for what is drawn to be wrong with it."""
    model = draw(st.sampled_from(["plus", "identities", "plus", "identities", "absent"]))
    # The values themselves are of no interest.
    number = draw(st.integers(0, 1 << 32))
    random = Random(number)
    count = random.randrange(4)
    if model == "identities":
        parts = [_input(f"in_{name}", name, count, _data(random, name, count)) for name in _DATATYPES]
    else:
        item, data = _input("x", "FP32", count, _data(random, "FP32", 2 * count))
        parts = [({**item, "shape": [count, 2]}, data)]
    document: dict[str, Any] = {"inputs": [item for item, _ in parts]}
    data = b"".join(content for _, content in parts)
    for _ in range(draw(st.integers(0, 3))):
        document, data = draw(st.sampled_from(_MUTATIONS))(draw, document, data)
    text = json.dumps(document).encode("utf-8")
    if draw(st.integers(0, 9)) == 0:
        text = _damaged(draw, text)
    length = draw(
        st.one_of(
            st.just(str(len(text))),
            st.just(str(len(text))),
            _NUMBERS.map(str),
            st.integers(-9, 9).map(lambda change: str(len(text) + change)),
            st.none(),
            st.text(st.characters(min_codepoint=0x20, max_codepoint=0xFF), max_size=30),
        )
    )
    return Fuzzed(model, length, text + data, number)


def _damaged(draw: Callable[..., Any], content: bytes) -> bytes:
    start = draw(st.integers(0, len(content)))
    end = draw(st.integers(start, min(len(content), start + 8)))
    inserted: bytes = draw(st.binary(max_size=8))
    return content[:start] + inserted + content[end:]


def _damage_data(draw: Callable[..., Any], document: dict[str, Any], data: bytes) -> tuple[dict[str, Any], bytes]:
    return document, _damaged(draw, data)


def _change_item(draw: Callable[..., Any], document: dict[str, Any], data: bytes) -> tuple[dict[str, Any], bytes]:
    found = document.get("inputs")
    items = list(found) if isinstance(found, list) else []
    if items:
        place = draw(st.integers(0, len(items) - 1))
        key = draw(st.sampled_from(["name", "datatype", "shape", "data", "parameters", "binary_data_size"]))
        value = draw(st.one_of(_ANYTHING, st.sampled_from(_DATATYPES), st.lists(_NUMBERS, max_size=4), _NUMBERS))
        item = items[place] if isinstance(items[place], dict) else {}
        items[place] = {**item, "parameters": {key: value}} if key == "binary_data_size" else {**item, key: value}
    return {**document, "inputs": items}, data


def _change_items(draw: Callable[..., Any], document: dict[str, Any], data: bytes) -> tuple[dict[str, Any], bytes]:
    items = document.get("inputs")
    items = items if isinstance(items, list) else []
    return {**document, "inputs": draw(st.sampled_from([items[1:], items + items, items[::-1], [], None, {}]))}, data


def _change_request(draw: Callable[..., Any], document: dict[str, Any], data: bytes) -> tuple[dict[str, Any], bytes]:
    key = draw(st.sampled_from(["id", "parameters", "outputs", "inputs", "other"]))
    names = st.sampled_from(["sum", "twice", "out_BYTES", "none"])
    outputs = st.lists(st.fixed_dictionaries({"name": names}, optional={"parameters": _ANYTHING}), max_size=3)
    parameters = st.dictionaries(st.sampled_from(["binary_data_output", "timeout"]), _ANYTHING)
    return {**document, key: draw(st.one_of(_ANYTHING, outputs, parameters))}, data


_MUTATIONS = [_damage_data, _change_item, _change_items, _change_request]


class Fuzzer:
    """Sends fuzzed requests to a device's server. Counts the replies by their status."""

    def __init__(self, device: Device) -> None:
        self.statuses: dict[int, int] = {}
        self._device = device
        self._connection = device.connect()

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def run(self, requests: int, number: int) -> None:
        """Send about so many requests, other ones for another ``number``; afterwards the server answers a good one."""

        @seed(number)
        @settings(
            max_examples=max(1, requests // REQUESTS_PER_EXAMPLE),
            deadline=None,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(fuzzed_requests())
        def survives(request: Fuzzed) -> None:
            self._send(request)
            for damaged in request.damaged():
                self._send(damaged)

        survives()
        reply = self._device.post("/v2/models/plus/infer", {"inputs": [plus_input([1, 2])]})
        assert reply.json()["outputs"][0]["data"] == [2.0, 3.0]

    def _send(self, request: Fuzzed) -> None:
        headers = {} if request.header_length is None else {"Inference-Header-Content-Length": request.header_length}
        path = f"/v2/models/{request.model}/infer"
        try:
            self._connection.request("POST", path, request.body, headers)
        except ValueError:
            return  # http.client's: not a value that a header can have
        try:
            reply = read_reply(self._connection)
        except http.client.RemoteDisconnected:
            self._connection = self._device.connect()
            raise
        self.statuses[reply.status] = self.statuses.get(reply.status, 0) + 1
        assert reply.status in _STATUSES, (reply, request)
        if reply.status != 200:
            assert list(reply.json()) == ["error"], (reply, request)
        if reply.headers.get("connection") == "close":
            self._connection.close()
            self._connection = self._device.connect()
