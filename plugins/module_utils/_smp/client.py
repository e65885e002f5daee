# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""A client of a microcontroller: images are sent to it, tested and confirmed, and its model is asked, by the Simple
Management Protocol.

Every answer is checked where it enters. A frame that is lost is sent again: what this asks for can be asked for twice.
"""

from __future__ import annotations

import contextlib
import hashlib
import time
from typing import Any, Callable, Mapping, NamedTuple

from .._common.errors import ServerDownError, ServerError
from .._common.records import is_number, is_whole
from .frames import READ, WRITE, Frame, FrameError, read_frame, write_frame
from .ports import Port

# MCUmgr's groups, and the first one that is free for an application.
OS, IMAGE, APPLICATION = 0, 1, 64
_ECHO, _RESET, _PARAMETERS = 0, 5, 6
_STATE, _UPLOAD, _ERASE = 0, 1, 5
_INFO, _INFER = 0, 1

# How long an answer is waited for at first. Each wait is twice as long as the one before, up to four times the first: a
# board or a gateway that is busy is no dead one, and a line that loses frames is asked again soon.
ANSWER_SECONDS = 2.0
_LONGER = 2
_LONGEST = 4
# Of a line that loses a fifth of all frames, each way, some 3,500 requests get through before one fails.
ATTEMPTS = 8
# To look whether anybody is there.
LOOK_ATTEMPTS = 2
# A sector takes up to some seconds, and a slot has many.
ERASE_SECONDS = 60.0
# A bootloader may move two slots, sector by sector.
BOOT_SECONDS = 120.0
# What a console takes without being asked: MCUmgr's own buffer is larger on every board.
BUFFER_BYTES = 384
_BUFFER_BYTES_MAX = 4096
# Of a chunk: the names, the numbers and the digest around the data.
_CHUNK_OVERHEAD = 112
_FRUITLESS_MAX = 8
_RESET_INTERVAL_SECONDS = 0.05
_REASON_MAX = 300
_LIST_MAX = 256
_DIMENSIONS_MAX = 8

# MCUmgr's reasons.
_REASONS = {
    1: "unknown error", 2: "no memory", 3: "wrong value", 4: "too late", 5: "nothing there", 6: "wrong state",
    7: "the reply is too long", 8: "not supported", 9: "damaged", 10: "busy", 11: "access denied",
}  # fmt: skip
WRONG_STATE, BUSY = 6, 10


class RefusedError(ServerError):
    """The microcontroller answered that it does not do what it was asked for; ``code`` is MCUmgr's reason."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


class SlotImage(NamedTuple):
    """An image in one slot: which image it is (0: the firmware, 1: the model), the slot, its version, the SHA-256 that
    its signer gave it, and what the bootloader thinks of it. ``active``: it runs. ``pending``: it is tried at the next
    reset. ``confirmed``: no reset goes back from it."""

    image: int
    slot: int
    version: str
    hash: bytes
    bootable: bool
    pending: bool
    confirmed: bool
    active: bool


class Tensor(NamedTuple):
    """The input or the output of the model: its type in TensorFlow's words, its shape, and of whole numbers the scale
    and the zero that make real numbers of them."""

    type: str
    shape: tuple[int, ...]
    scale: float
    zero: int


class Info(NamedTuple):
    """What a microcontroller says of itself. ``device_class`` is its kind, ``arena`` the bytes that a model has to work
    in and ``arena_used`` those that this one takes; ``model_sha256`` is that of the model's own bytes. ``error`` and
    ``model_error`` say why the last firmware and the last model were refused. ``inferences``, ``errors`` and
    ``busy_us`` count since the last reset, ``resets``, ``written`` (bytes) and ``erased`` (sectors) since it was made.
    """

    device_class: str
    firmware: str
    runtime: str
    operators: tuple[str, ...]
    arena: int
    arena_used: int
    model_version: str
    model_sha256: str
    model_loaded: bool
    model_error: str
    error: str
    input: Tensor | None
    output: Tensor | None
    security_counter: int
    model_counter: int
    written: int
    erased: int
    resets: int
    inferences: int
    errors: int
    busy_us: int


class Inference(NamedTuple):
    """The bytes of an output, and the microseconds that they took."""

    output: bytes
    microseconds: int


class SmpClient:
    """Asks the microcontroller at ``port``; ``address`` names it in errors. Each call raises ServerError when it fails,
    ServerDownError where nobody answers."""

    def __init__(self, port: Port, address: str, answer_seconds: float = ANSWER_SECONDS) -> None:
        self._port = port
        self._address = address
        self._answer_seconds = answer_seconds
        self._sequence = int(time.monotonic() * 1000) & 0xFF
        self._buffer = 0

    def is_there(self) -> bool:
        """Whether anybody answers."""
        try:
            self._ask(OS, _ECHO, WRITE, {"d": "edgeml"}, attempts=LOOK_ATTEMPTS)
        except RefusedError:
            return True
        except ServerError:
            return False
        return True

    def info(self, attempts: int = ATTEMPTS) -> Info:
        """What the microcontroller says of itself."""
        return _info(self._ask(APPLICATION, _INFO, READ, attempts=attempts), self._address)

    def infer(self, data: bytes, seconds: float = ANSWER_SECONDS) -> Inference:
        """Have the model compute an output from the bytes of its input."""
        answer = self._ask(APPLICATION, _INFER, WRITE, {"i": data}, seconds=seconds)
        output, took = answer.get("o"), answer.get("us", 0)
        if not isinstance(output, bytes) or not is_whole(took) or took < 0:
            raise ServerError(
                f"{self._address}: infer: expected the output as bytes, and microseconds; found {answer!r:.200}"
            )
        return Inference(output, took)

    def images(self) -> tuple[SlotImage, ...]:
        """The images in all slots."""
        return self._images(self._ask(IMAGE, _STATE, READ))

    def test(self, hash_: bytes) -> tuple[SlotImage, ...]:
        """Have an image tried at the next reset. Returns the images after."""
        return self._images(self._ask(IMAGE, _STATE, WRITE, {"hash": hash_, "confirm": False}))

    def confirm(self, hash_: bytes) -> tuple[SlotImage, ...]:
        """Have the running image stay. Returns the images after."""
        return self._images(self._ask(IMAGE, _STATE, WRITE, {"hash": hash_, "confirm": True}))

    def erase(self, image: int) -> None:
        """Empty the slot of an image that is not active: what is in it is not tried any more."""
        self._ask(IMAGE, _ERASE, WRITE, {"slot": 2 * image + 1}, seconds=ERASE_SECONDS)

    def restart(self, seconds: float = BOOT_SECONDS) -> Info:
        """Start the microcontroller anew, and wait until it answers; it counts its starts. Returns what it then says.

        Raises ServerDownError where it does not answer for ``seconds``.
        """
        before = self.info().resets
        deadline = time.monotonic() + seconds
        again = 0.0
        while True:
            if time.monotonic() >= again:
                # Once: a second one would end the trial of what the first one started. Its reply may be lost.
                with contextlib.suppress(ServerDownError):
                    self._ask(OS, _RESET, WRITE, attempts=1)
                again = deadline
            with contextlib.suppress(ServerError):
                found = self.info(attempts=LOOK_ATTEMPTS)
                if found.resets != before:
                    self._buffer = 0
                    return found
                # It answers, and has not started anew: the request was lost.
                again = min(again, time.monotonic() + self._answer_seconds)
            if time.monotonic() >= deadline:
                raise ServerDownError(
                    f"{self._address}: the microcontroller did not start anew within {seconds:g} s after a reset"
                )
            # The old program may still answer for a moment.
            time.sleep(_RESET_INTERVAL_SECONDS)

    def upload(self, image: int, content: bytes, told: Callable[[int], None] = lambda _sent: None) -> int:
        """Bring an image into the slot that is not active, from where an upload that broke off had come to.

        ``told`` is called with the position after each part. Returns how many bytes were sent. Raises ServerError where
        the microcontroller refuses it, or takes no more of it.
        """
        digest = hashlib.sha256(content).digest()
        room = self._chunk_bytes()
        at = most = sent = fruitless = 0
        while at < len(content):
            # The first part names the whole: by it an upload goes on where it was. It has a byte at least.
            part = content[at : at + (max(room - 32, 1) if at == 0 else room)]
            question: dict[str, Any] = {"off": at, "data": part}
            if at == 0:
                question.update(image=image, len=len(content), sha=digest, upgrade=False)
            try:
                answer = self._ask(IMAGE, _UPLOAD, WRITE, question, seconds=ERASE_SECONDS if at == 0 else None)
            except RefusedError as error:
                fruitless += 1
                if error.code != WRONG_STATE or at == 0 or fruitless >= _FRUITLESS_MAX:
                    raise
                # It was reset meanwhile, and has to hear again what this is about; it knows how far it had come.
                at = 0
                continue
            sent += len(part)
            place: Any = answer.get("off")
            if not is_whole(place) or not 0 <= place <= len(content):
                raise ServerError(
                    f"{self._address}: upload: expected a position from 0 to {len(content)}; found {place!r:.50}"
                )
            at = int(place)
            fruitless = 0 if at > most else fruitless + 1
            most = max(most, at)
            if fruitless >= _FRUITLESS_MAX:
                raise ServerError(f"{self._address}: upload: it stays at byte {at} of {len(content)}")
            told(at)
        return sent

    # ---- the parts ----

    def _chunk_bytes(self) -> int:
        """How many bytes of an image fit into one frame."""
        if not self._buffer:
            found: Any
            try:
                found = self._ask(OS, _PARAMETERS, READ).get("buf_size")
            except RefusedError:
                found = None
            size = int(found) if is_whole(found) and found > 0 else BUFFER_BYTES
            self._buffer = min(max(size, 2 * _CHUNK_OVERHEAD), _BUFFER_BYTES_MAX)
        return self._buffer - _CHUNK_OVERHEAD

    def _images(self, answer: Mapping[str, Any]) -> tuple[SlotImage, ...]:
        items = answer.get("images")
        if not isinstance(items, list) or len(items) > _LIST_MAX:
            raise ServerError(f"{self._address}: images: expected a list; found {items!r:.100}")
        return tuple(_slot_image(item, f"{self._address}: images[{place}]") for place, item in enumerate(items))

    def _ask(
        self,
        group: int,
        command: int,
        operation: int,
        content: Mapping[str, Any] | None = None,
        attempts: int = ATTEMPTS,
        seconds: float | None = None,
    ) -> dict[str, Any]:
        """Send a request until it is answered, at most ``attempts`` times. Returns the reply's content.

        Only a new request has a new number: the late answer of the one before is an answer, too.
        """
        self._sequence = (self._sequence + 1) & 0xFF
        request = Frame(operation, group, command, self._sequence, dict(content or {}))
        data = write_frame(request)
        try:
            self._port.discard()
            # A slow line has the question for a while, and then the answer, which is rarely the longer one.
            line = 2 * self._port.sending_seconds(data)
            patience = seconds or self._answer_seconds
            for _attempt in range(attempts):
                self._port.send(data)
                answer = self._answer(request, patience + line)
                if answer is not None:
                    return self._checked(request, answer)
                patience = max(patience, min(_LONGER * patience, _LONGEST * self._answer_seconds))
        except OSError as error:
            raise ServerDownError(f"{self._address}: no answer from the microcontroller: {error}") from error
        raise ServerDownError(f"{self._address}: no answer from the microcontroller, asked {attempts} times")

    def _answer(self, request: Frame, seconds: float) -> Frame | None:
        """The reply to a request; None where none comes within ``seconds``."""
        deadline = time.monotonic() + seconds
        while True:
            data = self._port.receive(max(deadline - time.monotonic(), 0.0))
            if data is None:
                return None
            try:
                frame = read_frame(data)
            except FrameError:
                continue
            if frame._replace(content={}) == request._replace(operation=request.operation + 1, content={}):
                return frame

    def _checked(self, request: Frame, answer: Frame) -> dict[str, Any]:
        """The content of a reply. Raises RefusedError where it is a refusal, of the protocol's version 1 or 2."""
        code = answer.content.get("rc", 0)
        error = answer.content.get("err")
        if isinstance(error, dict):
            code = error.get("rc", 1)
        if code == 0:
            return answer.content
        code = int(code) if is_whole(code) else 1
        reason = answer.content.get("rsn")
        why = f"{reason!s:.{_REASON_MAX}}" if isinstance(reason, str) and reason else _REASONS.get(code, "refused")
        raise RefusedError(
            f"{self._address}: group {request.group}, command {request.command}: the microcontroller says: {why} "
            f"({code})",
            code,
        )


def _slot_image(item: Any, origin: str) -> SlotImage:
    if not isinstance(item, dict):
        raise ServerError(f"{origin}: expected an object; found {item!r:.100}")
    image: Any = item.get("image", 0)
    slot: Any = item.get("slot")
    hash_: Any = item.get("hash", b"")
    if not is_whole(image) or not is_whole(slot) or not isinstance(hash_, bytes):
        raise ServerError(f"{origin}: expected image and slot as numbers, and hash as bytes; found {item!r:.200}")
    flags = {name: item.get(name, False) is True for name in ("bootable", "pending", "confirmed", "active")}
    return SlotImage(image=image, slot=slot, version=str(item.get("version", ""))[:64], hash=hash_, **flags)


def _info(document: Mapping[str, Any], address: str) -> Info:
    model = _part(document, "model", address)

    def number(name: str) -> int:
        value = document.get(name, 0)
        if not is_whole(value) or value < 0:
            raise ServerError(f"{address}: info: {name}: expected a whole number from 0; found {value!r:.50}")
        return int(value)

    def text(item: Mapping[str, Any], name: str) -> str:
        value = item.get(name, "")
        if not isinstance(value, str):
            raise ServerError(f"{address}: info: {name}: expected a text; found {value!r:.50}")
        return value[:_REASON_MAX]

    operators = document.get("operators", [])
    if (
        not isinstance(operators, list)
        or len(operators) > _LIST_MAX
        or not all(isinstance(name, str) for name in operators)
    ):
        raise ServerError(f"{address}: info: operators: expected a list of texts; found {operators!r:.100}")
    digest = model.get("sha", b"")
    if not isinstance(digest, bytes):
        raise ServerError(f"{address}: info: model.sha: expected bytes; found {digest!r:.50}")
    counted = (
        "arena",
        "arena_used",
        "security_counter",
        "model_counter",
        "written",
        "erased",
        "resets",
        "inferences",
        "errors",
        "busy_us",
    )
    return Info(
        device_class=text(document, "class"),
        firmware=text(document, "firmware"),
        runtime=text(document, "runtime"),
        operators=tuple(operators),
        model_version=text(model, "version"),
        model_sha256=digest.hex(),
        model_loaded=model.get("loaded") is True,
        model_error=text(model, "error"),
        error=text(document, "error"),
        input=_tensor(document.get("input"), f"{address}: info: input"),
        output=_tensor(document.get("output"), f"{address}: info: output"),
        **{name: number(name) for name in counted},
    )


def _part(document: Mapping[str, Any], name: str, address: str) -> Mapping[str, Any]:
    value = document.get(name) or {}
    if not isinstance(value, dict):
        raise ServerError(f"{address}: info: {name}: expected an object; found {value!r:.50}")
    return value


def _tensor(value: Any, origin: str) -> Tensor | None:
    if not value:
        return None
    item: Mapping[str, Any] = value if isinstance(value, dict) else {}
    kind: Any = item.get("type")
    shape: Any = item.get("shape", [])
    scale: Any = item.get("scale", 0.0)
    zero: Any = item.get("zero", 0)
    sizes: list[Any] = shape if isinstance(shape, list) and len(shape) <= _DIMENSIONS_MAX else [None]
    if (
        not isinstance(kind, str)
        or not all(is_whole(size) and 0 < size < 1 << 24 for size in sizes)
        or not is_number(scale)
        or not is_whole(zero)
    ):
        raise ServerError(f"{origin}: expected type, shape, scale and zero; found {value!r:.200}")
    return Tensor(kind[:16], tuple(sizes), float(scale), int(zero))
