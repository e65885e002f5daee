# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How often wave 0 fails a good release, and how often a bad one passes it.

A few devices of each of three classes answer copies of their clients' requests with the new version. Devices differ in
how much clients ask, in how often two good versions answer otherwise, and in how long both take, from soak to soak.
What is judged is what a rollout judges, by the gate's own code.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np

from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.gate.checks import Verdict
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.gate.limits import Limits
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.gate.measurements import Observation, Shadow
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.gate.shadow import ShadowObservation, judge_shadow
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.outcome import Outcome

LIMITS = Limits()
# Medians of the model's time by class, in seconds.
CLASSES = {"small": 0.024, "middle": 0.008, "large": 0.003}
ANALYSES = 4
# Of good versions: answers that differ, and how that varies between devices (in logits).
DISAGREEMENT, BETWEEN = 0.05, 0.5
# The time of one request, as a multiple of the median; the two versions' means on one device, from soak to soak.
REQUEST_SIGMA, SOAK_SIGMA = 0.4, 0.03
AWAY = 0.3
DECLARED_BYTES = 100 << 20
# So many times as many waves of a release that does no harm: its errors are to be rarer.
MORE_QUIET = 5
CASES = ((1, 1000), (2, 100), (2, 1000), (5, 1000))


@dataclass(frozen=True)
class Fault:
    """What is wrong with a release: answers that differ or fail, beyond those of a good one; its time as a multiple of
    the old one's; memory beyond what it declares, in bytes."""

    disagreement: float = 0.0
    failed: float = 0.0
    time: float = 1.0
    memory: int = 0


FAULTS = {
    "nothing wrong": Fault(),
    "40% of the answers differ": Fault(disagreement=0.4),
    "40% of the answers fail": Fault(failed=0.4),
    "time +21%": Fault(time=(LIMITS.latency_ratio_max or 1.0) ** 2),
    "128 MiB more than declared": Fault(memory=128 << 20),
}


class _Device:
    """A device of wave 0, and what was counted of it."""

    def __init__(self, chance: np.random.Generator, name: str, kind: str, requests: int, fault: Fault) -> None:
        self._chance, self._name, self._kind, self._fault = chance, name, kind, fault
        self._requests = requests * float(chance.lognormal(-0.3, 0.8))
        differ = np.log(DISAGREEMENT / (1 - DISAGREEMENT)) + chance.normal(0, BETWEEN)
        self._differ = min(1 / (1 + np.exp(-differ)) + fault.disagreement, 1.0)
        self._away = chance.random() < AWAY
        self._counts = np.zeros(3, dtype=int)
        self._times = np.zeros(2)
        self._resident = int(chance.normal(150, 20)) << 20
        self._grown = int(DECLARED_BYTES * chance.uniform(0.7, 1.2)) + fault.memory

    def soak(self) -> None:
        """One more soak of requests."""
        number = int(self._chance.poisson(self._requests))
        failed = self._chance.binomial(number, self._fault.failed)
        differed = self._chance.binomial(number - failed, self._differ)
        self._counts += (number - failed - differed, differed, failed)
        for version, ratio in enumerate((1.0, self._fault.time)):
            mean = CLASSES[self._kind] * ratio * float(self._chance.lognormal(0, SOAK_SIGMA))
            spread = REQUEST_SIGMA / max(number, 1) ** 0.5
            self._times[version] += number * mean * max(1 + self._chance.normal(0, spread), 0.01)

    def observed(self) -> ShadowObservation:
        """What the gate sees of it by now."""
        if self._away:
            return ShadowObservation(self._name, self._kind, Outcome.AWAY)
        number = int(self._counts.sum())
        old, new = (float(total) / number if number else None for total in self._times)
        agreed, differed, failed = map(int, self._counts)
        return ShadowObservation(
            self._name,
            self._kind,
            Outcome.SHADOWED,
            now=Observation(
                shadow=Shadow(agreed, differed, failed, number),
                resident_bytes=self._resident + self._grown,
                model_seconds=new,
            ),
            past=Observation(resident_bytes=self._resident, model_seconds=old),
            memory_bytes=DECLARED_BYTES,
        )


def wave(devices: int, requests: int, fault: Fault, seed: int) -> Verdict:
    """Return the verdict that ends a wave 0 of ``devices`` of each class and, on average, ``requests`` a soak."""
    chance = np.random.default_rng(seed)
    shadows = [
        _Device(chance, f"{kind}{number}", kind, requests, fault) for kind in CLASSES for number in range(devices)
    ]
    verdict = Verdict.INCONCLUSIVE
    for analysis in range(1, ANALYSES + 1):
        for device in shadows:
            device.soak()
        seen = [device.observed() for device in shadows]
        verdict = judge_shadow(seen, LIMITS, analysis=analysis, analyses_max=ANALYSES).verdict
        if verdict is not Verdict.INCONCLUSIVE:
            break
    return verdict


def rows(runs: int, seed: int) -> list[dict[str, str]]:
    """One row for each size of wave 0 and each release."""
    table = []
    for devices, requests in CASES:
        for release, fault in FAULTS.items():
            number = runs * (MORE_QUIET if fault == Fault() else 1)
            found = Counter(wave(devices, requests, fault, seed * 1_000_003 + run) for run in range(number))
            shares = {
                verdict.value: f"{found[verdict] / number:.1%}" for verdict in Verdict if verdict is not Verdict.SKIPPED
            }
            table.append(
                {
                    "of a class": str(devices),
                    "requests": str(requests),
                    "release": release,
                    "waves": str(number),
                    **shares,
                }
            )
    return table
