# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""Channels: which version of a model each of them stands for."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from ansible_collections.edgeml.fleet.plugins.module_utils._common.files import fsync_directory, write_whole
from ansible_collections.edgeml.fleet.plugins.module_utils._release.channels import (
    CHANNELS,
    channels_text,
    version_on_channel,
)
from ansible_collections.edgeml.fleet.plugins.module_utils._release.names import check_name
from ansible_collections.edgeml.fleet.plugins.module_utils._release.repository import Repository

from .model import PublishError
from .repository_lock import writing


@dataclass(frozen=True)
class Promotion:
    """A version that a channel has from now on. ``before`` is the one that it had, or None; ``digest`` the release's.

    ``text_before`` and ``text_after`` are the contents of ``path``.
    """

    model: str
    channel: str
    version: str
    digest: str
    before: str | None
    path: str
    text_before: str
    text_after: str

    @property
    def changed(self) -> bool:
        """Whether the channel had another version, or none."""
        return self.before != self.version

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        return {**vars(self), "changed": self.changed}


def promote(
    repository: str, model: str, channel: str, *, version: str | None, source: str | None, check: bool = False
) -> Promotion:
    """Have a channel stand for ``version``, or for the version of the channel ``source``; in check mode, only say so.

    With both, the version has to be the one that ``source`` has. Raises PublishError, also for a release that is
    withdrawn, and ManifestError for one that is not there.
    """
    check_name(channel, "channel")
    with writing(repository):
        releases = Repository(repository)
        channels = dict(releases.channels(model))
        path = os.path.join(repository, model, CHANNELS)
        if source is not None:
            tested = version_on_channel(channels, model, check_name(source, "channel"), path, releases.versions)
            if version is not None and version != tested:
                raise PublishError(f"{model}: expected {version} on the channel {source}; found {tested}")
            version = tested
        if version is None:
            raise PublishError("expected a version, or the channel whose version is taken")
        release = releases.release(model, version)
        withdrawn = releases.withdrawn(model, version)
        if withdrawn is not None:
            raise PublishError(f"{model} {version} is withdrawn: {withdrawn}. Promote another version")
        before = channels.get(channel)
        text_before = channels_text(channels) if channels else ""
        channels[channel] = version
        promotion = Promotion(
            model, channel, version, release.digest, before, path, text_before, channels_text(channels)
        )
        if promotion.changed and not check:
            write_whole(path, promotion.text_after)
            fsync_directory(os.path.dirname(path))
        return promotion
