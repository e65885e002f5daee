# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How often the gate is wrong: rollouts over simulated fleets, judged by it and, side by side, by two gates with fixed
thresholds.

What is simulated is what devices count: three hardware classes of different speed, devices that differ and some that
are noisy, latencies with a heavy tail, a load that rises and falls for all devices of a class at once, traffic that
differs tenfold between devices, accuracies and error rates of each device's own, and 30% of all devices away. The gates
see the histograms and the counters that ``model_info`` tells, nothing else.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import math
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import NormalDist

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))

from clone import REPOSITORY

from ansible_collections.edgeml.fleet.plugins.module_utils._common.packed import pack_flags
from ansible_collections.edgeml.fleet.plugins.module_utils._common.table import text_table
from ansible_collections.edgeml.fleet.plugins.module_utils._release.probe_set import Metric
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.gate.checks import Check, Unit, Verdict
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.gate.limits import Limits
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.gate.measurements import (
    Board,
    Labels,
    Observation,
    ProbeResult,
    Requests,
)
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.gate.observations import Control, DeviceObservation
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.gate.power import detectable
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.gate.prospect import Counted, Prospect
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.gate.verdict import judge
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.outcome import Outcome

EDGES = np.array([0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0])
NORMAL = NormalDist()


@dataclass(frozen=True)
class Fault:
    """What a bad release does: accuracy lost in points, a factor for all latencies, one for the 95th percentile alone,
    the share of requests that fail, and a factor for the energy of a request."""

    accuracy: float = 0.0
    latency: float = 1.0
    tail: float = 1.0
    error_rate: float | None = None
    energy: float = 1.0


@dataclass(frozen=True)
class Kind:
    """A hardware class: its share of the fleet and its median latency in seconds."""

    name: str
    share: float
    seconds: float


KINDS = (Kind("small", 0.4, 0.024), Kind("medium", 0.4, 0.008), Kind("large", 0.2, 0.003))
OFFLINE = 0.3
# Standard deviations of logarithms: between devices, of a device between one hour and another, of a noisy one, and of
# the load that a class has in common; and how large a part of the devices is noisy.
BETWEEN, WITHIN, NOISY, LOAD, NOISY_SHARE = 0.25, 0.05, 0.3, 0.15, 0.07
# The latency of one request: log-normal, and a part of the requests that takes several times as long.
SPREAD, SLOW_SHARE, SLOW_FACTOR, SLOW_SPREAD = 0.4, 0.04, 4.0, 0.6
ERROR_RATE, ACCURACY = 0.001, 0.95
# In logits: accuracy between devices, and what the hour does to all of them.
ACCURACY_BETWEEN, ACCURACY_HOUR = 0.3, 0.06
LABELLED = 0.5
PROBE_SAMPLES = 360
# Questions of the probe set that two equally good versions answer differently, each way.
DISCORDANT = 0.02
PAST_LOOKS = 200
SOAK_SECONDS = 60.0
# What a board takes while nobody asks, in watts, and joules for each request of the slowest class on top of that; the
# logarithm's standard deviation between devices is BETWEEN. So a busy hour makes each request cheaper.
IDLE_WATTS, REQUEST_JOULES = 2.0, 0.3
TRAFFIC_SPREAD = 0.7


class Device:
    """One device, and what it counts."""

    def __init__(self, chance: np.random.Generator, name: str, kind: Kind, traffic: float) -> None:
        self.chance = chance
        self.name = name
        self.kind = kind
        self.median = kind.seconds * math.exp(chance.normal(0, BETWEEN))
        self.within = NOISY if chance.random() < NOISY_SHARE else WITHIN
        self.error_rate = ERROR_RATE * chance.gamma(2.0, 0.5)
        self.logit = math.log(ACCURACY / (1 - ACCURACY)) + chance.normal(0, ACCURACY_BETWEEN)
        self.rate = traffic * math.exp(chance.normal(0, TRAFFIC_SPREAD) - TRAFFIC_SPREAD**2 / 2)
        # The noise of this hour, against that of the past, which is an average of many.
        self.hour = chance.normal(0, self.within)

    def count(self, analyses: float, load: float, light: float, fault: Fault) -> Observation:
        """What it counts in so many soaks; ``load`` and ``light`` are the class's common shifts of the logarithm of
        latency and of the logit of accuracy."""
        requests = int(self.chance.poisson(self.rate * analyses))
        error_rate = self.error_rate if fault.error_rate is None else fault.error_rate * self.error_rate / ERROR_RATE
        errors = int(self.chance.binomial(requests, min(error_rate, 1.0)))
        timed = requests - errors
        shares = _shares(self.median * math.exp(load) * fault.latency, fault.tail)
        counts = self.chance.multinomial(timed, np.append(shares, max(0.0, 1 - shares.sum())))[:-1].cumsum()
        buckets = tuple((float(edge), int(count)) for edge, count in zip(EDGES, counts, strict=True))
        labels = int(self.chance.binomial(requests, LABELLED))
        accuracy = 1 / (1 + math.exp(-(self.logit + light))) - fault.accuracy
        right = int(self.chance.binomial(labels, accuracy))
        return Observation(
            requests=Requests(requests, errors, timed, buckets),
            labels=Labels(right, labels - right),
            board=self._energy(requests, analyses * SOAK_SECONDS, load, fault),
        )

    def _energy(self, requests: int, seconds: float, load: float, fault: Fault) -> Board:
        """What the board's counter of energy says; the new version changes the energy of a request as a whole."""
        each = REQUEST_JOULES * self.kind.seconds / KINDS[0].seconds * math.exp(load)
        joules = (IDLE_WATTS * seconds + each * requests) * math.exp(self.chance.normal(0, WITHIN)) * fault.energy
        return Board(joules, None, None, None, requests, seconds)


def _below(ratio: float) -> float:
    """The share of requests that take less than exp(``ratio``) times the median of the usual ones."""
    usual = NORMAL.cdf(ratio / SPREAD)
    return (1 - SLOW_SHARE) * usual + SLOW_SHARE * NORMAL.cdf((ratio - math.log(SLOW_FACTOR)) / SLOW_SPREAD)


# The same, looked up: to be fast.
_RATIOS = np.linspace(-12.0, 12.0, 24001)
_BELOW = np.array([_below(float(ratio)) for ratio in _RATIOS])


def _shares(median: float, tail: float) -> np.ndarray:
    """The share of requests in each bucket. ``tail`` stretches what is above the median, so that the 95th percentile is
    so many times as long."""
    stretch = 1 + math.log(tail) / float(np.interp(0.95, _BELOW, _RATIOS))
    ratios = np.log(EDGES / median)
    ratios = np.where(ratios > 0, ratios / stretch, ratios)
    return np.diff(np.interp(ratios, _RATIOS, _BELOW), prepend=0.0)


@dataclass(frozen=True)
class Analysis:
    """What the gates see at one analysis; ``number`` counts from 1."""

    number: int
    wave: list[DeviceObservation]
    controls: list[Control]


class Rollout:
    """One wave of ``devices`` and as many controls, all with ``traffic`` requests per soak on average."""

    def __init__(self, seed: int, devices: int, traffic: float, fault: Fault, analyses: int) -> None:
        self.chance = np.random.default_rng(seed)
        self.fault = fault
        self.analyses = analyses
        places = [(kind, place) for kind, count in _split(devices) for place in range(count)]
        self.wave = [Device(self.chance, f"w-{kind.name}-{n}", kind, traffic) for kind, n in places]
        self.beside = [Device(self.chance, f"c-{kind.name}-{n}", kind, traffic) for kind, n in places]
        everybody = [*self.wave, *self.beside]
        self.away = {device.name for device in everybody if self.chance.random() < OFFLINE}
        self.past = {device.name: device.count(PAST_LOOKS, 0.0, 0.0, Fault()) for device in everybody}
        old = self.chance.random(PROBE_SAMPLES) < ACCURACY
        lost = (DISCORDANT + fault.accuracy) / ACCURACY
        drawn = self.chance.random(PROBE_SAMPLES)
        new = np.where(old, drawn >= lost, drawn < DISCORDANT / (1 - ACCURACY))
        self.probes = (_answers(old), _answers(new))

    def run(self) -> Iterator[Analysis]:
        """Soak and look, up to ``analyses`` times. Everything is counted from the first soak on."""
        load = {kind.name: self.chance.normal(0, LOAD) for kind in KINDS}
        light = self.chance.normal(0, ACCURACY_HOUR)
        counted: dict[str, Observation] = {}
        for number in range(1, self.analyses + 1):
            # The load of one soak resembles that of the one before.
            load = {name: 0.8 * value + 0.6 * self.chance.normal(0, LOAD) for name, value in load.items()}
            for group, fault in ((self.wave, self.fault), (self.beside, Fault())):
                for device in group:
                    if device.name not in self.away:
                        soak = device.count(1.0, load[device.kind.name] + device.hour, light, fault)
                        counted[device.name] = _add(counted.get(device.name), soak)
            yield Analysis(number, [self._report(device, counted) for device in self.wave], self._controls(counted))

    def _report(self, device: Device, counted: dict[str, Observation]) -> DeviceObservation:
        if device.name in self.away:
            return DeviceObservation(device.name, device.kind.name, Outcome.AWAY)
        old, new = self.probes
        now = _with(counted[device.name], new, self._probe_seconds(device, self.fault))
        past = _with(self.past[device.name], old, self._probe_seconds(device, Fault()))
        return DeviceObservation(device.name, device.kind.name, Outcome.UPDATED, now=now, past=past)

    def _controls(self, counted: dict[str, Observation]) -> list[Control]:
        here = [device for device in self.beside if device.name not in self.away]
        return [Control(item.name, item.kind.name, counted[item.name], self.past[item.name]) for item in here]

    def _probe_seconds(self, device: Device, fault: Fault) -> float:
        # The median of a dozen batches, with nobody else asking.
        return 10 * device.median * fault.latency * math.exp(self.chance.normal(0, device.within + 0.05))


def _split(devices: int) -> list[tuple[Kind, int]]:
    """Each class's part, at least one; the largest remainders are rounded up."""
    counts = [max(1, int(devices * kind.share)) for kind in KINDS]
    order = sorted(range(len(KINDS)), key=lambda place: devices * KINDS[place].share - counts[place], reverse=True)
    for place in order[: max(0, devices - sum(counts))]:
        counts[place] += 1
    return list(zip(KINDS, counts, strict=True))


def _answers(flags: np.ndarray) -> ProbeResult:
    return ProbeResult(Metric.ACCURACY, len(flags), float(flags.mean()), pack_flags(flags.tolist()))


def _with(measured: Observation, probe: ProbeResult, seconds: float) -> Observation:
    answered = dataclasses.replace(probe, latency_seconds=seconds)
    return dataclasses.replace(measured, probe=answered)


def _add(before: Observation | None, soak: Observation) -> Observation:
    if before is None or before.requests is None or before.labels is None:
        return soak
    assert soak.requests is not None
    assert soak.labels is not None
    one, two = before.requests, soak.requests
    buckets = tuple((edge, x + y) for (edge, x), (_edge, y) in zip(one.buckets, two.buckets, strict=True))
    requests = Requests(one.requests + two.requests, one.errors + two.errors, one.timed + two.timed, buckets)
    labels = Labels(before.labels.right + soak.labels.right, before.labels.wrong + soak.labels.wrong)
    return Observation(requests=requests, labels=labels, board=_sum(before.board, soak.board))


def _sum(one: Board | None, two: Board | None) -> Board | None:
    if one is None or two is None:
        return two
    joules, seconds = (one.joules or 0.0) + (two.joules or 0.0), (one.seconds or 0.0) + (two.seconds or 0.0)
    return two._replace(joules=joules, seconds=seconds, requests=(one.requests or 0) + (two.requests or 0))


# ---- the gates: the analyses, and how many there can be at most, give a verdict ----

Gate = Callable[[Iterator[Analysis], int], Verdict]


def ours(analyses: Iterator[Analysis], analyses_max: int, strict: bool = False) -> Verdict:
    """This collection's gate with its own limits: goes on looking while it is inconclusive."""
    verdict = Verdict.INCONCLUSIVE
    for analysis in analyses:
        verdict, _findings = judge(
            analysis.wave,
            analysis.controls,
            Limits(strict=strict),
            analysis=analysis.number,
            analyses_max=analyses_max,
        )
        if verdict != Verdict.INCONCLUSIVE:
            break
    return verdict


def fixed(analyses: Iterator[Analysis], _analyses_max: int) -> Verdict:
    """Fixed thresholds, as canary analyses with Prometheus queries have them: each time the wave's pooled numbers
    beside those of the controls; the first beyond its threshold aborts, and a wave that comes to its end passes.

    Thresholds are midway between no harm and the harm that is to be found.
    """
    for analysis in analyses:
        serving = [item.now for item in analysis.wave if item.outcome == Outcome.UPDATED]
        others = [item.now for item in analysis.controls]
        if not serving or not others:
            return Verdict.INCONCLUSIVE
        wave, beside = _pooled(serving), _pooled(others)
        if (
            wave.error_rate > beside.error_rate + 0.0045
            or wave.wrong > beside.wrong + 0.01
            or wave.seconds > 1.1 * beside.seconds
        ):
            return Verdict.FAIL
    return Verdict.PASS


def former(analyses: Iterator[Analysis], _analyses_max: int) -> Verdict:
    """The gate that this collection had before: one analysis, accuracy on the probe set (2 points), batch time (twice)
    per class, and at most 1% errors over all."""
    analysis = next(analyses)
    serving = [item for item in analysis.wave if item.outcome == Outcome.UPDATED]
    if len(serving) < 0.5 * len(analysis.wave):
        return Verdict.INCONCLUSIVE
    for kind in KINDS:
        own = [item for item in serving if item.device_class == kind.name]
        if own and (_mean_drop(own) > 0.02 or _mean_ratio(own) > 2.0):
            return Verdict.FAIL
    return Verdict.FAIL if _pooled([item.now for item in serving]).error_rate > 0.01 else Verdict.PASS


@dataclass(frozen=True)
class Pooled:
    """The numbers of some devices together, as a Prometheus query tells them."""

    error_rate: float
    wrong: float
    seconds: float


def _pooled(measured: Sequence[Observation]) -> Pooled:
    requests = [item.requests for item in measured if item.requests]
    labels = [item.labels for item in measured if item.labels]
    total = max(1, sum(item.requests for item in requests))
    labelled = max(1, sum(item.right + item.wrong for item in labels))
    counts = np.array([[count for _edge, count in item.buckets] for item in requests]).sum(axis=0)
    return Pooled(
        error_rate=sum(item.errors for item in requests) / total,
        wrong=sum(item.wrong for item in labels) / labelled,
        seconds=float(np.interp(0.95 * counts[-1], counts, EDGES)),
    )


def _mean_drop(reports: Sequence[DeviceObservation]) -> float:
    pairs = [(item.past.probe, item.now.probe) for item in reports]
    return float(np.mean([(old.value or 0.0) - (new.value or 0.0) for old, new in pairs if old and new]))


def _mean_ratio(reports: Sequence[DeviceObservation]) -> float:
    pairs = [(item.past.probe, item.now.probe) for item in reports]
    times = [(old.latency_seconds, new.latency_seconds) for old, new in pairs if old and new]
    return float(np.mean([now / then for then, now in times if then and now]))


# ---- what is measured ----

FAULTS = {
    "nothing wrong": Fault(),
    "accuracy -2 points": Fault(accuracy=0.02),
    "p95 latency +20%, all requests": Fault(latency=1.2),
    "p95 latency +20%, the tail alone": Fault(tail=1.2),
    "error rate 0.1% -> 1%": Fault(error_rate=0.01),
    "energy per request +44%": Fault(energy=1.44),
}
GATES: dict[str, Gate] = {
    "rollout_gate": ours,
    "rollout_gate, strict": functools.partial(ours, strict=True),
    "fixed thresholds": fixed,
    "the gate before": former,
}
SMALLEST: dict[Check, Callable[[float], Fault]] = {
    Check.ERROR_RATE_RISE: lambda rise: Fault(error_rate=ERROR_RATE + rise),
    Check.LIVE_ACCURACY_DROP: lambda drop: Fault(accuracy=drop),
    Check.LATENCY_P50: lambda ratio: Fault(latency=ratio),
    Check.LATENCY_P95: lambda ratio: Fault(tail=ratio),
    Check.ENERGY: lambda ratio: Fault(energy=ratio),
}
SEARCHED = ((12, 1000), (20, 300), (20, 1000), (30, 300), (30, 1000), (40, 1000))
# So many times as many rollouts of a release that does no harm: its errors are to be rarer.
MORE_QUIET = 5


def measure(
    fault: Fault, gates: Sequence[str], devices: int, traffic: float, analyses: int, runs: int, seed: int
) -> dict[str, Counter[Verdict]]:
    """How often each gate comes to each verdict. Every gate sees the same rollouts."""
    found: dict[str, Counter[Verdict]] = {name: Counter() for name in gates}
    for run in range(runs):
        seen = list(Rollout(seed * 1_000_003 + run, devices, traffic, fault, analyses).run())
        for name in gates:
            found[name][GATES[name](iter(seen), analyses)] += 1
    return found


def power_rows(devices: int, traffic: float, analyses: int, runs: int) -> list[dict[str, str]]:
    """How often the gate catches the smallest regression that a plan says it catches with 95%, and one of half that."""
    first = Rollout(1, devices, traffic, Fault(), analyses)
    known = {item.check: item.smallest for item in detectable(_prospect(first)) if item.device_class is None}
    table = []
    for check, make in SMALLEST.items():
        smallest = known[check]
        if smallest is None:
            continue
        row = {"devices": str(devices), "requests": str(int(traffic)), "check": check.value, "runs": str(runs)}
        row["smallest"] = f"{smallest:.4g}"
        for name, part in (("caught", 1.0), ("of half of it", 0.5)):
            effect = smallest**part if check.unit is Unit.RATIO else smallest * part
            found = measure(make(effect), ["rollout_gate"], devices, traffic, analyses, runs, seed=7)["rollout_gate"]
            row[name] = _percent(found, Verdict.FAIL)
        table.append(row)
        print(f"{check.value}: {row}", file=sys.stderr, flush=True)
    return table


def _prospect(rollout: Rollout) -> Prospect:
    """What a plan would know of the wave."""
    devices, controls = (
        tuple(
            Counted(device.kind.name, PAST_LOOKS * SOAK_SECONDS, rollout.past[device.name])
            for device in group
            if device.name not in rollout.away
        )
        for group in (rollout.wave, rollout.beside)
    )
    return Prospect(devices, controls, SOAK_SECONDS, rollout.analyses, probe=(Metric.ACCURACY, PROBE_SAMPLES))


def _percent(counts: Counter[Verdict], verdict: Verdict) -> str:
    return f"{100 * counts[verdict] / counts.total():.1f}%"


def main() -> None:
    """Run the comparison, or look for the smallest canary."""
    name = str(Path(__file__).resolve().relative_to(REPOSITORY))
    parser = argparse.ArgumentParser(prog=f"python {name}", description=__doc__)
    parser.add_argument("--runs", type=int, default=100, help="rollouts per row; of nothing wrong five times as many")
    parser.add_argument("--devices", type=int, default=40, help="devices of the wave, 30%% of them away")
    parser.add_argument("--requests", type=int, default=1000, help="requests per device and soak, on average")
    parser.add_argument("--analyses", type=int, default=4, help="looks at most")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--search", action="store_true", help="look for the smallest canary instead")
    parser.add_argument("--probe", action="store_true", help="look for the smallest probe set of each metric instead")
    parser.add_argument("--power", action="store_true", help="catch the smallest regressions that a plan names instead")
    parser.add_argument("--late-labels", action="store_true", help="judge labels that come after the last wave instead")
    parser.add_argument("--shadow", action="store_true", help="judge wave 0, in which a release is a shadow, instead")
    options = parser.parse_args()
    table: list[dict[str, str]] = []
    if options.probe or options.late_labels or options.shadow:
        # They need the paths that clone sets.
        import late_label_simulation
        import probe_set_simulation
        import shadow_simulation

        if options.probe:
            table = probe_set_simulation.rows(options.runs, options.seed)
        elif options.late_labels:
            table = late_label_simulation.rows(options.runs, options.seed)
        else:
            table = shadow_simulation.rows(options.runs, options.seed)
        print("\n".join(text_table(table)))
        return
    if options.power:
        import probe_set_simulation

        print("\n".join(text_table(power_rows(options.devices, options.requests, options.analyses, options.runs))))
        print("\n".join(["", *text_table(probe_set_simulation.power_rows(options.runs, options.seed))]))
        return
    cases = SEARCHED if options.search else ((options.devices, options.requests),)
    gates = ["rollout_gate"] if options.search else list(GATES)
    for devices, requests in cases:
        for release, fault in FAULTS.items():
            runs = options.runs * (MORE_QUIET if fault == Fault() else 1)
            found = measure(fault, gates, devices, requests, options.analyses, runs, options.seed)
            for gate, counts in found.items():
                verdicts = {
                    verdict.value: _percent(counts, verdict)
                    for verdict in (Verdict.PASS, Verdict.FAIL, Verdict.INCONCLUSIVE)
                }
                about = {"devices": str(devices), "requests": str(requests), "release": release, "gate": gate}
                table.append({**about, "runs": str(runs), **verdicts})
            print(f"{devices} devices, {requests} requests: {release}", file=sys.stderr, flush=True)
    print("\n".join(text_table(table)))


if __name__ == "__main__":
    main()
