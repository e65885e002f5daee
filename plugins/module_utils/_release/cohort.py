# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""Where a device belongs in a rollout: its position, and the wave that a plan's boundaries give it. Pure.

The controller decides by it for the devices that it connects to, and a device that pulls for itself.
"""

from __future__ import annotations

import hashlib
from typing import Any, Collection, Mapping, NamedTuple, Sequence

from .._common.errors import ArgumentError

# Positions are multiples of it, so that sums and comparisons are exact, also after JSON in any language.
POSITION_STEP = 2.0**-53


class WaveBoundary(NamedTuple):
    """A wave of a plan: the position ``below`` which a device of a class belongs to it, at the latest. A wave of a
    ``group`` takes its members only."""

    name: str
    group: str | None
    below: Mapping[str, float]


class PlanBoundaries(NamedTuple):
    """All that is needed to place a device as the plan of the whole fleet did."""

    salt: str
    waves: Sequence[WaveBoundary]


def position(salt: str, host: str) -> float:
    """A host's place in [0, 1): fixed by ``salt`` and its name alone, spread evenly over many hosts.

    The first 53 bits of SHA-256, as many as a float holds: two of 100,000 hosts share one once in two million fleets.
    """
    digest = hashlib.sha256(f"{salt}\0{host}".encode("utf-8", "surrogatepass")).digest()
    return (int.from_bytes(digest[:8], "big") >> 11) * POSITION_STEP


def read_boundaries(document: Mapping[str, Any]) -> PlanBoundaries:
    """Read what a plan returned as ``boundaries``: its salt, and at least one wave. Raises ArgumentError."""
    try:
        salt = str(document["salt"])
        waves = [
            WaveBoundary(
                str(wave["name"]),
                None if wave["group"] is None else str(wave["group"]),
                {str(device_class): float(place) for device_class, place in wave["below"].items()},
            )
            for wave in document["waves"]
        ]
    except (AttributeError, KeyError, TypeError, ValueError):
        waves = []
    if not waves:
        raise ArgumentError(f"boundaries: expected what an earlier plan returned as boundaries; found {document!r}")
    return PlanBoundaries(salt, waves)


def wave_number(
    waves: Sequence[WaveBoundary],
    name: str,
    device_class: str,
    place: float,
    members: Mapping[str, Collection[str]],
) -> int:
    """The number, from 1, of the wave of a device; the last one for a device that no boundary takes.

    ``place`` is its ``position``, ``members`` the devices of each group that a wave names.
    """
    for number, wave in enumerate(waves, 1):
        if place < wave.below.get(device_class, 0) and (wave.group is None or name in members.get(wave.group, ())):
            return number
    return len(waves)
