# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Deltas in a device's store: what is made of them, and what is asked for where one is refused."""

from __future__ import annotations

import base64
import random
from pathlib import Path
from typing import Any

import pytest
from deltas import delta_between
from releases import Made, make_release, put, sha256

from ansible_collections.edgeml.fleet.plugins.module_utils._device.perform import answer_swap
from ansible_collections.edgeml.fleet.plugins.module_utils._device.request import SwapRequest
from ansible_collections.edgeml.fleet.plugins.module_utils._device.store import Store

OLD = random.Random(1).randbytes(50_000)
NEW = OLD[:20_000] + b"inserted" + OLD[20_000:]
LABELS = b"zero one two"
DELTA = delta_between(NEW, OLD)
DAMAGED = DELTA[:-1] + bytes([DELTA[-1] ^ 1])
# It makes what it says, and that is not the file.
OTHER = delta_between(NEW[:-1] + b"?", OLD)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A store that holds the version before."""
    (tmp_path / "store").mkdir()
    made = Store(str(tmp_path / "store"))
    put(made, make_release("1.0.0", files={"model.onnx": OLD}))
    return made


NEXT = make_release("1.1.0", files={"model.onnx": NEW, "labels.txt": LABELS})


def ask(store: Store, made: Made = NEXT, **arguments: Any) -> dict[str, Any]:
    """A call of model_swap that stages a release."""
    request = SwapRequest(
        "digits",
        made.document["version"],
        state="present",
        strategy="none",
        store=store.root,
        manifest=made.document,
        keep=5,
        **arguments,
    )
    return answer_swap(request, check_mode=False)


def inline(content: bytes, of: bytes = NEW) -> dict[str, str]:
    return {sha256(of): base64.b64encode(content).decode()}


def whole(store: Store) -> bytes:
    return (Path(store.root) / "models" / "digits" / "versions" / "1.1.0" / "model.onnx").read_bytes()


def staging(store: Store) -> list[Path]:
    return list((Path(store.root) / "staging").iterdir())


def test_a_device_that_lacks_something_says_what_it_holds(store: Store) -> None:
    result = ask(store)
    assert {entry["sha256"] for entry in result["missing_blobs"]} == {sha256(NEW), sha256(LABELS)}
    assert result["held_blobs"] == [sha256(OLD)]
    assert "refused_deltas" not in result


def test_a_delta_within_the_call_makes_the_file(store: Store) -> None:
    result = ask(store, inline_deltas=inline(DELTA), inline_blobs=inline(LABELS, LABELS))
    assert "failed" not in result
    assert (result["changed"], result["missing_blobs"], result["refused_deltas"]) == (True, [], [])
    assert whole(store) == NEW
    assert ask(store)["changed"] is False


def test_a_delta_that_was_sent_makes_the_file(store: Store, tmp_path: Path) -> None:
    (tmp_path / f"{sha256(NEW)}.delta").write_bytes(DELTA)
    (tmp_path / sha256(LABELS)).write_bytes(LABELS)
    result = ask(store, staged_blobs=str(tmp_path))
    assert (result["changed"], result["missing_blobs"], result["refused_deltas"]) == (True, [], [])
    assert whole(store) == NEW


@pytest.mark.parametrize(
    ("delta", "reason"),
    [
        (DAMAGED, "damaged"),
        (OTHER, f"expected a delta that makes {len(NEW)} bytes with SHA-256 {sha256(NEW)}"),
        (DELTA[:-9], "the delta ends"),
        (b"<html>Please log in</html>" * 9, "expected a delta of the form"),
        (delta_between(NEW, b"somebody else's" * 4000), "which a delta needs; found none"),
        (b"", "the delta ends after 0"),
    ],
)
def test_a_delta_that_is_refused_is_named_and_its_file_asked_for_whole(
    store: Store, tmp_path: Path, delta: bytes, reason: str
) -> None:
    (tmp_path / f"{sha256(NEW)}.delta").write_bytes(delta)
    (tmp_path / sha256(LABELS)).write_bytes(LABELS)
    result = ask(store, staged_blobs=str(tmp_path))
    assert "failed" not in result
    assert result["changed"] is False
    (refused,) = result["refused_deltas"]
    assert (refused["path"], refused["sha256"]) == ("model.onnx", sha256(NEW))
    assert reason in refused["reason"]
    assert sha256(NEW) in {entry["sha256"] for entry in result["missing_blobs"]}
    assert store.versions("digits") == ["1.0.0"]
    assert store.blobs.held() == [sha256(OLD)]
    assert staging(store) == []
    # The whole file comes to the same place: then the delta beside it is not looked at.
    (tmp_path / sha256(NEW)).write_bytes(NEW)
    last = ask(store, staged_blobs=str(tmp_path))
    assert (last["changed"], last["missing_blobs"], last["refused_deltas"]) == (True, [], [])
    assert whole(store) == NEW


def test_a_damaged_base_is_noticed_and_the_whole_file_taken(store: Store) -> None:
    path = Path(store.root) / "blobs" / "sha256" / sha256(OLD)
    path.chmod(0o600)
    with path.open("r+b") as blob:
        blob.seek(30_000)
        blob.write(b"rot")
    result = ask(store, inline_deltas=inline(DELTA), inline_blobs=inline(LABELS, LABELS))
    (refused,) = result["refused_deltas"]
    assert "the delta or its base is damaged" in refused["reason"]
    result = ask(store, inline_blobs={**inline(NEW), **inline(LABELS, LABELS)})
    assert (result["changed"], whole(store)) == (True, NEW)


def test_a_damaged_file_of_a_version_is_healed_by_a_delta(store: Store) -> None:
    assert ask(store, inline_deltas=inline(DELTA), inline_blobs=inline(LABELS, LABELS))["changed"]
    path = Path(store.root) / "models" / "digits" / "versions" / "1.1.0" / "model.onnx"
    path.chmod(0o600)
    path.write_bytes(bytes(len(NEW)))
    assert [entry["sha256"] for entry in ask(store, verify="full")["missing_blobs"]] == [sha256(NEW)]
    result = ask(store, verify="full", inline_deltas=inline(DELTA))
    assert (result["changed"], result["missing_blobs"]) == (True, [])
    assert whole(store) == NEW
    assert ask(store, verify="full")["changed"] is False
