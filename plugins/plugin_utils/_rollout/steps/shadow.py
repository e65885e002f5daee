# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""Who is in wave 0: the devices that answer copies of requests with the release, before any client sees it."""

from __future__ import annotations

from collections import defaultdict
from typing import Mapping, Sequence

from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.gate.checks import Verdict
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.plan import SHADOW_WAVE, PlannedWave
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.rollout import Rollout

from .scene import StepError


def has_passed(rollout: Rollout) -> bool:
    """Return whether wave 0 has passed, also in an earlier run."""
    wave = rollout.wave(SHADOW_WAVE)
    return wave is not None and wave.verdict is Verdict.PASS


def shadow_hosts(
    count: int, device_classes: Mapping[str, str], waves: Sequence[PlannedWave], pulled: Sequence[str]
) -> tuple[str, ...]:
    """Return the devices of wave 0: of each class the first ``count`` of the plan.

    Raises StepError for a class that nobody can reach: nobody asks a device that pulls for a shadow.
    """
    chosen: dict[str, list[str]] = defaultdict(list)
    for host in (host for wave in waves for host in wave.hosts) if count else ():
        found = chosen[device_classes[host]]
        if host not in pulled and len(found) < count:
            found.append(host)
    for name, hosts in sorted(chosen.items()):
        if not hosts:
            raise StepError(
                f"rollout_shadow_devices: expected a device of the class {name} that is reached by push; all of them "
                "pull, and no device that pulls can be asked for a shadow. Set rollout_shadow_devices=0"
            )
    return tuple(host for hosts in chosen.values() for host in hosts)
