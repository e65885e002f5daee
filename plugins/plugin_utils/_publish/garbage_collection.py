# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""What nobody needs any more leaves the repository: old releases, and blobs that no manifest names.

A release is needed by a channel, by a rollout of the ledger, or because it is one of the newest of its model. Manifests
leave before blobs, so that what can be read is whole whenever the work stops; the next call goes on.
"""

from __future__ import annotations

import json
import os
import time
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any, Iterable, Iterator, Mapping

from ansible_collections.edgeml.fleet.plugins.module_utils._common.files import (
    fsync_directory,
    remove_tree,
    write_whole,
)
from ansible_collections.edgeml.fleet.plugins.module_utils._release.delta_index import index_path
from ansible_collections.edgeml.fleet.plugins.module_utils._release.repository import Repository

from .catalogue import Listed, read_catalogue
from .model import PublishError
from .repository_lock import collecting
from .writer import MANIFEST, REMOVED

KEEP_LAST = 3
BLOB_AGE_SECONDS = 86_400
Name = tuple[str, str]


@dataclass(frozen=True)
class Collected:
    """What left, and why the rest stayed: ``kept`` has the reasons of each release. ``size`` is in bytes."""

    releases: list[Name]
    blobs: list[str]
    size: int
    kept: Mapping[Name, list[str]] = field(default_factory=dict)

    @property
    def changed(self) -> bool:
        """Whether anything left."""
        return bool(self.releases or self.blobs)

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        return {
            "changed": self.changed,
            "releases": [f"{model} {version}" for model, version in self.releases],
            "blobs": self.blobs,
            "bytes": self.size,
            "kept": {f"{model} {version}": why for (model, version), why in self.kept.items()},
        }


def collect(
    repository: str,
    *,
    keep_last: int = KEEP_LAST,
    ledger: str | None = None,
    blob_age_seconds: float = BLOB_AGE_SECONDS,
    check: bool = False,
) -> Collected:
    """Remove what nobody needs; in check mode, only say so. Waits for publications, and they for it.

    Blobs that are younger than ``blob_age_seconds`` stay: somebody may be copying a release into the directory.
    Raises PublishError for a ledger that cannot be read, ManifestError for a release that cannot: what it needs is not
    known then.
    """
    if keep_last < 1:
        raise PublishError(f"keep_last: expected at least 1; found {keep_last}")
    with collecting(repository):
        listed = read_catalogue(Repository(repository))
        kept = _needed(repository, listed, keep_last, ledger)
        unneeded = [item for item in listed if _name(item) not in kept]
        blobs = _blobs(repository, (item for item in listed if _name(item) in kept), blob_age_seconds)
        if not check:
            for item in unneeded:
                _remove_release(repository, item)
            for path in blobs:
                os.unlink(path)
                remove_tree(os.path.dirname(os.path.join(repository, index_path(os.path.basename(path)))))
    names = [_name(item) for item in unneeded]
    return Collected(names, [os.path.basename(path) for path in blobs], sum(blobs.values()), kept)


def _name(item: Listed) -> Name:
    return item.release.model, item.release.version


def _needed(repository: str, listed: Iterable[Listed], keep_last: int, ledger: str | None) -> dict[Name, list[str]]:
    """Why each release that stays is needed."""
    why: dict[Name, list[str]] = defaultdict(list)
    newest: dict[str, int] = defaultdict(int)
    present = set()
    for item in listed:
        name = _name(item)
        present.add(name)
        for channel in item.channels:
            why[name].append(f"channel {channel}")
        # Nobody goes back to a release that is withdrawn, so it takes no place of one that is not.
        if item.withdrawn is None and newest[name[0]] < keep_last:
            newest[name[0]] += 1
            why[name].append(f"one of the last {keep_last}")
    for name, channel in _signed_channels(repository):
        if f"channel {channel}" not in why[name]:
            why[name].append(f"channel {channel}, as it is signed")
    for name in _in_ledger(ledger) if ledger is not None else ():
        why[name].append("a rollout of the ledger")
    return {name: reasons for name, reasons in why.items() if name in present and reasons}


def _signed_channels(repository: str) -> Iterator[tuple[Name, str]]:
    """The channels that are in force: who verifies signatures does not know of a promotion until it is signed."""
    from ansible_collections.edgeml.fleet.plugins.module_utils._trust.metadata import (
        METADATA,
        require_packages,
        signed_release,
    )

    if not os.path.isdir(os.path.join(repository, METADATA)):
        return
    require_packages()
    from ansible_collections.edgeml.fleet.plugins.plugin_utils._trust.signing import SigningRepository

    for target, described in SigningRepository(repository).state().targets.signed.targets.items():
        signed = signed_release(target, described.custom)
        for channel in signed.channels:
            yield (signed.model, signed.version), channel


def _in_ledger(path: str) -> list[Name]:
    from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout import ledger

    # A path with a mistake in it would need nothing.
    if not os.path.isdir(path):
        raise PublishError(f"{path}: expected the directory of a ledger; there is none")
    contents = ledger.read_all(path)
    if contents.damaged:
        raise PublishError("; ".join(contents.damaged.values()))
    return sorted(ledger.needed(contents.rollouts))


def _blobs(repository: str, kept: Iterable[Listed], age_seconds: float) -> dict[str, int]:
    """The paths of the blobs that no release needs that stays, with their sizes."""
    needed = {file.sha256 for item in kept for file in item.release.all_files()}
    oldest = time.time() - age_seconds
    found = {}
    for entry in os.scandir(os.path.join(repository, "blobs", "sha256")):
        status = entry.stat(follow_symlinks=False)
        if entry.name not in needed and status.st_mtime <= oldest:
            found[entry.path] = status.st_size
    return dict(sorted(found.items()))


def _remove_release(repository: str, item: Listed) -> None:
    """Remove a manifest, durably; what stays says that no other release may have this version's name."""
    directory = os.path.join(repository, *_name(item))
    write_whole(os.path.join(directory, REMOVED), json.dumps({"digest": item.release.digest}) + "\n")
    fsync_directory(directory)
    os.unlink(os.path.join(directory, MANIFEST))
    fsync_directory(directory)
