# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The gate: it passes nothing that it did not see, and fail wins."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.edgeml.fleet.plugins.module_utils._gate import (
    ALREADY,
    AWAY,
    FAIL,
    FAILED,
    INCONCLUSIVE,
    PASS,
    REFUSED,
    SILENT,
    UPDATED,
    Finding,
    Limits,
    Report,
    judge,
    outcome,
    report,
)

ALL_LIMITS = Limits(
    failed_max=0,
    coverage_min=0.5,
    accuracy_drop_max=0.02,
    accuracy_min=0.9,
    error_rate_max=0.01,
    latency_ratio_max=2.0,
)
SWAPPED = {"changed": True, "version": "1.1.0", "live": "1.1.0"}
GOOD_MODEL = {
    "live": "1.1.0",
    "active": "1.1.0",
    "replaced": "1.0.0",
    "baseline": {"accuracy": 0.92, "latency_seconds": 0.004},
    "probe": {"accuracy": 0.98, "latency_seconds": 0.004},
    "requests": {"requests": 500, "errors": 0},
}
READ = {"model": GOOD_MODEL}


def good(name: str = "edge-1", stratum: str = "small", **changes: Any) -> Report:
    fields: dict[str, Any] = {
        "name": name,
        "stratum": stratum,
        "outcome": UPDATED,
        "replaced": "1.0.0",
        "baseline": {"accuracy": 0.92, "latency_seconds": 0.004},
        "current": {"accuracy": 0.98, "latency_seconds": 0.004},
        "requests": {"requests": 500, "errors": 0},
    }
    return Report(**{**fields, **changes})


def finding(check: str, wave: list[Report], limits: Limits = ALL_LIMITS) -> Finding:
    """The one finding of a check."""
    (found,) = [item for item in judge(wave, limits)[1] if item.check == check]
    return found


# ---- outcomes ----


@pytest.mark.parametrize(
    ("swap", "read", "expected"),
    [
        (SWAPPED, READ, UPDATED),
        ({**SWAPPED, "changed": False}, READ, ALREADY),
        ({"unreachable": True, "changed": False}, {}, AWAY),
        ({"failed": True, "refused": True}, {"skipped": True}, REFUSED),
        ({"failed": True, "refused": False}, {"skipped": True}, FAILED),
        ({"failed": True}, {"skipped": True}, FAILED),
        ({"failed": True, "refused": True}, READ, REFUSED),
        (SWAPPED, {"unreachable": True}, SILENT),
        (SWAPPED, {"failed": True}, SILENT),
        (SWAPPED, {"failed": True, "model": GOOD_MODEL}, SILENT),
        (SWAPPED, {}, SILENT),
        ({}, {}, SILENT),
        (SWAPPED, {"model": {**GOOD_MODEL, "live": None}}, FAILED),
        (SWAPPED, {"model": {**GOOD_MODEL, "live": "1.0.0", "active": "1.0.0"}}, FAILED),
        ({**SWAPPED, "changed": False}, {"model": {**GOOD_MODEL, "live": "1.0.0"}}, FAILED),
    ],
)
def test_outcomes(swap: dict[str, Any], read: dict[str, Any], expected: str) -> None:
    assert outcome(swap, read) == expected
    assert report("edge-1", "small", swap, read).outcome == expected


def test_a_report_holds_what_was_measured() -> None:
    assert report("edge-1", "small", SWAPPED, READ) == good()


@pytest.mark.parametrize(
    "read", [{"unreachable": True, "model": GOOD_MODEL}, {"model": {**GOOD_MODEL, "live": "1.0.0"}}]
)
def test_a_device_that_does_not_serve_the_new_version_measures_nothing(read: dict[str, Any]) -> None:
    found = report("edge-1", "small", SWAPPED, read)
    assert (found.replaced, found.baseline, found.current, found.requests) == (None, None, None, None)


# ---- verdicts ----


def test_a_good_wave_passes_every_check() -> None:
    verdict, findings = judge([good("a"), good("b", "large"), good("c", outcome=ALREADY)], ALL_LIMITS)
    assert verdict == PASS
    assert [item.check for item in findings] == [
        "failed devices",
        "coverage",
        "accuracy",
        "accuracy drop",
        "error rate",
        "latency",
    ]
    assert {item.verdict for item in findings} == {PASS}


def test_limits_that_are_off_are_not_checked() -> None:
    verdict, findings = judge([good(current=None, baseline=None, requests=None)], Limits())
    assert verdict == PASS
    assert [item.check for item in findings] == ["failed devices", "coverage"]


def test_an_empty_wave_is_inconclusive() -> None:
    assert judge([], Limits())[0] == INCONCLUSIVE
    assert judge([], ALL_LIMITS)[0] == INCONCLUSIVE


def test_the_wave_may_be_an_iterator() -> None:
    assert judge(iter([good()]), ALL_LIMITS)[0] == PASS


@pytest.mark.parametrize("bad", [REFUSED, FAILED, SILENT])
def test_one_device_too_many_that_failed_fails_the_wave(bad: str) -> None:
    wave = [good("a"), good("b"), Report("c", "small", bad)]
    verdict, findings = judge(wave, ALL_LIMITS)
    assert verdict == FAIL
    assert findings[0] == Finding(
        "failed devices", FAIL, f"1 of 3 devices refused, failed or fell silent (at most 0): c {bad}"
    )
    assert judge(wave, Limits(failed_max=1))[0] == PASS


def test_devices_that_are_away_are_not_failures_but_lower_the_coverage() -> None:
    away = Report("x", "small", AWAY)
    assert finding("failed devices", [good(), away]).verdict == PASS
    assert judge([good(), away], ALL_LIMITS)[0] == PASS
    assert judge([good(), away, away], ALL_LIMITS)[0] == INCONCLUSIVE
    assert finding("coverage", [good(), away, away]).reason == "1 of 3 devices reported (33%, at least 50%)"


@pytest.mark.parametrize("coverage_min", [0.0, 0.5])
def test_a_wave_that_is_all_away_is_inconclusive_whatever_the_limit(coverage_min: float) -> None:
    assert judge([Report("x", "small", AWAY)], Limits(coverage_min=coverage_min))[0] == INCONCLUSIVE


def test_the_names_of_ten_failed_devices_are_enough() -> None:
    reason = finding("failed devices", [Report(f"d{number}", "small", FAILED) for number in range(1000)]).reason
    assert reason.count("failed,") == 9
    assert "1000 of 1000" in reason


# ---- each limit, on both sides ----


@pytest.mark.parametrize(
    ("check", "inside", "outside"),
    [
        ("accuracy", {"current": {"accuracy": 0.9}}, {"current": {"accuracy": 0.8999}}),
        (
            "accuracy drop",
            {"baseline": {"accuracy": 1.0}, "current": {"accuracy": 0.98}},
            {"baseline": {"accuracy": 1.0}, "current": {"accuracy": 0.9799}},
        ),
        (
            "error rate",
            {"requests": {"requests": 100, "errors": 1}},
            {"requests": {"requests": 100, "errors": 2}},
        ),
        (
            "latency",
            {"baseline": {"latency_seconds": 0.1}, "current": {"latency_seconds": 0.2}},
            {"baseline": {"latency_seconds": 0.1}, "current": {"latency_seconds": 0.2001}},
        ),
    ],
)
def test_a_limit_is_the_last_value_that_passes(check: str, inside: dict[str, Any], outside: dict[str, Any]) -> None:
    assert finding(check, [good(**inside)]).verdict == PASS
    assert finding(check, [good(**outside)]).verdict == FAIL
    assert judge([good(**outside)], ALL_LIMITS)[0] == FAIL


def test_reasons_tell_numbers() -> None:
    wave = [good(current={"accuracy": 0.34, "latency_seconds": 0.01}, requests={"requests": 200, "errors": 7})]
    assert [item.reason for item in judge(wave, ALL_LIMITS)[1]] == [
        "0 of 1 devices refused, failed or fell silent (at most 0)",
        "1 of 1 devices reported (100%, at least 50%)",
        "0.3400 in small (at least 0.9000)",
        "0.5800 lost in small (from 0.9200 to 0.3400; at most 0.0200)",
        "7 of 200 requests failed (at most 1.00%)",
        "2.5000 times the old version's in small (at most 2.00)",
    ]


@pytest.mark.parametrize(
    ("check", "bad"),
    [
        ("accuracy", {"current": {"accuracy": 0.5, "latency_seconds": 0.004}}),
        ("accuracy drop", {"current": {"accuracy": 0.5, "latency_seconds": 0.004}}),
        ("latency", {"current": {"accuracy": 0.98, "latency_seconds": 0.4}}),
    ],
)
def test_a_fault_of_one_kind_of_hardware_does_not_hide_behind_the_others(check: str, bad: dict[str, Any]) -> None:
    wave = [good(f"s{number}") for number in range(99)] + [good("l1", "large", **bad)]
    found = finding(check, wave)
    assert found.verdict == FAIL
    assert "in large" in found.reason


def test_a_device_is_measured_against_its_stratum() -> None:
    # One odd device among many of its kind is noise; the limit is for the kind.
    wave = [good(f"s{number}") for number in range(99)] + [
        good("s99", current={"accuracy": 0.5, "latency_seconds": 0.004})
    ]
    assert finding("accuracy drop", wave).verdict == PASS


def test_errors_are_counted_over_the_requests_of_the_wave() -> None:
    wave = [
        good("a", requests={"requests": 900, "errors": 0}),
        good("b", requests={"requests": 100, "errors": 10}),
    ]
    assert finding("error rate", wave).verdict == PASS
    wave.append(good("c", requests={"requests": 0, "errors": 0}))
    assert finding("error rate", wave).verdict == PASS


# ---- what was not measured never passes ----


@pytest.mark.parametrize(
    ("check", "missing"),
    [
        ("accuracy", {"current": None}),
        ("accuracy", {"current": {}}),
        ("accuracy", {"current": {"accuracy": None}}),
        ("accuracy drop", {"current": None}),
        ("accuracy drop", {"baseline": None}),
        ("accuracy drop", {"baseline": {"latency_seconds": 0.1}}),
        ("error rate", {"requests": None}),
        ("error rate", {"requests": {"requests": 0, "errors": 0}}),
        ("latency", {"baseline": None}),
        ("latency", {"current": None}),
        ("latency", {"baseline": {"accuracy": 0.92, "latency_seconds": 0}}),
    ],
)
def test_a_missing_measurement_is_inconclusive(check: str, missing: dict[str, Any]) -> None:
    found = finding(check, [good(**missing)])
    assert found.verdict == INCONCLUSIVE
    assert found.reason.startswith("not measured on ")
    assert judge([good(**missing)], ALL_LIMITS)[0] == INCONCLUSIVE


@pytest.mark.parametrize("missing", [{"current": None}, {"baseline": None}, {"requests": None}])
def test_one_device_without_a_measurement_is_inconclusive_and_named(missing: dict[str, Any]) -> None:
    verdict, findings = judge([good("a"), good("b"), good("c", **missing)], ALL_LIMITS)
    assert verdict == INCONCLUSIVE
    assert any(item.reason.startswith("not measured on c; ") for item in findings)


def test_fail_wins_over_inconclusive() -> None:
    wave = [good("a", current={"accuracy": 0.1, "latency_seconds": 0.004}), good("b", current=None)]
    assert finding("accuracy", wave).verdict == FAIL
    assert judge(wave, ALL_LIMITS)[0] == FAIL
    away = [Report("x", "small", AWAY)] * 9
    assert judge([*away, Report("y", "small", FAILED)], ALL_LIMITS)[0] == FAIL


def test_a_first_installation_has_nothing_to_be_compared_with() -> None:
    first = good(replaced=None, baseline=None)
    verdict, findings = judge([first], ALL_LIMITS)
    assert verdict == PASS
    assert [item.check for item in findings] == ["failed devices", "coverage", "accuracy", "error rate"]


SHARES = st.none() | st.floats(0, 1)
PROBES = st.none() | st.fixed_dictionaries({}, optional={"accuracy": SHARES, "latency_seconds": SHARES})
REPORTS = st.builds(
    Report,
    name=st.text(max_size=5),
    stratum=st.sampled_from(["small", "large"]),
    outcome=st.sampled_from([UPDATED, ALREADY, REFUSED, FAILED, SILENT, AWAY]),
    replaced=st.sampled_from([None, "1.0.0"]),
    baseline=PROBES,
    current=PROBES,
    requests=st.none() | st.fixed_dictionaries({"requests": st.integers(0, 10), "errors": st.integers(0, 10)}),
)
LIMITS = st.builds(
    Limits,
    failed_max=st.integers(0, 3),
    coverage_min=st.floats(0, 1),
    accuracy_drop_max=SHARES,
    accuracy_min=SHARES,
    error_rate_max=SHARES,
    latency_ratio_max=SHARES,
)


@given(st.lists(REPORTS, max_size=8), LIMITS)
def test_every_wave_has_a_verdict_and_a_pass_is_earned(wave: list[Report], limits: Limits) -> None:
    verdict, findings = judge(wave, limits)
    verdicts = {item.verdict for item in findings}
    assert verdict == (FAIL if FAIL in verdicts else INCONCLUSIVE if INCONCLUSIVE in verdicts else PASS)
    if verdict != PASS:
        return
    serving = [item for item in wave if item.outcome in (UPDATED, ALREADY)]
    assert serving
    assert sum(item.outcome in (REFUSED, FAILED, SILENT) for item in wave) <= limits.failed_max
    for item in serving:
        if limits.accuracy_min is not None:
            assert item.current is not None
            assert item.current["accuracy"] is not None
        if limits.accuracy_drop_max is not None and item.replaced is not None:
            assert item.baseline is not None
            assert item.baseline["accuracy"] is not None
        if limits.error_rate_max is not None:
            assert item.requests is not None


@given(st.lists(REPORTS, max_size=8), LIMITS, st.randoms(use_true_random=False))
def test_the_order_of_the_devices_does_not_matter(wave: list[Report], limits: Limits, order: Any) -> None:
    shuffled = list(wave)
    order.shuffle(shuffled)
    assert judge(shuffled, limits)[0] == judge(wave, limits)[0]
