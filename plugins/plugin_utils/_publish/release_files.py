# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""The files of a release that is no model, as they come: what the manifest says of each, and where its content is."""

from __future__ import annotations

import os
from typing import Any

from .model import file_of


class ReleaseFiles:
    """Files of a release. What is written is below ``directory``; ``locations`` has each file's path by its SHA-256."""

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self.locations: dict[str, str] = {}

    def add(self, path: str, location: str) -> dict[str, Any]:
        """Add the file at ``location`` under its name in the release; return its entry. Raises OSError."""
        file = file_of(location, path)
        self.locations[file.sha256] = location
        return file.entry()

    def write(self, path: str, content: bytes, place: str) -> dict[str, Any]:
        """Write a file below ``place``, which keeps those of several variants apart, and add it. Raises OSError."""
        os.makedirs(os.path.join(self._directory, place), exist_ok=True)
        location = os.path.join(self._directory, place, path)
        with open(location, "wb") as file:
            file.write(content)
        return self.add(path, location)
