# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""What a repository holds: its releases, newest first, with their channels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ansible_collections.edgeml.fleet.plugins.module_utils._release.release import Release
from ansible_collections.edgeml.fleet.plugins.module_utils._release.repository import Repository

from .words import NONE, bytes_text


@dataclass(frozen=True)
class Listed:
    """A release of the repository. ``withdrawn`` is why nobody may run it, or None."""

    release: Release
    channels: tuple[str, ...]
    withdrawn: str | None

    @property
    def created(self) -> str:
        """When it was published, in UTC; empty where its manifest does not say."""
        return str(self.release.document.get("created", ""))

    @property
    def size(self) -> int:
        """The bytes of all its files."""
        return sum(file.size for file in self.release.all_files())

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        return {
            "model": self.release.model,
            "version": self.release.version,
            "created": self.created,
            "digest": self.release.digest,
            "variants": [variant.name for variant in self.release.variants],
            "bytes": self.size,
            "channels": list(self.channels),
            "withdrawn": self.withdrawn,
        }

    def row(self) -> dict[str, str]:
        """As a row of a table for people."""
        return {
            "model": self.release.model,
            "version": self.release.version,
            "created": self.created or NONE,
            "variants": ", ".join(variant.name for variant in self.release.variants),
            "size": bytes_text(self.size),
            "channels": ", ".join(self.channels) or NONE,
            "state": f"withdrawn: {self.withdrawn}" if self.withdrawn is not None else "published",
        }


def read_catalogue(repository: Repository, model: str | None = None) -> list[Listed]:
    """Every release, or those of one model: by model, the one that was created last first.

    Raises ManifestError for a release that is damaged.
    """
    found: list[Listed] = []
    for name in [model] if model is not None else repository.models():
        channels = repository.channels(name)
        of_model = []
        for version in repository.versions(name):
            on = tuple(sorted(channel for channel, has in channels.items() if has == version))
            withdrawn = repository.withdrawn(name, version)
            of_model.append(Listed(repository.release(name, version), on, withdrawn))
        found += sorted(of_model, key=lambda listed: (listed.created, listed.release.version), reverse=True)
    return found
