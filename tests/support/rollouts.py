# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Rollouts of a small fleet, as the state machine has them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from controller import DIGITS

from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.plan import Plan, PlannedWave
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.rollout import Rollout, State, Wave

# Limits for a fleet whose models nobody can ask: none on what is measured of them.
UNMEASURED: dict[str, None] = dict.fromkeys(
    [
        "accuracy_drop_max",
        "probe_error_ratio_max",
        "live_accuracy_drop_max",
        "error_rate_max",
        "error_rate_rise_max",
        "latency_ratio_max",
    ]
)
HOSTS = ["a", "b", "c", "d"]
WAVES = (PlannedWave(1, "canary", ("a",)), PlannedWave(2, "100%", ("b", "c")))


def a_rollout(model: str = "digits", version: str = "1.1.0", attempt: int = 1, **changes: Any) -> Rollout:
    """A rollout of two waves at its beginning; ``d`` is in none of them."""
    fields: dict[str, Any] = {
        "digest": "d" * 64,
        "plan": Plan(waves=WAVES, device_classes=dict.fromkeys(HOSTS, "small")),
        **changes,
    }
    return Rollout(model=model, version=version, attempt=attempt, **fields)


def at_once(ledger: Path) -> dict[str, Any]:
    """Variables for a rollout of the digits that is over at once: nothing soaks, and a busy machine is not slow."""
    return {
        "model_repository": str(DIGITS),
        "model_repository_unsigned": True,
        "rollout_ledger": str(ledger),
        "rollout_soak_seconds": 0,
        "rollout_soak_seconds_max": 0,
        "rollout_min_ready_seconds": 0.2,
        "rollout_limits": {"latency_ratio_max": 1000},
    }


def judged(version: str, ledger: Path, waves: Sequence[Any], **limits: Any) -> dict[str, Any]:
    """Variables for a rollout of the digits whose waves are judged by what the devices measure, but for their speed."""
    return {
        "model_name": "digits",
        "model_version": version,
        "rollout_waves": waves,
        "rollout_soak_seconds": 0,
        "rollout_device_silence_seconds": 3,
        "rollout_min_ready_seconds": 0.2,
        "rollout_limits": {"latency_ratio_max": 1000, **limits},
        "rollout_ledger": str(ledger),
    }


def wanted_by(
    version: str,
    state: str,
    begun: int,
    began: str = "2026-11-22T01:00:00Z",
    attempt: int = 1,
    limited: bool = False,
) -> Rollout:
    """A rollout in some state, whose first ``begun`` waves have begun."""
    rollout = a_rollout(version=version, attempt=attempt)
    return dataclasses.replace(
        rollout,
        state=State(state),
        why="it was bad",
        began=began,
        waves=tuple(Wave(number) for number in range(1, begun + 1)),
        plan=dataclasses.replace(rollout.plan, limited=limited),
    )
