# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The index of deltas, which anybody may have written."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ansible_collections.edgeml.fleet.plugins.module_utils._release.delta_index import (
    INDEX_BYTES_MAX,
    Delta,
    delta_path,
    index_document,
    index_path,
    parse_index,
    smallest,
)
from ansible_collections.edgeml.fleet.plugins.module_utils._release.release import File

FILE = File("model.onnx", 1000, "f" * 64)
OLD, OLDER = "a" * 64, "b" * 64
DELTAS = [Delta("1" * 64, 900, ()), Delta("2" * 64, 50, (OLD,)), Delta("3" * 64, 20, (OLD, OLDER))]


def written(**changes: Any) -> bytes:
    """An index of one delta, changed."""
    entry = {"sha256": "1" * 64, "size": 10, "bases": [OLD], **changes}
    return json.dumps({"schema": 1, "deltas": [entry]}).encode()


def test_what_is_written_is_read_the_smallest_first() -> None:
    assert parse_index(json.dumps(index_document(DELTAS)).encode(), FILE) == DELTAS[::-1]


def test_the_smallest_is_chosen_of_those_whose_bases_are_held() -> None:
    assert smallest(DELTAS, {OLD, OLDER}) == DELTAS[2]
    assert smallest(DELTAS, {OLD}) == DELTAS[1]
    assert smallest(DELTAS, {OLDER}) == DELTAS[0]
    assert smallest(DELTAS[1:], set()) is None


def test_a_delta_that_is_not_smaller_than_its_file_is_none() -> None:
    assert parse_index(written(size=1000), FILE) == []
    assert parse_index(written(size=999), FILE) == [Delta("1" * 64, 999, (OLD,))]


def test_paths_are_of_digests_alone() -> None:
    assert index_path(FILE.sha256) == f"deltas/{'f' * 64}/index.json"
    assert delta_path(FILE.sha256, DELTAS[0]) == f"deltas/{'f' * 64}/{'1' * 64}"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"<html>",
        b"[]",
        b'{"schema": 2, "deltas": []}',
        b'{"schema": 1}',
        b'{"schema": 1, "deltas": 5}',
        b'{"schema": 1, "deltas": ["x"]}',
        b"\xff\xfe",
        b"[" * 100000,
        b" " * (INDEX_BYTES_MAX + 1),
        written(sha256="../../../etc/passwd"),
        written(sha256="1" * 63 + "\n"),
        written(sha256=5),
        written(size=0),
        written(size=True),
        written(size="10"),
        written(bases=None),
        written(bases=["../" + OLD]),
        written(bases=[OLD] * 17),
    ],
)
def test_what_is_no_index_is_refused(content: bytes) -> None:
    with pytest.raises(ValueError, match="expected an index"):
        parse_index(content, FILE)
