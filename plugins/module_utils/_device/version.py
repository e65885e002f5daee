# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""A version that the store holds: its directory, and whether its files are what the manifest promises."""

from __future__ import annotations

import os
import stat
from typing import NamedTuple

from .._common.errors import IntegrityError, ManifestError, StoreError
from .._common.hashing import read_hashed
from .._release.manifest import parse_release
from .._release.release import File, Release, Variant
from .documents import read_document
from .prepared import PreparedModel
from .state import require


class ProbeFiles(NamedTuple):
    """A probe set: the name of the model that it asks, as the server has it, its path, and that of the golden file."""

    model: str
    path: str
    golden: str | None


class Version(NamedTuple):
    """A version that the store holds, complete with the variant that was chosen for this device."""

    directory: str
    release: Release
    chosen: Variant

    @property
    def model(self) -> str:
        """Name of the model."""
        return self.release.model

    @property
    def version(self) -> str:
        """The release's version."""
        return self.release.version

    @property
    def digest(self) -> str:
        """What identifies the release's manifest."""
        return self.release.digest

    @property
    def variant(self) -> str:
        """Name of the variant."""
        return self.chosen.name

    @property
    def format(self) -> str:
        """Format of the variant's model."""
        return self.chosen.format

    @property
    def files(self) -> tuple[File, ...]:
        """The files in the version's directory, beside version.json."""
        return self.release.files(self.chosen)

    @property
    def entrypoint_path(self) -> str:
        """Path of the file that the runtime opens, of a pipeline its first part's."""
        return os.path.join(self.directory, next(iter(self.chosen.entries.values())).entrypoint)

    @property
    def probe(self) -> ProbeFiles | None:
        """Where the probe set of the release is, if it has one."""
        name = self.release.probed
        if name is None:
            return None
        part = self.release.parts[name]
        path, golden = (os.path.join(self.directory, file.path) if file else None for file in (part.probe, part.golden))
        return ProbeFiles(f"{self.model}/{name}" if name else self.model, require(path), golden)

    def path(self, file: File) -> str:
        """Where ``file`` is in the version's directory, or belongs."""
        return os.path.join(self.directory, file.path)

    def is_right(self, file: File) -> bool:
        """Whether ``file`` is in the version's directory with its promised SHA-256. Reads all of it."""
        try:
            self._verify_file(file)
        except (OSError, IntegrityError):
            return False
        return True

    def check_size(self, file: File) -> None:
        """Raise IntegrityError unless ``file`` is in the version's directory with its size. Reads no content."""
        path = self.path(file)
        try:
            status = os.lstat(path)
        except FileNotFoundError as error:
            raise IntegrityError(f"{path}: expected {file.size} bytes; the file is missing") from error
        # What a link leads to can change without the store.
        if not stat.S_ISREG(status.st_mode):
            raise IntegrityError(f"{path}: expected a file of {file.size} bytes; found none, but a link or the like")
        if status.st_size != file.size:
            raise IntegrityError(f"{path}: expected {file.size} bytes; found {status.st_size}")

    def check_sizes(self) -> None:
        """Raise IntegrityError unless each file of the version is there with its promised size. Reads no content."""
        for file in self.files:
            self.check_size(file)

    def verify(self) -> None:
        """Read every file of the version and raise IntegrityError unless all have their promised SHA-256."""
        self.check_sizes()
        for file in self.files:
            self._verify_file(file)

    def verify_prepared(self, prepared: PreparedModel) -> None:
        """As ``verify``, but of the model's own files only those that are prepared are read, in place of the release's.

        That is what is loaded.
        """
        self.check_sizes()
        extra = [file for file in self.files if file not in self.chosen.files]
        for file in (*(prepared.files or self.chosen.files), *extra):
            self._verify_file(file)

    def damaged(self) -> list[File]:
        """The files of the version that are not there with their promised SHA-256, each digest once. Reads all."""
        return list({file.sha256: file for file in self.files if not self.is_right(file)}.values())

    def _verify_file(self, file: File) -> None:
        self.check_size(file)
        path = self.path(file)
        with open(path, "rb") as source:
            actual = read_hashed(source, file.size, path)
        if actual != file.sha256:
            raise IntegrityError(f"{path}: expected SHA-256 {file.sha256}; found {actual}")


def read_version(model: str, version: str, directory: str) -> Version:
    """Read the record of the version in ``directory``. Raises StoreError if it is missing, damaged, or another's."""
    path = os.path.join(directory, "version.json")
    document = read_document(path)
    try:
        release = parse_release(document["release"])
        chosen = next(variant for variant in release.variants if variant.name == document["variant"])
    except (KeyError, TypeError, StopIteration, ManifestError) as error:
        raise StoreError(f"{path}: damaged: {error!r}") from error
    if (release.model, release.version) != (model, version):
        raise StoreError(f"{path}: expected {model} {version}; found {release.model} {release.version}")
    return Version(directory, release, chosen)
