# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A device that pulls, by real signed metadata: what it does, what it refuses, and what it reports."""

from __future__ import annotations

import datetime
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from pulled import MODEL, PulledFleet, rollout

from ansible_collections.edgeml.fleet.plugins.module_utils._common.errors import ArgumentError
from ansible_collections.edgeml.fleet.plugins.module_utils._pull import agent, command, origin
from ansible_collections.edgeml.fleet.plugins.module_utils._pull.config import CONFIG, parse_config
from ansible_collections.edgeml.fleet.plugins.module_utils._pull.memory import QUEUED_MAX, Memory
from ansible_collections.edgeml.fleet.plugins.module_utils._release.desired import Ask
from ansible_collections.edgeml.fleet.plugins.plugin_utils._trust import keys


@pytest.fixture
def fleet(tmp_path: Path) -> PulledFleet:
    return PulledFleet(tmp_path)


def test_a_device_follows_its_fleet_from_release_to_release(fleet: PulledFleet) -> None:
    device = fleet.device()
    assert (device.poll().code, device.active) == (0, None)
    fleet.publish(fleet.rollout("1.0.0"))
    assert (device.poll().code, device.active) == (0, "1.0.0")
    fleet.publish(fleet.rollout("2.0.0"), fleet.rollout("1.0.0"))
    assert (device.poll().code, device.active) == (0, "2.0.0")
    fleet.publish(fleet.rollout("2.0.0", stopped=True, reason="it was bad"), fleet.rollout("1.0.0"))
    assert (device.poll().code, device.active) == (0, "1.0.0")
    assert [(report.state, report.version) for report in device.queued()] == [
        ("active", "1.0.0"),
        ("active", "2.0.0"),
        ("previous", "2.0.0"),
    ]


def test_a_poll_that_finds_nothing_writes_nothing(fleet: PulledFleet) -> None:
    device = fleet.device(mailbox=None)
    fleet.publish(fleet.rollout("1.0.0"))
    device.poll()
    before = device.snapshot()
    assert device.poll() == device.poll()
    assert device.snapshot() == before


def test_a_question_is_answered_once(fleet: PulledFleet) -> None:
    device = fleet.device()
    ask = Ask(number=1, purpose="swap", rollout_id=f"{MODEL}-1.0.0-1", waves=[1])
    fleet.publish(fleet.rollout("1.0.0"), ask=ask)
    device.poll()
    fleet.release("3.0.0")
    device.poll()
    begun, report = device.queued()
    assert (begun.begun, begun.question, begun.result) == (True, 1, None)
    assert (report.question, report.model, report.state, report.version) == (1, MODEL, "active", "1.0.0")
    assert report.result is not None
    assert report.result["changed"] is True
    assert report.info is not None
    assert report.info["model"]["active"] == "1.0.0"


# ---- what is refused ----


def test_a_fleet_key_that_names_a_release_that_nobody_signed_changes_nothing(fleet: PulledFleet) -> None:
    device = fleet.device()
    fleet.publish(fleet.rollout("1.0.0"))
    device.poll()
    shutil.copytree(fleet.signed.path / MODEL / "2.0.0", fleet.signed.path / MODEL / "6.6.6")
    fleet.publish(rollout("6.6.6", "6" * 64), fleet.rollout("1.0.0"))
    poll = device.poll()
    assert (poll.code, device.active) == (1, "1.0.0")
    assert "plain 6.6.6 is not signed; signed of plain: 1.0.0, 2.0.0" in poll.errors
    result = device.queued()[-1].result
    assert result is not None
    assert (result["failed"], result["refused"], result["live"]) == (True, True, "1.0.0")


def test_a_desired_state_that_names_another_digest_than_was_signed_changes_nothing(fleet: PulledFleet) -> None:
    device = fleet.device()
    fleet.publish(rollout("2.0.0", "6" * 64))
    poll = device.poll()
    assert (poll.code, device.active) == (1, None)
    assert f"expected the digest {'6' * 64}, which the fleet's desired state names" in poll.errors


def test_a_release_that_was_withdrawn_is_left_and_refused_when_it_is_offered_again(fleet: PulledFleet) -> None:
    device = fleet.device()
    fleet.publish(fleet.rollout("1.0.0"))
    device.poll()
    fleet.publish(fleet.rollout("2.0.0"), fleet.rollout("1.0.0"))
    device.poll()
    fleet.withdraw("2.0.0", "labels were permuted")
    assert device.poll().code == 1
    assert device.active == "1.0.0"
    fleet.publish(fleet.rollout("2.0.0")._replace(id="plain-2.0.0-2", retry=True))
    poll = device.poll()
    assert (poll.code, device.active) == (1, "1.0.0")
    assert "2.0.0 is withdrawn: labels were permuted" in poll.errors


def test_a_device_that_was_away_for_three_releases_goes_to_the_newest(fleet: PulledFleet) -> None:
    device = fleet.device()
    fleet.publish(fleet.rollout("1.0.0"))
    device.poll()
    fleet.release("3.0.0", "4.0.0")
    for newest in ("2.0.0", "3.0.0", "4.0.0"):
        fleet.publish(fleet.rollout(newest), fleet.rollout("1.0.0"))
    assert (device.poll().code, device.active) == (0, "4.0.0")
    assert device.store.state(MODEL).previous == "1.0.0"


def test_keys_that_were_rotated_while_a_device_was_away_are_followed(fleet: PulledFleet) -> None:
    device = fleet.device()
    fleet.publish(fleet.rollout("1.0.0"))
    device.poll()
    holders = fleet.signed.holders
    for role in ("targets", "root"):
        new = [keys.generate(f"new-{role}-{number}") for number in (1, 2, 3)]
        fleet.signed.rotate(role, *new, threshold=2, also=[*holders.targets[:2], *new[:2]])
        setattr(holders, role, new)
    fleet.key = keys.generate("next")
    fleet.allow_fleet(remove=["controller"])
    fleet.publish(fleet.rollout("2.0.0"))
    assert (device.poll().code, device.active) == (0, "2.0.0")


def refused(fleet: PulledFleet, device: Any, kind: str) -> None:
    """A device that refuses says so, changes nothing, reports it once, and goes on serving."""
    for _poll in range(2):
        poll = device.poll()
        assert (poll.code, device.active) == (1, "1.0.0"), poll
        assert kind in poll.errors
    assert [report.problem for report in device.queued()[1:]] == [device.queued()[-1].problem]
    assert kind in str(device.queued()[-1].problem)


def test_metadata_that_was_brought_back_is_refused(fleet: PulledFleet, tmp_path: Path) -> None:
    device = fleet.device()
    fleet.publish(fleet.rollout("1.0.0"))
    old = fleet.signed.copy(tmp_path / "old")
    fleet.publish(fleet.rollout("1.0.0", reason="again"))
    device.poll()
    fleet.signed.bring_back(old)
    refused(fleet, device, "rollback")


def test_a_desired_state_of_a_strangers_key_is_refused(fleet: PulledFleet) -> None:
    device = fleet.device()
    fleet.publish(fleet.rollout("1.0.0"))
    device.poll()
    fleet.key = keys.generate("next")
    fleet.allow_fleet(remove=["controller"])
    refused(fleet, device, "wrong key")


@pytest.mark.parametrize(("year", "message"), [("1970", "this clock says"), ("2038", "freeze")])
def test_a_wrong_clock_changes_nothing_and_is_told(
    fleet: PulledFleet, monkeypatch: pytest.MonkeyPatch, year: str, message: str
) -> None:
    device = fleet.device()
    fleet.publish(fleet.rollout("1.0.0"))
    device.poll()
    fleet.publish(fleet.rollout("2.0.0"))
    seconds = {"1970": 60.0, "2038": 2_147_483_000.0}[year]
    with monkeypatch.context() as wrong:
        for module in (agent, origin):
            wrong.setattr(module.time, "time", lambda: seconds)
        if year == "2038":

            class Clock(datetime.datetime):
                @classmethod
                def now(cls, tz: Any = None) -> Any:
                    return cls.fromtimestamp(seconds, tz)

            wrong.setattr("tuf.ngclient._internal.trusted_metadata_set.datetime.datetime", Clock, raising=False)
        refused(fleet, device, message)
    assert (device.poll().code, device.active) == (0, "2.0.0")


# ---- links, and what is remembered ----


def test_nobody_who_answers_is_no_alarm(fleet: PulledFleet) -> None:
    device = fleet.device(sources=["http://127.0.0.1:1", f"file://{fleet.directory}/no-stick"])
    poll = device.poll()
    assert poll.code == 0
    assert "http://127.0.0.1:1/metadata/timestamp.json: " in poll.errors
    assert "no-stick/metadata/timestamp.json: No such file or directory" in poll.errors


def test_the_next_source_is_asked_where_one_has_nothing_or_something_wrong(fleet: PulledFleet, tmp_path: Path) -> None:
    fleet.publish(fleet.rollout("1.0.0"))
    stranger = PulledFleet(tmp_path / "stranger")
    good = f"file://{fleet.signed.path}"
    device = fleet.device(sources=["http://127.0.0.1:1", good])
    assert (device.poll().code, device.active) == (0, "1.0.0")
    other = fleet.device("edge-2", sources=[f"file://{stranger.signed.path}", good])
    poll = other.poll()
    assert (poll.code, other.active) == (1, "1.0.0")
    assert "wrong key" in poll.errors


def copied(fleet: PulledFleet, target: Path) -> Path:
    """Copy the repository as it is now."""
    shutil.copytree(fleet.signed.path, target)
    return target


def test_a_source_that_is_behind_is_verified_once_and_not_by_each_poll(
    fleet: PulledFleet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fleet.publish(fleet.rollout("1.0.0"))
    behind, good = copied(fleet, tmp_path / "behind"), f"file://{fleet.signed.path}"
    fleet.publish(fleet.rollout("2.0.0"), fleet.rollout("1.0.0"))
    device = fleet.device(sources=[good], mailbox=None)
    assert (device.poll().code, device.active) == (0, "2.0.0")
    device.document["sources"] = [f"file://{behind}"]
    first = device.poll()
    assert (first.code, device.active) == (1, "2.0.0")
    assert "rollback" in first.errors
    before = device.snapshot()
    with monkeypatch.context() as closed:
        closed.setattr(agent, "Client", None)
        assert device.poll() == first
        device.document["sources"] = [f"file://{behind}", good]
        assert device.poll().code == 0
    assert device.snapshot() == before
    # It has caught up, and more.
    shutil.rmtree(behind)
    fleet.publish(fleet.rollout("1.0.0"))
    copied(fleet, behind)
    assert (device.poll().code, device.active) == (0, "1.0.0")


def test_reports_that_wait_for_the_mailbox_have_nothing_verified_anew(
    fleet: PulledFleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = fleet.device()
    fleet.publish(fleet.rollout("1.0.0"), ask=Ask(1, "swap", f"{MODEL}-1.0.0-1", waves=[1]))
    device.poll()
    monkeypatch.setattr(agent, "Client", None)
    poll = device.poll()
    assert (poll.code, len(device.queued())) == (0, 2)
    assert "reports are kept until the mailbox answers" in poll.errors


def test_while_nobody_answers_the_timer_leaves_out_up_to_three_of_four_moments(
    fleet: PulledFleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = f"file://{fleet.signed.path}"
    device = fleet.device(sources=["file:///nowhere"], mailbox=None)
    with monkeypatch.context() as by_timer:
        by_timer.setenv("TRIGGER_UNIT", command.TIMER)
        looked = ["" if poll.errors == "" else "looked" for poll in (device.poll() for _moment in range(11))]
    assert looked == ["looked", "", "looked", "", "", "", "looked", "", "", "", "looked"]
    fleet.publish(fleet.rollout("1.0.0"))
    device.document["sources"] = [good]
    with monkeypatch.context() as by_timer:
        by_timer.setenv("TRIGGER_UNIT", command.TIMER)
        device.poll()
        assert device.store.models() == [], "its moment is left out"
    # Somebody wants to know now.
    assert (device.poll().code, device.active) == (0, "1.0.0")
    device.document["sources"] = ["file:///nowhere"]
    with monkeypatch.context() as by_timer:
        by_timer.setenv("TRIGGER_UNIT", command.TIMER)
        assert "leaves out 1 of its moments" in device.poll().errors, "it began anew"


def test_without_the_units_directory_no_moment_is_left_out(fleet: PulledFleet, monkeypatch: pytest.MonkeyPatch) -> None:
    device = fleet.device(sources=["file:///nowhere"], runtime="/nowhere/at-all")
    monkeypatch.setenv("TRIGGER_UNIT", command.TIMER)
    for _moment in range(3):
        poll = device.poll()
        assert "No such file or directory" in poll.errors
        assert "leaves out" not in poll.errors


def test_reports_wait_for_the_mailbox_within_bounds_and_in_order(fleet: PulledFleet) -> None:
    memory = Memory(str(fleet.device().directory / "state"))
    Path(memory.root).mkdir()
    for number in range(1, QUEUED_MAX + 11):
        memory.enqueue(number, b"{}", observation=number > 5)
    kept = [sequence for sequence, _path in memory.queued()]
    assert kept == [*range(1, 6), *range(16, QUEUED_MAX + 11)]
    assert memory.next_sequence() == QUEUED_MAX + 11


def test_a_second_poll_at_the_same_time_does_nothing(fleet: PulledFleet) -> None:
    device = fleet.device()
    device.poll()
    fleet.publish(fleet.rollout("1.0.0"))
    with Memory(device.document["state"]).lock() as free:
        assert free
        assert device.poll().errors == "edgeml: another poll is at work\n"
    assert device.active is None


def test_a_device_without_a_certificate_follows_and_reports_later(fleet: PulledFleet) -> None:
    device = fleet.device()
    own = Path(device.document["certificate"])
    content = own.read_bytes()
    own.unlink()
    fleet.publish(fleet.rollout("1.0.0"), ask=Ask(1, "swap", f"{MODEL}-1.0.0-1", waves=[1]))
    assert (device.poll().code, device.active, device.queued()) == (0, "1.0.0", [])
    own.write_bytes(content)
    fleet.release("3.0.0")
    device.poll()
    assert [report.question for report in device.queued()] == [1, 1]


def test_what_is_damaged_of_the_memory_is_named(fleet: PulledFleet) -> None:
    device = fleet.device()
    device.poll()
    (Path(device.document["state"]) / "state.json").write_text("{")
    poll = device.poll()
    assert poll.code == 1
    assert "state.json: damaged" in poll.errors


def test_a_closed_window_is_waited_for(fleet: PulledFleet) -> None:
    device = fleet.device()
    ask = Ask(1, "swap", f"{MODEL}-1.0.0-1", waves=[1])
    # On a day that is not today, whatever today is.
    now = datetime.datetime.now(datetime.UTC)
    day = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")[(now.weekday() + 3) % 7]
    fleet.publish(fleet.rollout("1.0.0", window=[f"{day} 00:00-24:00"]), ask=ask)
    poll = device.poll()
    assert (device.active, device.queued()) == (None, [])
    assert "1.0.0 waits for its window" in poll.errors
    fleet.publish(fleet.rollout("1.0.0"), ask=ask)
    assert (device.poll().code, device.active) == (0, "1.0.0")


# ---- the configuration ----


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sources": []}, "sources: expected at least one address"),
        ({"sources": ["ftp://x"]}, "sources: expected an address with one of https"),
        ({"sources": ["git+https://x/y"]}, "allowed_signers: expected a file"),
        ({"mailbox": "/var/mail"}, "mailbox: expected an address with https://"),
        ({"device": 3}, "device: expected str; found 3"),
        ({"more": 1}, "unexpected keyword argument 'more'"),
    ],
)
def test_a_wrong_configuration_is_named(fleet: PulledFleet, changes: dict[str, Any], message: str) -> None:
    device = fleet.device(**changes)
    poll = device.poll()
    assert poll.code == 1
    assert message in poll.errors
    with pytest.raises(ArgumentError, match=f"^{CONFIG}: "):
        parse_config(json.loads(json.dumps(device.document)), CONFIG)
