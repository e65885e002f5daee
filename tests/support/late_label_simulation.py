# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How often labels that come after the last wave fail a good release, and how often they miss a bad one.

A fleet serves the new version for a week; a schedule looks each quarter of an hour. Labels come in bursts and hours
late. The accuracy differs between devices, and each day is better or worse for all of them. What is judged is what a
reconciliation judges, by the gate's own code.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np

from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.gate.checks import Verdict
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.gate.late_labels import is_due, judge_labels
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.gate.limits import Limits
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.gate.measurements import Labels, Observation
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.gate.observations import DeviceObservation
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.outcome import Outcome

Array = np.ndarray[Any, Any]

LIMITS = Limits()
DAYS, LOOKS_A_DAY = 7, 96
ACCURACY = 0.95
# In logits: between devices, and between the days.
BETWEEN, DAY = 0.3, 0.06
PAST_LABELS = 20_000
# So many times as many weeks of a release that does no harm: its errors are to be rarer.
MORE_QUIET = 5
CASES = ((20, 100), (20, 1000), (100, 100))


def week(devices: int, labels_a_day: int, drop: float, seed: int) -> tuple[Verdict | None, int]:
    """Return the verdict that ended a week, None if none did, and how many analyses there were."""
    chance = np.random.default_rng(seed)
    logits = np.log(ACCURACY / (1 - ACCURACY)) + chance.normal(0, BETWEEN, devices)
    past = chance.binomial(PAST_LABELS, _share(logits))
    right, total = np.zeros(devices, dtype=int), np.zeros(devices, dtype=int)
    before = analysis = 0
    for look in range(DAYS * LOOKS_A_DAY):
        if look % LOOKS_A_DAY == 0:
            shares = np.clip(_share(logits + chance.normal(0, DAY)) - drop, 0.0, 1.0)
        # Half of the looks find nothing new, the others a burst.
        came = chance.poisson(2 * labels_a_day / LOOKS_A_DAY, devices) * (chance.random(devices) < 0.5)
        right, total = right + chance.binomial(came, shares), total + came
        if is_due(int(total.sum()), before):
            before, analysis = int(total.sum()), analysis + 1
            if judge_labels(_observed(right, total, past), LIMITS, analysis).verdict is Verdict.FAIL:
                return Verdict.FAIL, analysis
    return None, analysis


def _share(logits: Array) -> Array:
    shares: Array = 1 / (1 + np.exp(-logits))
    return shares


def _observed(right: Array, total: Array, past: Array) -> list[DeviceObservation]:
    return [
        DeviceObservation(
            f"d{number}",
            "small",
            Outcome.ALREADY_THERE,
            now=Observation(labels=Labels(int(good), int(all_of_them - good))),
            past=Observation(labels=Labels(int(old), int(PAST_LABELS - old))),
        )
        for number, (good, all_of_them, old) in enumerate(zip(right, total, past, strict=True))
    ]


def rows(runs: int, seed: int) -> list[dict[str, str]]:
    """One row for each fleet and release."""
    table = []
    for devices, labels in CASES:
        for release, drop in (
            ("nothing wrong", 0.0),
            ("accuracy -2 points", 2 * (LIMITS.live_accuracy_drop_max or 0.0)),
            ("accuracy -3 points", 3 * (LIMITS.live_accuracy_drop_max or 0.0)),
        ):
            number = runs * (MORE_QUIET if not drop else 1)
            found = [week(devices, labels, drop, seed * 1_000_003 + run) for run in range(number)]
            verdicts = Counter(verdict for verdict, _analyses in found)
            table.append(
                {
                    "devices": str(devices),
                    "labels a day": str(labels),
                    "release": release,
                    "weeks": str(number),
                    "reverted": f"{verdicts[Verdict.FAIL] / number:.1%}",
                    "analyses": f"{np.mean([analyses for _verdict, analyses in found]):.0f}",
                }
            )
    return table
