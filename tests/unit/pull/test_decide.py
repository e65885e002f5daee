# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a device does about a model, by what is desired and what it runs."""

from __future__ import annotations

from typing import Any

import pytest
from pulled import rollout

from ansible_collections.edgeml.fleet.plugins.module_utils._pull.decide import Change, Decision, Identity, Known, decide
from ansible_collections.edgeml.fleet.plugins.module_utils._release.desired import Ask, DesiredModel

ME = Identity("edge-1", "small")
OLD, NEW = rollout("1.0.0", "0" * 64), rollout("2.0.0", "1" * 64)


def decided(*rollouts: Any, active: str | None = "1.0.0", ask: Ask | None = None, **more: Any) -> Decision:
    known = Known(active, more.pop("failed", {}), more.pop("answered", 0))
    return decide(
        DesiredModel(rollouts, ask or Ask()), ME, known, more.get("withdrawn", {}), more.get("window_open", {})
    )


def made(decision: Decision) -> list[tuple[str, str]]:
    return [(change.state, change.version) for change in decision.changes]


def asked(purpose: str = "swap", **changes: Any) -> Ask:
    return Ask(**{"number": 5, "purpose": purpose, "rollout_id": NEW.id, "waves": [1], **changes})


def test_what_is_not_rolled_out_yet_changes_nothing() -> None:
    assert decided() == decided(NEW._replace(reached=0), OLD) == Decision()


def test_a_device_goes_to_the_newest_release_that_has_come_to_it() -> None:
    assert made(decided(NEW, OLD)) == [("active", "2.0.0")]
    assert made(decided(NEW, OLD, active=None)) == [("active", "2.0.0")]
    assert decided(NEW, OLD, active="2.0.0") == Decision()


def test_a_stopped_release_is_left_and_then_the_one_before_is_sought() -> None:
    stopped = NEW._replace(stopped=True, reason="bad")
    decision = decided(stopped, OLD, active="2.0.0")
    assert made(decision) == [("previous", "2.0.0"), ("active", "1.0.0")]
    assert decision.changes[0] == Change("previous", "2.0.0", NEW.id, "bad")
    assert made(decided(stopped, active="2.0.0")) == [("previous", "2.0.0")]
    assert decided(stopped, OLD, active="1.0.0") == Decision()


def test_a_stopped_attempt_does_not_end_a_later_one_of_the_same_release() -> None:
    again = NEW._replace(id="plain-2.0.0-2")
    assert decided(again, NEW._replace(stopped=True), OLD, active="2.0.0") == Decision()


def test_a_withdrawn_release_is_left_and_never_taken() -> None:
    withdrawn = {"2.0.0": "labels were permuted"}
    left = decided(NEW, OLD, active="2.0.0", withdrawn=withdrawn)
    assert made(left) == [("previous", "2.0.0")]
    assert left.changes[0].reason == "withdrawn: labels were permuted"
    refused = decided(NEW, OLD, withdrawn=withdrawn)
    assert (made(refused), refused.problem) == ([], "2.0.0 is withdrawn: labels were permuted")
    assert made(decided(active="2.0.0", withdrawn=withdrawn)) == [("previous", "2.0.0")]


def test_a_closed_window_holds_a_new_release_and_no_way_back() -> None:
    closed = {NEW.id: False, OLD.id: False}
    waiting = decided(NEW._replace(window=["Sat 01:00-02:00"]), OLD, window_open=closed)
    assert (made(waiting), waiting.waits) == ([], True)
    assert waiting.problem == "2.0.0 waits for its window (Sat 01:00-02:00)"
    back = decided(NEW._replace(stopped=True), OLD, active="2.0.0", window_open=closed)
    assert made(back) == [("previous", "2.0.0")]


@pytest.mark.parametrize(
    ("failed", "retry", "expected"),
    [
        ({}, False, False),
        ({}, True, False),
        ({"2.0.0": "plain-2.0.0-0"}, True, True),
        ({"2.0.0": None}, True, True),
        ({"2.0.0": NEW.id}, True, False),
        ({"2.0.0": "plain-2.0.0-0"}, False, False),
    ],
)
def test_what_failed_is_tried_again_once_for_each_attempt(
    failed: dict[str, str | None], retry: bool, expected: bool
) -> None:
    (change,) = decided(NEW._replace(retry=retry), OLD, failed=failed).changes
    assert change.retry is expected


def test_a_question_makes_a_device_report_what_it_is_on_already() -> None:
    decision = decided(NEW, OLD, active="2.0.0", ask=asked())
    assert (made(decision), decision.question) == ([("active", "2.0.0")], asked())
    assert decided(NEW, OLD, active="2.0.0", ask=asked(), answered=5) == Decision()


def test_a_question_of_another_wave_or_another_rollout_is_not_for_this_device() -> None:
    for ask in (asked(waves=[2]), asked(rollout_id="plain-9-1"), asked(waves=[])):
        assert decided(NEW, OLD, active="2.0.0", ask=ask) == Decision()


def test_a_control_is_read_and_nothing_else() -> None:
    held = NEW._replace(reached=0)
    decision = decided(held, OLD, ask=asked(waves=[], devices=["edge-1"], probe=True))
    assert decision.question is not None
    assert (made(decision), decision.question.purpose, decision.probe) == ([], "read", False)


def test_a_read_asks_for_the_probe_set_where_it_says_so() -> None:
    for probe in (False, True):
        decision = decided(NEW, OLD, active="2.0.0", ask=asked("read", probe=probe))
        assert (made(decision), decision.probe) == ([], probe)


@pytest.mark.parametrize("active", ["1.0.0", "2.0.0", None])
def test_a_question_to_go_back_is_answered_by_every_device_of_it(active: str | None) -> None:
    ask = asked("revert", version="2.0.0", reason="bad")
    decision = decided(NEW._replace(stopped=True), OLD, active=active, ask=ask)
    assert decision.changes == (Change("previous", "2.0.0", NEW.id, "bad"),)


def test_everybody_is_asked_also_without_a_rollout() -> None:
    ask = asked("revert", rollout_id="", version="9.0.0", waves=[], everybody=True)
    assert made(decided(ask=ask)) == [("previous", "9.0.0")]
