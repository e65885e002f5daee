# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""What the profiles of device classes say of a release before a device is touched, and what they give the gate. Pure.

A profile of an emulated device judges nothing: its figures are none of a board.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Iterable, Mapping, Sequence

from ansible_collections.edgeml.fleet.plugins.module_utils._common.errors import IncompatibleError
from ansible_collections.edgeml.fleet.plugins.module_utils._common.words import counted
from ansible_collections.edgeml.fleet.plugins.module_utils._release.release import Release, Variant
from ansible_collections.edgeml.fleet.plugins.module_utils._release.variant_choice import choose_variant
from ansible_collections.edgeml.fleet.plugins.plugin_utils._profiles import Profile

from .gate.limits import Limits

# What model_swap keeps free of a device's memory, unless it is told otherwise.
HEADROOM_PERCENT = 20


@dataclass(frozen=True)
class Profiled:
    """What profiles say of a release.

    ``reasons`` against it, each of one device class, ``notes`` for whoever reads the plan, and by device class the 95th
    percentile of the requests' time that the model has there, in seconds.
    """

    reasons: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    latency: Mapping[str, float] = field(default_factory=dict)


def judge_profiles(
    release: Release, profiles: Mapping[str, Sequence[Profile]], devices: Mapping[str, int], limits: Limits
) -> Profiled:
    """Judge a release by the profiles of each device class, of which the rollout has so many ``devices``.

    Memory, architecture and runtimes are those of any profile of the class; times and the server's memory are those of
    this model, and are reasons against the release only where the same variant of the same version was measured.
    """
    reasons: list[str] = []
    notes: list[str] = []
    latency: dict[str, float] = {}
    for name in sorted(devices):
        real = [profile for profile in profiles.get(name, ()) if not profile.emulated]
        if not real:
            what = "only emulated devices were measured, which judge no board" if profiles.get(name) else "no profile"
            notes.append(f"profile of {name}: {what}")
            continue
        where = f"device class {name} ({counted(devices[name], 'device')})"
        least = min(real, key=lambda profile: profile.memory_bytes)
        try:
            variant = choose_variant(release, least.facts(), HEADROOM_PERCENT)
        except IncompatibleError as error:
            reasons.append(f"{where}: {error}; {_measured(least)}")
            continue
        own = next((profile for profile in real if profile.model == release.model), None)
        if own is None:
            continue
        latency[name] = own.p95_seconds
        found = [f"{text}; {_measured(own)}" for text in _beyond(own, limits)]
        if _is_of(own, release, variant):
            reasons += [f"{where}: {text}" for text in found]
        else:
            notes += [f"profile of {name}: {text}. Another version may do" for text in found]
    return Profiled(tuple(reasons), tuple(notes), latency)


def of_gate_classes(latency: Mapping[str, float], classes: Iterable[tuple[str, str]]) -> dict[str, float]:
    """The times by the classes that the gate has, of which each may hold several that were measured: the longest.

    ``classes`` are the gate's and the measured class of each device. A class of which a part was not measured has none.
    """
    members: dict[str, set[str]] = {}
    for of_gate, measured in classes:
        members.setdefault(of_gate, set()).add(measured)
    return {
        of_gate: max(latency[name] for name in names)
        for of_gate, names in sorted(members.items())
        if names <= set(latency)
    }


def _beyond(profile: Profile, limits: Limits) -> list[str]:
    """What of the gate's absolute limits a profile is beyond."""
    found = []
    if limits.latency_seconds_max is not None and profile.p95_seconds > limits.latency_seconds_max:
        found.append(
            f"requests took {profile.p95_seconds:.4g} s (95th percentile); rollout_limits allow "
            f"{limits.latency_seconds_max:g} s (latency_seconds_max)"
        )
    if limits.memory_bytes_max is not None and profile.resident_bytes > limits.memory_bytes_max:
        found.append(
            f"the server had {profile.resident_bytes:.0f} bytes in memory; rollout_limits allow "
            f"{limits.memory_bytes_max} (memory_bytes_max)"
        )
    return found


def _is_of(profile: Profile, release: Release, variant: Variant) -> bool:
    return (profile.version, profile.variant) == (release.version, variant.name)


def _measured(profile: Profile) -> str:
    return (
        f"measured with {profile.model} {profile.version} {profile.variant} on {counted(profile.devices, 'device')} at "
        f"{profile.measured_at}"
    )
