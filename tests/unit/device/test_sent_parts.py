# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A file that is sent in parts: each is verified before it is kept, and what is there is said, whatever broke."""

from __future__ import annotations

import os
import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from deltas import delta_between
from releases import activate, make_release, put, sha256

from ansible_collections.edgeml.fleet.plugins.module_utils._common.files import DurableTree
from ansible_collections.edgeml.fleet.plugins.module_utils._common.hashing import BLOCK_BYTES
from ansible_collections.edgeml.fleet.plugins.module_utils._device.perform import answer_swap
from ansible_collections.edgeml.fleet.plugins.module_utils._device.request import SentPart, SwapRequest
from ansible_collections.edgeml.fleet.plugins.module_utils._device.store import Store
from ansible_collections.edgeml.fleet.plugins.module_utils._fetch.from_delta import delta_part

MODEL = random.Random(1).randbytes(3 * BLOCK_BYTES + 5000)
NEW = make_release("1.1.0", files={"model.onnx": MODEL})
FILE = max(NEW.release.all_files(), key=lambda file: file.size)
# Of the version before all is the same but for its end.
OLD = MODEL[: 3 * BLOCK_BYTES] + b"the version before"
DELTA = delta_between(MODEL, OLD)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A store that serves another version."""
    (tmp_path / "store").mkdir()
    store = Store(str(tmp_path / "store"))
    put(store, make_release("1.0.0"))
    activate(store, "digits", "1.0.0")
    return store


def ask(store: Store, **changes: Any) -> dict[str, Any]:
    request = SwapRequest(
        model="digits",
        version="1.1.0",
        state="present",
        manifest=NEW.document,
        strategy="none",
        store=store.root,
        keep=5,
    )
    return answer_swap(request._replace(**changes), check_mode=False)


def send(store: Store, start: int, content: bytes, digest: str = sha256(MODEL)) -> int:
    """Send a part; return how much of the model the device says it has then."""
    path = Path(store.root).parent / "part"
    path.write_bytes(content)
    result = ask(store, sent_part=SentPart(digest, start, str(path)))
    assert (result["changed"], result.get("failed")) == (False, None)
    assert "1.1.0" not in store.versions("digits")
    return next((int(blob["held_bytes"]) for blob in result["missing_blobs"]), len(MODEL))


def hold_base(store: Store, damaged: bool = False) -> None:
    """Have the store hold the version that the delta is made from; if ``damaged``, with a wrong third block."""
    put(store, make_release("0.9.0", files={"model.onnx": OLD}))
    if damaged:
        path = Path(store.blobs.directory, sha256(OLD))
        path.chmod(0o600)
        with path.open("r+b") as blob:
            blob.seek(2 * BLOCK_BYTES + 7)
            blob.write(bytes([OLD[2 * BLOCK_BYTES + 7] ^ 1]))


def send_delta(store: Store, start: int, content: bytes | None, **changes: Any) -> dict[str, Any]:
    """Send a part of the delta, or none; return the device's answer."""
    path = Path(store.root).parent / "part"
    path.write_bytes(content or b"")
    sent = SentPart(sha256(MODEL), start, None if content is None else str(path), sha256(DELTA), len(DELTA))
    result = ask(store, sent_part=sent._replace(**changes))
    assert result["changed"] is False
    return result


def held_of(result: dict[str, Any], delta: bytes | None = None) -> int | None:
    """How many bytes of the model's delta the device says it has."""
    (blob,) = result["missing_blobs"]
    found: int | None = blob["held_deltas"].get(sha256(DELTA if delta is None else delta), 0)
    return found


def test_parts_of_a_delta_become_the_file(store: Store) -> None:
    hold_base(store)
    (blob,) = ask(store)["missing_blobs"]
    assert blob["held_deltas"] == {}
    assert held_of(send_delta(store, 0, DELTA[:1000])) == 1000
    # A sending that broke: what is there is said, and a part that comes again adds what is new.
    assert held_of(ask(store)) == 1000
    assert held_of(send_delta(store, 500, DELTA[500:3000])) == 3000
    # One that begins behind the end adds nothing.
    assert held_of(send_delta(store, 3001, DELTA[3001:])) == 3000
    last = send_delta(store, 3000, DELTA[3000:])
    assert (last["missing_blobs"], last["refused_deltas"]) == ([], [])
    done = ask(store)
    assert (done["changed"], done["missing_blobs"]) == (True, [])
    store.version("digits", "1.1.0").verify()
    assert list(Path(store.root, "fetched").iterdir()) == []


def test_a_delta_that_is_whole_makes_its_file_when_it_is_asked_to(store: Store) -> None:
    """As after a kill between the two."""
    hold_base(store)
    part = delta_part(DurableTree(store.root), store.fetched.directory, FILE, sha256(DELTA), len(DELTA))
    assert part.open()
    part.write(DELTA)
    part.finish()
    part.close()
    assert held_of(ask(store)) == len(DELTA)
    assert send_delta(store, len(DELTA), None)["missing_blobs"] == []
    assert ask(store)["changed"]


def test_a_delta_that_makes_something_else_is_refused_for_good_and_what_it_made_right_stays(store: Store) -> None:
    hold_base(store, damaged=True)
    result = send_delta(store, 0, DELTA)
    (refused,) = result["refused_deltas"]
    assert (refused["path"], refused["sha256"]) == ("model.onnx", sha256(MODEL))
    assert "block 3 of 4: expected SHA-256" in refused["reason"]
    (blob,) = result["missing_blobs"]
    assert (blob["held_bytes"], blob["held_deltas"]) == (2 * BLOCK_BYTES, {sha256(DELTA): None})
    (again,) = send_delta(store, 0, DELTA)["refused_deltas"]
    assert again["reason"] == "it was refused before"
    assert send(store, 2 * BLOCK_BYTES, MODEL[2 * BLOCK_BYTES :]) == len(MODEL)
    assert ask(store)["changed"]
    assert list(Path(store.root, "fetched").iterdir()) == []


def test_a_delta_of_other_bytes_than_it_was_called_is_dropped(store: Store) -> None:
    hold_base(store)
    result = send_delta(store, 0, DELTA[:-1] + b"!")
    (refused,) = result["refused_deltas"]
    assert f"model.onnx: its delta: block 1 of 1: expected SHA-256 {sha256(DELTA)}; found" in refused["reason"]
    assert held_of(result) == 0
    assert send_delta(store, 0, DELTA)["missing_blobs"] == []


def test_a_delta_without_its_base_is_refused_and_named(store: Store) -> None:
    (refused,) = send_delta(store, 0, DELTA)["refused_deltas"]
    assert "which a delta needs; found none" in refused["reason"]


def test_a_delta_for_which_there_is_no_room_is_refused_and_leaves_nothing(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    hold_base(store)
    assert held_of(send_delta(store, 0, DELTA[:1000])) == 1000
    needed = len(MODEL) + len(DELTA) - 1000
    real = os.statvfs

    def nearly_full(path: str) -> Any:
        found = real(path)
        return SimpleNamespace(f_bavail=needed - 1, f_frsize=1, f_favail=found.f_favail, f_files=0)

    monkeypatch.setattr(os, "statvfs", nearly_full)
    monkeypatch.setattr(Store, "free_bytes", lambda _store: 1 << 40)
    result = send_delta(store, 1000, DELTA[1000:])
    (refused,) = result["refused_deltas"]
    assert f"need {needed} bytes more; {needed - 1} are free" in refused["reason"]
    assert held_of(result) == 0


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"delta": "../../../escape"}, "'../../../escape' of"),
        ({"delta_size": len(MODEL)}, f"of {len(MODEL)}"),
        ({"delta_size": 0}, "of 0"),
    ],
)
def test_what_is_no_delta_fails_the_call(store: Store, changes: dict[str, Any], found: str) -> None:
    result = send_delta(store, 0, DELTA, **changes)
    assert result["failed"]
    assert "sent_part: model.onnx: expected the SHA-256 of a delta" in result["msg"]
    assert found in result["msg"]
    assert not list(Path(store.root).glob("fetched/*"))


def test_parts_become_the_file_and_the_call_that_sends_nothing_takes_it(store: Store) -> None:
    (blob,) = ask(store)["missing_blobs"]
    assert (blob["sha256"], blob["held_bytes"]) == (sha256(MODEL), 0)
    cut = BLOCK_BYTES + 1000
    assert send(store, 0, MODEL[:cut]) == cut
    # A sending that broke: what is there is said, and the rest is sent.
    (blob,) = ask(store)["missing_blobs"]
    assert blob["held_bytes"] == cut
    assert send(store, cut, MODEL[cut:]) == len(MODEL)
    done = ask(store)
    assert (done["changed"], done["missing_blobs"]) == (True, [])
    store.version("digits", "1.1.0").verify()
    assert list(Path(store.root, "fetched").iterdir()) == []


def test_a_part_that_is_sent_again_adds_what_is_new(store: Store) -> None:
    assert send(store, 0, MODEL[:5000]) == 5000
    assert send(store, 0, MODEL[: BLOCK_BYTES + 5]) == BLOCK_BYTES + 5
    assert send(store, 0, MODEL[:3000]) == BLOCK_BYTES + 5


def test_a_wrong_block_is_dropped_and_no_other(store: Store) -> None:
    wrong = bytearray(MODEL[: 2 * BLOCK_BYTES])
    wrong[BLOCK_BYTES + 7] ^= 1
    assert send(store, 0, bytes(wrong)) == BLOCK_BYTES
    assert send(store, BLOCK_BYTES, MODEL[BLOCK_BYTES:]) == len(MODEL)
    assert ask(store)["changed"]


def test_a_part_behind_the_end_is_dropped(store: Store) -> None:
    assert send(store, 1, MODEL[1:100]) == 0
    assert send(store, 0, MODEL[:100]) == 100


def test_more_than_the_file_is_not_kept(store: Store) -> None:
    assert send(store, 0, MODEL + b"more") == len(MODEL)
    assert ask(store)["changed"]


@pytest.mark.parametrize("digest", ["0" * 64, "../../escape", ""])
def test_a_part_of_what_is_not_lacking_is_not_kept(store: Store, digest: str) -> None:
    assert send(store, 0, b"x", digest) == 0
    assert not list(Path(store.root).glob("fetched/*"))
