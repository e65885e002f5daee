# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""The deltas of a release: made from a release before it, and put beside the blobs, at any time and by anybody."""

from __future__ import annotations

import hashlib
import io
import json
import os
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from ansible_collections.edgeml.fleet.plugins.module_utils._common.files import write_whole
from ansible_collections.edgeml.fleet.plugins.module_utils._release.delta import apply_delta
from ansible_collections.edgeml.fleet.plugins.module_utils._release.delta_form import BASES_MAX
from ansible_collections.edgeml.fleet.plugins.module_utils._release.delta_index import (
    DELTAS_MAX,
    Delta,
    delta_path,
    index_document,
    index_path,
    smallest,
)
from ansible_collections.edgeml.fleet.plugins.module_utils._release.release import File, Release, Variant
from ansible_collections.edgeml.fleet.plugins.module_utils._release.repository import Repository

from .alignment import Source
from .delta_file import write_delta
from .tensors import find_tensors
from .writer import make_directories, publish_file

# A delta that saves less is not worth a request.
_SAVES_AT_LEAST = 0.02
# Compressing takes many times as long as all else that is done with a large file. Without a base to gain from, it is
# done only where samples of the file say that it saves this much: weights of a network seldom do.
LARGE_BYTES = 4 << 20
_COMPRESSING_SAVES_AT_LEAST = 0.2
_SAMPLES, _SAMPLE_BYTES, _WIDTHS = 16, 1 << 14, (1, 2, 4)
# A smaller file comes with the request itself.
_FILE_BYTES_MIN = 1024

Locate = Callable[[File], str]


@dataclass(frozen=True)
class MadeDelta:
    """A delta of ``file``, written to ``location``."""

    file: File
    delta: Delta
    location: str


def make_deltas(
    release: Release, locate: Locate, old: Release | None, locate_old: Locate, work: str
) -> list[MadeDelta]:
    """Make deltas of a release's files into the directory ``work``: from ``old``, and without any base (compressed).

    ``locate`` and ``locate_old`` say where a file of each is. Only what is smaller than what there is without it is
    kept. Raises OSError.
    """
    made: list[MadeDelta] = []
    done = {file.sha256 for file in old.all_files()} if old is not None else set()
    for variant in release.variants:
        new_sources = _sources(release, variant, locate)
        old_sources = _sources(old, like(old, variant.name), locate_old) if old is not None else {}
        for file, source in new_sources.items():
            if file.sha256 in done or file.size < _FILE_BYTES_MIN:
                continue
            done.add(file.sha256)
            whole = _made(file, source, [], file.size, work)
            made += whole
            least = whole[0].delta.size if whole else file.size
            bases = sorted(old_sources.items(), key=lambda item: item[0].path != file.path)
            chosen = [(base.sha256, base_source) for base, base_source in bases if _may_help(file, base, base_source)]
            if chosen:
                made += _made(file, source, chosen[:BASES_MAX], least, work)
    return made


def like(release: Release, name: str) -> Variant:
    """The variant of that name, or the first one: which a device without it has, as far as can be known here."""
    return next((variant for variant in release.variants if variant.name == name), release.variants[0])


def _sources(release: Release, variant: Variant, locate: Locate) -> dict[File, Source]:
    import numpy as np

    files = release.files(variant)
    tensors = find_tensors({file.path: locate(file) for file in files})
    return {
        file: Source(np.memmap(locate(file), np.uint8, "r") if file.size else np.zeros(0, np.uint8), tensors[file.path])
        for file in files
    }


def _may_help(file: File, base: File, source: Source) -> bool:
    """A file of the same name, or one that has weights: they move from one file to another."""
    return base.path == file.path or bool(source.tensors)


def _made(file: File, source: Source, bases: Sequence[tuple[str, Source]], limit: int, work: str) -> list[MadeDelta]:
    """The delta, if it takes less than ``limit`` bytes by enough."""
    saves_at_least = _COMPRESSING_SAVES_AT_LEAST if file.size >= LARGE_BYTES else _SAVES_AT_LEAST
    if not bases and _compressed_share(source) > 1 - saves_at_least:
        return []
    digest, size = hashlib.sha256(), 0
    location = os.path.join(work, f"{file.sha256}-{len(bases)}.delta")
    with open(location, "w+b") as target:
        for part in write_delta(source, bases):
            size += len(part)
            if size > limit * (1 - _SAVES_AT_LEAST):
                return []
            digest.update(part)
            target.write(part)
        target.seek(0)
        _prove(target, file, dict(bases))
    return [MadeDelta(file, Delta(digest.hexdigest(), size, tuple(sha256 for sha256, _source in bases)), location)]


def _compressed_share(source: Source) -> float:
    """How much of a file compression leaves, about: of samples all over it, as bytes and as elements of some widths."""
    starts = range(0, len(source.content), max(_SAMPLE_BYTES, len(source.content) // _SAMPLES))
    samples = [source.content[start : start + _SAMPLE_BYTES] for start in starts]
    packed = (
        sum(len(zlib.compress(sample[place::width].tobytes())) for sample in samples for place in range(width))
        for width in _WIDTHS
    )
    return min(packed) / sum(map(len, samples))


def _prove(delta: io.BufferedRandom, file: File, bases: Mapping[str, Source]) -> None:
    """Apply a delta as a device does. Raises IntegrityError for one that does not make its file."""
    apply_delta(delta, file, lambda sha256, _size: io.BytesIO(bases[sha256].content.data), lambda _block: None)


def add_deltas(repository: str, made: Iterable[MadeDelta]) -> None:
    """Put deltas into the repository, and name them in the indexes. Raises OSError."""
    for item in made:
        directory = os.path.join(repository, os.path.dirname(index_path(item.file.sha256)))
        make_directories(directory)
        publish_file(item.location, os.path.join(repository, delta_path(item.file.sha256, item.delta)))
        known = [delta for delta in Repository(repository).deltas(item.file) if delta.bases != item.delta.bases]
        document = index_document([item.delta, *known][:DELTAS_MAX])
        write_whole(os.path.join(repository, index_path(item.file.sha256)), json.dumps(document, indent=2) + "\n")


def bytes_to_fetch(files: Iterable[File], held: Iterable[File], deltas_of: Callable[[File], Iterable[Delta]]) -> int:
    """What a device that has the files ``held`` fetches of ``files``: of each the smallest form."""
    have = {file.sha256 for file in held}
    total = 0
    for file in files:
        if file.sha256 not in have:
            delta = smallest(list(deltas_of(file)), have)
            total += file.size if delta is None else min(file.size, delta.size)
    return total


def describe(made: Iterable[MadeDelta], held: Iterable[File]) -> Iterator[dict[str, str]]:
    """A table for people."""
    names = {file.sha256: file.path for file in held}
    for item in made:
        yield {
            "file": item.file.path,
            "from": ", ".join(names.get(base, base[:12]) for base in item.delta.bases) or "nothing (compressed)",
            "bytes": str(item.delta.size),
            "of": str(item.file.size),
            "share": f"{item.delta.size / item.file.size:.4f}",
        }
