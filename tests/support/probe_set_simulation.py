# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How often the gate is wrong by a probe set of each metric, and the smallest probe set that meets the aims.

For every metric two versions answer the same questions: two that are equally good and differ by chance, and a version
that is worse by twice the default limit, times ``harm``. The gate's own code judges a wave of ten devices that answer
alike.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from statistics import NormalDist
from typing import Any

import numpy as np

from ansible_collections.edgeml.fleet.plugins.module_utils._common.packed import pack_flags, pack_numbers
from ansible_collections.edgeml.fleet.plugins.module_utils._release.probe_set import Metric
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.gate.checks import Check, Verdict
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.gate.limits import Limits
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.gate.measurements import Observation, ProbeResult
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.gate.observations import DeviceObservation
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.gate.power import detectable
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.gate.prospect import Counted, Prospect
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.gate.verdict import judge
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.outcome import Outcome

Array = np.ndarray[Any, Any]

SIZES = (50, 75, 100, 150, 200, 300, 400, 600, 800, 1200, 1600, 2400, 3200, 4800)
DEVICES = 10
POWER_SAMPLES = 800
ACCURACY = 0.95
# Questions that two equally good versions answer differently, each way.
DISCORDANT = 0.01
# How alike the two versions' scores and errors are: correlation of scores, and the deviation of a logarithm.
CORRELATION, JITTER = 0.95, 0.2
AUC, R2 = 0.95, 0.9
LIMITS = Limits()
DROP = 2 * (LIMITS.accuracy_drop_max or 0.0)
RATIO = (LIMITS.probe_error_ratio_max or 1.0) ** 2
# What a size must meet to be the smallest.
FALSE_ABORTS, MISSED, PASSED = 0.01, 0.05, 0.9

Results = tuple[ProbeResult, ProbeResult]


def _flags(metric: Metric, flags: Array) -> ProbeResult:
    packed = pack_flags(flags.tolist())
    return ProbeResult(metric, len(flags), float(flags.mean()), packed, latency_seconds=0.01)


def right_or_wrong(chance: np.random.Generator, size: int, harm: float, metric: Metric) -> Results:
    """Both versions' right answers."""
    old = chance.random(size) < ACCURACY
    lost = (DISCORDANT + DROP * harm) / ACCURACY
    new = np.where(old, chance.random(size) >= lost, chance.random(size) < DISCORDANT / (1 - ACCURACY))
    return _flags(metric, old), _flags(metric, new)


def _numbers(metric: Metric, errors: Array, variance: float | None = None) -> ProbeResult:
    scale = float(errors.max())
    value = float(np.sqrt((errors**2).mean())) if metric is Metric.RMSE else float(errors.mean())
    return ProbeResult(
        metric, len(errors), value, pack_numbers((errors / scale).tolist()), scale, (), variance, latency_seconds=0.01
    )


def sizes_of_errors(chance: np.random.Generator, size: int, harm: float, metric: Metric) -> Results:
    """Both versions' errors: with a heavy tail, and alike from version to version."""
    hard = np.exp(chance.normal(0, 0.5, size))
    error = np.abs(chance.normal(0, 1, size)) * hard
    common = np.exp(chance.normal(0, JITTER, (2, size)))
    old, new = error * common[0], error * common[1] * RATIO**harm
    if metric is not Metric.R2:
        return _numbers(metric, old), _numbers(metric, new)
    # The labels vary so much that R2 is what is wanted, and twice the limit less where there is harm.
    square = math.exp(0.5) * math.exp(2 * JITTER**2)
    variance = square / (1 - R2)
    if harm:
        new = error * common[1] * math.sqrt(1 + DROP * harm / (1 - R2))
    return _numbers(metric, old, variance), _numbers(metric, new, variance)


def placements(chance: np.random.Generator, size: int, harm: float, _metric: Metric) -> Results:
    """Both versions' scores, half of them of positives, as placements."""
    positives = np.arange(size) < size // 2
    common = chance.normal(0, 1, size)
    results = []
    for auc in (AUC, AUC - DROP * harm):
        own = math.sqrt(CORRELATION) * common + math.sqrt(1 - CORRELATION) * chance.normal(0, 1, size)
        scores = own + positives * math.sqrt(2) * NormalDist().inv_cdf(auc)
        above = scores[positives][:, None] > scores[~positives][None, :]
        sides = np.concatenate([above.mean(axis=1), above.mean(axis=0)])
        results.append(
            ProbeResult(
                Metric.AUC,
                size,
                float(above.mean()),
                pack_numbers(sides.tolist()),
                1.0,
                tuple(positives.tolist()),
                latency_seconds=0.01,
            )
        )
    return results[0], results[1]


SIMULATIONS: dict[Metric, Callable[[np.random.Generator, int, float, Metric], Results]] = {
    Metric.ACCURACY: right_or_wrong,
    Metric.WITHIN: right_or_wrong,
    Metric.AGREEMENT: right_or_wrong,
    Metric.AUC: placements,
    Metric.R2: sizes_of_errors,
    Metric.MAE: sizes_of_errors,
    Metric.RMSE: sizes_of_errors,
    Metric.DISTANCE: sizes_of_errors,
}


def verdicts(metric: Metric, size: int, harm: float, *, runs: int, seed: int) -> Counter[Verdict]:
    """How often the gate comes to each verdict on a wave, by nothing but a probe set."""
    found: Counter[Verdict] = Counter()
    for run in range(runs):
        chance = np.random.default_rng([seed, list(Metric).index(metric), size, round(harm), run])
        old, new = SIMULATIONS[metric](chance, size, harm, metric)
        past, now = Observation(probe=old), Observation(probe=new)
        wave = [DeviceObservation(f"d{n}", "small", Outcome.UPDATED, now=now, past=past) for n in range(DEVICES)]
        found[judge(wave, limits=LIMITS).verdict] += 1
    return found


def power_rows(runs: int, seed: int) -> list[dict[str, str]]:
    """How often the gate catches the smallest loss that a plan says it catches with 95%, and one of half that."""
    known = Counted("small", 1.0, Observation())
    table = []
    for metric in SIMULATIONS:
        prospect = Prospect((known,) * DEVICES, (), 1.0, 1, LIMITS, (metric, POWER_SAMPLES))
        (found,) = [
            item
            for item in detectable(prospect)
            if item.smallest and item.check in (Check.ACCURACY_DROP, Check.PROBE_ERROR)
        ]
        smallest = found.smallest or math.nan
        harm = math.log(smallest) / math.log(RATIO) if metric.is_error else smallest / DROP
        row = {"metric": metric.value, "samples": str(POWER_SAMPLES), "runs": str(runs), "smallest": f"{smallest:.4g}"}
        for name, part in (("caught", 1.0), ("of half of it", 0.5)):
            counts = verdicts(metric, POWER_SAMPLES, part * harm, runs=runs, seed=seed)
            row[name] = f"{counts[Verdict.FAIL] / runs:.1%}"
        table.append(row)
    return table


def rows(runs: int, seed: int) -> list[dict[str, str]]:
    """One row for each metric and size, up to the smallest size that meets the aims."""
    table = []
    for metric in SIMULATIONS:
        for size in SIZES:
            good = verdicts(metric, size, 0.0, runs=runs, seed=seed)
            bad = verdicts(metric, size, 1.0, runs=runs, seed=seed)
            aborts, missed, passed = (
                counts[verdict] / runs
                for counts, verdict in ((good, Verdict.FAIL), (bad, Verdict.PASS), (good, Verdict.PASS))
            )
            met = aborts <= FALSE_ABORTS and missed <= MISSED and passed >= PASSED
            table.append(
                {
                    "metric": metric.value,
                    "samples": str(size),
                    "runs": str(runs),
                    "false aborts": f"{aborts:.1%}",
                    "missed": f"{missed:.1%}",
                    "good passed": f"{passed:.1%}",
                    "bad aborted": f"{bad[Verdict.FAIL] / runs:.1%}",
                    "aims met": "yes" if met else "no",
                }
            )
            if met:
                break
    return table
