# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""The topics of a fleet, and what is in their messages. No message carries a command.

A receiver orders the messages of a topic by their *counter*, a pair of numbers. A device's is how often its listener
has started, and how many messages it has written since. That of a rollout's progress is the version of the fleet's
desired state, and the steps that the rollout has made. A broker's retained message can be an older one after a power
cut.
"""

from __future__ import annotations

import json
from typing import Any, Mapping
from urllib.parse import quote

from .._common.records import is_whole

MESSAGE_BYTES_MAX = 64 << 10


def look_topic(fleet: str) -> str:
    """Whoever publishes here has all devices of the fleet look for its desired state. The content does not matter."""
    return f"edgeml/{fleet}/look"


def device_topic(fleet: str, device: str, name: str) -> str:
    """Where a device writes: ``presence`` (retained), ``telemetry``, and ``echo``, which it reads itself."""
    return f"edgeml/{fleet}/devices/{device}/{name}"


def rollout_topic(fleet: str, model: str) -> str:
    """Where the controller writes how a model's newest rollout goes on (retained). A ``+`` of a name is ``%2B``."""
    return f"edgeml/{fleet}/rollouts/{quote(model, safe='')}"


def write_message(counter: tuple[int, int], content: Mapping[str, Any]) -> bytes:
    """A message with a counter."""
    return json.dumps({"counter": list(counter), **content}, sort_keys=True, separators=(",", ":")).encode("ascii")


def read_message(content: bytes) -> tuple[tuple[int, int], Mapping[str, Any]] | None:
    """The counter of a message and its content; None for anything else than such a message."""
    try:
        document = json.loads(content.decode("utf-8")) if len(content) <= MESSAGE_BYTES_MAX else None
    except (ValueError, RecursionError):
        return None
    if not isinstance(document, dict):
        return None
    counter = document.pop("counter", None)
    numbers = isinstance(counter, list) and len(counter) == 2 and all(map(is_whole, counter))
    return ((counter[0], counter[1]), document) if numbers else None
