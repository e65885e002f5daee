# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""The step that waits until a wave has run the new version for long enough."""

from __future__ import annotations

import time

from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.decisions import soak_seconds
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.outcome import is_read_after, swap_outcome
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.plan import SHADOW_WAVE

from . import pulling
from .scene import REPORTED, SOAKED, Result, Scene, current_rollout, swap_result


def soak(scene: Scene) -> Result:
    """Wait until the new version has run for long enough, and then until the devices that pull have reported.

    ``unread`` are the devices that have said all there is. Those that had not begun when their swap was waited for are
    not waited for again. ``trouble`` is why the reports could not be read, where they could not: the wave is not judged
    then.
    """
    run = current_rollout(scene)[0]
    wave = run.wave_of(scene.batch)
    before = scene.registered(scene.batch[0], SOAKED)
    # A device of wave 0 belongs to a later wave as well.
    analysis = int(before["analysis"]) + 1 if before.get("wave") == wave.number else 1
    swaps = {} if wave.number == SHADOW_WAVE else {host: swap_result(scene, host) for host in scene.batch}
    well = [swap for swap in swaps.values() if not swap.get("failed") and not swap.get("unreachable")]
    active = [float(swap.get("active_seconds") or 0.0) for swap in well]
    seconds = soak_seconds(run.options.soak_seconds, analysis, active)
    time.sleep(seconds)
    # By host, so that a large wave is not searched for each of its devices.
    unread = {host: swap_outcome(swap).value for host, swap in swaps.items() if not is_read_after(swap)}
    away = scene.registered(scene.batch[0], REPORTED).get("away") or ()
    asked = pulling.collect_reads(scene, unread, away)
    return {"wave": wave.number, "analysis": analysis, "elapsed": seconds, "unread": unread, **asked}
