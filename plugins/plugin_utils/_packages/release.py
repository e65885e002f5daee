# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""A snapshot of Debian packages as a release: a variant for each architecture, whose files are the packages."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any, Sequence

from ansible_collections.edgeml.fleet.plugins.module_utils._common.errors import ArgumentError
from ansible_collections.edgeml.fleet.plugins.module_utils._release.image import ARCHITECTURES
from ansible_collections.edgeml.fleet.plugins.module_utils._release.manifest import FILES_MAX, SCHEMA
from ansible_collections.edgeml.fleet.plugins.module_utils._release.packages import (
    DOCUMENT,
    INDEX,
    Snapshot,
    parse_snapshot,
    snapshot_document,
)
from ansible_collections.edgeml.fleet.plugins.module_utils._release.release import PACKAGES, PACKAGES_FORMAT
from ansible_collections.edgeml.fleet.plugins.plugin_utils._publish.release_files import ReleaseFiles
from ansible_collections.edgeml.fleet.plugins.plugin_utils._publish.writer import publish

from .archive import ArchivePackage, read_distribution

# apt and dpkg themselves, while they work beside the server.
MEMORY_BYTES = 96 << 20
_RUNTIME = {"name": "dpkg", "minimum": "1.0.0"}
# What apt needs to know of a package; the file's name is the release's.
_FIELDS = (
    *("Package", "Source", "Version", "Architecture", "Multi-Arch", "Essential", "Important", "Protected", "Priority"),
    *("Section", "Maintainer", "Installed-Size", "Pre-Depends", "Depends", "Recommends", "Conflicts", "Breaks"),
    *("Replaces", "Provides", "Description"),
)


@dataclass(frozen=True)
class FrozenSnapshot:
    """A snapshot for one architecture (as ``uname -m`` says), the archive's packages, and the text of its index."""

    machine: str
    snapshot: Snapshot
    packages: Sequence[ArchivePackage]
    index: bytes

    @property
    def digest(self) -> str:
        """SHA-256 of the index, which has that of each package: what identifies the snapshot."""
        return hashlib.sha256(self.index).hexdigest()


def freeze(
    archive: str,
    *,
    distribution: str,
    component: str,
    suite: str,
    machine: str,
    only: frozenset[str] | None = None,
    downgrades: frozenset[str] = frozenset(),
    way_back: bool = True,
) -> FrozenSnapshot:
    """Read a distribution as a snapshot. Raises ArgumentError, ManifestError, IntegrityError, OSError."""
    if machine not in ARCHITECTURES:
        raise ArgumentError(f"architecture: expected {' or '.join(ARCHITECTURES)}; found {machine}")
    packages = read_distribution(archive, distribution, component, ARCHITECTURES[machine], only)
    if len(packages) > FILES_MAX - 2:
        raise ArgumentError(
            f"{distribution}: expected at most {FILES_MAX - 2} packages; found {len(packages)}: name those that "
            "devices have with --only"
        )
    index = "".join(_stanza(package) for package in packages).encode("utf-8")
    snapshot = Snapshot(suite, ARCHITECTURES[machine], {}, downgrades, way_back)
    parsed = parse_snapshot(snapshot_document(snapshot), index, f"{archive} {distribution}")
    return FrozenSnapshot(machine, parsed, packages, index)


def publish_snapshots(
    snapshots: Sequence[FrozenSnapshot],
    *,
    name: str,
    version: str,
    repository: str,
    directory: str,
    description: str,
    created: str | None = None,
) -> tuple[bool, dict[str, Any]]:
    """Publish snapshots as one release. Return whether it was not there before, and its manifest.

    ``directory`` is for files of the release; ``created`` a time in UTC. Raises PublishError where the version is there
    with other content.
    """
    held, variants = ReleaseFiles(directory), []
    for frozen in snapshots:
        documents = [
            held.write(DOCUMENT, snapshot_document(frozen.snapshot), frozen.machine),
            held.write(INDEX, frozen.index, frozen.machine),
        ]
        variants.append(
            {
                "name": f"{frozen.snapshot.suite}-{frozen.snapshot.architecture}",
                "format": PACKAGES_FORMAT,
                "architectures": [frozen.machine],
                "runtime": _RUNTIME,
                "memory_bytes": MEMORY_BYTES,
                "entrypoint": DOCUMENT,
                "files": [*documents, *(held.add(_file_name(package), package.path) for package in frozen.packages)],
            }
        )
    manifest = {
        "schema": SCHEMA,
        "kind": PACKAGES,
        "model": name,
        "version": version,
        **({} if created is None else {"created": created}),
        "description": description,
        "variants": variants,
    }
    return publish(repository, manifest, held.locations), manifest


def _stanza(package: ArchivePackage) -> str:
    fields = {name: package.fields[name] for name in _FIELDS if name in package.fields}
    own = {"Filename": f"./{_file_name(package)}", "Size": package.fields["Size"], "SHA256": package.fields["SHA256"]}
    if "Description" in fields:
        fields["Description"] = fields["Description"].partition("\n")[0]
    lines = [f"{name}: {' '.join(value.split())}" for name, value in {**fields, **own}.items()]
    return "\n".join(lines) + "\n\n"


def _file_name(package: ArchivePackage) -> str:
    """A name without the characters that versions may have, and the names of a release's files not."""
    return f"{package.name}_{package.fields['Architecture']}_{package.fields['SHA256'][:16]}.deb"
