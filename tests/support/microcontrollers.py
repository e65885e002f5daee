# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Emulated microcontrollers for tests: signed images, power on, power off, and what a client does with them."""

from __future__ import annotations

import contextlib
import hashlib
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import microcontroller
from smp_line import READ, WRITE, NoReplyError, SerialLine

BUILT = Path(__file__).resolve().parents[2] / ".cache" / "mcu"
FIRMWARE_BINARY = BUILT / "build" / "firmware.bin"
MAP = microcontroller.flash_map()
OS, IMAGE, APPLICATION = 0, 1, 64
FIRMWARE, MODEL = 0, 1
CHUNK = 1900  # of an upload: a frame has 2,048 bytes at most


def sign(payload: Path, target: Path, version: str, *more: str, key: str = "right", counter: int = 1) -> Path:
    """Sign a firmware or a model by imgtool; `more` are further arguments of it. Returns the target."""
    command = [
        str(BUILT / "venv" / "bin" / "imgtool"), "sign", "--key", str(BUILT / "keys" / f"{key}.pem"), "--align", "4",
        "--header-size", str(MAP["HEADER_SIZE"]), "--pad-header", "--slot-size", str(MAP["IMAGE_MAX"]),
        "--security-counter", str(counter), "--version", version, *more, str(payload), str(target),
    ]  # fmt: skip
    subprocess.run(command, check=True, capture_output=True)
    return target


def sign_model(payload: Path, target: Path, version: str, needs: str = "1.0.0", **options: Any) -> Path:
    """Sign a model that needs at least a version of the firmware."""
    return sign(payload, target, version, "--dependencies", f"(0, {needs})", **options)


class RefusedError(Exception):
    """The microcontroller answered with a code."""

    def __init__(self, code: int) -> None:
        super().__init__(f"rc {code}")
        self.code = code


@dataclass
class Uploaded:
    """What an upload was."""

    begun_at: int  # the offset that the first reply said
    requests: int
    sent: int  # bytes of the image


class Microcontroller:
    """One of them: its flash is a file in `directory`."""

    def __init__(self, directory: Path, firmware: Path, model: Path | None = None) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.flash = directory / "flash"
        self._socket = directory / "serial"
        self._process: subprocess.Popen[bytes] | None = None
        self._line: SerialLine | None = None
        microcontroller.manufacture(BUILT / "build", self.flash, firmware, model)

    def power_on(self, cut: int = 0, seed: int = 0) -> None:
        """Start it. `cut`: see microcontroller.command."""
        self._socket.unlink(missing_ok=True)
        command = microcontroller.command(BUILT / "build", self.flash, f"unix:{self._socket}", cut, seed)
        self._process = subprocess.Popen(command)
        self._line = SerialLine(self._socket)

    def power_off(self) -> None:
        """Cut its power, if it has any."""
        if self._line is not None:
            self._line.close()
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        self._line = self._process = None

    def power_cycle(self) -> None:
        """Off and on."""
        self.power_off()
        self.power_on()

    @contextlib.contextmanager
    def powered(self, cut: int = 0, seed: int = 0) -> Iterator[Microcontroller]:
        """On in the block, off behind it."""
        self.power_on(cut, seed)
        try:
            yield self
        finally:
            self.power_off()

    @property
    def line(self) -> SerialLine:
        """The line to it."""
        assert self._line is not None, "it is off"
        return self._line

    def kill_after(self, seconds: float) -> threading.Timer:
        """Have its power cut in some time, whatever it does then; the timer is started."""
        assert self._process is not None
        timer = threading.Timer(seconds, self._process.kill)
        timer.start()
        return timer

    def is_off(self) -> bool:
        """Whether its power is gone, after a request that nobody answered."""
        if self._process is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout=10)
                return True
        return self._process is None

    def operations(self) -> int:
        """How many operations its flash has done: words programmed and sectors erased."""
        with self.flash.open("rb") as file:
            file.seek(MAP["FLASH_SIZE"])
            written, erased = (int.from_bytes(file.read(4), "little") for _ in range(2))
        return written // MAP["FLASH_WORD"] + erased

    def ask(self, op: int, group: int, command: int, fields: dict[str, Any] | None = None) -> dict[str, Any]:
        """A request and its reply. Raises RefusedError, NoReplyError."""
        reply = self.line.request(op, group, command, fields)
        if "rc" in reply:
            raise RefusedError(reply["rc"])
        return reply

    def info(self) -> dict[str, Any]:
        """What it says of itself."""
        return self.ask(READ, APPLICATION, 0)

    def infer(self, values: bytes) -> bytes:
        """The output for an input."""
        output = self.ask(WRITE, APPLICATION, 1, {"i": values})["o"]
        assert isinstance(output, bytes)
        return output

    def images(self) -> list[dict[str, Any]]:
        """What is in the slots."""
        found: list[dict[str, Any]] = self.ask(READ, IMAGE, 0)["images"]
        return found

    def image(self, number: int, **wanted: Any) -> dict[str, Any]:
        """The image with the given number and values."""
        images = [image for image in self.images() if image["image"] == number]
        return next(image for image in images if wanted.items() <= image.items())

    def test(self, image_hash: bytes) -> None:
        """Have the next boot try an image."""
        self.ask(WRITE, IMAGE, 0, {"hash": image_hash, "confirm": False})

    def confirm(self, image_hash: bytes) -> None:
        """Have the running image stay."""
        self.ask(WRITE, IMAGE, 0, {"hash": image_hash, "confirm": True})

    def reset(self) -> None:
        """Have it start anew, and wait until it answers."""
        before = self.info()["resets"]
        self.ask(WRITE, OS, 5)
        self.wait_for_start(before)

    def wait_for_start(self, before: int) -> None:
        """Wait until it answers and has started more often than before."""
        for _ in range(120):
            if self._process is None or self._process.poll() is not None:
                raise NoReplyError("it is off")
            # A request that comes while it starts is lost.
            with contextlib.suppress(NoReplyError):
                if self.line.request(READ, APPLICATION, 0, seconds=1)["resets"] > before:
                    return
        raise NoReplyError("it does not start")

    def upload(self, number: int, image: bytes, chunk: int = CHUNK, until: int | None = None) -> Uploaded:
        """Upload an image, or go on with it, as far as `until`. Raises RefusedError, NoReplyError."""
        first = {"image": number, "len": len(image), "sha": hashlib.sha256(image).digest()}
        result = Uploaded(begun_at=0, requests=0, sent=0)
        offset = 0
        while offset < (len(image) if until is None else until):
            data = image[offset : offset + chunk - (60 if offset == 0 else 0)]
            reply = self.ask(WRITE, IMAGE, 1, {"off": offset, "data": data, **(first if offset == 0 else {})})
            offset = reply["off"]
            if result.requests == 0:
                result.begun_at = offset
            result.requests += 1
            result.sent += len(data)
        if until is None:
            assert reply["match"] is True
        return result
