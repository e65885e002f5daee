# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Frames of the Simple Management Protocol, and how a serial console carries them."""

from __future__ import annotations

import contextlib
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.edgeml.fleet.plugins.module_utils._smp.frames import (
    LINE_BYTES_MAX,
    PAYLOAD_BYTES_MAX,
    READ,
    WRITE,
    WRITE_REPLY,
    ConsoleReader,
    Frame,
    FrameError,
    console_lines,
    read_frame,
    write_frame,
)

FRAMES = st.builds(
    Frame,
    operation=st.integers(0, 3),
    group=st.integers(0, 65535),
    command=st.integers(0, 255),
    sequence=st.integers(0, 255),
    content=st.dictionaries(st.text(max_size=8), st.binary(max_size=300) | st.integers(0, 1 << 32), max_size=4),
)
# The reply to an echo as Zephyr writes it: an object whose end is marked.
HELLO = bytes.fromhex("030000 0a 0000 07 00 bf 6172 65 68656c6c6f ff")


def read(data: bytes) -> list[bytes]:
    return list(ConsoleReader().feed(data))


@given(FRAMES)
def test_a_frame_is_read_as_it_was_written(frame: Frame) -> None:
    assert read_frame(write_frame(frame)) == frame


def test_the_header_is_in_network_order() -> None:
    assert write_frame(Frame(WRITE, 0x0102, 0x03, 0x04, {})) == bytes([2, 0, 0, 1, 1, 2, 4, 3, 0xA0])
    assert read_frame(HELLO) == Frame(WRITE_REPLY, 0, 0, 7, {"r": "hello"})


@given(FRAMES, st.integers(1, 64))
def test_a_console_carries_frames_in_lines_that_come_in_any_parts(frame: Frame, size: int) -> None:
    data = write_frame(frame)
    lines = console_lines(data)
    assert all(len(line) + 1 <= LINE_BYTES_MAX + 1 for line in lines.split(b"\n"))
    reader = ConsoleReader()
    found = [one for at in range(0, len(lines), size) for one in reader.feed(lines[at : at + size])]
    assert found == [data]


@given(st.lists(FRAMES, min_size=2, max_size=4), st.randoms(use_true_random=False))
def test_a_damaged_line_loses_its_own_frame_and_no_other(frames: list[Frame], chance: random.Random) -> None:
    spelled = [write_frame(frame) for frame in frames]
    lost = chance.randrange(len(spelled))
    lines = bytearray()
    for number, data in enumerate(spelled):
        one = bytearray(console_lines(data))
        if number == lost:
            # A newline that is gone joins two frames: the mark of the second one still counts.
            del one[chance.randrange(len(one) - 1)]
        lines += one
    found = read(bytes(lines))
    assert found == [data for number, data in enumerate(spelled) if number != lost]


@given(st.binary(max_size=400))
def test_hostile_bytes_make_no_frame_by_chance(data: bytes) -> None:
    for frame in read(data + b"\n"):
        with contextlib.suppress(FrameError):
            assert read_frame(frame).content is not None


def test_a_log_between_the_lines_is_passed_over() -> None:
    data = write_frame(Frame(READ, 1, 0, 7, {"a": b"x" * 200}))
    first, second, *_rest = console_lines(data).split(b"\n")
    assert read(b"booting\n" + first + b"\n[00:01] a log\r\n" + second + b"\n" + b"\n".join(_rest)) == [data]


def test_a_line_without_end_takes_no_memory() -> None:
    reader = ConsoleReader()
    for _part in range(100):
        assert list(reader.feed(b"x" * 10_000)) == []
    data = write_frame(Frame(READ, 0, 0, 1, {}))
    assert list(reader.feed(b"\n" + console_lines(data))) == [data]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"\x01", "expected a header of 8 bytes; found 1"),
        (b"\x01\x00\x00\x05\x00\x00\x00\x00", "expected a content of 5 bytes; found 0"),
        (b"\x01\x00\x00\x01\x00\x00\x00\x00\x01", "content: expected an object; found int"),
        (b"\x01\x00\x00\x01\x00\x00\x00\x00\xff", "content: byte 0: expected a value"),
    ],
)
def test_what_is_no_frame_is_named(data: bytes, reason: str) -> None:
    with pytest.raises(FrameError, match=f"^{reason}"):
        read_frame(data)


def test_a_content_that_no_microcontroller_takes_is_not_sent() -> None:
    with pytest.raises(FrameError, match=f"at most {PAYLOAD_BYTES_MAX} bytes"):
        write_frame(Frame(WRITE, 0, 0, 0, {"d": b"x" * PAYLOAD_BYTES_MAX}))
