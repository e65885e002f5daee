# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Labels that come after a rollout has passed: when they are judged, and what they may decide."""

from __future__ import annotations

import dataclasses
import random

import pytest

from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.gate.checks import Cause, Check, Verdict
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.gate.late_labels import (
    GROWTH,
    LABELS_MIN,
    count_labels,
    is_due,
    judge_labels,
)
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.gate.limits import Limits
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.gate.measurements import Labels, Observation
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.gate.observations import DeviceObservation
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.gate.verdict import FALSE_ALARMS
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.outcome import Outcome

PAST = Observation(labels=Labels(95_000, 5_000))


def device(right: int, wrong: int, name: str = "a", outcome: Outcome = Outcome.ALREADY_THERE) -> DeviceObservation:
    return DeviceObservation(name, "small", outcome, now=Observation(labels=Labels(right, wrong)), past=PAST)


def verdict(right: int, wrong: int, analysis: int = 1) -> Verdict:
    return judge_labels([device(right, wrong)], Limits(), analysis).verdict


def test_a_loss_beyond_the_limit_fails_once_it_is_certain() -> None:
    assert verdict(93_00, 7_00) is Verdict.FAIL
    assert verdict(950, 50) is not Verdict.FAIL
    # Certainly worse, but not certainly by more than a point: a bad day does as much.
    assert verdict(9_370, 630) is not Verdict.FAIL
    assert verdict(93, 7) is not Verdict.FAIL
    # Within the limit of one point, however certain.
    assert verdict(942_000, 58_000) is Verdict.PASS


def test_later_analyses_need_more_certainty_and_all_together_have_the_gate_s() -> None:
    assert verdict(900, 100) is Verdict.FAIL
    barely = next(wrong for wrong in range(50, 200) if verdict(1000 - wrong, wrong) is Verdict.FAIL)
    assert verdict(1000 - barely, barely, analysis=20) is not Verdict.FAIL
    assert sum(FALSE_ALARMS / (number * (number + 1)) for number in range(1, 10_000)) < FALSE_ALARMS


def test_an_analysis_is_due_when_there_are_a_quarter_more() -> None:
    assert not is_due(LABELS_MIN - 1, 0)
    assert is_due(LABELS_MIN, 0)
    assert not is_due(124, 100)
    assert is_due(125, 100)
    # A server that was restarted counts from 0: nothing is judged twice.
    assert not is_due(300, 1000)


def test_only_devices_on_the_release_count() -> None:
    gone = device(10, 90, "b", Outcome.FAILED)
    assert count_labels([device(90, 10), gone, dataclasses.replace(device(1, 1), now=Observation())]) == 100
    assert judge_labels([device(950, 50), gone], Limits(), 1).verdict is not Verdict.FAIL


def test_without_a_past_or_a_limit_nothing_is_decided() -> None:
    first = dataclasses.replace(device(500, 500), past=Observation(), first_installation=True)
    found = judge_labels([first], Limits(), 1)
    assert found.verdict is Verdict.SKIPPED
    assert [(item.check, item.cause) for item in found.findings] == [(Check.LIVE_ACCURACY_DROP, Cause.NO_COMPARISON)]
    assert judge_labels([device(500, 500)], Limits(live_accuracy_drop_max=None), 1).findings == []


@pytest.mark.parametrize(("accuracy", "fails"), [(0.95, 0), (0.92, 20)])
def test_labels_that_trickle_in_for_days_fail_a_worse_version_alone(accuracy: float, fails: int) -> None:
    chance = random.Random(17)
    failed = 0
    for _run in range(20):
        right = wrong = before = analysis = 0
        while right + wrong < 8_000:
            came = chance.randrange(20, 200)
            good = round(chance.normalvariate(came * accuracy, (came * accuracy * (1 - accuracy)) ** 0.5))
            right, wrong = right + min(good, came), wrong + max(came - good, 0)
            if is_due(right + wrong, before):
                before, analysis = right + wrong, analysis + 1
                if verdict(right, wrong, analysis) is Verdict.FAIL:
                    failed += 1
                    break
        # However often somebody looked, there were few analyses.
        assert analysis <= 25
    assert failed == fails
    assert GROWTH > 1
