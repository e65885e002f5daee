# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""A snapshot of Debian packages as a release has it: the packages, apt's index of them, and what may be done with it.

A variant of a release of the kind ``packages`` has ``packages.json``, which is a JSON object of ``schema``, ``suite``
(the release of Debian), ``architecture`` (Debian's name), ``downgrades`` (names of packages whose version may become
lower) and ``way_back`` (whether a device takes it only where it can return); ``Packages``, apt's index; and each
package's archive, by the file name in the index.
"""

from __future__ import annotations

import json
import os
import re
from typing import Any, Callable, Iterator, Mapping, NamedTuple

from .._common.errors import ManifestError
from .debian_version import is_version
from .release import PACKAGES_ENTRYPOINT, Variant

DOCUMENT = PACKAGES_ENTRYPOINT
INDEX = "Packages"
SCHEMA = 1
INDEX_BYTES_MAX = 32 << 20
_DOCUMENT_BYTES_MAX = 1 << 20
_NAME = re.compile(r"[a-z0-9][a-z0-9+.-]+\Z", re.ASCII)
_SUITE = re.compile(r"[a-z][a-z0-9.-]*\Z", re.ASCII)
_SOURCE = re.compile(r"(\S+)(?: \((\S+)\))?\Z")
_FIELDS = {"schema", "suite", "architecture", "downgrades", "way_back"}


class Package(NamedTuple):
    """A package of a snapshot. ``file`` is its archive's name in the release; ``installed_bytes`` what it takes
    unpacked, 0 where it does not say."""

    name: str
    version: str
    architecture: str
    source: str
    source_version: str
    file: str
    sha256: str
    installed_bytes: int


class Snapshot(NamedTuple):
    """A frozen set of packages by name, for one suite and one architecture of Debian."""

    suite: str
    architecture: str
    packages: Mapping[str, Package]
    downgrades: frozenset[str] = frozenset()
    way_back: bool = True


def is_package_name(text: str) -> bool:
    """Whether ``text`` can be the name of a Debian package."""
    return _NAME.match(text) is not None


def stanzas(text: str) -> Iterator[dict[str, str]]:
    """The paragraphs of a Debian control file, by the names of their fields; what goes on in further lines has a line
    each."""
    fields: dict[str, str] = {}
    last = ""
    for line in text.splitlines():
        if not line.strip():
            if fields:
                yield fields
            fields, last = {}, ""
        elif line[0] in " \t" and last:
            fields[last] += f"\n{line.strip()}"
        else:
            last, _colon, value = line.partition(":")
            fields[last] = value.strip()
    if fields:
        yield fields


def source_of(fields: Mapping[str, str]) -> tuple[str, str]:
    """The name and the version of the source package that a binary package was built from."""
    match = _SOURCE.match(fields.get("Source", ""))
    if match is None:
        return fields["Package"], fields["Version"]
    return match[1], match[2] or fields["Version"]


def parse_snapshot(document: bytes, index: bytes, origin: str) -> Snapshot:
    """Read a snapshot's documents. Raises ManifestError, which begins with ``origin``, unless they are right."""
    try:
        described = json.loads(document.decode("utf-8"))
        if not isinstance(described, dict) or set(described) != _FIELDS or described["schema"] != SCHEMA:
            raise ValueError(f"expected schema {SCHEMA} with {', '.join(sorted(_FIELDS))}; found {described!r:.200}")
        suite, architecture = str(described["suite"]), str(described["architecture"])
        downgrades, way_back = described["downgrades"], described["way_back"]
        if not _SUITE.match(suite) or not _NAME.match(architecture):
            raise ValueError(f"suite, architecture: expected Debian's names; found {suite!r:.80}, {architecture!r:.80}")
        if not isinstance(way_back, bool) or not isinstance(downgrades, list):
            raise ValueError("downgrades, way_back: expected a list, and true or false")
        packages = [_package(fields) for fields in stanzas(index.decode("utf-8"))]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ManifestError(f"{origin}: expected a snapshot's {DOCUMENT} and {INDEX}; {error}") from error
    by_name = {package.name: package for package in packages}
    if len(by_name) != len(packages):
        raise ManifestError(f"{origin}: {INDEX}: expected each package once; found one twice")
    wrong = sorted({package.architecture for package in packages} - {architecture, "all"})
    if wrong:
        raise ManifestError(f"{origin}: {INDEX}: expected packages for {architecture} and all; found {wrong[0]}")
    unknown = sorted(set(map(str, downgrades)) - set(by_name))
    if unknown:
        raise ManifestError(f"{origin}: downgrades: expected packages of the snapshot; found {unknown[0]}")
    return Snapshot(suite, architecture, by_name, frozenset(downgrades), way_back)


def check_snapshot(variant: Variant, read: Callable[[str], bytes]) -> Snapshot:
    """Return the snapshot of a variant, whose documents ``read`` returns by their names.

    Raises ManifestError unless the variant has all of its packages.
    """
    origin = f"variant {variant.name}"
    files = {file.path: file.sha256 for file in variant.files}
    if INDEX not in files:
        raise ManifestError(f"{origin}: files: expected {INDEX}; found none")
    snapshot = parse_snapshot(read(DOCUMENT), read(INDEX), origin)
    for package in snapshot.packages.values():
        if files.get(package.file) != package.sha256:
            raise ManifestError(f"{origin}: files: expected {package.file} with {package.sha256}; found none")
    return snapshot


def read_snapshot(variant: Variant, directory: str) -> Snapshot:
    """Return the snapshot of a variant whose files are in a directory. Raises ManifestError, OSError."""

    def read(name: str) -> bytes:
        with open(os.path.join(directory, name), "rb") as file:
            return file.read(INDEX_BYTES_MAX if name == INDEX else _DOCUMENT_BYTES_MAX)

    return check_snapshot(variant, read)


def snapshot_document(snapshot: Snapshot) -> bytes:
    """The text of ``packages.json``."""
    document: dict[str, Any] = {
        "schema": SCHEMA,
        "suite": snapshot.suite,
        "architecture": snapshot.architecture,
        "downgrades": sorted(snapshot.downgrades),
        "way_back": snapshot.way_back,
    }
    return json.dumps(document, sort_keys=True).encode("ascii") + b"\n"


def _package(fields: Mapping[str, str]) -> Package:
    name, version = fields["Package"], fields["Version"]
    if not is_package_name(name) or not is_version(version):
        raise ValueError(f"{INDEX}: expected a package and its version; found {name!r:.80}, {version!r:.80}")
    source, source_version = source_of(fields)
    file = fields["Filename"]
    return Package(
        name,
        version,
        fields["Architecture"],
        source,
        source_version,
        file[2:] if file.startswith("./") else file,
        fields["SHA256"],
        int(fields.get("Installed-Size", "0")) * 1024,
    )
