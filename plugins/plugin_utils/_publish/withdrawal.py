# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""Withdrawn releases: nobody may run them any more. ``withdrawn.json`` beside the manifest says why."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from typing import Any

from ansible_collections.edgeml.fleet.plugins.module_utils._common.files import (
    fsync_directory,
    remove_file,
    write_whole,
)
from ansible_collections.edgeml.fleet.plugins.module_utils._release.repository import WITHDRAWN, Repository

from .model import PublishError
from .repository_lock import writing


@dataclass(frozen=True)
class Withdrawal:
    """What became of a release: why it was withdrawn ``before``, and why it is now; None where it is not.

    ``channels`` are those that stand for it. ``path`` is the file that says it.
    """

    model: str
    version: str
    digest: str
    before: str | None
    reason: str | None
    channels: tuple[str, ...]
    path: str

    @property
    def changed(self) -> bool:
        """Whether something else was said before."""
        return self.before != self.reason

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        return {**vars(self), "channels": list(self.channels), "changed": self.changed}


def withdraw(repository: str, model: str, version: str, reason: str | None, *, check: bool = False) -> Withdrawal:
    """Say beside a release that nobody may run it, and why; without a ``reason``, take that back. In check mode, only
    return what would change.

    Who verifies signatures knows of it once it is signed. Raises PublishError, and ManifestError for a release that is
    not there.
    """
    if reason is not None and not reason.strip():
        raise PublishError("reason: expected what is wrong with the release, for everybody who asks; found no text")
    with writing(repository):
        releases = Repository(repository)
        release = releases.release(model, version)
        path = os.path.join(repository, model, version, WITHDRAWN)
        channels = sorted(name for name, has in releases.channels(model).items() if has == version)
        before = releases.withdrawn(model, version)
        found = Withdrawal(model, version, release.digest, before, reason, tuple(channels), path)
        if found.changed and not check:
            if reason is None:
                remove_file(path)
            else:
                write_whole(path, withdrawn_text(reason))
            fsync_directory(os.path.dirname(path))
        return found


def withdrawn_text(reason: str | None) -> str:
    """The content of the file; empty where there is none."""
    return "" if reason is None else json.dumps({"reason": reason}) + "\n"
