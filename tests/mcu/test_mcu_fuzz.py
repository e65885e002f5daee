# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Random input for what reads input, with the sanitizers for addresses and undefined behaviour.

EDGEML_TEST_FUZZ multiplies how many inputs there are.
"""

from __future__ import annotations

import hashlib
import os
import struct
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mcu_images import Images
from microcontrollers import BUILT, Microcontroller
from smp_line import HEADER, encode, lines

TIMES = int(os.environ.get("EDGEML_TEST_FUZZ", "1"))
TEST, TRIED, CONFIRMED, REFUSED = 1, 2, 3, 4


def fuzz(name: str, runs: int, inputs: Sequence[bytes], directory: Path, **environment: str) -> None:
    """Run a fuzzer from the inputs on. Fails with its output if the sanitizers found something."""
    paths = []
    for number, content in enumerate(inputs):
        paths.append(directory / f"input-{number}")
        paths[-1].write_bytes(content)
    run = subprocess.run(
        [str(BUILT / "build" / f"fuzz_{name}"), "1", str(runs * TIMES), *map(str, paths)],
        capture_output=True, text=True, cwd=directory, env={**os.environ, **environment},
    )  # fmt: skip
    assert run.returncode == 0, f"input: {directory / 'crash-input'}\n{run.stderr}"
    print(f"{name}: {run.stdout.strip()}")


def test_models_of_any_content_are_loaded_or_refused(tmp_path: Path, images: Images) -> None:
    fuzz("model", 100_000, [images.digits.payload.read_bytes()], tmp_path)


def records(*events: tuple[int, int, int]) -> bytes:
    """A slot's log: events with a reason and a number, 64 bytes."""
    words = [(0xA0 + event) << 24 | reason << 16 | number for event, reason, number in events]
    return b"".join(struct.pack("<II", word, ~word & 0xFFFFFFFF) for word in words).ljust(64, b"\xff")


def test_images_of_any_content_are_booted_or_refused(tmp_path: Path, images: Images) -> None:
    logs = [
        records((CONFIRMED, 0, 1)),
        records((CONFIRMED, 0, 3), (TEST, 0, 3)),
        records((TEST, 0, 2), (TRIED, 0, 2), (TEST, 0, 2), (REFUSED, 5, 2)),
        records((TEST, 0, 1)),
    ]
    contents = [path.read_bytes() for path in (images.firmware, images.model)]
    # An odd and an even length: the slot that they are in.
    inputs = [content + more + log for content in contents for more in (b"", b"\xff\xff") for log in logs]
    fuzz("image", 5_000, inputs, tmp_path)


def request(op: int, group: int, command: int, fields: dict[str, Any]) -> bytes:
    """The frame of a request."""
    payload = encode(fields)
    return HEADER.pack(8 | op, 0, len(payload), group, 1, command) + payload


def test_requests_of_any_content_are_answered_or_passed_over(tmp_path: Path, images: Images) -> None:
    device = Microcontroller(tmp_path / "device", images.firmware, images.model)
    content = images.new_model.read_bytes()[:1500]
    digest = hashlib.sha256(content).digest()
    stored_hash = content[-32:]
    frames = [
        request(2, 0, 0, {"d": "hello"}),
        request(0, 0, 6, {}),
        request(0, 1, 0, {}),
        request(2, 1, 0, {"hash": stored_hash, "confirm": False}),
        request(2, 1, 0, {"confirm": True}),
        request(2, 1, 1, {"off": 0, "len": len(content), "sha": digest, "image": 1, "data": content[:600]}),
        request(2, 1, 1, {"off": 600, "data": content[600:]}),
        request(2, 1, 5, {"slot": 1, "more": [1, {"a": -5}, 1 << 40]}),
        request(0, 64, 0, {}),
        request(2, 64, 1, {"i": bytes(range(64))}),
    ]
    by_line = [b"\x00" + b"".join(lines(frame)) for frame in frames]
    whole = [b"\x01" + struct.pack(">H", len(frame)) + frame for frame in frames]
    together = b"\x01" + b"".join(struct.pack(">H", len(frame)) + frame for frame in frames)
    fuzz("requests", 20_000, [*by_line, *whole, together], tmp_path, FUZZ_FLASH=str(device.flash))
