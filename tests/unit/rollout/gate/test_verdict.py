# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The gate: it passes nothing that it did not see, and fail wins."""

from __future__ import annotations

import dataclasses
import json
import random
from typing import Any

import pytest
import yaml
from ansible.errors import AnsibleActionFail
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from hypothesis import given, settings
from hypothesis import strategies as st
from links import REPOSITORY

from ansible_collections.edgeml.fleet.plugins.action.rollout_gate import ARGUMENTS, answer
from ansible_collections.edgeml.fleet.plugins.module_utils._common.packed import pack_flags
from ansible_collections.edgeml.fleet.plugins.modules import rollout_gate
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.gate.checks import (
    Cause,
    Check,
    Finding,
    Unit,
    Verdict,
)
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.gate.limits import (
    Allowance,
    LimitError,
    Limits,
    argument_spec,
    ranges,
)
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.gate.observations import (
    Control,
    DeviceObservation,
    observe_control,
    observe_device,
)
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.gate.shadow import SHADOW_CHECKS
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.gate.verdict import judge
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.outcome import Outcome, outcome
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.report import words

PASS, FAIL, INCONCLUSIVE, SKIPPED = Verdict.PASS, Verdict.FAIL, Verdict.INCONCLUSIVE, Verdict.SKIPPED
SWAPPED = {"changed": True, "version": "1.1.0", "live": "1.1.0"}
EDGES = (0.001, 0.0025, 0.005, 0.01, 0.025)
OFF: dict[str, Any] = {name: None for name, allowed in ranges().items() if not allowed.required}


def requests(count: int, errors: int = 0, factor: float = 1.0) -> dict[str, Any]:
    """Requests of which half took 2.5 ms or less and nearly all 10 ms; ``factor`` moves part of them on."""
    timed = count - errors
    shares = [min(1.0, share / factor) for share in (0.1, 0.5, 0.85, 0.97, 1.0)]
    return {
        "requests": count,
        "errors": errors,
        "timed": timed,
        "latency_seconds_sum": 0.004 * timed * factor,
        "latency_buckets": [[edge, int(share * timed)] for edge, share in zip(EDGES, shares, strict=True)],
    }


def probe(
    correct: int, version: str = "1.1.0", seconds: float = 0.004, samples: int = 360, first: int = 0
) -> dict[str, Any]:
    """The result of a probe set of which ``correct`` samples are right, from the sample ``first`` on."""
    return {
        "version": version,
        "task": "class_scores",
        "metric": "accuracy",
        "samples": samples,
        "correct": correct,
        "value": round(correct / samples, 6),
        "results": {"flags": pack_flags([first <= place < first + correct for place in range(samples)])},
        "latency_seconds": seconds,
    }


def model(**changes: Any) -> dict[str, Any]:
    """What ``model_info`` tells of a device on which all is well."""
    return {
        "live": "1.1.0",
        "active": "1.1.0",
        "replaced": "1.0.0",
        "baseline": probe(331, "1.0.0"),
        "probe": probe(353),
        "requests": requests(2000, 1),
        "labels": {"right": 960, "wrong": 40},
        "drift": [{"series": "mean", "psi": 0.01, "alarm": False, "windows": 3}],
        "shadow": {"agreed": 980, "disagreed": 20, "failed": 0, "dropped": 4, "requests": 1000},
        "resident_bytes": 100 << 20,
        "restarts": 0,
        "active_seconds": 600.0,
        "past": {
            "requests": requests(100_000, 50),
            "labels": {"right": 48_000, "wrong": 2_000},
            "drift": [{"series": "mean", "psi": 0.01, "alarm": False, "windows": 100}],
            "resident_bytes": 98 << 20,
            "restarts": 0,
        },
        **changes,
    }


def good(name: str = "edge-1", device_class: str = "small", /, **changes: Any) -> DeviceObservation:
    return observe_device(name, device_class, SWAPPED, {"model": model(**changes)})


def bad(name: str, result: str, device_class: str = "small") -> DeviceObservation:
    return DeviceObservation(name, device_class, result)


def beside(name: str = "other-1", device_class: str = "small", /, **changes: Any) -> Control:
    """A device that keeps the old version, on which nothing changes."""
    before = {**model()["past"], "live": "1.0.0", "probe": probe(331, "1.0.0"), **changes.pop("before", {})}
    after = {
        **before,
        "requests": requests(102_000, 51),
        "labels": {"right": 48_960, "wrong": 2_040},
        **changes,
    }
    found = observe_control(
        name, {"device_class": device_class, "before": {"model": before}, "after": {"model": after}}, version="1.1.0"
    )
    assert found is not None
    return found


def findings(
    check: Check, wave: list[DeviceObservation], limits: Limits | None = None, *controls: Control
) -> list[Finding]:
    return [item for item in judge(wave, controls, limits or Limits()).findings if item.check == check]


def finding(check: Check, wave: list[DeviceObservation], limits: Limits | None = None, *controls: Control) -> Finding:
    """The one finding of a check."""
    (found,) = findings(check, wave, limits, *controls)
    return found


# ---- outcomes ----


@pytest.mark.parametrize(
    ("swap", "read", "expected"),
    [
        (SWAPPED, {"model": model()}, Outcome.UPDATED),
        ({**SWAPPED, "changed": False}, {"model": model()}, Outcome.ALREADY_THERE),
        ({"unreachable": True, "changed": False}, {}, Outcome.AWAY),
        ({"failed": True, "refused": True}, {"skipped": True}, Outcome.REFUSED),
        ({"failed": True, "refused": False}, {"skipped": True}, Outcome.FAILED),
        ({"failed": True, "live": "1.0.0"}, {"skipped": True}, Outcome.FAILED),
        # Ansible's own, before the task began.
        ({"failed": True}, {"skipped": True}, Outcome.REFUSED),
        ({"failed": True, "refused": True}, {"model": model()}, Outcome.REFUSED),
        (SWAPPED, {"unreachable": True}, Outcome.SILENT),
        (SWAPPED, {"failed": True}, Outcome.SILENT),
        (SWAPPED, {"failed": True, "model": model()}, Outcome.SILENT),
        (SWAPPED, {}, Outcome.SILENT),
        (SWAPPED, {"model": [1]}, Outcome.SILENT),
        ({}, {}, Outcome.SILENT),
        ({}, {"model": {"live": None}}, Outcome.SILENT),
        ({"changed": True}, {"model": {"live": None}}, Outcome.FAILED),
        (SWAPPED, {"model": model(live=None)}, Outcome.FAILED),
        (SWAPPED, {"model": model(live="1.0.0", active="1.0.0")}, Outcome.FAILED),
        ({**SWAPPED, "changed": False}, {"model": model(live="1.0.0")}, Outcome.FAILED),
    ],
)
def test_outcomes(swap: dict[str, Any], read: dict[str, Any], expected: str) -> None:
    assert outcome(swap, read) == expected
    assert observe_device("edge-1", "small", swap, read).outcome == expected


@pytest.mark.parametrize("nothing", [None, [], "x", 3, True])
def test_a_device_of_which_there_is_no_result_is_silent(nothing: Any) -> None:
    assert observe_device("edge-1", "small", nothing, nothing).outcome == Outcome.SILENT
    assert observe_device("edge-1", "small", SWAPPED, nothing).outcome == Outcome.SILENT


# ---- verdicts ----


def test_a_good_wave_passes_every_check() -> None:
    wave = [
        good(f"{device_class}-{number}", device_class) for device_class in ("small", "large") for number in range(10)
    ]
    others = [
        beside(f"o-{device_class}-{number}", device_class)
        for device_class in ("small", "large")
        for number in range(10)
    ]
    verdict, found = judge(wave, others)
    assert verdict == PASS
    passed = {item.check for item in found if item.verdict == PASS and item.device_class is None}
    assert passed == {
        Check.FAILED_DEVICES,
        Check.COVERAGE,
        Check.MEASUREMENTS,
        Check.ERROR_RATE,
        Check.ERROR_RATE_RISE,
        Check.LIVE_ACCURACY_DROP,
        Check.SHADOW_DISAGREEMENT,
        Check.DRIFT,
        Check.LATENCY_P50,
        Check.LATENCY_P95,
        Check.PROBE_LATENCY,
        Check.MEMORY,
        Check.RESTARTS,
    }
    assert {item.verdict for item in found if item.check is Check.ACCURACY_DROP} == {PASS}


def test_a_good_release_passes_at_the_first_look_on_one_device_with_little_traffic() -> None:
    little = {"requests": requests(300), "labels": {"right": 0, "wrong": 0}, "drift": []}
    verdict, found = judge([good(**little)])
    assert verdict == PASS
    told = {item.check: item for item in found}
    assert told[Check.ACCURACY_DROP].verdict == PASS
    assert told[Check.ERROR_RATE].verdict == PASS
    assert told[Check.ERROR_RATE_RISE].verdict == SKIPPED
    assert told[Check.ERROR_RATE_RISE].cause is Cause.TOO_LITTLE
    assert words.reason(told[Check.ERROR_RATE_RISE]).startswith("too little data: 0 of 300 requests failed")


def test_the_same_waits_where_a_longer_soak_would_tell() -> None:
    little = {"requests": requests(300), "labels": {"right": 0, "wrong": 0}, "drift": []}
    verdict, found = judge([good(**little)], analysis=1, analyses_max=4)
    assert verdict == INCONCLUSIVE
    assert {item.check for item in found if item.verdict == INCONCLUSIVE} == {Check.ERROR_RATE_RISE}
    more = {**little, "requests": requests(1200, 1)}
    assert judge([good(**more)], analysis=4, analyses_max=4)[0] == PASS


def test_a_release_that_answers_wrongly_fails_at_the_first_look() -> None:
    quiet = {"requests": requests(0), "labels": {"right": 0, "wrong": 0}}
    wrong = good(baseline=probe(353, "1.0.0"), probe=probe(122), **quiet)
    verdict, found = judge([wrong], analysis=1, analyses_max=6)
    assert verdict == FAIL
    (drop,) = [item for item in found if item.check is Check.ACCURACY_DROP]
    assert words.reason(drop).startswith(
        "0.6417 of accuracy lost, from 0.9806 to 0.3389 (at most 0.0200) on 360 samples"
    )
    assert words.lines(found)[0].startswith("fail: accuracy drop in small: 0.6417 of accuracy lost")


def test_an_accuracy_among_the_best_classes_says_so() -> None:
    """Who reads accuracy 0.98 thinks of the one answer of a model."""
    of_three = {"baseline": {**probe(353, "1.0.0"), "top": 3}, "probe": {**probe(122), "top": 3}}
    _verdict, found = judge([good(**of_three)], limits=Limits(accuracy_min=0.5))
    told = {item.check: words.reason(item) for item in found}
    assert told[Check.ACCURACY] == "top-3 accuracy 0.3389 on 360 samples (at least 0.5000)"
    assert told[Check.ACCURACY_DROP].startswith("0.6417 of top-3 accuracy lost, from 0.9806")
    assert [Finding.from_dict(item.to_dict()) for item in found] == list(found)
    # A ledger of before does not say it.
    document = {name: value for name, value in found[-1].to_dict().items() if name != "top"}
    assert Finding.from_dict(document).top == 1


def test_a_fleet_without_live_traffic_passes_by_the_probe_set_and_says_what_is_not_known() -> None:
    quiet = {
        "requests": requests(0),
        "labels": {"right": 0, "wrong": 0},
        "drift": [],
        "shadow": {"agreed": 0, "disagreed": 0, "failed": 0, "dropped": 0, "requests": 0},
        "past": {"requests": requests(0)},
    }
    verdict, found = judge([good("a", **quiet), good("b", "large", **quiet)], analysis=1, analyses_max=4)
    assert verdict == PASS
    told = {item.check: item.cause for item in found if item.verdict is SKIPPED}
    assert told == {
        Check.PROBE_ERROR: Cause.OTHER_METRIC,
        Check.ERROR_RATE: Cause.NO_TRAFFIC,
        Check.ERROR_RATE_RISE: Cause.NO_TRAFFIC,
        Check.LIVE_ACCURACY_DROP: Cause.NO_LABELS,
        Check.LATENCY_P50: Cause.TOO_FEW_REQUESTS,
        Check.LATENCY_P95: Cause.TOO_FEW_REQUESTS,
        Check.DRIFT: Cause.NO_DRIFT_WINDOW,
        Check.SHADOW_DISAGREEMENT: Cause.NO_SHADOW,
        Check.PROBE_LATENCY: Cause.TOO_LITTLE,
        Check.MEMORY: Cause.NO_COMPARISON,
        Check.ENERGY: Cause.NO_SENSOR,
        Check.CLOCK: Cause.NO_SENSOR,
        Check.TEMPERATURE: Cause.NO_SENSOR,
    }


def test_no_traffic_is_suspicious_while_the_controls_have_some() -> None:
    found = finding(Check.ERROR_RATE, [good(requests=requests(0))], None, beside())
    assert (found.verdict, found.cause) == (INCONCLUSIVE, Cause.NO_TRAFFIC_BUT_CONTROLS)
    assert words.reason(found) == "no requests, while 1 control had 2000"


def test_a_server_that_counts_nothing_is_judged_by_the_probe_set() -> None:
    names = ("requests", "labels", "drift", "shadow", "resident_bytes", "restarts", "past")
    verdict, found = judge([good(**dict.fromkeys(names))])
    assert verdict == PASS
    assert {item.check for item in found if item.verdict == PASS} == {
        Check.FAILED_DEVICES,
        Check.COVERAGE,
        Check.MEASUREMENTS,
        Check.ACCURACY_DROP,
    }


def test_a_device_that_was_asked_nothing_passes_nothing() -> None:
    names = ("requests", "labels", "drift", "shadow", "resident_bytes", "restarts", "past", "probe", "baseline")
    verdict, found = judge([good(**dict.fromkeys(names))])
    assert verdict == INCONCLUSIVE
    assert [item.check for item in found if item.verdict == INCONCLUSIVE] == [Check.MEASUREMENTS]
    assert judge([good(**dict.fromkeys(names))], limits=Limits(**OFF))[0] == PASS


def test_limits_that_are_off_are_not_checked() -> None:
    verdict, found = judge([good(probe=None, baseline=None, requests=None)], limits=Limits(**OFF))
    assert verdict == PASS
    assert [item.check for item in found] == [Check.FAILED_DEVICES, Check.COVERAGE, Check.MEASUREMENTS]


def test_an_empty_wave_is_inconclusive() -> None:
    assert judge([])[0] == INCONCLUSIVE
    assert judge([], [beside()], Limits(**OFF))[0] == INCONCLUSIVE


def test_the_wave_and_the_controls_may_be_iterators() -> None:
    assert judge(iter([good()]), iter([beside()]))[0] == PASS


@pytest.mark.parametrize("result", [Outcome.REFUSED, Outcome.FAILED, Outcome.SILENT])
def test_one_device_too_many_that_failed_fails_the_wave(result: str) -> None:
    wave = [good("a"), good("b"), bad("c", result)]
    verdict, found = judge(wave)
    assert verdict == FAIL
    assert words.reason(found[0]) == f"1 of 3 devices so far refused, failed or fell silent (at most 0): c {result}"
    assert judge(wave, limits=Limits(max_failures=Allowance(1)))[0] == PASS


@pytest.mark.parametrize(
    ("max_failures", "allowed"), [(0, 0), ("0", 0), (2, 2), ("2", 2), ("5%", 1), ("10 %", 2), ("4.9%", 0)]
)
def test_failures_may_be_counted_or_a_percentage(max_failures: int | str, allowed: int) -> None:
    for count in (allowed, allowed + 1):
        wave = [bad(f"f{number}", Outcome.FAILED) for number in range(count)]
        wave += [good(f"g{number}") for number in range(20 - count)]
        found = judge(wave, limits=Limits.from_dict({"max_failures": max_failures, "reporting_share_min": 0.0}))[1][0]
        assert found.verdict == (PASS if count <= allowed else FAIL)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_failures", "-1"),
        ("max_failures", "many"),
        ("max_failures", "101%"),
        ("max_failures", ""),
        ("reporting_share_min", None),
        ("reporting_share_min", 1.1),
        ("accuracy_drop_max", float("nan")),
        ("accuracy_min", 90.0),
        ("error_rate_max", -0.1),
        ("latency_ratio_max", 0.5),
        ("latency_ratio_max", float("inf")),
        ("memory_bytes_max", "1 GB"),
        ("restarts_max", True),
    ],
)
def test_a_limit_that_cannot_be_one_is_refused(name: str, value: Any) -> None:
    with pytest.raises(LimitError, match=f"^{name}: expected "):
        Limits.from_dict({name: value})


def test_devices_that_are_away_are_not_failures_but_lower_the_coverage() -> None:
    away = [bad("x", Outcome.AWAY), bad("y", Outcome.AWAY)]
    assert finding(Check.FAILED_DEVICES, [good(), away[0]]).verdict == PASS
    assert judge([good(), away[0]])[0] == PASS
    assert judge([good(), *away])[0] == INCONCLUSIVE
    found = finding(Check.COVERAGE, [good(), *away])
    assert words.reason(found) == "1 of 3 devices reported (33%, at least 50%)"


def test_a_silent_device_is_asked_again_before_it_counts_as_failed() -> None:
    wave = [good("a"), good("b"), bad("c", Outcome.SILENT)]
    for analysis, verdict in ((1, INCONCLUSIVE), (2, INCONCLUSIVE), (3, FAIL)):
        assert judge(wave, analysis=analysis, analyses_max=3)[0] == verdict
    (found,) = [item for item in judge(wave, analyses_max=3)[1] if item.check is Check.FAILED_DEVICES]
    assert words.reason(found).endswith("c silent; the silent ones are asked again")
    assert judge(wave, analysis=4, analyses_max=60)[0] == INCONCLUSIVE
    assert judge(wave, analysis=5, analyses_max=60)[0] == FAIL
    # What a device reports itself does not wait, nor does a wave that was judged.
    assert judge([*wave, bad("d", Outcome.FAILED)], analyses_max=3)[0] == FAIL
    assert judge([good("a"), good("b")], earlier=[bad("c", Outcome.SILENT)], analyses_max=3)[0] == FAIL
    assert judge(wave, limits=Limits(max_failures=Allowance(1)), analyses_max=3)[0] == PASS


def test_a_kind_of_which_nothing_is_heard_is_inconclusive() -> None:
    wave = [good("a"), good("b"), bad("c", Outcome.AWAY, "large")]
    assert judge(wave)[0] == INCONCLUSIVE
    _all, kind = findings(Check.COVERAGE, wave)
    assert (kind.device_class, kind.verdict) == ("large", INCONCLUSIVE)
    assert judge(wave, limits=Limits(reporting_share_min=0.0))[0] == PASS
    # What refused was heard of, and is counted where it belongs.
    assert judge([good("a"), bad("c", Outcome.REFUSED, "large")], limits=Limits(max_failures=Allowance(1)))[0] == PASS


@pytest.mark.parametrize("reporting_share_min", [0.0, 0.5])
def test_a_wave_that_is_all_away_is_inconclusive_whatever_the_limit(reporting_share_min: float) -> None:
    assert judge([bad("x", Outcome.AWAY)], limits=Limits(reporting_share_min=reporting_share_min))[0] == INCONCLUSIVE


def test_the_names_of_ten_failed_devices_are_enough() -> None:
    reason = words.reason(
        finding(Check.FAILED_DEVICES, [bad(f"d{number:04}", Outcome.FAILED) for number in range(1000)])
    )
    assert reason.count(" failed,") == 9, "between ten devices"
    assert "1000 of 1000" in reason
    assert reason.endswith("d0009 failed and 990 more")


# ---- each check, on both sides ----

WORSE: dict[Check, dict[str, Any]] = {
    Check.ACCURACY_DROP: {"probe": probe(250)},
    Check.ERROR_RATE_RISE: {"requests": requests(2000, 60)},
    Check.ERROR_RATE: {"requests": requests(2000, 200)},
    Check.LIVE_ACCURACY_DROP: {"labels": {"right": 700, "wrong": 300}},
    Check.LATENCY_P50: {"requests": requests(2000, 1, 2.5)},
    Check.LATENCY_P95: {"requests": requests(2000, 1, 2.5)},
    Check.PROBE_LATENCY: {"probe": probe(353, seconds=0.04)},
    Check.SHADOW_DISAGREEMENT: {"shadow": {"agreed": 500, "disagreed": 480, "failed": 20, "requests": 1000}},
    Check.MEMORY: {"resident_bytes": 400 << 20},
    Check.RESTARTS: {"restarts": 3},
}


def fleet(**changes: Any) -> tuple[list[DeviceObservation], list[Control]]:
    """Ten devices of each of two kinds, those that are large with changes, and as many controls."""
    wave = [good(f"s{number}", "small") for number in range(10)]
    wave += [good(f"l{number}", "large", **changes) for number in range(10)]
    return wave, [beside(f"o{kind}{number}", kind) for kind in ("small", "large") for number in range(10)]


@pytest.mark.parametrize("check", WORSE)
def test_a_fault_of_one_kind_of_hardware_does_not_hide_behind_the_others(check: Check) -> None:
    wave, others = fleet(**WORSE[check])
    verdict, found = judge(wave, others)
    assert verdict == FAIL
    failed = [item for item in found if item.check == check and item.verdict == FAIL]
    assert failed
    assert {item.device_class for item in failed} <= {"large", None}
    assert "large" in {item.device_class for item in failed} or check is Check.RESTARTS


@pytest.mark.parametrize(
    "check",
    [
        Check.ERROR_RATE_RISE,
        Check.LIVE_ACCURACY_DROP,
        Check.LATENCY_P50,
        Check.LATENCY_P95,
        Check.MEMORY,
        Check.RESTARTS,
    ],
)
def test_what_the_controls_do_as_well_is_not_the_versions_fault(check: Check) -> None:
    wave, _others = fleet(**WORSE[check])
    count: dict[Check, dict[str, Any]] = {
        Check.ERROR_RATE_RISE: {"requests": requests(102_000, 110)},
        Check.LIVE_ACCURACY_DROP: {"labels": {"right": 48_700, "wrong": 2_300}},
        Check.MEMORY: {"resident_bytes": 400 << 20},
        Check.RESTARTS: {"restarts": 3},
    }
    if check in (Check.LATENCY_P50, Check.LATENCY_P95):
        after = requests(100_000, 50)
        slow = requests(2000, 1, 2.5)
        pairs = zip(after["latency_buckets"], slow["latency_buckets"], strict=True)
        buckets = [[edge, old + new] for (edge, old), (_edge, new) in pairs]
        more = {"requests": 102_000, "errors": 51, "timed": 101_949, "latency_buckets": buckets}
        changes: dict[str, Any] = {"requests": {**after, **more}}
    else:
        changes = count[check]
    others = [beside(f"os{number}") for number in range(10)]
    others += [beside(f"ol{number}", "large", **changes) for number in range(10)]
    assert FAIL not in {item.verdict for item in judge(wave, others)[1] if item.check == check}


def test_accuracy_below_its_least_fails() -> None:
    for correct, expected in ((324, PASS), (323, FAIL)):
        wave = [good(probe=probe(correct), baseline=probe(324, "1.0.0"))]
        assert finding(Check.ACCURACY, wave, Limits(accuracy_min=0.9)).verdict == expected


def test_a_loss_of_exactly_the_limit_passes_and_one_in_one_direction_is_certain() -> None:
    old = probe(350, "1.0.0", samples=500)
    for correct, expected in ((340, PASS), (339, FAIL), (280, FAIL)):
        wave = [good(baseline=old, probe=probe(correct, samples=500))]
        found = finding(Check.ACCURACY_DROP, wave)
        assert found.verdict == expected
        assert (found.events, found.improved) == (350 - correct, 0)


def test_a_little_more_than_the_limit_may_be_chance_where_as_many_samples_were_won() -> None:
    old = probe(350, "1.0.0", samples=500)
    found = finding(Check.ACCURACY_DROP, [good(baseline=old, probe=probe(339, samples=500, first=30))])
    assert (found.events, found.improved) == (30, 19)
    assert (found.verdict, found.cause) == (INCONCLUSIVE, Cause.SMALL_PROBE_SET)
    assert words.reason(found).startswith("beyond the limit, but so few samples may be chance: 0.0220 of accuracy lost")


def test_a_probe_set_that_can_tell_nothing_is_skipped_and_says_so() -> None:
    wave = [good(baseline=probe(29, "1.0.0", samples=30), probe=probe(29, samples=30))]
    found = finding(Check.ACCURACY_DROP, wave)
    assert (found.verdict, found.cause) == (SKIPPED, Cause.TOO_LITTLE)
    assert words.reason(found).startswith("the probe set is too small to tell: 0.0000 of accuracy lost")
    assert finding(Check.ACCURACY_DROP, wave, Limits(strict=True)).verdict == INCONCLUSIVE


def test_more_devices_are_not_more_questions() -> None:
    old, new = probe(330, "1.0.0"), probe(318, first=30)
    one = finding(Check.ACCURACY_DROP, [good(baseline=old, probe=new)])
    many = finding(Check.ACCURACY_DROP, [good(f"d{number}", baseline=old, probe=new) for number in range(100)])
    assert one.verdict == many.verdict == INCONCLUSIVE
    assert one.samples == many.samples == 360
    assert one.bounds == many.bounds


def test_a_device_that_answers_wrongly_among_many_counts_as_one_that_failed() -> None:
    wave = [good(f"s{number}") for number in range(99)] + [good("s99", probe=probe(180))]
    found = finding(Check.ACCURACY_DROP, wave)
    assert found.verdict == FAIL
    assert words.reason(found).endswith("; 1 of 100 devices answers wrongly: s99")
    assert finding(Check.ACCURACY_DROP, wave, Limits(max_failures=Allowance(1))).verdict == PASS


def test_a_few_noisy_devices_are_no_slow_version() -> None:
    wave, others = fleet()
    wave[0] = good("s0", requests=requests(2000, 1, 2.5))
    assert judge(wave, others)[0] != FAIL


def test_a_version_that_fails_as_often_as_the_one_before_is_kept() -> None:
    often = {"requests": requests(2000, 160), "past": {**model()["past"], "requests": requests(100_000, 8000)}}
    assert judge([good(**often)])[0] == PASS


def test_more_traffic_on_a_bad_device_is_not_a_worse_version() -> None:
    def device(name: str, share: float, now: int) -> DeviceObservation:
        past = {**model()["past"], "requests": requests(100_000, int(100_000 * share))}
        return good(name, requests=requests(now, int(now * share)), past=past)

    wave = [device("a", 0.04, 9000), device("b", 0.0, 1000)]
    found = finding(Check.ERROR_RATE_RISE, wave)
    assert found.verdict == PASS
    assert found.estimate == pytest.approx(0.0, abs=1e-6)


def test_latency_without_controls_may_be_the_hours_load() -> None:
    wave = [good(f"s{number}", requests=requests(2000, 1, 1.3)) for number in range(10)]
    alone = finding(Check.LATENCY_P50, wave)
    assert alone.verdict != FAIL
    assert finding(Check.LATENCY_P50, wave, None, *[beside(f"o{number}") for number in range(10)]).verdict == FAIL


def test_absolute_limits() -> None:
    wave = [good(f"s{number}") for number in range(5)]
    limits = Limits(latency_seconds_max=0.05, memory_bytes_max=200 << 20)
    assert judge(wave, limits=limits)[0] == PASS
    assert finding(Check.MEMORY_BYTES, wave, Limits(memory_bytes_max=99 << 20)).verdict == FAIL
    assert finding(Check.LATENCY_P95_SECONDS, wave, Limits(latency_seconds_max=0.0005)).verdict == FAIL


def test_a_profile_judges_where_neither_the_past_nor_controls_do() -> None:
    first = [good(f"s{number}", replaced=None, baseline=None, past=None) for number in range(5)]
    # 95% of the requests took less than 24 ms.
    within, beyond = {"small": 0.02}, {"small": 0.001, "other": 0.001}
    assert judge(first, profiled=within)[0] == PASS
    verdict, found = judge(first, profiled=beyond)
    (by_profile,) = [item for item in found if item.check is Check.LATENCY_P95_SECONDS]
    assert verdict == by_profile.verdict == FAIL
    assert by_profile.limit == pytest.approx(0.002)
    assert words.reason(by_profile).endswith("on 5 devices; the limit is by the profile of the device class")
    assert Finding.from_dict(json.loads(json.dumps(by_profile.to_dict()))) == by_profile
    # A past, controls, a limit that somebody set, or latency that is not judged: no profile does.
    checks = {item.check for item in judge([good()], profiled=beyond).findings}
    assert Check.LATENCY_P95_SECONDS not in checks
    assert Check.LATENCY_P95_SECONDS not in {item.check for item in judge(first, [beside()], profiled=beyond).findings}
    assert judge(first, limits=Limits(latency_seconds_max=1.0), profiled=beyond)[0] == PASS
    assert judge(first, limits=Limits(latency_ratio_max=None), profiled=beyond)[0] == PASS


def test_one_device_that_is_as_its_profile_says_is_no_suspicion() -> None:
    alone = [good(replaced=None, baseline=None, past=None)]
    seconds = finding(Check.LATENCY_P95_SECONDS, alone, Limits(latency_seconds_max=1.0)).estimate
    assert judge(alone, limits=Limits(strict=True), profiled={"small": seconds or 0})[0] == PASS


def test_drift_alarms_beside_controls() -> None:
    drifted = [{"series": "argmax", "psi": 0.9, "alarm": True, "windows": 2}]
    wave = [good(f"s{number:02}", drift=drifted) for number in range(20)]
    quiet = [beside(f"o{number}") for number in range(20)]
    alike = [beside(f"o{number}", drift=drifted) for number in range(20)]
    assert finding(Check.DRIFT, wave, None, *quiet).verdict == FAIL
    assert finding(Check.DRIFT, wave, None, *alike).verdict != FAIL
    assert finding(Check.DRIFT, wave[:1], None, *quiet[:1]).verdict == INCONCLUSIVE


def test_strict_has_nothing_pass_that_was_not_judged() -> None:
    little = {"requests": requests(30), "labels": {"right": 0, "wrong": 0}, "drift": []}
    assert judge([good(**little)])[0] == PASS
    assert judge([good(**little)], limits=Limits(strict=True))[0] == INCONCLUSIVE


def test_a_first_installation_has_nothing_to_be_compared_with() -> None:
    verdict, found = judge([good(replaced=None, baseline=None, past=None)], limits=Limits(accuracy_min=0.9))
    assert verdict == PASS
    told = {item.check: item for item in found}
    assert told[Check.ACCURACY].verdict == told[Check.ERROR_RATE].verdict == PASS
    assert told[Check.ERROR_RATE_RISE].cause is Cause.NO_COMPARISON
    plain = {item.check: item for item in judge([good(replaced=None, baseline=None, past=None)])[1]}
    assert plain[Check.ACCURACY_DROP].cause is Cause.FIRST_INSTALLATION


# ---- controls ----


def test_a_control_is_counted_from_one_reading_to_the_other() -> None:
    found = beside().now
    assert found.requests is not None
    assert (found.requests.requests, found.requests.errors) == (2000, 1)
    restarted = beside(requests=requests(700, 3)).now
    assert restarted.requests is not None
    assert (restarted.requests.requests, restarted.requests.errors) == (700, 3)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({"unreachable": True}, {"model": {"live": "1.0.0"}}),
        ({"model": {"live": "1.0.0"}}, {"failed": True, "model": {"live": "1.0.0"}}),
        ({"model": {"live": "1.0.0"}}, {"model": {"live": "1.1.0"}}),
        ({"model": {"live": "1.0.0"}}, {"model": {"live": None}}),
        ({"model": {"live": "1.1.0"}}, {"model": {"live": "1.1.0"}}),
        ({"model": {"live": "1.0.0"}}, {"model": {"live": "1.0.0", "requests": {"requests": -1}}}),
        ({}, {}),
        (None, 3),
    ],
)
def test_what_cannot_be_a_control_is_left_out(before: Any, after: Any) -> None:
    assert observe_control("c", {"device_class": "small", "before": before, "after": after}, "1.1.0") is None


# ---- what was not measured, or is broken, never passes ----

BROKEN: list[dict[str, Any]] = [
    {"requests": {**requests(100), "errors": -1}},
    {"requests": {**requests(100), "errors": 101}},
    {"requests": {**requests(100), "requests": float("nan")}},
    {"requests": {**requests(100), "requests": "100"}},
    {"requests": {**requests(100), "requests": True}},
    {"requests": {**requests(100), "requests": 10**30}},
    {"requests": {**requests(100), "latency_buckets": [[0.01, 50], [0.005, 60]]}},
    {"requests": {**requests(100), "latency_buckets": [[0.005, 60], [0.01, 50]]}},
    {"requests": {**requests(100), "latency_buckets": [[0.005, 500]]}},
    {"requests": {**requests(100), "latency_buckets": [["a", 1]]}},
    {"requests": {**requests(100), "latency_buckets": {"0.1": 1}}},
    {"requests": []},
    {"requests": {}},
    {"labels": {"right": 1.5, "wrong": 0}},
    {"shadow": {"agreed": 5}},
    {"drift": [{"series": "mean", "psi": float("inf"), "alarm": False, "windows": 1}]},
    {"drift": "none"},
    {"resident_bytes": -5},
    {"resident_bytes": float("inf")},
    {"restarts": -1},
    {"past": [1, 2]},
    {"past": {"requests": {"requests": 5}}},
    {"probe": {**probe(353), "value": float("nan")}},
    {"probe": {**probe(353), "value": 1.5}},
    {"probe": {**probe(353), "value": 0.5}},
    {"probe": {**probe(353), "metric": "beauty"}},
    {"probe": {**probe(353), "metric": "mae"}},
    {"probe": {**probe(353), "samples": 10**9}},
    {"probe": {**probe(353), "results": {"flags": "AAAA"}}},
    {"probe": {**probe(353), "results": {"flags": probe(352)["results"]["flags"]}}},
    {"probe": {**probe(353), "results": 5}},
    {"probe": {"error": "expected the model's inputs a, b in the probe set; it has a"}},
    {"probe": probe(353, samples=400)},
    {"probe": {**probe(353), "correct": 361}},
    {"probe": {**probe(353), "samples": 0, "correct": 0}},
    {"probe": {**probe(353), "latency_seconds": -1.0}},
    {"probe": {**probe(353), "version": "1.0.0"}},
    {"probe": {}},
    {"probe": 5},
    {"baseline": {**probe(331), "version": "0.9.0"}},
    {"baseline": {"value": 0.9}},
    {"baseline": probe(331, "1.0.0", samples=400)},
]


@pytest.mark.parametrize("broken", BROKEN, ids=str)
def test_a_broken_measurement_is_inconclusive_and_its_device_named(broken: dict[str, Any]) -> None:
    wave = [good("a"), good("b"), good("c", **broken)]
    verdict, found = judge(wave)
    assert verdict == INCONCLUSIVE
    (told,) = [item for item in found if item.check is Check.MEASUREMENTS]
    assert words.reason(told).startswith("missing or not valid: c (")
    assert judge([*wave, bad("d", Outcome.FAILED)])[0] == FAIL


def test_a_version_before_that_could_not_be_asked_the_probe_set_is_not_compared() -> None:
    """Such as one whose input has another name. The remedy is said once, however many devices there are."""
    reason = "expected the model's inputs image in the probe set; it has pixels"
    wave = [good(f"d{number}", baseline={"error": reason}) for number in range(3)]
    verdict, found = judge(wave)
    by_check = {item.check: item for item in found}
    assert verdict is INCONCLUSIVE
    measured = by_check[Check.MEASUREMENTS]
    assert (measured.verdict, measured.cause) == (INCONCLUSIVE, Cause.NOT_COMPARABLE)
    assert [note.problems for note in measured.named] == [
        (f"the version before: the probe set could not be asked: {reason}",)
    ] * 3
    text = words.reason(measured)
    assert text.count("tensors in its manifest") == 1
    assert "set accuracy_drop_max and probe_error_ratio_max to null" in text
    # The reason may as well be that a busy server was late: then nothing has to be turned off.
    assert text.endswith("roll back, and roll out again with the next rollout_attempt")
    drop = by_check[Check.ACCURACY_DROP]
    assert (drop.verdict, drop.cause) == (SKIPPED, Cause.NOT_COMPARABLE)
    assert words.reason(drop) == "the version before could not be asked the probe set"
    assert by_check[Check.PROBE_LATENCY].verdict is SKIPPED


@pytest.mark.parametrize(("least", "expected"), [(0.98, PASS), (0.99, FAIL)])
def test_where_the_comparison_is_off_it_is_judged_by_the_least_accuracy(least: float, expected: Verdict) -> None:
    limits = Limits(accuracy_drop_max=None, probe_error_ratio_max=None, accuracy_min=least)
    verdict, found = judge([good(baseline={"error": "expected other inputs"})], limits=limits)
    assert verdict is expected
    by_check = {item.check: item.verdict for item in found}
    assert (by_check[Check.MEASUREMENTS], by_check[Check.ACCURACY]) == (PASS, expected)


@pytest.mark.parametrize("missing", ["probe", "requests", "baseline"])
def test_one_device_without_a_measurement_is_inconclusive_and_named(missing: str) -> None:
    document = model()
    del document[missing]
    for wave in (
        [good("a"), observe_device("c", "small", SWAPPED, {"model": document})],
        [good("a"), good("c", **{missing: None})],
    ):
        (told,) = findings(Check.MEASUREMENTS, wave)
        assert told.verdict == INCONCLUSIVE
        assert words.reason(told).startswith("missing or not valid: c (no ")


def test_a_probe_that_was_never_made_is_inconclusive() -> None:
    document = model()
    del document["probe"]
    assert judge([observe_device("c", "small", SWAPPED, {"model": document})])[0] == INCONCLUSIVE


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=5,
)


@st.composite
def odd_models(draw: st.DrawFn) -> dict[str, Any]:
    """What a device tells, some of it replaced by anything, also within."""
    document = model()
    for name in draw(st.lists(st.sampled_from(sorted(document)), max_size=4)):
        inner = document[name]
        if isinstance(inner, dict) and inner and draw(st.booleans()):
            document[name] = {**inner, draw(st.sampled_from(sorted(inner))): draw(JSON)}
        else:
            document[name] = draw(JSON)
    return document


SWAPS = (
    st.just(SWAPPED)
    | st.fixed_dictionaries(
        {}, optional={"changed": JSON, "version": JSON, "failed": JSON, "unreachable": JSON, "refused": JSON}
    )
    | JSON
)
READS = st.fixed_dictionaries({"model": odd_models() | JSON}) | JSON
CONTROLS = st.fixed_dictionaries({"device_class": JSON, "before": READS, "after": READS}) | JSON


@given(
    st.lists(st.tuples(st.sampled_from(["small", "large"]), SWAPS, READS), max_size=4),
    st.lists(CONTROLS, max_size=2),
    st.sampled_from([(1, 1), (1, 3), (3, 3)]),
)
@settings(max_examples=60, deadline=None)
def test_anything_gets_a_verdict_and_a_pass_is_earned(
    wave: list[tuple[str, Any, Any]], others: list[Any], analyses: tuple[int, int]
) -> None:
    reports = [observe_device(f"d{number}", *device) for number, device in enumerate(wave)]
    told = [item for number, other in enumerate(others) if (item := observe_control(f"o{number}", other, "1.1.0"))]
    verdict, found = judge(reports, told, Limits(), analysis=analyses[0], analyses_max=analyses[1])
    verdicts = {item.verdict for item in found}
    assert verdict == (FAIL if FAIL in verdicts else INCONCLUSIVE if INCONCLUSIVE in verdicts else PASS)
    assert words.lines(found)
    if verdict == PASS:
        serving = [item for item in reports if item.outcome in (Outcome.UPDATED, Outcome.ALREADY_THERE)]
        assert serving
        assert not [item for item in reports if item.outcome in (Outcome.REFUSED, Outcome.FAILED, Outcome.SILENT)]
        assert not [item for item in serving if item.problems]
        assert [item for item in serving if item.now.probe or item.now.requests]


@given(st.integers(0, 2**32))
@settings(max_examples=20, deadline=None)
def test_the_order_of_the_devices_does_not_matter(seed: int) -> None:
    chance = random.Random(seed)
    wave = [
        good(f"d{number}", chance.choice(["small", "large"]), requests=requests(1000, chance.randrange(9)))
        for number in range(8)
    ]
    others = [beside(f"o{number}", chance.choice(["small", "large"])) for number in range(4)]
    expected = judge(wave, others)
    chance.shuffle(wave)
    chance.shuffle(others)
    assert judge(wave, others) == expected


# ---- the module ----


def run(**arguments: Any) -> dict[str, Any]:
    """The result of the module's action."""
    checked = ArgumentSpecValidator(ARGUMENTS).validate(arguments)
    if checked.error_messages:
        return {"failed": True, "msg": checked.error_messages[0]}
    try:
        return answer(checked.validated_parameters)
    except AnsibleActionFail as error:
        return {"failed": True, "msg": str(error)}


WAVE = {"device_classes": {"a": "small"}, "swaps": {"a": SWAPPED}, "reads": {"a": {"model": model()}}}


@pytest.mark.parametrize("number", range(2))
def test_the_modules_examples_work(number: int) -> None:
    arguments = yaml.safe_load(rollout_gate.EXAMPLES)[number]["edgeml.fleet.rollout_gate"]
    variables = {**WAVE, "controls": {}}
    filled = {name: variables[name] if "{{" in str(value)[:4] else value for name, value in arguments.items()}
    result = run(**filled)
    assert (result["verdict"], result["changed"]) == ("inconclusive" if filled.get("analyses_max") else "pass", False)
    documented = yaml.safe_load(rollout_gate.RETURN)
    assert set(documented) == set(result) - {"changed"}
    assert all(set(found) == set(documented["findings"]["contains"]) for found in result["findings"])


def test_the_module_judges_beside_controls() -> None:
    before = {**model()["past"], "live": "1.0.0", "probe": probe(331, "1.0.0")}
    after = {**before, "requests": requests(102_000, 51)}
    others = {"b": {"device_class": "small", "before": {"model": before}, "after": {"model": after}}, "c": "broken"}
    result = run(**WAVE, controls=others, analysis=1, analyses_max=1)
    (found,) = [item for item in result["findings"] if item["check"] == "error rate rise"]
    assert found["reason"].endswith(", compared with the past and 1 control")
    assert (found["device_class"], found["limit"], found["samples"]) == ("small", 0.004, 2000)
    assert found["bounds"]["lower"] < found["estimate"] < found["bounds"]["upper"]
    assert found["compared_with"] == {"past": True, "controls": 1, "events": None, "profile": False}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"limits": {"accuracy_min": "high"}},
            "limits: accuracy_min: expected a number from 0 to 1, or null; found 'high'",
        ),
        ({"limits": {"max_failures": "some"}}, "limits: max_failures: expected a count or a percentage"),
        ({"limits": {"latency_ratio_max": 0.9}}, "limits: latency_ratio_max: expected a number from 1 to "),
        ({"limits": {"latency_max": 2}}, "limits.latency_max. Supported parameters include: accuracy_drop_max"),
        ({"analysis": 3, "analyses_max": 2}, "analysis: expected 1 to analyses_max, 2; found 3"),
        ({"analysis": 0}, "analysis: expected 1 to analyses_max"),
    ],
)
def test_the_module_refuses_what_it_cannot_judge_by(arguments: dict[str, Any], message: str) -> None:
    result = run(**WAVE, **arguments)
    assert result["failed"]
    assert message in result["msg"]


def test_the_module_takes_null_and_numbers_written_as_text() -> None:
    off: dict[str, Any] = {**OFF, "accuracy_min": "0.9"}
    result = run(**WAVE, limits=off)
    assert [item["check"] for item in result["findings"]] == ["failed devices", "coverage", "measurements", "accuracy"]


def test_each_limit_is_declared_once() -> None:
    documented = yaml.safe_load(rollout_gate.DOCUMENTATION)["options"]["limits"]["suboptions"]
    spec = argument_spec()
    assert list(documented) == list(spec) == [field.name for field in dataclasses.fields(Limits)]
    for name, option in spec.items():
        assert (documented[name]["type"], documented[name].get("default")) == (option["type"], option.get("default"))
    defaults = {name: option["default"] for name, option in spec.items() if "default" in option}
    assert Limits.from_dict(defaults) == Limits()
    for name, allowed in ranges().items():
        for number in (allowed.least, allowed.most):
            assert getattr(Limits.from_dict({name: str(number)}), name) == number
        with pytest.raises(LimitError, match=f"^{name}: expected a number from "):
            Limits.from_dict({name: allowed.least - 1})


def test_the_guide_names_every_limit_and_every_check() -> None:
    guide = (REPOSITORY / "docs/gate.md").read_text()
    assert [field.name for field in dataclasses.fields(Limits) if f"`{field.name}`" not in guide] == []
    assert [check.value for check in Check if f"`{check.value}`" not in guide] == []
    assert [cause.value for cause in Cause if f"`{cause.value}`" not in guide] == []


ON: dict[str, Any] = {"accuracy_min": 0.5, "latency_seconds_max": 1.0, "memory_bytes_max": 1 << 40}


@given(odd_models(), odd_models(), st.dictionaries(st.sampled_from(sorted({**OFF, **ON})), st.none()))
@settings(max_examples=40, deadline=None)
def test_every_check_that_is_on_has_a_finding_with_a_reason(one: Any, two: Any, off: dict[str, Any]) -> None:
    limits = Limits(**{**ON, **off})
    wave = [
        observe_device("a", "small", SWAPPED, {"model": one}),
        observe_device("b", "large", SWAPPED, {"model": two}),
    ]
    serving = [item for item in wave if item.outcome in (Outcome.UPDATED, Outcome.ALREADY_THERE)]
    found = judge(wave, limits=limits).findings
    made = {check for check in Check if check.is_made(limits)} - set(SHADOW_CHECKS)
    expected = made if serving else {Check.FAILED_DEVICES, Check.COVERAGE}
    assert {item.check for item in found} == expected
    for item in found:
        assert words.reason(item) not in ("", "not judged")
        assert Finding.from_dict(json.loads(json.dumps(item.to_dict()))) == item
    classes = {item.device_class for item in serving}
    for check in expected - {
        Check.FAILED_DEVICES,
        Check.COVERAGE,
        Check.MEASUREMENTS,
        Check.RESTARTS,
        Check.MEMORY_BYTES,
    }:
        named = {item.device_class for item in found if item.check is check}
        assert None in named or named == classes, "no class is passed over in silence"


@pytest.mark.parametrize("count", [20, 50, 99])
def test_a_quantile_that_has_too_few_requests_says_so(count: int) -> None:
    wave = [good(requests=requests(count))]
    assert finding(Check.LATENCY_P50, wave).estimate is not None
    found = finding(Check.LATENCY_P95, wave)
    assert (found.verdict, found.cause) == (SKIPPED, Cause.TOO_FEW_REQUESTS)
    assert words.reason(found) == "fewer than 100 requests on each device, before or now"
    assert "skipped: latency p95: fewer than 100 requests" in "\n".join(words.lines(judge(wave).findings))
    assert finding(Check.LATENCY_P95, wave, Limits(strict=True)).verdict is INCONCLUSIVE


def test_a_class_that_a_check_cannot_judge_is_named() -> None:
    wave = [good("a"), good("b", "large", requests=requests(50)), good("c", "tiny", requests=requests(60))]
    found = {item.device_class: item for item in findings(Check.LATENCY_P95, wave)}
    assert found["small"].estimate is not None
    assert found["large"].cause is found["tiny"].cause is Cause.TOO_FEW_REQUESTS
    assert "skipped: latency p95 in large, tiny: fewer than 100 requests on each device, before or now" in words.lines(
        judge(wave).findings
    )


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (1, "the server restarted more than 0 times on 1 of 1 device (at most 0): a 1 time"),
        (3, "the server restarted more than 0 times on 1 of 1 device (at most 0): a 3 times"),
    ],
)
def test_one_thing_is_told_in_the_singular(count: int, text: str) -> None:
    assert words.reason(finding(Check.RESTARTS, [good("a", restarts=count)], Limits(restarts_max=0))) == text


def test_units_are_those_of_the_limits() -> None:
    assert {check.unit for check in Check if (check.limit or "").endswith("_ratio_max")} == {Unit.RATIO}
    assert {check.unit for check in Check if (check.limit or "").endswith("_bytes_max")} == {Unit.BYTES}
    limits = {check.limit for check in Check} - {None}
    assert limits == {name for name, allowed in ranges().items() if not allowed.required}


# ---- the waves before ----


def judged(earlier: list[DeviceObservation], **limits: Any) -> dict[tuple[Check, str | None], Verdict]:
    """The verdicts of a wave of one small device that is well and one large device that is away."""
    wave = [
        DeviceObservation("new", "small", Outcome.UPDATED, first_installation=True),
        DeviceObservation("gone", "large", Outcome.AWAY),
    ]
    _verdict, findings = judge(wave, limits=Limits.from_dict({**OFF, **limits}), earlier=earlier)
    return {(finding.check, finding.device_class): finding.verdict for finding in findings}


def test_failures_add_up_over_the_waves() -> None:
    failed = [DeviceObservation("old", "small", Outcome.FAILED)]
    assert judged([], max_failures=0)[Check.FAILED_DEVICES, None] == PASS
    assert judged(failed, max_failures=0)[Check.FAILED_DEVICES, None] == FAIL
    assert judged(failed, max_failures=1)[Check.FAILED_DEVICES, None] == PASS
    assert judged(failed, max_failures="30%")[Check.FAILED_DEVICES, None] == FAIL
    assert judged(failed, max_failures="34%")[Check.FAILED_DEVICES, None] == PASS


def test_a_class_that_an_earlier_wave_heard_of_is_known() -> None:
    assert judged([], reporting_share_min=0.5)[Check.COVERAGE, "large"] == INCONCLUSIVE
    assert (
        judged([DeviceObservation("old", "large", Outcome.AWAY)], reporting_share_min=0.5)[Check.COVERAGE, "large"]
        == INCONCLUSIVE
    )
    assert (Check.COVERAGE, "large") not in judged(
        [DeviceObservation("old", "large", Outcome.UPDATED)], reporting_share_min=0.5
    )
