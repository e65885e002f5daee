# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the gate will see of a wave before it begins: the smallest regressions, and what it takes to see less."""

from __future__ import annotations

import dataclasses
import json
import math
from typing import Any

import pytest

from ansible_collections.edgeml.fleet.plugins.module_utils._release.probe_set import Metric
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.gate.checks import Cause, Check, Unit, Verdict
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.gate.limits import Allowance, Limits, ranges
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.gate.measurements import (
    Board,
    Labels,
    Observation,
    Requests,
)
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.gate.observations import Control, DeviceObservation
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.gate.power import Detectable, detectable
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.gate.prospect import (
    Counted,
    Needed,
    Prospect,
    times,
)
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.gate.verdict import judge
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.outcome import Outcome
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.report import power as texts

DAY = 86_400.0
EDGES = (0.001, 0.0025, 0.005, 0.01, 0.025)
SHARES = (0.1, 0.5, 0.85, 0.97, 1.0)


def counted(requests: int, device_class: str = "small", *, labels: int = 0, error_rate: float = 0.001) -> Counted:
    """What a device has counted in a day."""
    errors = int(requests * error_rate)
    buckets = tuple((edge, int(share * (requests - errors))) for edge, share in zip(EDGES, SHARES, strict=True))
    observation = Observation(
        requests=Requests(requests, errors, requests - errors, buckets),
        labels=Labels(int(labels * 0.95), labels - int(labels * 0.95)) if labels else None,
        resident_bytes=100 << 20,
        board=Board(requests * 0.5, None, 50.0, 1.0, requests, DAY),
    )
    return Counted(device_class, DAY, observation)


def wave(devices: int, requests: int = 1_000_000, controls: int | None = None, **changes: object) -> Prospect:
    """A wave of devices that are alike, with as many controls."""
    number = devices if controls is None else controls
    prospect = Prospect(
        devices=(counted(requests, labels=requests // 2),) * devices,
        controls=(counted(requests, labels=requests // 2),) * number,
        soak_seconds=60.0,
        analyses_max=5,
        probe=(Metric.ACCURACY, 800),
    )
    return dataclasses.replace(prospect, **changes)  # type: ignore[arg-type]


def alone(prospect: Prospect, check: Check) -> Prospect:
    """The same wave, where no other limit is on."""
    off: dict[str, Any] = {
        name: None for name, allowed in ranges().items() if not allowed.required and name != check.limit
    }
    return dataclasses.replace(prospect, limits=dataclasses.replace(prospect.limits, **off))


def seen(prospect: Prospect, check: Check, device_class: str | None = None) -> Detectable:
    """What is foreseen of a check over all, or in a class; a wave of one class is that class."""
    known = {item.device_class: item for item in detectable(alone(prospect, check)) if item.check is check}
    return known[device_class] if device_class in known else known[prospect.device_classes[0]]


def smallest(prospect: Prospect, check: Check) -> float:
    found = seen(prospect, check).smallest
    assert found is not None
    return found


@pytest.mark.parametrize(
    "check",
    [
        *(Check.ERROR_RATE_RISE, Check.LIVE_ACCURACY_DROP, Check.LATENCY_P50, Check.LATENCY_P95),
        *(Check.MEMORY, Check.ENERGY, Check.CLOCK, Check.TEMPERATURE),
    ],
)
def test_more_devices_see_smaller_regressions(check: Check) -> None:
    few, more, many = (smallest(wave(devices), check) for devices in (2, 8, 30))
    assert few > more > many


@pytest.mark.parametrize("check", [Check.ERROR_RATE_RISE, Check.LIVE_ACCURACY_DROP, Check.LATENCY_P95])
def test_more_traffic_sees_smaller_regressions(check: Check) -> None:
    assert smallest(wave(20, 10_000_000), check) < smallest(wave(20, 200_000), check)


def test_a_share_s_smallest_rise_is_the_one_that_is_seen_19_times_of_20() -> None:
    # So much was counted before that only the soak's own errors are chance, which a binomial distribution tells.
    only = alone(wave(1), Check.ERROR_RATE_RISE).limits
    past = dataclasses.replace(counted(2_000_000_000, error_rate=0.02), seconds=DAY * 1000)
    prospect = Prospect((past,), (), 1000.0, 1, only)
    found = smallest(prospect, Check.ERROR_RATE_RISE)
    requests = round(2_000_000_000 * 1000 / past.seconds)
    rate, missed, most = 0.02 + found, [], None
    for errors in range(int(0.02 * requests), requests):
        now = Observation(requests=Requests(requests, errors, requests - errors, ()))
        device = DeviceObservation("a", "small", Outcome.UPDATED, now=now, past=past.observation)
        (rise,) = [item for item in judge([device], limits=only).findings if item.check is Check.ERROR_RATE_RISE]
        if rise.verdict is Verdict.FAIL:
            most = errors
            break
    assert most is not None
    for errors in range(most):
        logarithm = math.lgamma(requests + 1) - math.lgamma(errors + 1) - math.lgamma(requests - errors + 1)
        missed.append(math.exp(logarithm + errors * math.log(rate) + (requests - errors) * math.log1p(-rate)))
    assert math.fsum(missed) == pytest.approx(0.05, abs=0.005)


def test_a_wave_with_that_regression_fails() -> None:
    prospect = wave(20, analyses_max=1)
    rise = smallest(prospect, Check.ERROR_RATE_RISE)
    verdicts = []
    for change in (rise, 0.0):
        soaked = round(1_000_000 * 60 / DAY)
        now, old = (
            Observation(requests=Requests(soaked, round(soaked * rate), soaked - round(soaked * rate), ()))
            for rate in (0.001 + change, 0.001)
        )
        past = counted(1_000_000).observation
        devices = [DeviceObservation(f"w{n}", "small", Outcome.UPDATED, now=now, past=past) for n in range(20)]
        controls = [Control(f"c{n}", "small", old, past) for n in range(20)]
        found = judge(devices, controls).findings
        verdicts.append(next(item.verdict for item in found if item.check is Check.ERROR_RATE_RISE))
    assert verdicts == [Verdict.FAIL, Verdict.PASS]


@pytest.mark.parametrize(
    ("prospect", "check", "kind"),
    [
        (wave(6, 20_000), Check.ERROR_RATE_RISE, Needed.SOAK),
        (wave(6, 20_000), Check.LIVE_ACCURACY_DROP, Needed.SOAK),
        (wave(6), Check.LATENCY_P95, Needed.DEVICES),
        (wave(6, probe=(Metric.ACCURACY, 100)), Check.ACCURACY_DROP, Needed.SAMPLES),
        (wave(6, probe=(Metric.RMSE, 100)), Check.PROBE_ERROR, Needed.SAMPLES),
    ],
)
def test_what_it_takes_to_see_twice_the_limit_suffices(prospect: Prospect, check: Check, kind: Needed) -> None:
    found = seen(prospect, check)
    assert not found.suffices
    assert found.needed is not None
    assert found.needed[0] is kind
    amount = {Needed.SOAK: 60.0, Needed.DEVICES: 6, Needed.SAMPLES: 100}[kind]
    assert seen(times(prospect, kind, found.needed[1] / amount), check).suffices
    assert not seen(times(prospect, kind, 0.8 * found.needed[1] / amount), check).suffices


def test_what_cannot_be_seen_says_why_and_what_it_takes() -> None:
    nothing = dataclasses.replace(counted(0), observation=Observation())
    silent = Prospect((nothing,) * 4, (nothing,) * 4, 60.0, 5)
    causes = {item.check: item.cause for item in detectable(silent) if item.smallest is None}
    assert causes == {
        Check.ACCURACY_DROP: Cause.NO_PROBE_SET,
        Check.PROBE_ERROR: Cause.NO_PROBE_SET,
        Check.ERROR_RATE_RISE: Cause.NO_TRAFFIC,
        Check.LIVE_ACCURACY_DROP: Cause.NO_LABELS,
        Check.LATENCY_P50: Cause.TOO_FEW_REQUESTS,
        Check.LATENCY_P95: Cause.TOO_FEW_REQUESTS,
        Check.PROBE_LATENCY: Cause.NO_PROBE_SET,
        Check.DRIFT: Cause.NO_DRIFT_WINDOW,
        Check.SHADOW_DISAGREEMENT: Cause.NO_SHADOW,
        Check.MEMORY: Cause.NOT_REPORTED,
        Check.ENERGY: Cause.NO_SENSOR,
        Check.CLOCK: Cause.NO_SENSOR,
        Check.TEMPERATURE: Cause.NO_SENSOR,
    }
    shown = {row["check"]: row for row in texts.rows(detectable(silent))}
    assert shown["live accuracy drop"]["catches with 95%"] == "cannot be seen: no client sent labels"
    assert shown["live accuracy drop"]["twice the limit"] == "takes clients that send labels"


def test_too_few_requests_say_in_which_soak_there_are_enough() -> None:
    quiet = wave(40, 14_400)
    found = seen(quiet, Check.LATENCY_P95)
    assert (found.cause, found.needed) == (Cause.TOO_FEW_REQUESTS, (Needed.SOAK, 601.0))
    assert seen(dataclasses.replace(quiet, soak_seconds=601.0), Check.LATENCY_P95).smallest is not None
    # A strict gate waits until there are.
    strict = dataclasses.replace(quiet, analyses_max=11, limits=Limits(strict=True))
    assert seen(strict, Check.LATENCY_P95).smallest is not None


def test_without_controls_the_load_of_the_hour_hides_the_latency() -> None:
    found = seen(wave(40, controls=0), Check.LATENCY_P95)
    assert found.smallest is not None
    assert found.smallest > 1.5
    assert found.needed is None
    assert smallest(wave(40), Check.LATENCY_P95) < 1.25


def test_a_check_that_even_the_longest_soak_would_not_decide_counts_at_the_first_analysis_only() -> None:
    coarse, fine = wave(3), wave(60)
    assert seen(coarse, Check.LATENCY_P95).soak_seconds == 60.0
    assert seen(fine, Check.LATENCY_P95).soak_seconds == 300.0
    strict = dataclasses.replace(coarse, limits=Limits(strict=True))
    assert seen(strict, Check.LATENCY_P95).soak_seconds == 300.0


@pytest.mark.parametrize("metric", list(Metric))
def test_every_metric_of_a_probe_set_is_foreseen(metric: Metric) -> None:
    checks = [Check.ACCURACY_DROP, Check.PROBE_ERROR]
    judged, other = reversed(checks) if metric.is_error else checks
    small, large = (smallest(wave(4, probe=(metric, samples)), judged) for samples in (200, 2000))
    assert large < small
    assert seen(wave(4, probe=(metric, 2000)), other).cause is Cause.OTHER_METRIC
    # More devices ask the same questions.
    assert smallest(wave(40, probe=(metric, 200)), judged) == pytest.approx(small, rel=0.25)


def test_a_fault_has_to_hit_more_devices_than_may_fail() -> None:
    found = seen(wave(20), Check.FAILED_DEVICES)
    assert found.smallest == pytest.approx(1 - 0.05 ** (1 / 20))
    assert found.unit is Unit.SHARE
    allowed = wave(20, limits=Limits(max_failures=Allowance(2)))
    assert smallest(allowed, Check.FAILED_DEVICES) > 2 * (found.smallest or 1.0)
    assert seen(wave(2, limits=Limits(max_failures=Allowance(2))), Check.RESTARTS).cause is Cause.TOO_LITTLE


def test_a_class_of_few_devices_sees_less_than_the_whole_wave() -> None:
    mixed = wave(30, analyses_max=1)
    rare = counted(1_000_000, "large")
    mixed = dataclasses.replace(mixed, devices=(*mixed.devices, rare), controls=(*mixed.controls, rare))
    whole, common, lone = (
        seen(mixed, Check.ERROR_RATE_RISE, name).smallest or 1.0 for name in (None, "small", "large")
    )
    assert whole < common < lone


def test_limits_that_are_off_are_not_foreseen() -> None:
    off = wave(4, limits=Limits(error_rate_rise_max=None, latency_ratio_max=None, restarts_max=None))
    known = {item.check for item in detectable(off)}
    assert Check.MEMORY in known
    assert known.isdisjoint({Check.ERROR_RATE_RISE, Check.LATENCY_P50, Check.LATENCY_P95, Check.RESTARTS})


def test_what_is_foreseen_is_json_and_a_table() -> None:
    found = detectable(wave(6, 20_000))
    assert [Detectable.from_dict(json.loads(json.dumps(item.to_dict()))) for item in found] == found
    sight = texts.WaveSight(1, "canary", 7, 6, 6, 0, tuple(found))
    assert texts.WaveSight.from_dict(sight.to_dict()) == sight
    head, table, *_rest = texts.lines([sight])
    assert head == "Wave 1 (canary): 6 of 7 devices answered; 6 controls"
    assert table.split() == ["check", "devices", "catches", "with", "95%", "within", "twice", "the", "limit"]


# ---- fleets that are odd ----


@pytest.mark.parametrize(
    ("metric", "check"), [(Metric.ACCURACY, Check.ACCURACY_DROP), (Metric.AUC, Check.ACCURACY_DROP)]
)
def test_a_probe_set_of_three_samples_promises_nothing_and_says_how_many_it_takes(metric: Metric, check: Check) -> None:
    found = seen(Prospect((counted(0),), (), 600.0, 3, probe=(metric, 3)), check)
    # No metric of this kind gets worse by more than 100 points.
    assert (found.smallest, found.cause) == (None, Cause.TOO_LITTLE)
    assert found.needed is not None
    assert found.needed[0] is Needed.SAMPLES
    assert 100 < found.needed[1] < 1000


def test_a_probe_set_of_one_sample_takes_as_many_more() -> None:
    one, three = (seen(wave(1, probe=(Metric.ACCURACY, number)), Check.ACCURACY_DROP) for number in (1, 3))
    assert one.needed == three.needed


@pytest.mark.parametrize("metric", [Metric.ACCURACY, Metric.R2])
def test_no_more_samples_are_asked_for_than_a_probe_set_can_have(metric: Metric) -> None:
    narrow = Limits(accuracy_drop_max=0.001 if metric is Metric.ACCURACY else 0.002)
    found = seen(wave(6, limits=narrow, probe=(metric, 100)), Check.ACCURACY_DROP)
    assert (found.suffices, found.needed) == (False, None)
    assert texts.rows([found])[0]["twice the limit"].endswith(": more of the same does not help")


def test_also_between_the_last_doubling_and_the_most_is_looked_for_enough_samples() -> None:
    prospect = wave(6, limits=Limits(accuracy_drop_max=0.003), probe=(Metric.R2, Metric.R2.samples_max // 3))
    kind, samples = seen(prospect, Check.ACCURACY_DROP).needed or (None, 0.0)
    assert kind is Needed.SAMPLES
    assert 2 / 3 < samples / Metric.R2.samples_max < 1


def test_without_any_request_the_latency_takes_traffic_and_no_soak() -> None:
    found = [item for item in detectable(wave(1, requests=0)) if item.check in (Check.LATENCY_P50, Check.LATENCY_P95)]
    assert [(item.cause, item.needed) for item in found] == [(Cause.TOO_FEW_REQUESTS, None)] * 2
    assert [row["twice the limit"] for row in texts.rows(found)] == ["takes live traffic"] * 2
