# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Digests of blocks are those of the blocks, however the bytes come."""

from __future__ import annotations

import hashlib
import itertools

from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.edgeml.fleet.plugins.module_utils._common.hashing import BLOCK_BYTES, BlockDigests

_CONTENT = bytes(range(256)) * (BLOCK_BYTES // 256 * 2 + 1)


@given(
    size=st.sampled_from([0, 1, BLOCK_BYTES - 1, BLOCK_BYTES, BLOCK_BYTES + 1, 2 * BLOCK_BYTES, len(_CONTENT)]),
    cuts=st.lists(st.integers(0, len(_CONTENT)), max_size=4),
)
def test_each_block_has_its_digest(size: int, cuts: list[int]) -> None:
    digests = BlockDigests()
    edges = [0, *sorted(min(cut, size) for cut in cuts), size]
    for start, end in itertools.pairwise(edges):
        digests.write(_CONTENT[start:end])
    blocks = [_CONTENT[start : min(start + BLOCK_BYTES, size)] for start in range(0, size, BLOCK_BYTES)]
    expected = tuple(hashlib.sha256(block).hexdigest() for block in blocks)
    assert digests.found() == (expected if len(expected) > 1 else ())
