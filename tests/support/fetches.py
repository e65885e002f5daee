# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Objects that are fetched in a test, and fetching them: each comes whole and verified, or with an error."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from releases import file_entry, sha256

from ansible_collections.edgeml.fleet.plugins.module_utils._common.files import DurableTree
from ansible_collections.edgeml.fleet.plugins.module_utils._common.hashing import BLOCK_BYTES
from ansible_collections.edgeml.fleet.plugins.module_utils._fetch.failures import FetchError
from ansible_collections.edgeml.fleet.plugins.module_utils._fetch.fetcher import Fetcher
from ansible_collections.edgeml.fleet.plugins.module_utils._fetch.options import FetchOptions
from ansible_collections.edgeml.fleet.plugins.module_utils._fetch.pace import Patience
from ansible_collections.edgeml.fleet.plugins.module_utils._release.release import File

CONTENT = random.Random(1).randbytes(3 * BLOCK_BYTES + 1234)
SMALL = random.Random(2).randbytes(5000)
OBJECTS = {sha256(content): content for content in (CONTENT, SMALL)}
QUICK = Patience(connect=60, stall=60, stall_bytes=64, backoff=0.001, backoff_most=0.002, rounds=3)
# For servers that say nothing: nobody else may be taken for one, however busy this machine is.
HASTY = QUICK._replace(stall=2, rounds=2)


def file_of(content: bytes) -> File:
    entry = file_entry("model.onnx", content)
    return File(entry["path"], entry["size"], entry["sha256"], tuple(entry.get("blocks", ())))


FILE = file_of(CONTENT)


def fetcher_in(directory: Path, *sources: str, **changes: Any) -> Fetcher:
    more = {name: changes.pop(name) for name in ("may_go_on", "headroom_percent") if name in changes}
    patience = changes.pop("patience", QUICK)
    options = FetchOptions(sources=sources, **changes)
    return Fetcher(DurableTree(str(directory)), str(directory / "fetched"), options, patience=patience, **more)


def fetch(directory: Path, *sources: str, file: File = FILE, **changes: Any) -> Fetcher:
    """Fetch the object, and check that it is the object."""
    fetcher = fetcher_in(directory, *sources, **changes)
    try:
        path = Path(fetcher.fetch(file))
    finally:
        fetcher.close()
    assert sha256(path.read_bytes()) == file.sha256
    assert [entry.name for entry in path.parent.iterdir()] == [file.sha256]
    return fetcher


def refused(directory: Path, *sources: str, **changes: Any) -> FetchError:
    with pytest.raises(FetchError) as caught:
        fetch(directory, *sources, **changes)
    return caught.value
