# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A file that is sent in parts: each is verified before it is kept, and what is there is said, whatever broke."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from releases import activate, make_release, put, sha256

from ansible_collections.edgeml.fleet.plugins.module_utils._common.hashing import BLOCK_BYTES
from ansible_collections.edgeml.fleet.plugins.module_utils._device.perform import answer_swap
from ansible_collections.edgeml.fleet.plugins.module_utils._device.request import SentPart, SwapRequest
from ansible_collections.edgeml.fleet.plugins.module_utils._device.store import Store
from ansible_collections.edgeml.fleet.plugins.plugin_utils._sending import PART_BYTES, PartSize

MODEL = random.Random(1).randbytes(3 * BLOCK_BYTES + 99)
NEW = make_release("1.1.0", files={"model.onnx": MODEL})


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
        model="digits", version="1.1.0", state="present", manifest=NEW.document, strategy="none", store=store.root
    )
    return answer_swap(request._replace(**changes), check_mode=False)


def send(store: Store, start: int, content: bytes, digest: str = sha256(MODEL)) -> int:
    """Send a part; return how much of the model the device says it has then."""
    path = Path(store.root).parent / "part"
    path.write_bytes(content)
    result = ask(store, sent_part=SentPart(digest, start, str(path)))
    assert (result["changed"], result.get("failed")) == (False, None)
    assert store.versions("digits") == ["1.0.0"]
    return next((int(blob["held_bytes"]) for blob in result["missing_blobs"]), len(MODEL))


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


def test_parts_grow_on_a_fast_link_and_shrink_on_a_slow_one() -> None:
    size = PartSize()
    sizes = []
    for seconds in (0.1, 0.1, 0.1, 0.1, 0.1, 10, 100, 100, 100, 100, 100, 100, 100):
        size.note(seconds)
        sizes.append(size.bytes >> 20)
    assert sizes == [8, 16, 32, 64, 64, 64, 32, 16, 8, 4, 2, 1, 1]
    assert PartSize().bytes == PART_BYTES
