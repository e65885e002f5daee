# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""Debian's packages, read without being installed: no script of theirs runs."""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass
from typing import Iterator

from ansible_collections.edgeml.fleet.plugins.module_utils._common.errors import EdgemlError

from .layer import Entry, read_tar

_MAGIC = b"!<arch>\n"
_HEADER_BYTES = 60


class ImageError(EdgemlError):
    """An image cannot be built; the text says what was expected, what was found, and what to do."""


@dataclass(frozen=True)
class Package:
    """A package of Debian's: its fields as ``control`` has them, its files, and the SHA-256 of the archive."""

    control: str
    md5sums: bytes
    files: dict[str, Entry]
    sha256: str

    def field(self, name: str) -> str:
        """A field of the control file; empty where it has none of that name."""
        start = f"{name}: "
        return next((line[len(start) :] for line in self.control.splitlines() if line.startswith(start)), "")

    @property
    def name(self) -> str:
        """The package's name."""
        return self.field("Package")

    @property
    def version(self) -> str:
        """The package's version."""
        return self.field("Version")


def read_package(path: str) -> Package:
    """Read a package's archive. Raises ImageError for what is none, or is compressed otherwise than Debian does."""
    with open(path, "rb") as source:
        content = source.read()
    members = dict(_members(content, path))
    control = dict(read_tar(io.BytesIO(_member(members, "control.tar", path))))
    return Package(
        control=control["control"].content.decode("utf-8"),
        md5sums=control["md5sums"].content if "md5sums" in control else b"",
        files=dict(read_tar(io.BytesIO(_member(members, "data.tar", path)))),
        sha256=hashlib.sha256(content).hexdigest(),
    )


def _members(content: bytes, path: str) -> Iterator[tuple[str, bytes]]:
    """The members of an ar archive."""
    if not content.startswith(_MAGIC):
        raise ImageError(f"{path}: expected a package of Debian's; found another file")
    at = len(_MAGIC)
    while at + _HEADER_BYTES <= len(content):
        name = content[at : at + 16].decode("ascii").rstrip(" /")
        size = int(content[at + 48 : at + 58])
        at += _HEADER_BYTES
        yield name, content[at : at + size]
        at += size + size % 2


def _member(members: dict[str, bytes], name: str, path: str) -> bytes:
    for suffix in (".xz", ".gz", ""):
        if name + suffix in members:
            return members[name + suffix]
    raise ImageError(f"{path}: expected {name}.xz; found {', '.join(sorted(members))}")
