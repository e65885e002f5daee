# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The verdict on a version on trial: each limit just within and just beyond, and what is not known."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.edgeml.fleet.plugins.module_utils._device.state import WATCHING, Limits, Record, Trial
from ansible_collections.edgeml.fleet.plugins.module_utils._device.trial import (
    BOOTS_MAX,
    COMMIT,
    MEMORY_GROWTH_BYTES,
    REVERT,
    UNREADY_MAX,
    WAIT,
    Reading,
    judge_trial,
)

MIB = 1 << 20
SECONDS = 300.0
BEFORE = Record(requests=1000, errors=10, timed=1000, latency_seconds_sum=10.0, resident_bytes=100 * MIB, restarts=5)
NOW = Record(requests=1000, errors=10, timed=1000, latency_seconds_sum=10.0, resident_bytes=100 * MIB, restarts=5)
TRIAL = Trial(
    phase=WATCHING,
    active="1.0.0",
    previous=None,
    seconds=SECONDS,
    limits=Limits(crashes_max=2, error_rate_max=0.05, latency_ratio_max=3.0, requests_min=50),
    baseline=BEFORE,
    memory_bytes=10 * MIB,
    boot_id="boot",
    since=0.0,
    begun=Record(restarts=5),
)


def trial(**changes: Any) -> Trial:
    return TRIAL._replace(**changes)


def limits(**changes: Any) -> Limits:
    return TRIAL.limits._replace(**changes)


def reading(answers: bool = True, ready: bool | None = True, **changes: Any) -> Reading:
    return Reading(answers, ready if answers else None, NOW._replace(**changes))


def judge(the_trial: Trial, look: Reading, elapsed: float = SECONDS, last: bool = False) -> str:
    """The verdict, after a look at its reason."""
    verdict, reason = judge_trial(the_trial, look, elapsed, last)
    assert reason
    return verdict


# ---- within the limits ----


@pytest.mark.parametrize(
    ("elapsed", "last", "verdict", "reason"),
    [
        (0.0, False, WAIT, "300 s are left"),
        (299.0, False, WAIT, "1 s are left"),
        (300.0, False, COMMIT, "within its limits for 300 s"),
        (301.0, False, COMMIT, "within its limits for 301 s"),
        (0.0, True, COMMIT, "within its limits for 0 s, when another version was asked for"),
        (42.0, True, COMMIT, "within its limits for 42 s, when another version was asked for"),
        (300.0, True, COMMIT, "within its limits for 300 s, when another version was asked for"),
    ],
)
def test_a_version_within_its_limits_is_committed_when_its_time_is_over(
    elapsed: float, last: bool, verdict: str, reason: str
) -> None:
    assert judge_trial(TRIAL, reading(), elapsed, last) == (verdict, reason)


@pytest.mark.parametrize("baseline", [None, BEFORE, Record()])
@pytest.mark.parametrize("record", [None, NOW, Record()])
def test_what_nobody_counts_is_not_held_against_a_version(baseline: Record | None, record: Record | None) -> None:
    assert judge(trial(baseline=baseline), Reading(True, True, record)) == COMMIT


# ---- each limit ----


@pytest.mark.parametrize(
    ("crashes", "restarts", "verdict"),
    [(2, 5, COMMIT), (3, 5, REVERT), (0, 7, COMMIT), (0, 8, REVERT), (1, 6, COMMIT), (1, 7, REVERT), (2, 4, COMMIT)],
)
def test_crashes_and_restarts_are_counted_together(crashes: int, restarts: int, verdict: str) -> None:
    assert judge(trial(crashes=crashes), reading(restarts=restarts)) == verdict


@pytest.mark.parametrize(("before", "now"), [(None, 20), (2, None), (None, None)])
def test_restarts_that_are_not_known_are_none(before: int | None, now: int | None) -> None:
    assert judge(trial(begun=Record(restarts=before)), reading(restarts=now)) == COMMIT
    assert judge(trial(begun=None), reading(restarts=now)) == COMMIT


def test_crashes_are_told() -> None:
    assert judge_trial(trial(crashes=3), reading(), 1.0) == (REVERT, "the service crashed 3 times (at most 2)")
    assert judge(trial(limits=limits(crashes_max=0)), reading()) == COMMIT
    assert judge(trial(limits=limits(crashes_max=0), crashes=1), reading()) == REVERT


@pytest.mark.parametrize(("boots", "verdict"), [(BOOTS_MAX, COMMIT), (BOOTS_MAX + 1, REVERT)])
def test_restarts_of_the_device(boots: int, verdict: str) -> None:
    assert judge(trial(boots=boots), reading()) == verdict


@pytest.mark.parametrize(
    ("requests", "errors", "usual", "verdict"),
    [
        (1000, 50, 0, COMMIT),
        (1000, 51, 0, REVERT),
        (1000, 1000, 0, REVERT),
        (1000, 200, 200, COMMIT),
        (1000, 201, 200, REVERT),
        (50, 3, 0, REVERT),
        (49, 49, 0, COMMIT),
        (0, 0, 0, COMMIT),
    ],
    ids=["at the limit", "beyond", "all", "as usual", "beyond the usual", "just enough", "too few", "none"],
)
def test_errors(requests: int, errors: int, usual: int, verdict: str) -> None:
    baseline = BEFORE._replace(errors=usual)
    look = reading(requests=requests, errors=errors, latency_seconds_sum=0.0)
    assert judge(trial(baseline=baseline), look) == verdict


def test_errors_are_told() -> None:
    assert judge_trial(TRIAL, reading(errors=61), 1.0) == (
        REVERT,
        "61 of 1000 requests failed (at most 5.0%, and 1.0% did of the version before)",
    )


@pytest.mark.parametrize("baseline", [None, Record()])
def test_errors_count_without_a_version_before(baseline: Record | None) -> None:
    look = reading(errors=51)
    assert judge(trial(baseline=baseline), look) == REVERT


@pytest.mark.parametrize(
    ("requests", "errors", "verdict"), [(1050, 902, COMMIT), (1050, 903, REVERT), (1049, 949, COMMIT), (50, 3, REVERT)]
)
def test_what_a_version_did_before_its_trial_is_not_held_against_it(requests: int, errors: int, verdict: str) -> None:
    """It failed once and is tried again; the last case: the server was restarted since, and counts anew."""
    again = trial(begun=Record(requests=1000, errors=900, timed=100, latency_seconds_sum=10.0, restarts=5))
    assert judge(again, reading(requests=requests, errors=errors)) == verdict


def test_a_version_that_is_no_worse_than_the_one_before_is_kept() -> None:
    broken = BEFORE._replace(errors=1000)
    assert judge(trial(baseline=broken), reading(errors=1000)) == COMMIT


@pytest.mark.parametrize(
    ("seconds", "verdict"), [(5.0, COMMIT), (10.0, COMMIT), (30.0, COMMIT), (30.1, REVERT), (1e9, REVERT)]
)
def test_latency(seconds: float, verdict: str) -> None:
    assert judge(TRIAL, reading(latency_seconds_sum=seconds)) == verdict


def test_latency_is_told() -> None:
    assert judge_trial(TRIAL, reading(latency_seconds_sum=40.0), 1.0) == (
        REVERT,
        "a request takes 40.00 ms, 4.00 times the 10.00 ms of the version before (at most 3 times)",
    )


@pytest.mark.parametrize(
    "baseline",
    [
        None,
        Record(),
        BEFORE._replace(requests=49, timed=49, latency_seconds_sum=0.49),
        BEFORE._replace(latency_seconds_sum=0.0),
    ],
    ids=["none", "nothing", "too few", "no time"],
)
@pytest.mark.parametrize("requests_min", [0, 50])
def test_latency_is_compared_with_enough_requests_only(baseline: Record | None, requests_min: int) -> None:
    the_trial = trial(baseline=baseline, limits=limits(requests_min=50))
    assert judge(the_trial, reading(latency_seconds_sum=1e9)) == COMMIT
    few = reading(requests=49, errors=0, timed=49, latency_seconds_sum=1e9)
    assert judge(TRIAL, few) == COMMIT


def test_without_a_least_number_of_requests_a_single_one_is_judged() -> None:
    the_trial = trial(limits=limits(requests_min=0))
    assert judge(the_trial, reading(requests=1, errors=1)) == REVERT
    assert judge(the_trial, reading(requests=0, errors=0, latency_seconds_sum=0.0)) == COMMIT


def test_times_without_requests_are_no_latency() -> None:
    baseline = Record(requests=0, latency_seconds_sum=1.0)
    assert judge(trial(baseline=baseline, limits=limits(requests_min=0)), reading()) == COMMIT


MOST = 100 * MIB + 10 * MIB + MEMORY_GROWTH_BYTES


@pytest.mark.parametrize(("resident", "verdict"), [(MOST, COMMIT), (MOST + 1, REVERT), (None, COMMIT), (0, COMMIT)])
def test_memory(resident: int | None, verdict: str) -> None:
    assert judge(TRIAL, reading(resident_bytes=resident)) == verdict
    unknown = BEFORE._replace(resident_bytes=None)
    assert judge(trial(baseline=unknown), reading(resident_bytes=resident)) == COMMIT


def test_memory_is_told() -> None:
    assert judge_trial(TRIAL, reading(resident_bytes=MOST + 1), 1.0) == (
        REVERT,
        (
            f"the server uses {MOST + 1} bytes (at most {MOST}: {100 * MIB} before, {10 * MIB} that the release "
            f"declares, and {MEMORY_GROWTH_BYTES} to grow by)"
        ),
    )


def test_memory_is_judged_without_any_request() -> None:
    look = Reading(True, True, Record(resident_bytes=MOST + 1))
    assert judge(TRIAL, look, elapsed=0.0) == REVERT


# ---- whether it is there at all ----


@pytest.mark.parametrize("record", [None, NOW])
def test_a_server_that_does_not_answer_is_waited_for(record: Record | None) -> None:
    silent = Reading(False, None, record)
    for elapsed in (0.0, SECONDS, 100 * SECONDS):
        assert judge(trial(unready=UNREADY_MAX), silent, elapsed) == WAIT
        assert judge(trial(unready=UNREADY_MAX + 1), silent, elapsed) == REVERT
        assert judge(trial(unready=0), silent, elapsed, last=True) == WAIT


@pytest.mark.parametrize("ready", [False, None])
def test_a_version_that_is_not_ready_where_the_server_answers_is_reverted(ready: bool | None) -> None:
    assert judge(TRIAL, reading(ready=ready), elapsed=0.0) == REVERT
    assert judge(TRIAL, reading(ready=ready), last=True) == REVERT


def test_looks_without_an_answer_are_forgiven_once_it_answers() -> None:
    assert judge(trial(unready=100), reading()) == COMMIT


# ---- whatever happens ----

COUNTS = st.integers(0, 200)
RECORDS = st.builds(
    Record,
    requests=COUNTS,
    errors=COUNTS,
    latency_seconds_sum=st.floats(0, 100),
    resident_bytes=st.none() | st.integers(0, 1 << 31),
    restarts=st.none() | st.integers(0, 9),
)
TRIALS = st.builds(
    Trial,
    phase=st.just(WATCHING),
    active=st.just("1.0.0"),
    previous=st.none(),
    seconds=st.floats(0, 1000),
    limits=st.builds(
        Limits,
        crashes_max=st.integers(0, 4),
        error_rate_max=st.floats(0, 1),
        latency_ratio_max=st.floats(0, 10),
        requests_min=COUNTS,
    ),
    baseline=st.none() | RECORDS,
    memory_bytes=st.integers(0, 1 << 30),
    boot_id=st.just("boot"),
    since=st.just(0.0),
    crashes=st.integers(0, 5),
    boots=st.integers(0, 5),
    unready=st.integers(0, 5),
    begun=st.none() | RECORDS,
)
READINGS = st.one_of(
    st.builds(Reading, st.just(True), st.booleans(), st.none() | RECORDS),
    st.builds(Reading, st.just(False), st.none(), st.none() | RECORDS),
)


def broken(the_trial: Trial, look: Reading) -> bool:
    """Whether a limit is broken, said the other way round: with products where the judge divides."""
    now, before, most = look.record, the_trial.baseline, the_trial.limits
    if the_trial.crashes > most.crashes_max or the_trial.boots > BOOTS_MAX or look.ready is not True:
        return True
    if now is None:
        return False
    begun = the_trial.begun or Record()
    if now.requests < begun.requests or now.errors < begun.errors:
        begun = Record()
    requests, errors = now.requests - begun.requests, now.errors - begun.errors
    if requests and requests >= most.requests_min:
        usual = before.errors / before.requests if before and before.requests else 0.0
        if errors / requests > max(most.error_rate_max, usual):
            return True
    if before is not None and before.resident_bytes is not None and now.resident_bytes is not None:
        return now.resident_bytes - before.resident_bytes > the_trial.memory_bytes + MEMORY_GROWTH_BYTES
    return False


@settings(max_examples=150)
@given(TRIALS, READINGS, st.floats(0, 2000), st.booleans())
def test_no_version_is_committed_beyond_a_limit_and_none_reverted_without_a_reason(
    the_trial: Trial, look: Reading, elapsed: float, last: bool
) -> None:
    verdict, reason = judge_trial(the_trial, look, elapsed, last)
    assert verdict in (COMMIT, REVERT, WAIT)
    if verdict == COMMIT:
        assert not broken(the_trial, look)
        assert last or elapsed >= the_trial.seconds
    if verdict == REVERT:
        assert re.search(r"\d", reason) or not look.ready
    if last and look.answers:
        assert verdict != WAIT


@given(TRIALS, READINGS, st.floats(0, 2000), st.floats(0, 2000))
def test_time_alone_breaks_no_limit(the_trial: Trial, look: Reading, early: float, late: float) -> None:
    verdicts = {judge(the_trial, look, elapsed) for elapsed in (early, late)}
    assert verdicts in ({REVERT}, {WAIT}, {COMMIT}, {WAIT, COMMIT})
