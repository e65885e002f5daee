# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""What a repository holds of a model already: the same release, and the ones before it."""

from __future__ import annotations

import os
from typing import Mapping, Sequence

from ansible_collections.edgeml.fleet.plugins.module_utils._common.errors import EdgemlError
from ansible_collections.edgeml.fleet.plugins.module_utils._release.delta_index import Delta
from ansible_collections.edgeml.fleet.plugins.module_utils._release.release import File, Release
from ansible_collections.edgeml.fleet.plugins.module_utils._release.repository import Repository
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.comparable import missing_outputs, why_unasked

from . import provenance
from .candidate import Candidate
from .deltas import MadeDelta, bytes_to_fetch, like, make_deltas
from .document import ReleaseDocument
from .model import ModelFile, RefusedError
from .options import ReleaseOptions
from .publication import Publication
from .writer import MANIFEST


def published_release(options: ReleaseOptions, given: Mapping[str, ModelFile | None]) -> Release | None:
    """The release, if it is published and was made from the same. Raises RefusedError if from something else."""
    repository = Repository(options.repository)
    if not os.path.exists(os.path.join(options.repository, options.model, options.version, MANIFEST)):
        return None
    release = repository.release(options.model, options.version)
    repository.verify(release)
    name = f"{release.model} {release.version}"
    before = release.documents.get("provenance")
    if before is None:
        raise RefusedError([f"{name} is published, by something else than this command; publish another version"])
    differences = provenance.differences(
        repository.read_blob(before), options.to_dict(), ReleaseOptions().to_dict(), given
    )
    if differences:
        raise RefusedError([f"{name} is published, and a release never changes; publish another version", *differences])
    return release


def newest_release(repository: str, model: str, *, other_than: str) -> Release | None:
    """The release of a model that was created last, but for one version; None without any."""
    found: list[Release] = []
    for version in Repository(repository).versions(model):
        if version != other_than:
            try:
                found.append(Repository(repository).release(model, version))
            except EdgemlError:
                continue  # Damaged, or withdrawn: no device is on it.
    return max(found, key=lambda release: str(release.document.get("created", "")), default=None)


def note_of_names(options: ReleaseOptions, made: ReleaseDocument, before: Release | None) -> str | None:
    """Return what a rollout and clients will miss because inputs or outputs are others than ``before``, in one line;
    None for nothing."""
    if before is None:
        return None
    repository = Repository(options.repository)

    def locate(file: File) -> str:
        return made.locations.get(file.sha256) or repository.blob_path(file.sha256)

    reason, missing = why_unasked(before, made.release, locate), missing_outputs(before, made.release, locate)
    found = []
    if reason:
        found.append(f"{reason}: a rollout cannot compare the answers of both")
    if missing:
        found.append(f"has the output {', '.join(missing)}, and this version not: clients that ask for it are refused")
    if not found:
        return None
    return (
        f"{before.version}, the version before, {'; it '.join(found)}. Where only names differ, export the model with "
        "the names of before"
    )


def make_deltas_from_newest(
    publication: Publication, made: ReleaseDocument, passed: Sequence[Candidate], previous: Release | None
) -> list[MadeDelta]:
    """Make the deltas of a release from ``previous``, the newest other version of the model, and note of each variant
    what a device with that version fetches."""
    options, release = publication.options, made.release
    repository = Repository(options.repository)
    work = publication.path("deltas")
    os.mkdir(work)
    deltas = make_deltas(
        release,
        lambda file: made.locations[file.sha256],
        previous,
        lambda file: repository.blob_path(file.sha256),
        work,
    )
    by_file: dict[str, list[Delta]] = {}
    for item in deltas:
        by_file.setdefault(item.file.sha256, []).append(item.delta)
    for candidate in passed:
        variant = next(found for found in release.variants if found.name == candidate.model.name)
        held = previous.files(like(previous, variant.name)) if previous is not None else ()
        candidate.fetched_bytes = bytes_to_fetch(
            release.files(variant), held, lambda file: by_file.get(file.sha256, [])
        )
    return deltas
