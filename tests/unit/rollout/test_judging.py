# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the gate is told of a wave: the results of its tasks, and whether silence says anything of a version."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from rollouts import UNMEASURED

from ansible_collections.edgeml.fleet.plugins.module_utils._common.errors import ArgumentError
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout import judging
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.gate.checks import Verdict
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.judging import Judged, Measured
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.outcome import Outcome

DONE = {"changed": True, "version": "1.1.0"}
NEW = {"model": {"live": "1.1.0", "replaced": "1.0.0"}}
OLD = {"model": {"live": "1.0.0"}}
GONE = {"unreachable": True, "msg": "ssh: connect to host"}


def judge(wave: Mapping[str, Any], controls: Mapping[str, Any], **limits: Any) -> Judged:
    """The verdict where the devices and the controls read so after the soak; before it all answered."""
    measured = Measured(
        device_classes=dict.fromkeys([*wave, *controls], "small"),
        version="1.1.0",
        swaps=dict.fromkeys(wave, DONE),
        reads=wave,
        before=dict.fromkeys(controls, OLD),
        after=controls,
    )
    return judging.judge(measured, judging.read_limits({**UNMEASURED, **limits}), analysis=1, analyses_max=1)


def named(prefix: str, well: int, gone: int, read: Any) -> dict[str, Any]:
    return {f"{prefix}{number}": GONE if number < gone else read for number in range(well + gone)}


def test_a_device_that_falls_silent_while_its_controls_answer_is_a_failure() -> None:
    judged = judge(named("edge", 3, 1, NEW), named("old", 4, 0, OLD))
    assert (judged.verdict, judged.outcomes["edge0"]) == (Verdict.FAIL, Outcome.SILENT)
    assert "edge0 silent" in judged.problems[0]


def test_devices_that_are_silent_like_their_controls_are_cut_off() -> None:
    judged = judge(named("edge", 15, 5, NEW), named("old", 15, 5, OLD))
    assert judged.verdict is Verdict.PASS
    assert [name for name, outcome in judged.outcomes.items() if outcome is Outcome.CUT_OFF] == [
        f"edge{number}" for number in range(5)
    ]


def test_where_a_whole_site_is_cut_off_nothing_is_known_of_the_version() -> None:
    judged = judge(named("edge", 0, 4, NEW), named("old", 0, 4, OLD))
    assert judged.verdict is Verdict.INCONCLUSIVE
    assert set(judged.outcomes.values()) == {Outcome.CUT_OFF}


def test_one_silent_control_is_no_excuse_for_a_silent_wave() -> None:
    judged = judge(named("edge", 0, 20, NEW), named("old", 19, 1, OLD))
    assert judged.verdict is Verdict.FAIL
    assert set(judged.outcomes.values()) == {Outcome.SILENT}


@pytest.mark.parametrize(
    ("silent", "begun", "controls_silent", "controls_begun", "expected"),
    [
        (0, 10, 5, 10, False),
        (1, 10, 0, 10, False),
        (1, 10, 0, 0, False),
        (1, 10, 1, 10, True),
        (2, 40, 1, 20, True),
        (10, 10, 1, 10, False),
    ],
)
def test_what_the_controls_explain(
    silent: int, begun: int, controls_silent: int, controls_begun: int, expected: bool
) -> None:
    assert judging.explained(silent, begun, controls_silent, controls_begun) is expected


def test_limits_are_named_where_they_are_wrong() -> None:
    with pytest.raises(ArgumentError, match=r"rollout_limits: acuracy_min: no such limit; expected accuracy"):
        judging.read_limits({"acuracy_min": 0.9})
