# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""Which deltas there are of a file: ``deltas/<digest of the file>/index.json`` in the model repository, a hint.

Nobody signs it. A delta that it names makes the right file or is refused, and paths are made of digests alone::

    {"schema": 1, "deltas": [{"sha256": "<of the delta>", "size": 4711, "bases": ["<digest>", …]}]}

One without bases is the file itself, compressed.
"""

from __future__ import annotations

import json
from typing import Any, Collection, Iterable, Mapping, NamedTuple, Sequence

from .._common.hashing import is_sha256
from .._common.records import is_whole
from .delta_form import BASES_MAX
from .release import File

SCHEMA = 1
INDEX_BYTES_MAX = 1 << 18
DELTAS_MAX = 256


class Delta(NamedTuple):
    """A delta of a file: its SHA-256, its size in bytes, and the SHA-256 of each blob that it needs."""

    sha256: str
    size: int
    bases: tuple[str, ...]


def index_path(sha256: str) -> str:
    """Where the index of a file's deltas is, in the repository."""
    return f"deltas/{sha256}/index.json"


def delta_path(sha256: str, delta: Delta) -> str:
    """Where a delta of the file with this SHA-256 is, in the repository."""
    return f"deltas/{sha256}/{delta.sha256}"


def parse_index(content: bytes, file: File) -> list[Delta]:
    """The deltas of ``file`` that are smaller than it, the smallest first. Raises ValueError for what is no index."""
    if len(content) > INDEX_BYTES_MAX:
        raise ValueError(f"expected an index of at most {INDEX_BYTES_MAX} bytes; found {len(content)}")
    try:
        document = json.loads(content.decode("utf-8"))
        if document["schema"] != SCHEMA:
            raise ValueError(f"expected an index with the schema {SCHEMA}; found {document['schema']!r}")
        found = [_parse_delta(entry) for entry in document["deltas"][:DELTAS_MAX]]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"expected an index of deltas; found none: {error!r}") from error
    return sorted((delta for delta in found if delta.size < file.size), key=lambda delta: (delta.size, delta.sha256))


def index_document(deltas: Sequence[Delta]) -> dict[str, Any]:
    """What an index says."""
    entries = [{"sha256": delta.sha256, "size": delta.size, "bases": list(delta.bases)} for delta in deltas]
    return {"schema": SCHEMA, "deltas": entries}


def smallest(deltas: Iterable[Delta], held: Collection[str]) -> Delta | None:
    """The smallest delta whose bases are all among the blobs ``held``; None without any."""
    return next(iter(by_size(deltas, held)), None)


def by_size(deltas: Iterable[Delta], held: Collection[str]) -> list[Delta]:
    """The deltas whose bases are all among the blobs ``held``, the smallest first."""
    usable = (delta for delta in deltas if all(base in held for base in delta.bases))
    return sorted(usable, key=lambda delta: delta.size)


def _parse_delta(entry: Mapping[str, Any]) -> Delta:
    sha256, size, bases = entry["sha256"], entry["size"], entry["bases"]
    if not is_whole(size) or size <= 0:
        raise ValueError(f"size: expected a number of bytes; found {size!r:.80}")
    if not isinstance(bases, list) or len(bases) > BASES_MAX:
        raise ValueError(f"bases: expected a list of at most {BASES_MAX}; found {bases!r:.80}")
    for digest in (sha256, *bases):
        if not is_sha256(digest):
            raise ValueError(f"expected 64 lower-case hexadecimal digits; found {digest!r:.80}")
    return Delta(sha256, size, tuple(bases))
