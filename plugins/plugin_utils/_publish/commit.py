# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""The Git commit that a release's source is of, where Git keeps that file."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import Any

from ansible_collections.edgeml.fleet.plugins.module_utils._common.process import CommandError, run_command

_SECONDS_MAX = 60
_USER = re.compile(r"(?<=://)[^/@]*@")


@dataclass(frozen=True)
class Commit:
    """``revision`` is the commit, ``path`` the file's within the repository, ``origin`` where that was cloned from.

    ``changed``: the file is another than in the commit.
    """

    revision: str
    path: str
    changed: bool
    origin: str | None = None

    def dependency(self) -> dict[str, Any]:
        """What the provenance says of it."""
        uri = {"uri": f"git+{self.origin}@{self.revision}"} if self.origin else {}
        annotations = {"file": self.path, "changed": self.changed}
        return {"name": "commit", **uri, "digest": {"gitCommit": self.revision}, "annotations": annotations}


def commit_of(path: str) -> Commit | None:
    """The commit that the file at ``path`` is of; None where Git does not keep it, or is not there."""
    directory, name = os.path.split(os.path.abspath(path))
    kept = _git(directory, "ls-files", "--full-name", "--error-unmatch", "--", name)
    revision = _git(directory, "rev-parse", "--verify", "HEAD")
    changes = _git(directory, "status", "--porcelain", "--", name)
    if not kept or not revision or changes is None:
        return None
    origin = _git(directory, "remote", "get-url", "origin")
    # A name and a password in it are for whoever clones, and for nobody else.
    return Commit(revision, kept, bool(changes), _USER.sub("", origin) if origin else None)


def _git(directory: str, *command: str) -> str | None:
    """What Git prints; None where it fails."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    try:
        # The name of a file is no pattern.
        words = ["git", "--literal-pathspecs", "--no-optional-locks", *command]
        ended = run_command(words, _SECONDS_MAX, env=environment, cwd=directory)
    except CommandError:
        return None
    return ended.stdout.strip() if ended.code == 0 else None
