# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""Channels: names such as ``staging`` and ``production``, each of which stands for one version of a model. Pure.

``channel:production`` in the place of a version is the one that the channel has now.
"""

from __future__ import annotations

import json
from typing import Callable, Collection, Mapping

from .._common.errors import ManifestError
from .names import check_name

CHANNELS = "channels.json"
CHANNELS_BYTES_MAX = 65536
PREFIX = "channel:"


def channel_of(version: str) -> str | None:
    """The channel that ``channel:production`` names; None for a version. Raises ManifestError for what is no name."""
    if not version.startswith(PREFIX):
        return None
    return check_name(version[len(PREFIX) :], "channel")


def read_channels(text: bytes, origin: str) -> dict[str, str]:
    """The version of each channel, as ``channels.json`` beside a model's versions has it.

    Raises ManifestError, which names ``origin``.
    """
    try:
        if len(text) > CHANNELS_BYTES_MAX:
            raise ValueError(f"expected at most {CHANNELS_BYTES_MAX} bytes")
        document = json.loads(text)
        if not isinstance(document, dict) or not isinstance(document.get("channels"), dict) or len(document) != 1:
            raise ValueError('expected {"channels": {"<channel>": "<version>"}}')
        return {
            check_name(name, "channel"): check_name(version, f"channel {name}")
            for name, version in document["channels"].items()
        }
    except (ValueError, RecursionError, ManifestError) as error:
        raise ManifestError(f"{origin}: {error}") from error


def channels_text(channels: Mapping[str, str]) -> str:
    """The text of ``channels.json``."""
    return json.dumps({"channels": dict(sorted(channels.items()))}, indent=1) + "\n"


def version_on_channel(
    channels: Mapping[str, str], model: str, channel: str, origin: str, versions: Callable[[str], Collection[str]]
) -> str:
    """The version that a channel has. Raises ManifestError for a channel that was never set.

    ``versions`` returns those of a model: the error says it where one was named in the place of a channel.
    """
    if channel not in channels:
        if channel in versions(model):
            raise ManifestError(
                f"{origin}: {model} has no channel {channel}; {channel} is one of its versions: give it as the "
                "version, not as a channel"
            )
        raise ManifestError(
            f"{origin}: {model} has no channel {channel}; it has {', '.join(sorted(channels)) or 'none'}. Set it with: "
            f"edgeml-publish promote --repository DIRECTORY --model {model} --version VERSION --to {channel}"
        )
    return channels[channel]
