# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""In which form a file is sent to a device: the smallest that it can use; what is small comes with the call."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from releases import make_release, publish, sha256

from ansible_collections.edgeml.fleet.plugins.module_utils._common.errors import IntegrityError
from ansible_collections.edgeml.fleet.plugins.module_utils._release.delta_index import (
    Delta,
    delta_path,
    index_document,
    index_path,
)
from ansible_collections.edgeml.fleet.plugins.module_utils._release.release import File
from ansible_collections.edgeml.fleet.plugins.plugin_utils._sending import (
    INLINE_BYTES,
    PART_BYTES,
    DeviceAnswer,
    Form,
    PartSize,
    inline_arguments,
    smallest_forms,
    told,
    whole_forms,
)
from ansible_collections.edgeml.fleet.plugins.plugin_utils._trust.repository import UnsignedRepository

MODEL = bytes(range(256)) * 400
DELTA = b"what differs"
BASE = sha256(b"the version before")


@pytest.fixture
def repository(tmp_path: Path) -> UnsignedRepository:
    """A repository with one model, for which there is a delta from ``BASE``."""
    publish(make_release("1.1.0", files={"model.onnx": MODEL}), tmp_path)
    delta = Delta(sha256(DELTA), len(DELTA), (BASE,))
    for path, content in (
        (index_path(sha256(MODEL)), json.dumps(index_document([delta])).encode()),
        (delta_path(sha256(MODEL), delta), DELTA),
    ):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(content)
    return UnsignedRepository(str(tmp_path))


def the_model() -> File:
    return File("model.onnx", len(MODEL), sha256(MODEL))


def holding(*blobs: str, missing: dict[str, Any] | None = None) -> DeviceAnswer:
    """The answer of a device that lacks the model, holds blobs, and has some of what is ``missing``."""
    return DeviceAnswer({"held_blobs": list(blobs), "missing_blobs": [{"sha256": sha256(MODEL), **(missing or {})}]})


def no_warning(message: str) -> None:
    raise AssertionError(message)


def test_a_device_that_holds_the_base_gets_the_delta(repository: UnsignedRepository) -> None:
    (form,) = smallest_forms(repository, [the_model()], holding(BASE), no_warning)
    assert (form.read(), form.size, form.name) == (DELTA, len(DELTA), sha256(MODEL) + ".delta")
    assert not form.in_parts


def test_a_device_that_does_not_hold_it_gets_the_whole_file(repository: UnsignedRepository) -> None:
    (form,) = smallest_forms(repository, [the_model()], holding(sha256(b"another")), no_warning)
    assert (form.read(), form.size, form.name) == (MODEL, len(MODEL), sha256(MODEL))


def test_a_device_that_has_refused_the_delta_gets_the_whole_file(repository: UnsignedRepository) -> None:
    answer = holding(BASE, missing={"held_deltas": {sha256(DELTA): None}})
    (form,) = smallest_forms(repository, [the_model()], answer, no_warning)
    assert form.delta is None


LARGE = PART_BYTES + 10_000_000


@pytest.mark.parametrize(
    ("missing", "is_delta", "held"),
    [
        ({}, True, 0),
        ({"held_bytes": 9_000_000}, True, 0),
        ({"held_bytes": 10_000_001}, False, 10_000_001),
        ({"held_bytes": 10_000_001, "held_deltas": {sha256(DELTA): 1000}}, True, 1000),
        ({"held_bytes": LARGE + 1}, False, LARGE),
        ({"held_bytes": -1, "held_deltas": {sha256(DELTA): "all"}}, True, 0),
        ({"held_deltas": [sha256(DELTA)]}, True, 0),
    ],
)
def test_what_is_there_decides_whether_the_delta_is_sent(
    repository: UnsignedRepository, missing: dict[str, Any], is_delta: bool, held: int
) -> None:
    file = File("model.onnx", LARGE, sha256(MODEL))
    delta = Delta(sha256(DELTA), PART_BYTES + 1, (BASE,))
    Path(repository.root, index_path(file.sha256)).write_text(json.dumps(index_document([delta])))
    with open(repository.delta_path(file, delta), "wb") as content:
        content.truncate(delta.size)
    answer = holding(BASE, missing=missing)
    (form,) = smallest_forms(repository, [file], answer, no_warning)
    assert (form.delta is not None, answer.held_bytes(form), form.in_parts) == (is_delta, held, True)


def test_a_file_that_a_device_does_not_lack_is_there(repository: UnsignedRepository) -> None:
    (form,) = whole_forms(repository, [the_model()])
    assert DeviceAnswer({"missing_blobs": "?", "refused_deltas": [7]}).held_bytes(form) == len(MODEL)


def test_a_delta_that_the_repository_has_lost_is_a_warning(repository: UnsignedRepository) -> None:
    (delta,) = repository.deltas(the_model())
    Path(repository.delta_path(the_model(), delta)).write_bytes(DELTA + b"!")
    warnings: list[str] = []
    (form,) = smallest_forms(repository, [the_model()], holding(BASE), warnings.append)
    assert form.delta is None
    (warning,) = warnings
    assert warning.startswith("model.onnx: sent whole, as its delta could not be read: ")
    assert warning.endswith(f"expected a delta of {len(DELTA)} bytes; found {len(DELTA) + 1}")


def test_what_is_small_comes_with_the_call(tmp_path: Path, repository: UnsignedRepository) -> None:
    small = tmp_path / "small"
    small.write_bytes(b"golden")
    golden = File("golden.json", 6, sha256(b"golden"))
    forms = [
        *whole_forms(repository, [the_model()]),
        Form(golden, None, str(small)),
        *smallest_forms(repository, [the_model()], holding(BASE), no_warning),
    ]
    assert len(MODEL) > INLINE_BYTES
    arguments, rest = inline_arguments(forms)
    assert arguments == {
        "inline_blobs": {golden.sha256: base64.b64encode(b"golden").decode()},
        "inline_deltas": {sha256(MODEL): base64.b64encode(DELTA).decode()},
    }
    assert [form.name for form in rest] == [sha256(MODEL)]


def test_a_part_is_read_from_where_it_begins(repository: UnsignedRepository) -> None:
    (form,) = whole_forms(repository, [the_model()])
    assert form.read(1000, 24) == MODEL[1000:1024]
    assert not form.in_parts
    assert Form(File("large.onnx", PART_BYTES + 1, form.file.sha256), None, form.path).in_parts


def test_a_file_that_is_gone_is_named(repository: UnsignedRepository) -> None:
    gone = Form(the_model(), None, f"{repository.root}/gone")
    with pytest.raises(IntegrityError, match=rf"gone: model.onnx: expected {len(MODEL)} bytes; No such file"):
        gone.read()


@pytest.mark.parametrize(
    ("seconds", "mebibytes"),
    [
        pytest.param([(0.1, 0.1)] * 5, [8, 16, 32, 64, 64], id="a fast link"),
        pytest.param([(10, 1)], [4], id="as it should be"),
        pytest.param([(60, 1)] * 3, [2, 1, 1], id="a slow link"),
        pytest.param([(8, 30), (16, 30), (32, 30), (50, 30)], [8, 16, 16, 16], id="a slow device on a slow link"),
        pytest.param([(1, 30)] * 5, [8, 16, 32, 64, 64], id="a slow device on a fast link"),
        pytest.param([(100, 30), (50, 30)], [2, 2], id="a slow device on a slower link"),
    ],
)
def test_parts_follow_the_rate_of_the_link(seconds: list[tuple[float, float]], mebibytes: list[int]) -> None:
    size = PartSize()
    assert size.bytes == PART_BYTES
    sizes = []
    for sending, calling in seconds:
        size.note(sending, calling)
        sizes.append(size.bytes >> 20)
    assert sizes == mebibytes


def test_what_was_sent_is_added_up(repository: UnsignedRepository) -> None:
    first = whole_forms(repository, [the_model()])
    assert told(first, 0) == {"bytes": len(MODEL), "whole_bytes": len(MODEL), "deltas": 0, "resumed_bytes": 0}
    forms = smallest_forms(repository, [the_model()], holding(BASE), no_warning)
    both = {"bytes": len(MODEL) + len(DELTA) - 5, "whole_bytes": 2 * len(MODEL), "deltas": 1, "resumed_bytes": 5}
    assert told([*first, *forms], 5) == both
