# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A microcontroller in this process: flash, a bootloader with two slots of each image, and the Simple Management
Protocol over a pseudo-terminal or UDP.

It is a peer that a test can hold in its hand: frames are lost on its line, its power is cut at a chosen frame, and what
is in its flash outlives that. Its frames are read and written by code of its own (``cbor2``), so that two mistakes do
not cancel each other out. The real firmware, in an emulator, is ``examples/mcu``.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import hashlib
import os
import pty
import random
import socket
import struct
import threading
import tty
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import cbor2

DEVICE_CLASS = "mps2-an385"
FIRMWARE, MODEL = 0, 1
INPUTS, OUTPUTS = 4, 2


def signed_image(
    payload: bytes,
    version: tuple[int, int, int] = (1, 0, 0),
    counter: int = 1,
    needs: tuple[int, int, int] | None = None,
) -> bytes:
    """An image as ``imgtool sign`` writes it, with another's signature: nothing here has a key."""
    header = struct.pack("<IIHHIIBBHII", 0x96F3B83D, 0, 32, 0, len(payload), 0, *version, 0, 0)
    entries = struct.pack("<HHI", 0x50, 4, counter)
    if needs is not None:
        entries += struct.pack("<HHBxxxBBHI", 0x40, 12, FIRMWARE, *needs, 0)
    protected = struct.pack("<HH", 0x6908, 4 + len(entries)) + entries
    header = header[:10] + struct.pack("<H", len(protected)) + header[12:]
    signed = header + payload + protected
    entries = struct.pack("<HH", 0x10, 32) + hashlib.sha256(signed).digest()
    entries += struct.pack("<HH", 0x01, 32) + b"k" * 32 + struct.pack("<HH", 0x22, 8) + b"sign" * 2
    return signed + struct.pack("<HH", 0x6907, 4 + len(entries)) + entries


def hash_of(image: bytes) -> bytes:
    """The SHA-256 in an image of ``signed_image``."""
    (size,) = struct.unpack_from("<I", image, 12)
    (protected,) = struct.unpack_from("<H", image, 10)
    return hashlib.sha256(image[: 32 + size + protected]).digest()


def version_of(image: bytes) -> str:
    """The version in an image, as imgtool spells it."""
    major, minor, revision, build = struct.unpack_from("<BBHI", image, 20)
    return f"{major}.{minor}.{revision}+{build}"


def answer_of(payload: bytes, values: Sequence[int]) -> list[int]:
    """What the model of a payload answers: its first byte weighs the inputs."""
    weight = payload[0] - 128
    total = sum(values[: INPUTS // 2]) * weight
    return [max(-128, min(127, value)) for value in (total // 16, -total // 16)]


@dataclass
class Slot:
    """One slot in flash. ``length`` and ``sha`` are those of an upload that has begun."""

    data: bytes = b""
    length: int = 0
    sha: bytes = b""
    pending: bool = False
    confirmed: bool = False

    @property
    def whole(self) -> bool:
        """Whether it holds an image."""
        return 0 < self.length == len(self.data)


@dataclass
class Flash:
    """What outlives a loss of power: the two slots of each image, and the counters. Slot 0 runs."""

    slots: dict[int, list[Slot]] = field(default_factory=lambda: {FIRMWARE: [Slot(), Slot()], MODEL: [Slot(), Slot()]})
    security_counter: int = 0
    written: int = 0
    erased: int = 0
    resets: int = 0


class PowerCutError(Exception):
    """The power is gone in the middle of a frame."""


class Microcontroller:
    """Answers at a port until its block ends. ``address`` is what a gateway is told.

    ``lose``: which share of the frames is dropped, in each direction. ``cut_at``: the frame during which the power is
    cut, counted from now. ``refuses``: hashes that the bootloader does not believe, such as those of another key.
    """

    def __init__(self, flash: Flash | None = None, *, udp: bool = False, seed: int = 0) -> None:
        self.flash = flash or Flash()
        self.lose = 0.0
        self.cut_at: int | None = None
        self.refuses: set[bytes] = set()
        self.operators = ["FULLY_CONNECTED", "SOFTMAX"]
        self.microseconds = 1500
        self.broken_answers = False
        self.is_dead = False
        self.hangs_at_boot = False
        self.frames = 0
        self.seen: list[tuple[int, int]] = []
        self.inferences = self.errors = self.busy_us = 0
        self._error = ""
        self._uploading: int | None = None
        self._random = random.Random(seed)
        self._udp = udp
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.address = ""

    # ---- as a test handles it ----

    def __enter__(self) -> Microcontroller:
        if self._udp:
            self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            self._socket.bind(("127.0.0.1", 0))
            self._socket.settimeout(0.05)
            self.address = f"udp://127.0.0.1:{self._socket.getsockname()[1]}"
        else:
            self._master, self._slave = pty.openpty()
            tty.setraw(self._slave)
            self.address = os.ttyname(self._slave)
        self._thread.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._stop.set()
        self._thread.join()
        if self._udp:
            self._socket.close()
        else:
            os.close(self._master)
            os.close(self._slave)

    def program(self, number: int, image: bytes) -> None:
        """Write an image into the slot that runs, as at the factory."""
        self.flash.slots[number][0] = Slot(image, len(image), hashlib.sha256(image).digest(), confirmed=True)
        if number == FIRMWARE:
            (self.flash.security_counter,) = struct.unpack_from("<I", image, image.index(b"\x50\x00\x04\x00") + 4)

    def running(self, number: int) -> str | None:
        """The version of an image that runs."""
        slot = self.flash.slots[number][0]
        return version_of(slot.data) if slot.whole else None

    def power_on(self) -> None:
        """Start anew, as after a loss of power."""
        self.is_dead = False
        self.boot()

    def boot(self) -> None:
        """What the bootloader does at a reset: go back from what was not confirmed, or try what waits."""
        self.flash.resets += 1
        self.is_dead = self.hangs_at_boot
        self.inferences = self.errors = self.busy_us = 0
        self._error = ""
        self._uploading = None
        for number, slots in self.flash.slots.items():
            running, other = slots
            if running.whole and not running.confirmed:
                slots.reverse()
                slots[0].confirmed = True
                slots[1].pending = False
            elif other.pending:
                other.pending = False
                reason = self._reason_against(number, other.data)
                if reason:
                    self._error = reason
                    continue
                other.confirmed, running.confirmed = False, True
                slots.reverse()

    # ---- the parts ----

    def _reason_against(self, number: int, image: bytes) -> str:
        if hash_of(image) in self.refuses:
            return "signature"
        (counter,) = struct.unpack_from("<I", image, image.index(b"\x50\x00\x04\x00") + 4)
        if number == FIRMWARE and counter < self.flash.security_counter:
            return "security counter"
        return ""

    def _run(self) -> None:
        line = b""
        while not self._stop.is_set():
            if self._udp:
                with contextlib.suppress(TimeoutError):
                    data, peer = self._socket.recvfrom(65535)
                    self._take(data, lambda reply, peer=peer: self._socket.sendto(reply, peer))  # type: ignore[misc]
                continue
            if not self._readable():
                continue
            line += os.read(self._master, 4096)
            *lines, line = line.split(b"\n")
            for part in lines:
                for frame in self._frames_of(part):
                    self._take(frame, lambda reply: self._send_lines(reply))

    def _readable(self) -> bool:
        import select

        return bool(select.select([self._master], [], [], 0.05)[0])

    def _frames_of(self, part: bytes) -> Iterator[bytes]:
        if part[:2] == b"\x06\x09":
            self._body = b""
        elif part[:2] != b"\x04\x14":
            return
        self._body += base64.b64decode(part[2:])
        (length,) = struct.unpack_from(">H", self._body)
        if len(self._body) == length + 2:
            frame, checksum = self._body[2:-2], self._body[-2:]
            if struct.pack(">H", binascii.crc_hqx(frame, 0)) == checksum:
                yield frame

    def _send_lines(self, frame: bytes) -> None:
        body = frame + struct.pack(">H", binascii.crc_hqx(frame, 0))
        text = base64.b64encode(struct.pack(">H", len(body)) + body)
        lines = [text[at : at + 124] for at in range(0, len(text), 124)]
        data = b"".join((b"\x04\x14" if place else b"\x06\x09") + line + b"\n" for place, line in enumerate(lines))
        os.write(self._master, b"a line of a log\n" + data)

    def _take(self, data: bytes, reply: Callable[[bytes], object]) -> None:
        if self.is_dead or self._random.random() < self.lose:
            return
        operation, _flags, _length, group, sequence, command = struct.unpack_from(">BBHHBB", data)
        content = cbor2.loads(data[8:]) if len(data) > 8 else {}
        self.frames += 1
        self.seen.append((group, command))
        try:
            if self.cut_at is not None and self.frames == self.cut_at:
                raise PowerCutError
            answer = self._answer(group, command, operation, content)
        except PowerCutError:
            self.is_dead = True
            return
        payload = b"\xff\xff" if self.broken_answers else cbor2.dumps(answer)
        head = struct.pack(">BBHHBB", operation + 1, 0, len(payload), group, sequence, command)
        if self._random.random() >= self.lose:
            reply(head + payload)
        if (group, command) == (0, 5):
            self.boot()

    def _answer(self, group: int, command: int, operation: int, content: dict[str, Any]) -> dict[str, Any]:
        handlers: dict[tuple[int, int], Callable[[], dict[str, Any]]] = {
            (0, 0): lambda: {"r": content.get("d", "")},
            (0, 5): dict,
            (0, 6): lambda: {"buf_size": 384, "buf_count": 2},
            (1, 0): lambda: self._state(content if operation == 2 else None),
            (1, 1): lambda: self._upload(content),
            (1, 5): lambda: self._erase(int(content.get("slot", 1))),
            (64, 0): self._info,
            (64, 1): lambda: self._infer(content["i"]),
        }
        return handlers.get((group, command), lambda: {"rc": 8})()

    def _state(self, wish: dict[str, Any] | None) -> dict[str, Any]:
        if wish is not None:
            found = [slot for slots in self.flash.slots.values() for slot in slots if self._has(slot, wish.get("hash"))]
            if not found:
                return {"rc": 5}
            running = any(found[0] is slots[0] for slots in self.flash.slots.values())
            if running and wish["confirm"]:
                found[0].confirmed = True
            elif not running:
                found[0].pending = True
        return {"images": list(self._images())}

    def _images(self) -> Iterator[dict[str, Any]]:
        for number, slots in self.flash.slots.items():
            for place, slot in enumerate(slots):
                if slot.whole:
                    yield {
                        "image": number,
                        "slot": place,
                        "version": version_of(slot.data),
                        "hash": hash_of(slot.data),
                        "bootable": True,
                        "pending": slot.pending,
                        "confirmed": slot.confirmed and place == 0,
                        "active": place == 0,
                        "permanent": False,
                    }

    def _has(self, slot: Slot, wanted: Any) -> bool:
        return slot.whole and hash_of(slot.data) == wanted

    def _upload(self, part: dict[str, Any]) -> dict[str, Any]:
        if part["off"] == 0:
            number = self._uploading = int(part.get("image", 0))
            slot = self.flash.slots[number][1]
            if part["sha"] != slot.sha or slot.length != part["len"]:
                self.flash.slots[number][1] = Slot(length=part["len"], sha=part["sha"])
                self.flash.erased += 1
        if self._uploading is None:
            return {"rc": 6}
        slot = self.flash.slots[self._uploading][1]
        if part["off"] == len(slot.data):
            # Flash is written in words, but for the end of an image.
            data = part["data"]
            whole = len(data) if len(slot.data) + len(data) == slot.length else len(data) // 4 * 4
            slot.data += data[:whole]
            self.flash.written += whole
        return {"off": len(slot.data)}

    def _erase(self, slot: int) -> dict[str, Any]:
        self.flash.slots[slot // 2][1] = Slot()
        self.flash.erased += 1
        return {}

    def _model(self) -> bytes | None:
        slot = self.flash.slots[MODEL][0]
        return slot.data[32:] if slot.whole else None

    def _info(self) -> dict[str, Any]:
        model = self.flash.slots[MODEL][0]
        tensor = {"type": "int8", "scale": 0.5, "zero": 0}
        loaded = self._model() is not None
        return {
            "class": DEVICE_CLASS,
            "firmware": self.running(FIRMWARE) or "1.0.0+0",
            "runtime": "tflite-micro 0.1.0",
            "operators": self.operators,
            "arena": 40000,
            "arena_used": 12000 if loaded else 0,
            "model": {
                "version": version_of(model.data) if loaded else "",
                "sha": hashlib.sha256(self._model() or b"").digest(),
                "loaded": loaded,
                "error": self._error,
            },
            **(
                {"input": {**tensor, "shape": [1, INPUTS]}, "output": {**tensor, "shape": [1, OUTPUTS]}}
                if loaded
                else {}
            ),
            "security_counter": self.flash.security_counter,
            "written": self.flash.written,
            "erased": self.flash.erased,
            "resets": self.flash.resets,
            "inferences": self.inferences,
            "errors": self.errors,
            "busy_us": self.busy_us,
            "uptime_ms": 1,
        }

    def _infer(self, data: bytes) -> dict[str, Any]:
        payload = self._model()
        if payload is None or len(data) != INPUTS:
            self.errors += 1
            return {"rc": 3}
        self.inferences += 1
        self.busy_us += self.microseconds
        answer = answer_of(payload, struct.unpack(f"{INPUTS}b", data))
        return {"o": struct.pack(f"{OUTPUTS}b", *answer), "us": self.microseconds}
