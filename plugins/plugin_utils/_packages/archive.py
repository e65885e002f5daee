# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""A Debian archive on disk, as reprepro and others make it: the packages of one of its distributions, verified."""

from __future__ import annotations

import gzip
import hashlib
import lzma
import os
from dataclasses import dataclass
from typing import Callable, Mapping

from ansible_collections.edgeml.fleet.plugins.module_utils._common.errors import IntegrityError, ManifestError
from ansible_collections.edgeml.fleet.plugins.module_utils._common.hashing import read_hashed
from ansible_collections.edgeml.fleet.plugins.module_utils._release.debian_version import version_key
from ansible_collections.edgeml.fleet.plugins.module_utils._release.packages import stanzas

_OPENERS: Mapping[str, Callable[[bytes], bytes]] = {"": bytes, ".gz": gzip.decompress, ".xz": lzma.decompress}


@dataclass(frozen=True)
class ArchivePackage:
    """A package of an archive: the fields of its index, and where its file is."""

    fields: Mapping[str, str]
    path: str

    @property
    def name(self) -> str:
        """The package's name."""
        return self.fields["Package"]

    @property
    def version(self) -> str:
        """The package's version."""
        return self.fields["Version"]


def read_distribution(
    archive: str, distribution: str, component: str, architecture: str, only: frozenset[str] | None = None
) -> list[ArchivePackage]:
    """The packages of a distribution for one of Debian's architectures, by name, each in its newest version.

    ``only`` are the names of those that are wanted, where not all are. Each file has the size and the SHA-256 of the
    index, and the index those of the distribution's Release, where that names it. Raises ManifestError, IntegrityError,
    OSError.
    """
    root = os.path.join(archive, "dists", distribution)
    name = os.path.join(component, f"binary-{architecture}", "Packages")
    text = _read_index(root, name)
    newest: dict[str, ArchivePackage] = {}
    for fields in stanzas(text):
        try:
            package = ArchivePackage(fields, os.path.join(archive, fields["Filename"]))
            if only is not None and package.name not in only:
                continue
            known = newest.get(package.name)
            if known is None or version_key(known.version) < version_key(package.version):
                newest[package.name] = package
        except (KeyError, ValueError) as error:
            raise ManifestError(f"{root}/{name}: expected Debian's index of packages; {error!r}") from error
    if not newest:
        raise ManifestError(f"{root}/{name}: expected packages for {architecture}; found none that is wanted")
    for package in newest.values():
        _verify(package)
    return [newest[each] for each in sorted(newest)]


def _read_index(root: str, name: str) -> str:
    for suffix, unpack in _OPENERS.items():
        path = os.path.join(root, name + suffix)
        try:
            with open(path, "rb") as file:
                content = file.read()
        except FileNotFoundError:
            continue
        promised = _promised(root).get(name + suffix)
        found = hashlib.sha256(content).hexdigest()
        if promised is not None and promised != found:
            raise IntegrityError(f"{path}: expected SHA-256 {promised}, which Release has; found {found}")
        try:
            return unpack(content).decode("utf-8")
        except (OSError, EOFError, ValueError, lzma.LZMAError) as error:
            raise IntegrityError(f"{path}: expected an index of packages; {error}") from error
    raise ManifestError(f"{root}: expected a distribution of a Debian archive with {name}; found none")


def _promised(root: str) -> dict[str, str]:
    """The SHA-256 of the distribution's indexes, by their names; none where it has no Release."""
    try:
        with open(os.path.join(root, "Release"), encoding="utf-8") as file:
            release = next(stanzas(file.read()), {})
    except FileNotFoundError:
        return {}
    listed = (line.split() for line in release.get("SHA256", "").splitlines())
    return {parts[2]: parts[0] for parts in listed if len(parts) == 3}


def _verify(package: ArchivePackage) -> None:
    try:
        expected, size = package.fields["SHA256"], int(package.fields["Size"])
    except (KeyError, ValueError) as error:
        raise ManifestError(f"{package.path}: expected its SHA256 and Size in the index; {error!r}") from error
    try:
        with open(package.path, "rb") as file:
            found = read_hashed(file, size, package.path)
    except FileNotFoundError as error:
        raise IntegrityError(f"{package.path}: expected {size} bytes; the file is missing") from error
    if found != expected:
        raise IntegrityError(f"{package.path}: expected SHA-256 {expected}; found {found}")
