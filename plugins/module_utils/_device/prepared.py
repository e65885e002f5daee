# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""Prepared models: a version's model in the form that this device's runtime loads best.

A cache beside the release's files, which stay the truth: made from them, tested with the golden inputs, and as good as
absent when anything about it is not as recorded. A runtime loads its files by mapping them, so they never change: what
is made anew gets another directory.
"""

from __future__ import annotations

from typing import Any, Mapping, NamedTuple

from .._release.names import is_file_name
from .._release.release import WHOLE, File

PREFIX = "prepared-"
# A smaller model is loaded within some tens of milliseconds as it is.
MODEL_BYTES_MIN = 4 << 20
FILES_MAX = 4


class PreparedModel(NamedTuple):
    """How a version's model is loaded best. Valid for ``runtime`` (name and version) on ``processor`` only.

    ``settings`` are for the runtime. ``files`` are in a directory of their own in the version's directory, and
    ``entrypoint`` is the one that the runtime opens, by its path there; without files it is the release's own. Of a
    pipeline, ``parts`` are those that have one, and ``files`` all of theirs.
    """

    runtime: str
    processor: str
    entrypoint: str
    settings: Mapping[str, str]
    files: tuple[File, ...]
    parts: Mapping[str, PreparedModel] = {}

    def part(self, name: str) -> PreparedModel | None:
        """How the part of that name is loaded best (``WHOLE``: the only model); None: as it was published."""
        return self.parts.get(name) if self.parts or name != WHOLE else self

    @property
    def document(self) -> dict[str, Any]:
        """What ``parse_prepared`` reads."""
        return {
            **self._asdict(),
            "settings": dict(self.settings),
            "files": [file.entry for file in self.files],
            "parts": {name: part.document for name, part in self.parts.items()},
        }


def prepared_pipeline(parts: Mapping[str, PreparedModel]) -> PreparedModel:
    """What is prepared of a pipeline, from what is of its parts, one or more."""
    one = next(iter(parts.values()))
    files = tuple(file for part in parts.values() for file in part.files)
    return PreparedModel(one.runtime, one.processor, "", {}, files, dict(parts))


def parse_prepared(document: Any) -> PreparedModel | None:
    """Read a record; None for one that is damaged, or says that the release's files are loaded as they are."""
    try:
        if "settings" not in document:
            return None
        files = tuple(File(str(item["path"]), int(item["size"]), str(item["sha256"])) for item in document["files"])
        parts = {str(name): parse_prepared(part) for name, part in document.get("parts", {}).items()}
        if parts:
            usable = {name: part for name, part in parts.items() if part is not None}
            return prepared_pipeline(usable) if usable else None
        found = PreparedModel(
            runtime=str(document["runtime"]),
            processor=str(document["processor"]),
            entrypoint=str(document["entrypoint"]),
            settings={str(name): str(value) for name, value in document["settings"].items()},
            files=files,
        )
    except (KeyError, TypeError, ValueError, AttributeError):
        return None
    paths = [file.path for file in files]
    # Whoever could write something else there may write what is loaded, too: this is about damage.
    if not all(map(_is_prepared_path, paths)) or (found.entrypoint not in paths if paths else found.entrypoint):
        return None
    return found


def _is_prepared_path(path: str) -> bool:
    directory, slash, name = path.partition("/")
    return bool(slash) and directory.startswith(PREFIX) and is_file_name(directory) and is_file_name(name)
