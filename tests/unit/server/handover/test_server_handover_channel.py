# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What two versions of the server say to each other."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest
from edgeml_server.handover.channel import (
    PROTOCOL,
    Channel,
    Description,
    HandoverError,
    definition_digest,
    parse_description,
)

DESCRIPTION = Description("digest", ["digits"], 1 << 20, "/run/systemd/notify", 60.0)
FIELDS: dict[str, Any] = {"protocol": PROTOCOL, **DESCRIPTION._asdict()}


def test_a_description_may_have_more_fields() -> None:
    assert parse_description({**FIELDS, "of a later version": 1}) == DESCRIPTION


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({**FIELDS, "protocol": 2}, "expected the handover's protocol 1; the other process has 2"),
        ({}, "expected the handover's protocol 1; the other process has None"),
        ({name: FIELDS[name] for name in FIELDS if name != "models"}, "description lacks 'models'"),
    ],
)
def test_another_protocol_is_told(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(HandoverError, match=message):
        parse_description(fields)


def test_messages_carry_descriptors_and_the_end_is_told() -> None:
    ends = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ends[0], ends[1], socket.socket() as carried:
        here, there = (Channel(end) for end in ends)
        here.send("description", [carried.fileno()], models=["digits"])
        message = there.receive("description")
        assert message.fields == {"models": ["digits"]}
        with socket.socket(fileno=message.descriptors[0]) as received:
            assert received.type == socket.SOCK_STREAM
        here.send("ready")
        with pytest.raises(HandoverError, match="expected 'go' or 'main'; found 'ready'"):
            there.receive("go", "main")
        here.close()
        with pytest.raises(HandoverError, match="expected 'go'; the other process has closed the connection"):
            there.receive("go")
        with pytest.raises(HandoverError, match="cannot send 'go': Broken pipe"):
            there.send("go")


def test_a_digest_tells_files_from_each_other(tmp_path: Path) -> None:
    paths = [str(tmp_path / name) for name in ("server.json", "unit")]
    digests = set()
    for contents in (("ab", "c"), ("a", "bc"), ("abc", "")):
        for path, content in zip(paths, contents, strict=True):
            Path(path).write_text(content)
        digests.add(definition_digest(paths))
    assert len(digests) == 3
    with pytest.raises(OSError, match="absent"):
        definition_digest([str(tmp_path / "absent")])
