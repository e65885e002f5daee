# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""An object that is made from a delta: what the release names is kept, and nothing else."""

from __future__ import annotations

import io
import os
import random
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from deltas import delta_between
from releases import make_release, sha256

from ansible_collections.edgeml.fleet.plugins.module_utils._common.errors import IntegrityError
from ansible_collections.edgeml.fleet.plugins.module_utils._common.files import DurableTree
from ansible_collections.edgeml.fleet.plugins.module_utils._common.hashing import BLOCK_BYTES
from ansible_collections.edgeml.fleet.plugins.module_utils._fetch import partial as partial_module
from ansible_collections.edgeml.fleet.plugins.module_utils._fetch.failures import FetchError, Kind
from ansible_collections.edgeml.fleet.plugins.module_utils._fetch.from_delta import (
    check_space,
    delta_part,
    make_from_delta,
)
from ansible_collections.edgeml.fleet.plugins.module_utils._fetch.partial import (
    Partial,
    deltas_held,
)

OLD = random.Random(1).randbytes(3 * BLOCK_BYTES)
NEW = OLD[: 2 * BLOCK_BYTES + 9] + b"changed" + OLD[2 * BLOCK_BYTES + 16 :]
FILE = max(make_release("1.1.0", files={"model.onnx": NEW}).release.all_files(), key=lambda file: file.size)


@pytest.fixture
def partial(tmp_path: Path) -> Iterator[Partial]:
    """What there is of the newer file: nothing."""
    made = Partial(DurableTree(str(tmp_path)), str(tmp_path / "fetched"), FILE)
    assert made.open()
    with closing(made):
        yield made


def delta_at(tmp_path: Path, content: bytes) -> str:
    path = tmp_path / "delta"
    path.write_bytes(content)
    return str(path)


def opened(base: bytes) -> io.BytesIO:
    return io.BytesIO(base)


def test_a_delta_makes_what_is_missing(tmp_path: Path, partial: Partial) -> None:
    partial.write(NEW[: BLOCK_BYTES + 5])
    seen: list[int] = []
    path = delta_at(tmp_path, delta_between(NEW, OLD))
    make_from_delta(path, partial, lambda *_base: opened(OLD), lambda: seen.append(partial.size))
    assert seen == [BLOCK_BYTES, 2 * BLOCK_BYTES, 3 * BLOCK_BYTES]
    assert Path(partial.finish()).read_bytes() == NEW


def test_a_block_that_the_release_does_not_name_is_not_kept(tmp_path: Path, partial: Partial) -> None:
    """The delta makes another file of that size and digest, as far as it says: its base is damaged in one block."""
    damaged = bytearray(OLD)
    damaged[BLOCK_BYTES + 7] ^= 1
    path = delta_at(tmp_path, delta_between(NEW, OLD))
    with pytest.raises(IntegrityError, match=f"block 2 of 3: expected SHA-256 {FILE.blocks[1]}; found .* is damaged"):
        make_from_delta(path, partial, lambda *_base: opened(bytes(damaged)))
    assert (partial.verified, partial.size) == (BLOCK_BYTES, BLOCK_BYTES)
    assert Path(partial.path + ".part").read_bytes() == NEW[:BLOCK_BYTES]


def test_what_there_is_of_deltas_is_said(tmp_path: Path) -> None:
    tree, directory = DurableTree(str(tmp_path)), tmp_path / "fetched"
    whole, part, refused = (
        delta_part(tree, str(directory), FILE, sha256(name), size)
        for name, size in ((b"whole", 5), (b"part", 100), (b"refused", 7))
    )
    for delta, content in ((whole, b"whole"), (part, b"par"), (refused, b"ref")):
        assert delta.open()
        delta.write(content)
    whole.finish()
    whole.close()
    part.close()
    refused.refuse()
    expected = {sha256(b"whole"): 5, sha256(b"part"): 3, sha256(b"refused"): None}
    assert deltas_held(str(directory), [FILE]) == {FILE.sha256: expected}


def test_a_delta_is_brought_to_the_disk_before_it_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has no digests of blocks: nothing of it is known to be right before its end."""
    synced: list[int] = []
    monkeypatch.setattr(partial_module, "SYNC_BYTES", 1000)
    monkeypatch.setattr(os, "fdatasync", synced.append)
    delta = delta_part(DurableTree(str(tmp_path)), str(tmp_path / "fetched"), FILE, sha256(b"delta"), 5000)
    assert delta.open()
    with closing(delta):
        for _part in range(4):
            delta.write(bytes(600))
    assert len(synced) == 2


def test_a_delta_needs_room_beside_its_file(tmp_path: Path) -> None:
    tree = DurableTree(str(tmp_path))
    check_space(tree, str(tmp_path), [FILE], 0)
    delta = delta_part(tree, str(tmp_path), FILE, sha256(b"delta"), 1 << 60)
    with pytest.raises(
        FetchError, match=r"model.onnx need \d+ bytes more; \d+ are free, of which 20% are to stay free"
    ):
        check_space(tree, str(tmp_path), [FILE], 20, delta)
    with pytest.raises(FetchError) as caught:
        check_space(tree, str(tmp_path), [FILE], 100)
    assert caught.value.kind is Kind.DISK
