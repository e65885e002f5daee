# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a controller publishes of its ledger, and when it does not."""

from __future__ import annotations

import dataclasses
import json
import socket
from pathlib import Path
from typing import Any

import pytest
from pulled import FLEET, PulledFleet
from rollouts import HOSTS, WAVES, a_rollout

from ansible_collections.edgeml.fleet.plugins.module_utils._release.desired import Ask, DesiredModel
from ansible_collections.edgeml.fleet.plugins.module_utils._trust.metadata import TrustError
from ansible_collections.edgeml.fleet.plugins.plugin_utils._pull.publication import (
    Publisher,
    PublishError,
    desired_rollout,
    merged_model,
    question_of_run,
)
from ansible_collections.edgeml.fleet.plugins.plugin_utils._pull.settings import PullSettings
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.outcome import Outcome
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.plan import Plan
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.rollout import Rollout, State
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.waves import LeftOut
from ansible_collections.edgeml.fleet.plugins.plugin_utils._trust import keys

BOUNDARIES = {
    "salt": "digits",
    "waves": [
        {"name": "canary", "group": "canary", "below": {"small": 1.0}},
        {"name": "100%", "group": None, "below": {"small": 1.0}},
    ],
}


def rollout(version: str = "1.1.0", begun: int = 1, state: State = State.RUNNING, **changes: Any) -> Rollout:
    """A rollout whose plan devices can follow."""
    plan = Plan(WAVES, dict.fromkeys(HOSTS, "small"), boundaries=BOUNDARIES, **changes.pop("plan", {}))
    found = dataclasses.replace(a_rollout(version=version), plan=plan, state=state, **changes)
    for number in range(1, begun + 1):
        found = found.with_wave_begun(number, str(number))
    return found


class Controller:
    """A controller of a fleet, with the run of a playbook."""

    def __init__(self, fleet: PulledFleet, name: str = "ops") -> None:
        directory = fleet.directory / name
        self.scratch = str(directory)
        directory.mkdir()
        self.settings = PullSettings(
            fleet=FLEET,
            repository=str(fleet.signed.path),
            fleet_key=keys.write(fleet.key, str(directory / "keys"), None),
            online_key=keys.write(fleet.signed.holders.online, str(directory / "keys"), None),
            mailbox=str(fleet.mailbox),
            ca_file=str(fleet.ca),
            ledger=str(directory / "ledger"),
        )

    @property
    def publisher(self) -> Publisher:
        return Publisher(self.settings, self.scratch)


@pytest.fixture
def fleet(tmp_path: Path) -> PulledFleet:
    return PulledFleet(tmp_path, versions=())


@pytest.fixture
def controller(fleet: PulledFleet) -> Controller:
    return Controller(fleet)


def ask(number: int) -> tuple[str, Ask]:
    return "digits", Ask(number, "read", "digits-1.1.0-1", waves=[1])


def test_a_rollout_is_told_as_it_stands() -> None:
    told = desired_rollout(rollout(settings={"window": ["Sat 01:00-02:00"], "device": {"keep": 3}}, reason="better"))
    assert told is not None
    assert (told.id, told.reached, told.stopped, told.retry) == ("digits-1.1.0-1", 1, False, False)
    assert (told.groups, told.only, told.window, told.settings.keep) == (
        {"canary": ["a"]},
        None,
        ["Sat 01:00-02:00"],
        3,
    )
    assert [told.number_of(host, "small") for host in ("a", "b", "never planned")] == [1, 2, 2]


def test_a_passed_rollout_has_come_to_every_device_and_a_stopped_one_says_why() -> None:
    passed = desired_rollout(rollout(state=State.PASSED))
    stopped = desired_rollout(rollout(state=State.FAILED, why="it was bad"))
    assert passed is not None
    assert stopped is not None
    assert passed.reached == 2
    assert (stopped.stopped, stopped.reached, stopped.reason) == (True, 1, "it was bad")


def test_devices_of_waves_that_were_passed_over_take_no_part() -> None:
    """A run for a part of the fleet has begun the last wave, and none of those before it."""
    early = rollout(begun=0, plan={"limited": True}).with_wave_begun(2, "100%", hosts=["c"])
    for state in (State.RUNNING, State.PASSED):
        told = desired_rollout(dataclasses.replace(early, state=state))
        assert told is not None
        assert told.only == ["c"]
    whole = dataclasses.replace(early, plan=dataclasses.replace(early.plan, limited=False))
    told = desired_rollout(whole)
    assert told is not None
    assert told.only == ["c"]
    passed = desired_rollout(dataclasses.replace(whole, state=State.PASSED))
    assert passed is not None
    assert passed.only is None


def test_a_part_of_the_fleet_and_those_that_take_no_part_are_named() -> None:
    left_out = {"d": LeftOut(Outcome.PINNED, "a trial")}
    told = desired_rollout(rollout(plan={"limited": True, "left_out": left_out}))
    assert told is not None
    assert (told.only, told.left_out) == (["a", "b", "c"], ["d"])


def test_a_rollout_that_no_device_could_follow_or_that_has_not_begun_is_not_told() -> None:
    assert desired_rollout(a_rollout()) is None
    assert merged_model([rollout(begun=0), a_rollout(version="1.0.0")], DesiredModel(), None) == DesiredModel([])


def test_what_another_ledger_has_published_stays_behind_what_this_one_says() -> None:
    other = desired_rollout(rollout("1.0.0", state=State.PASSED))
    mine = desired_rollout(rollout("1.1.0"))
    assert other is not None
    assert mine is not None
    before = DesiredModel([mine._replace(reached=0), other], Ask(4))
    assert merged_model([rollout("1.1.0")], before, None) == DesiredModel([mine, other], Ask(4))


def test_the_ledger_is_published_and_nothing_where_nothing_changed(controller: Controller) -> None:
    first = controller.publisher.publish([rollout()])
    assert (first.changed, first.desired.version, first.desired.controller) == (True, 1, socket.gethostname())
    again = controller.publisher.publish([rollout()])
    assert (again.changed, again.desired.version) == (False, 1)
    assert controller.publisher.in_force().models["digits"].rollouts[0].id == "digits-1.1.0-1"
    assert '"reached": 1' in first.diff()["after"]
    assert first.diff()["before"] == ""


def test_each_question_has_a_number_of_its_own(controller: Controller) -> None:
    assert question_of_run(controller.scratch, FLEET, "digits") is None
    for number in (1, 2):
        publication = controller.publisher.publish([rollout()], ask)
        assert publication.desired.models["digits"].ask.number == number
        assert question_of_run(controller.scratch, FLEET, "digits") == (number, "read")
    assert question_of_run(controller.scratch, FLEET, "other") == (0, "")


def test_check_mode_publishes_nothing(controller: Controller) -> None:
    publication = controller.publisher.publish([rollout()], ask, act=False)
    assert publication.changed
    assert json.loads(publication.after)["models"]["digits"]["ask"]["number"] == 1
    assert controller.publisher.in_force().version == 0


def test_two_controllers_are_noticed_by_the_one_that_publishes_next(fleet: PulledFleet, controller: Controller) -> None:
    controller.publisher.publish([rollout()], ask)
    Controller(fleet, "elsewhere").publisher.publish([rollout("9.9.9")], ask)
    with pytest.raises(PublishError, match=r"published version 1 .* version 2 is in force, which .*: two controllers"):
        controller.publisher.publish([rollout()], ask)


def test_another_run_goes_on_where_a_controller_died(fleet: PulledFleet, controller: Controller) -> None:
    controller.publisher.publish([rollout()], ask)
    resumed = Controller(fleet, "elsewhere").publisher.publish([rollout(begun=2)], ask)
    assert (resumed.desired.version, resumed.desired.models["digits"].ask.number) == (2, 2)


def test_a_key_that_may_not_publish_is_refused_at_once(fleet: PulledFleet, controller: Controller) -> None:
    controller.publisher.check()
    fleet.key = keys.generate("next")
    fleet.allow_fleet(remove=["controller"])
    with pytest.raises(TrustError, match=r"found controller\. Those who sign releases allow one"):
        controller.publisher.check()
