# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""Cohorts: which hosts come first. One pure function decides it, wherever it is asked."""

from __future__ import annotations

import hashlib
from typing import Iterable, Mapping, Sequence


def position(salt: str, host: str) -> float:
    """A host's place in [0, 1): fixed by ``salt`` and its name alone, spread evenly over many hosts."""
    digest = hashlib.sha256(f"{salt}\0{host}".encode()).digest()
    return int.from_bytes(digest[:6], "big") / (1 << 48)


def cohort(strata: Mapping[str, str], percent: float, salt: str, always: Iterable[str] = ()) -> list[str]:
    """The hosts of ``strata`` (host name to stratum) that belong to the first ``percent`` (0 to 100) of the fleet.

    A host belongs when its position is below the percentage, whatever other hosts there are; so the answer for a
    host is the same in each slice of the fleet, and a larger percentage contains the smaller. For a percentage
    above 0 each stratum is represented: by its host of lowest position where no other belongs. ``always`` names hosts
    that belong to every cohort. Returned in order of position.
    """
    if not 0 <= percent <= 100:
        raise ValueError(f"percent: expected 0 to 100; found {percent}")
    if percent == 0:
        return []
    places = {host: position(salt, host) for host in strata}
    first: dict[str, str] = {}
    for host, stratum in strata.items():
        leader = first.get(stratum)
        if leader is None or (places[host], host) < (places[leader], leader):
            first[stratum] = host
    chosen = {host for host, place in places.items() if place < percent / 100}
    chosen.update(first.values())
    chosen.update(host for host in always if host in strata)
    return sorted(chosen, key=lambda host: (places[host], host))


def waves(
    strata: Mapping[str, str], percents: Sequence[float], salt: str, always: Iterable[str] = ()
) -> list[list[str]]:
    """Split the hosts into waves: each holds what its percentage adds to the one before; empty waves are left out.

    Raises ValueError unless ``percents`` rises and ends with 100.
    """
    if not percents or list(percents) != sorted(set(percents)) or percents[-1] != 100:
        raise ValueError(f"waves: expected rising percentages that end with 100; found {list(percents)}")
    always = list(always)
    done: set[str] = set()
    result = []
    for percent in percents:
        wave = [host for host in cohort(strata, percent, salt, always) if host not in done]
        done.update(wave)
        if wave:
            result.append(wave)
    return result
