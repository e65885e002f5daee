# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The rollout as a state machine: its course, what it forbids, and what follows each step."""

from __future__ import annotations

import dataclasses
import datetime
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rollouts import WAVES, a_rollout

from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.decisions import (
    Next,
    after_verdict,
    agreed_after,
    before_wave,
    ended,
    soak_seconds,
)
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.gate.checks import Verdict
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.options import RolloutOptions
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.outcome import Outcome
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.plan import Plan, PlannedWave
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.rollout import (
    Rollout,
    RolloutError,
    State,
    Wave,
    release_of,
    rollout_id,
)
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.run import Rollback, Run
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.waves import LeftOut

OPTIONS = RolloutOptions(model="digits", version="1.1.0", repository="/srv/models")
NOON = datetime.datetime(2026, 11, 25, 12, tzinfo=datetime.UTC)
FINDING = {"check": "coverage", "verdict": "pass"}


def judged(rollout: Rollout, number: int, verdict: Verdict, **outcomes: Outcome) -> Rollout:
    begun = rollout.with_wave_begun(number, WAVES[number - 1].name)
    return begun.with_verdict(number, verdict, [FINDING], outcomes)


# ---- names ----

NAMES = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,6}", fullmatch=True)


def test_the_id_of_a_rollout_names_model_version_and_attempt() -> None:
    assert rollout_id("line-camera", "1.4.0-rc1", 2) == "line-camera-1.4.0~rc1-2"
    assert release_of("line-camera-1.4.0~rc1-2") == ("line-camera", "1.4.0-rc1")
    assert [release_of(name) for name in ("", "2", "1.1.0-2", "digits-1.1.0-x", "-1.1.0-2")] == [None] * 5
    assert rollout_id("cam", "1-2", 1) != rollout_id("cam-1", "2", 1)


@given(st.tuples(NAMES, NAMES, st.integers(1, 99)), st.tuples(NAMES, NAMES, st.integers(1, 99)))
def test_two_rollouts_never_share_an_id(one: tuple[str, str, int], other: tuple[str, str, int]) -> None:
    assert (rollout_id(*one) == rollout_id(*other)) == (one == other)


# ---- documents ----


def test_a_rollout_is_the_same_after_json() -> None:
    plan = dataclasses.replace(a_rollout().plan, left_out={"e": LeftOut(Outcome.PINNED, "certified: 1.0")})
    rollout = judged(a_rollout(plan=plan), 1, Verdict.FAIL, a=Outcome.FAILED).closed(
        State.FAILED, "accuracy fell", [{"device": "a", "outcome": "reverted"}]
    )
    assert Rollout.from_dict(json.loads(json.dumps(rollout.to_dict()))) == rollout
    assert rollout.to_dict()["plan"]["left_out"] == {"e": "pinned: certified: 1.0"}


def test_a_run_is_the_same_after_json() -> None:
    run = a_run(pause="why", problems=("accuracy",), revert=("a",), unwritten=Wave(1, verdict=Verdict.FAIL))
    assert Run.from_dict(json.loads(json.dumps(run.to_dict()))) == run
    back = Rollback(7, "digits", "1.1.0", ("a",), "complaints")
    assert Rollback.from_dict(json.loads(json.dumps(back.to_dict()))) == back


def test_what_is_wrong_with_a_document_is_named() -> None:
    document = a_rollout().to_dict()
    for changes, message in (
        ({"attempt": "1"}, "attempt: expected a whole number; found '1'"),
        ({"version": 1.1}, "version: expected a text; found 1.1"),
        ({"schema": 2}, "schema: expected 1; found 2"),
        ({"plan": {"waves": [{"number": 1, "hosts": "abc"}]}}, "hosts: expected a list; found 'abc'"),
        ({"plan": {}}, "waves is missing"),
    ):
        with pytest.raises(RolloutError) as caught:
            Rollout.from_dict({**document, **changes})
        assert str(caught.value) == message


# ---- the course of a rollout ----


def test_the_course_of_a_rollout() -> None:
    rollout = a_rollout()
    assert (rollout.state, rollout.waves, rollout.reached) == (State.RUNNING, (), 0)
    rollout = rollout.with_wave_begun(1, "canary")
    assert rollout.reached == 1
    (wave,) = rollout.waves
    assert (wave.verdict, wave.ended, wave.analyses) == (None, None, ())
    for verdict in (Verdict.INCONCLUSIVE, Verdict.PASS):
        rollout = rollout.with_verdict(1, verdict, [FINDING], {"a": Outcome.UPDATED})
    (wave,) = rollout.waves
    assert [analysis.verdict for analysis in wave.analyses] == [Verdict.INCONCLUSIVE, Verdict.PASS]
    assert (wave.name, wave.verdict, wave.outcomes) == ("canary", Verdict.PASS, {"a": Outcome.UPDATED})
    assert wave.ended is not None
    assert wave.began <= wave.ended
    rollout = rollout.closed(State.PASSED, "every wave passed", [{"device": "a"}])
    assert (rollout.state, rollout.devices) == (State.PASSED, ({"device": "a"},))


def test_whoever_watches_a_rollout_is_told_where_it_is() -> None:
    planned = a_rollout()
    begun = planned.with_wave_begun(1, "canary")
    analysed = begun.with_verdict(1, Verdict.INCONCLUSIVE, [FINDING], {"a": Outcome.UPDATED})
    failed = analysed.with_verdict(1, Verdict.FAIL, [FINDING], {"a": Outcome.UPDATED, "b": Outcome.SILENT})
    closed = failed.closed(State.FAILED, "x" * 2000)
    assert [rollout.steps for rollout in (planned, begun, analysed, failed, closed)] == [0, 1, 2, 3, 4]
    told = closed.progress()
    assert (told["rollout"], told["state"], told["wave"]) == (planned.id, "failed", 1)
    assert (told["waves"], told["verdicts"]) == (len(planned.plan.waves), ["fail"])
    assert told["outcomes"] == {"silent": 1, "updated": 1}
    assert len(told["why"]) == 1000
    assert json.loads(json.dumps(told)) == told


def test_an_interrupted_rollout_goes_on() -> None:
    before = a_rollout(began="2026-11-22T01:00:00Z").with_wave_begun(1, "canary")
    again = a_rollout().resumed_from(before)
    assert (again.began, again.waves, again.state) == (before.began, before.waves, State.RUNNING)
    begun_again = judged(again, 1, Verdict.INCONCLUSIVE).with_wave_begun(1, "canary")
    assert begun_again.waves[0].verdict is None
    assert len(begun_again.waves[0].analyses) == 1


@pytest.mark.parametrize("state", [State.FAILED, State.ROLLED_BACK])
def test_a_stopped_rollout_does_not_go_on(state: State) -> None:
    stopped = a_rollout().closed(state, "accuracy fell")
    with pytest.raises(RolloutError, match=r"digits-1.1.0-1 was stopped: .*accuracy fell.*rollout_attempt=2"):
        a_rollout().resumed_from(stopped)


def test_another_release_of_the_same_name_is_refused() -> None:
    with pytest.raises(RolloutError, match="A release is immutable"):
        a_rollout(digest="e" * 64).resumed_from(a_rollout())


def test_the_hosts_of_another_limit_stay_planned() -> None:
    first = a_rollout(plan=Plan((PlannedWave(2, "100%", ("c",)),), limited=True))
    second = a_rollout(plan=Plan((WAVES[0], PlannedWave(2, "100%", ("b",)))))
    waves = second.resumed_from(first).plan.waves
    assert [(wave.number, sorted(wave.hosts)) for wave in waves] == [(1, ["a"]), (2, ["b", "c"])]


def test_the_gateways_of_microcontrollers_are_kept() -> None:
    plan = Plan(WAVES, gateways={"a": "hall-3"})
    assert Plan.from_dict(plan.to_dict()) == plan
    assert "gateways" not in Plan(WAVES).to_dict()


# ---- one run ----


def a_run(**changes: Any) -> Run:
    fields: dict[str, Any] = {
        "process": 7,
        "path": "/ledger/digits-1.1.0-1.json",
        "waves": WAVES,
        "controls": ({"a": "b"}, {}),
        "options": OPTIONS,
        "manifest": {"schema": 1},
        **changes,
    }
    return Run(**fields)


def test_the_wave_of_a_batch_has_all_its_planned_hosts_and_no_other() -> None:
    assert a_run().wave_of(["c", "b"]) == WAVES[1]
    assert a_run().controls_of(WAVES[0]) == ["b"]
    for batch, message in (
        (["b"], "wave 2 (100%) was planned with 2 devices, and Ansible plays 1: not played: c"),
        (["b", "c", "x"], "wave 2 (100%) was planned with 2 devices, and Ansible plays 3: not of the wave: x"),
        (["a", "b", "c"], "Ansible plays 3: not of the wave: a"),
        (["x"], "Ansible plays 1: not played: a; not of the wave: x"),
    ):
        with pytest.raises(RolloutError) as caught:
            a_run().wave_of(batch)
        assert message in str(caught.value)


@pytest.mark.parametrize(
    ("outcome", "goes_back"),
    [
        (Outcome.UPDATED, True),
        (Outcome.ALREADY_THERE, True),
        (Outcome.FAILED, True),
        (Outcome.SILENT, True),
        (Outcome.AWAY, False),
        (Outcome.REFUSED, False),
        (Outcome.FAILED_BEFORE, False),
    ],
)
def test_after_a_fail_those_go_back_that_may_have_the_version(outcome: Outcome, goes_back: bool) -> None:
    failed = judged(judged(a_rollout(), 1, Verdict.PASS, a=outcome), 2, Verdict.FAIL, b=Outcome.REFUSED)
    assert a_run().stopped(failed, ["accuracy"], None).revert == (("a",) if goes_back else ())
    paused = judged(a_rollout(), 1, Verdict.INCONCLUSIVE, a=outcome)
    assert a_run().stopped(paused, ["coverage"], None).revert == ()


# ---- what follows ----


def test_a_wave_begins_when_nothing_is_against_it() -> None:
    assert (
        before_wave(
            OPTIONS, WAVES[0], agree_after=agreed_after(OPTIONS, WAVES, WAVES[0]), now=NOON, answer=None, can_ask=True
        ).next
        is Next.SWAP
    )


def test_no_wave_begins_where_only_the_plan_was_asked_for() -> None:
    options = dataclasses.replace(OPTIONS, plan_only=True)
    decision = before_wave(
        options, WAVES[0], agree_after=agreed_after(options, WAVES, WAVES[0]), now=NOON, answer="yes", can_ask=True
    )
    assert (decision.next, decision.text) == (Next.END, "")


def test_no_wave_begins_outside_the_window() -> None:
    options = dataclasses.replace(OPTIONS, window=["Mon-Fri 01:00-05:00 Europe/Berlin"])
    decision = before_wave(
        options, WAVES[0], agree_after=agreed_after(options, WAVES, WAVES[0]), now=NOON, answer="yes", can_ask=True
    )
    assert decision.next is Next.END
    assert decision.text == "outside the maintenance window (Mon-Fri 01:00-05:00 Europe/Berlin)"
    night = NOON.replace(hour=2)
    assert (
        before_wave(
            options, WAVES[0], agree_after=agreed_after(options, WAVES, WAVES[0]), now=night, answer=None, can_ask=True
        ).next
        is Next.SWAP
    )


@pytest.mark.parametrize(
    ("approved", "answer", "can_ask", "following"),
    [
        (0, None, True, Next.ASK),
        (0, None, False, Next.END),
        (0, "yes", True, Next.SWAP),
        (0, " YES ", True, Next.SWAP),
        (0, "no", True, Next.END),
        (0, "", True, Next.END),
        (1, None, False, Next.SWAP),
        (2, None, False, Next.SWAP),
    ],
)
def test_who_has_to_agree_is_asked_or_waited_for(
    approved: int, answer: str | None, can_ask: bool, following: Next
) -> None:
    options = dataclasses.replace(OPTIONS, approve_after=[1], approved=approved)
    decision = before_wave(
        options, WAVES[1], agree_after=agreed_after(options, WAVES, WAVES[1]), now=NOON, answer=answer, can_ask=can_ask
    )
    assert decision.next is following
    if following is Next.END:
        assert decision.text == "somebody has to agree to wave 2: run it again with rollout_approved=1"
    if following is Next.ASK:
        assert decision.text == "Wave 2 (100%) has 2 devices. Type yes to go on"
    assert (
        before_wave(
            options, WAVES[0], agree_after=agreed_after(options, WAVES, WAVES[0]), now=NOON, answer=None, can_ask=False
        ).next
        is Next.SWAP
    )


@pytest.mark.parametrize(
    ("played", "approve_after", "expected"),
    [
        ([1, 2, 3], [1], [0, 1, 0]),
        ([1, 2, 3], [1, 2], [0, 1, 2]),
        # Of a part of the fleet: no device of wave 2, or none of the first two.
        ([1, 3], [1], [0, 1]),
        ([1, 3], [1, 2], [0, 2]),
        ([3], [1], [1]),
        ([3, 4], [1, 3], [1, 3]),
        ([0, 1, 2], [1], [0, 0, 1]),
    ],
)
def test_a_wave_that_has_no_device_here_lets_nobody_pass_without_agreement(
    played: list[int], approve_after: list[int], expected: list[int]
) -> None:
    options = dataclasses.replace(OPTIONS, approve_after=approve_after)
    waves = [PlannedWave(number, str(number), ("a",)) for number in played]
    assert [agreed_after(options, waves, wave) for wave in waves] == expected


@pytest.mark.parametrize(
    ("verdict", "analysis", "following"),
    [
        (Verdict.PASS, 1, Next.NEXT_WAVE),
        (Verdict.PASS, 3, Next.NEXT_WAVE),
        (Verdict.FAIL, 1, Next.REVERT),
        (Verdict.FAIL, 3, Next.REVERT),
        (Verdict.INCONCLUSIVE, 1, Next.SOAK_AGAIN),
        (Verdict.INCONCLUSIVE, 2, Next.SOAK_AGAIN),
        (Verdict.INCONCLUSIVE, 3, Next.END),
    ],
)
def test_what_follows_a_verdict(verdict: Verdict, analysis: int, following: Next) -> None:
    assert after_verdict(verdict, analysis, 3) is following


@pytest.mark.parametrize(
    ("soak", "analysis", "active", "expected"),
    [
        (60, 1, [], 60),
        (60, 1, [0.5, 40], 59.5),
        (60, 1, [70, 90], 0),
        (60, 2, [70, 90], 60),
        (0, 1, [1], 0),
    ],
)
def test_a_wave_that_has_soaked_does_not_soak_again(
    soak: int, analysis: int, active: list[float], expected: float
) -> None:
    assert soak_seconds(soak, analysis, active) == expected


# ---- the end ----


def test_a_rollout_passes_when_every_planned_wave_passed() -> None:
    rollout = judged(judged(a_rollout(), 1, Verdict.PASS, a=Outcome.UPDATED), 2, Verdict.PASS, b=Outcome.AWAY)
    assert ended(rollout, WAVES) == (State.PASSED, "every wave passed")


def test_a_wave_that_was_never_played_is_never_passed_over() -> None:
    rollout = judged(a_rollout(), 1, Verdict.PASS, a=Outcome.UPDATED)
    assert ended(rollout, WAVES) == (State.PAUSED, "wave 2 (100%) was not judged")
    assert ended(a_rollout(), WAVES, "outside the window") == (State.PAUSED, "outside the window")


def test_a_pass_of_a_part_of_a_wave_is_no_pass_of_the_others() -> None:
    rollout = judged(a_rollout(), 1, Verdict.PASS, a=Outcome.UPDATED).with_wave_begun(2, "100%", hosts=["b", "c"])
    rollout = rollout.with_verdict(2, Verdict.INCONCLUSIVE, [], {"b": Outcome.UPDATED, "c": Outcome.UPDATED})
    assert rollout.not_passed == ["b", "c"]
    part = (PlannedWave(2, "100%", ("b",)),)
    rollout = rollout.with_wave_begun(2, "100%", hosts=["b"])
    rollout = rollout.with_verdict(2, Verdict.PASS, [], {"b": Outcome.UPDATED})
    assert Rollout.from_dict(json.loads(json.dumps(rollout.to_dict()))) == rollout
    assert rollout.not_passed == ["c"]
    assert ended(rollout, part, others=["c"])[0] is State.PAUSED
    # A device that begins again has passed only when it is judged again.
    again = rollout.with_wave_begun(2, "100%", hosts=["b"])
    assert again.not_passed == ["b", "c"]
    rollout = rollout.with_wave_begun(2, "100%", hosts=["c"]).with_verdict(2, Verdict.PASS, [], {"c": Outcome.UPDATED})
    assert rollout.not_passed == []
    assert ended(rollout, part, others=["c"])[0] is State.PASSED
    assert "passed" not in rollout.to_dict()["waves"][1], "what the outcomes say is not written twice"


def test_a_fail_stops_the_rollout_for_its_problems() -> None:
    rollout = judged(a_rollout(), 1, Verdict.FAIL, a=Outcome.UPDATED)
    assert ended(rollout, WAVES, problems=["fail: a", "inconclusive: b"]) == (
        State.FAILED,
        "fail: a; inconclusive: b",
    )
    # What keeps a later run from going on is no reason to forget it.
    assert ended(rollout, WAVES, pause="outside the window")[0] is State.FAILED


@pytest.mark.parametrize(
    ("outcome", "state"),
    [
        (Outcome.REFUSED, State.PAUSED),
        (Outcome.AWAY, State.PAUSED),
        (Outcome.FAILED, State.FAILED),
        (Outcome.FAILED_BEFORE, State.FAILED),
        (Outcome.SILENT, State.FAILED),
    ],
)
def test_a_rollout_that_changed_nothing_anywhere_pauses(outcome: Outcome, state: State) -> None:
    rollout = judged(a_rollout(), 1, Verdict.FAIL, a=outcome)
    assert ended(rollout, WAVES, problems=["fail: failed devices"]) == (state, "fail: failed devices")


def test_an_inconclusive_wave_pauses() -> None:
    rollout = judged(a_rollout(), 1, Verdict.INCONCLUSIVE, a=Outcome.AWAY)
    assert ended(rollout, WAVES, problems=["inconclusive: coverage"]) == (State.PAUSED, "inconclusive: coverage")
    assert ended(rollout, WAVES) == (State.PAUSED, "wave 1 (canary) is inconclusive")
