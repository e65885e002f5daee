# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a device knows of a model: it is read as it was written, or refused with the path of the file."""

from __future__ import annotations

import copy
import json
import re
from contextlib import suppress
from typing import Any

import pytest
from documents import Place, places, replaced
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.edgeml.fleet.plugins.module_utils._common.errors import StoreError
from ansible_collections.edgeml.fleet.plugins.module_utils._device.state import (
    FAILED_MAX,
    SWITCHING,
    WATCHING,
    Failure,
    Limits,
    ModelServer,
    Record,
    State,
    Trial,
    parse_state,
    state_document,
)

ORIGIN = "/store/models/digits/state.json"

VERSIONS = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,63}", fullmatch=True)
COUNTS = st.integers(0, 2**63)
SECONDS = st.floats(0, 1e12, allow_nan=False)
RECORDS = st.builds(
    Record,
    requests=COUNTS,
    errors=COUNTS,
    latency_seconds_sum=SECONDS,
    resident_bytes=st.none() | COUNTS,
    restarts=st.none() | COUNTS,
)
LIMITS = st.builds(
    Limits, crashes_max=COUNTS, error_rate_max=st.floats(0, 1), latency_ratio_max=SECONDS, requests_min=COUNTS
)
TRIALS = st.builds(
    Trial,
    phase=st.sampled_from([SWITCHING, WATCHING]),
    active=st.none() | VERSIONS,
    previous=st.none() | VERSIONS,
    seconds=SECONDS,
    limits=LIMITS,
    baseline=st.none() | RECORDS,
    memory_bytes=COUNTS,
    boot_id=st.text(),
    since=SECONDS,
    crashes=COUNTS,
    boots=COUNTS,
    unready=COUNTS,
    begun=st.none() | RECORDS,
)
FAILURES = st.builds(Failure, reason=st.text(), time=st.text(), digest=st.text())
STATES = st.builds(
    State,
    active=VERSIONS,
    previous=st.none() | VERSIONS,
    trial=st.none() | TRIALS,
    failed=st.dictionaries(VERSIONS, FAILURES, max_size=3),
    serving=st.none()
    | st.builds(
        ModelServer, strategy=st.sampled_from(["load", "reload", "restart", "none"]), server=st.text(), unit=st.text()
    ),
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)

TRIAL = Trial(
    phase=WATCHING,
    active="1.0.0",
    previous="0.9.0",
    seconds=300.0,
    limits=Limits(),
    baseline=Record(requests=1, errors=0, latency_seconds_sum=0.5, resident_bytes=1 << 20, restarts=0),
    memory_bytes=1 << 20,
    boot_id="boot",
    since=1.0,
    begun=Record(requests=7, errors=1),
)
FAILURE = Failure("it crashed 3 times", "2026-11-21T10:15:09Z", "d" * 64)
FULL = State("1.1.0", "1.0.0", TRIAL, {"0.8.0": FAILURE}, ModelServer())


def through_json(state: State) -> Any:
    """The state's document as it comes back from a file."""
    return json.loads(json.dumps(state_document(state), sort_keys=True))


GOOD = through_json(FULL)


def changed(place: Place, value: Any) -> Any:
    """The good document with one value replaced."""
    return replaced(GOOD, place, value)


# ---- there and back ----


def test_a_state_is_read_as_it_was_written() -> None:
    assert parse_state(GOOD, ORIGIN) == FULL
    assert parse_state(through_json(State()), ORIGIN) == State()


@settings(max_examples=30)
@given(STATES)
def test_any_state_is_read_as_it_was_written(state: State) -> None:
    read = parse_state(through_json(state), ORIGIN)
    assert read == state
    assert list(read.failed) == list(state.failed)


def test_a_state_from_before_there_were_trials_is_read() -> None:
    document = {name: GOOD[name] for name in ("schema", "active", "previous")}
    assert parse_state(document, ORIGIN) == State("1.1.0", "1.0.0")


# ---- what is damaged is named ----

WRONG: list[tuple[tuple[Any, ...], Any, str]] = [
    ((), None, ""),
    ((), [], ""),
    ((), "state", ""),
    ((), 3, ""),
    ((), {}, "schema"),
    (("schema",), 2, "expected schema 1; found 2"),
    (("schema",), True, "expected schema 1; found True"),
    (("schema",), "1", "expected schema 1; found '1'"),
    (("active",), "../1.0.0", "active: expected 1 to 64 of the characters"),
    (("active",), 1, "active: expected 1 to 64"),
    (("active",), "", "active: expected 1 to 64"),
    (("active",), None, "a trial, and no active version"),
    (("previous",), "-rf", "previous: expected 1 to 64"),
    (("previous",), "x" * 10_240, "previous: expected 1 to 64"),
    (("failed",), 7, ""),
    (("failed",), {}, "expected a list"),
    (("failed",), "", "expected a list"),
    (("failed", 0), "1.0.0", ""),
    (("failed", 0, "version"), "1.0.0\n", "failed: expected 1 to 64"),
    (("failed", 0, "reason"), None, "Failure.reason: expected str; found None"),
    (("failed", 0, "time"), 3, "Failure.time: expected str; found 3"),
    (("failed", 0, "extra"), 3, "extra"),
    (("serving",), "load", ""),
    (("serving", "strategy"), None, "ModelServer.strategy: expected str; found None"),
    (("serving", "strategy"), "hope", "serving.strategy: expected load, reload, restart, smp or none; found 'hope'"),
    (("serving", "port"), 80, "port"),
    (("trial",), False, ""),
    (("trial",), {}, ""),
    (("trial", "phase"), "hoping", "trial.phase: expected switching or watching; found 'hoping'"),
    (("trial", "active"), "..", "trial.active: expected 1 to 64"),
    (("trial", "seconds"), "300", "Trial.seconds: expected float; found '300'"),
    (("trial", "seconds"), True, "Trial.seconds: expected float; found True"),
    (("trial", "seconds"), float("nan"), "Trial.seconds: expected float; found nan"),
    (("trial", "since"), float("inf"), "Trial.since: expected float; found inf"),
    (("trial", "crashes"), 1.5, "Trial.crashes: expected int; found 1.5"),
    (("trial", "boot_id"), None, "Trial.boot_id: expected str; found None"),
    (("trial", "unknown"), 1, "unknown"),
    (("trial", "limits"), None, ""),
    (("trial", "limits", "requests_min"), "50", "Limits.requests_min: expected int; found '50'"),
    (("trial", "limits", "error_rate_max"), float("nan"), "Limits.error_rate_max: expected float; found nan"),
    (("trial", "baseline"), [], ""),
    (("trial", "baseline", "requests"), None, "Record.requests: expected int; found None"),
    (("trial", "baseline", "resident_bytes"), 1.0, "Record.resident_bytes: expected int | None; found 1.0"),
]


@pytest.mark.parametrize(("place", "value", "message"), WRONG)
def test_a_damaged_state_is_named(place: tuple[Any, ...], value: Any, message: str) -> None:
    with pytest.raises(StoreError, match=f"^{ORIGIN}: .*{re.escape(message)}"):
        parse_state(changed(place, value), ORIGIN)


REQUIRED = [("schema",), ("active",), ("previous",), ("failed", 0, "version"), ("failed", 0, "reason")] + [
    ("trial", name) for name in Trial._fields if name not in Trial._field_defaults
]


@pytest.mark.parametrize("place", REQUIRED, ids=str)
def test_a_missing_field_is_named(place: tuple[Any, ...]) -> None:
    document = copy.deepcopy(GOOD)
    inner: Any = document
    for key in place[:-1]:
        inner = inner[key]
    del inner[place[-1]]
    with pytest.raises(StoreError, match=f"^{ORIGIN}: .*{place[-1]}"):
        parse_state(document, ORIGIN)


@given(JSON)
def test_any_json_is_a_state_or_a_store_error(document: Any) -> None:
    with pytest.raises(StoreError, match=f"^{ORIGIN}: "):
        parse_state(document, ORIGIN)


@given(st.sampled_from(places(GOOD)), JSON)
def test_a_state_with_any_value_anywhere_is_one_that_can_be_written_or_a_store_error(place: Any, value: Any) -> None:
    with suppress(StoreError):
        state = parse_state(changed(place, value), ORIGIN)
        assert parse_state(through_json(state), ORIGIN) == state


# ---- versions that failed ----


def failure(number: int) -> Failure:
    return Failure(f"reason {number}", "2026-11-21T10:15:09Z", "")


@given(st.lists(st.integers(0, FAILED_MAX + 10), max_size=3 * FAILED_MAX))
def test_the_failures_that_are_kept_are_the_last_ones_in_their_order(numbers: list[int]) -> None:
    state = FULL
    for number in numbers:
        state = state.with_failure(f"2.{number}", failure(number))
    last_first = dict.fromkeys([*(f"2.{number}" for number in reversed(numbers)), "0.8.0"])
    assert list(state.failed) == list(last_first)[:FAILED_MAX][::-1]
    assert parse_state(through_json(state), ORIGIN).failed == state.failed


def test_a_version_that_fails_again_has_its_last_reason() -> None:
    state = (
        State().with_failure("1.0.0", failure(1)).with_failure("2.0.0", failure(2)).with_failure("1.0.0", failure(3))
    )
    assert state.failed == {"2.0.0": failure(2), "1.0.0": failure(3)}
    assert list(state.failed) == ["2.0.0", "1.0.0"]


def test_a_failure_can_be_forgotten() -> None:
    assert FULL.without_failure("0.8.0") == FULL._replace(failed={})
    assert FULL.without_failure("0.7.0") == FULL


@settings(max_examples=30)
@given(STATES, VERSIONS, FAILURES)
def test_noting_a_failure_changes_nothing_else(state: State, version: str, why: Failure) -> None:
    noted = state.with_failure(version, why)
    assert noted._replace(failed=state.failed) == state
    assert noted.without_failure(version) == state.without_failure(version)


# ---- what must stay, and the way back ----


@pytest.mark.parametrize(
    ("state", "needed"),
    [
        (State(), set()),
        (State("1.0.0"), {"1.0.0"}),
        (State("1.1.0", "1.0.0"), {"1.1.0", "1.0.0"}),
        (FULL, {"1.1.0", "1.0.0", "0.9.0"}),
        (State("1.0.0", None, TRIAL._replace(active=None, previous=None)), {"1.0.0"}),
        (State("1.0.0", failed={"2.0.0": FAILURE}), {"1.0.0"}),
    ],
)
def test_what_a_revert_returns_to_must_stay(state: State, needed: set[str]) -> None:
    assert state.needed() == needed


def test_a_reverted_trial_leaves_the_state_before_it_and_what_failed() -> None:
    assert FULL.reverted() == State("1.0.0", "0.9.0", None, {"0.8.0": FAILURE}, ModelServer())


@settings(max_examples=30)
@given(STATES.filter(lambda state: state.trial is not None))
def test_what_is_reverted_to_was_needed(state: State) -> None:
    reverted = state.reverted()
    assert reverted.trial is None
    assert reverted.needed() <= state.needed()
