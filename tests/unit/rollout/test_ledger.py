# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The ledger of rollouts: what is written is read again, and it tells what each device should be on."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rollouts import HOSTS, a_rollout, wanted_by

from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout import ledger
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.gate.checks import Verdict
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.ledger import LedgerError
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.outcome import Outcome
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.plan import Plan, PlannedWave
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.rollout import State


def versions(*rollouts: Any) -> dict[str, str | None]:
    return {host: entries[0]["version"] for host, entries in ledger.wanted(rollouts, HOSTS).items()}


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    directory = str(tmp_path / "deep" / "ledger")
    path = ledger.path_of(directory, "digits-1.1.0-1")
    assert ledger.read_all(directory).rollouts == ()
    assert ledger.read(path) is None
    opened = a_rollout()
    ledger.write(path, opened)
    assert ledger.read(path) == opened
    assert ledger.read_all(directory).rollouts == (opened,)
    assert os.listdir(directory) == ["digits-1.1.0-1.json"]


def test_rollouts_are_read_oldest_first(tmp_path: Path) -> None:
    for version, hour in (("1.1.0", 2), ("1.2.0", 1)):
        rollout = wanted_by(version, "passed", 2, began=f"2026-11-22T0{hour}:00:00Z")
        ledger.write(ledger.path_of(str(tmp_path), rollout.id), rollout)
    assert [rollout.version for rollout in ledger.read_all(str(tmp_path)).rollouts] == ["1.2.0", "1.1.0"]


# ---- what the fleet should be on ----


@pytest.mark.parametrize(
    ("rollouts", "expected"),
    [
        ([], {}),
        ([("1.0.0", "passed", 2)], dict.fromkeys(HOSTS, "1.0.0")),
        ([("1.0.0", "running", 1)], {"a": "1.0.0"}),
        ([("1.0.0", "paused", 1)], {"a": "1.0.0"}),
        ([("1.0.0", "paused", 2)], dict.fromkeys("abc", "1.0.0")),
        ([("1.0.0", "running", 0)], {}),
        ([("1.0.0", "passed", 2), ("1.1.0", "running", 1)], {"a": "1.1.0", **dict.fromkeys("bcd", "1.0.0")}),
        ([("1.0.0", "passed", 2), ("1.1.0", "failed", 1)], dict.fromkeys(HOSTS, "1.0.0")),
        ([("1.0.0", "passed", 2), ("1.1.0", "rolled back", 2)], dict.fromkeys(HOSTS, "1.0.0")),
        ([("1.0.0", "passed", 2), ("1.1.0", "passed", 2)], dict.fromkeys(HOSTS, "1.1.0")),
        # Nobody knows what was before: it is left, and that is all.
        ([("1.1.0", "failed", 1)], {"a": None}),
    ],
)
def test_what_each_device_should_be_on(rollouts: list[tuple[str, str, int]], expected: dict[str, str | None]) -> None:
    assert versions(*(wanted_by(*each) for each in rollouts)) == expected


@pytest.mark.parametrize(
    ("rollouts", "expected"),
    [
        ([], set()),
        ([("1.0.0", "passed", 2)], {"1.0.0"}),
        # Where each host is, and where it goes back to.
        ([("1.0.0", "passed", 2), ("1.1.0", "passed", 2), ("1.2.0", "passed", 2)], {"1.1.0", "1.2.0"}),
        # One that has not begun is on its way; hosts of its last wave are still on the oldest.
        (
            [("1.0.0", "passed", 2), ("1.1.0", "passed", 2), ("1.2.0", "paused", 1)],
            {"1.0.0", "1.1.0", "1.2.0"},
        ),
        ([("1.0.0", "passed", 2), ("1.1.0", "running", 0)], {"1.0.0", "1.1.0"}),
        ([("1.0.0", "passed", 2), ("1.1.0", "failed", 1)], {"1.0.0"}),
        ([("1.0.0", "passed", 2), ("1.1.0", "rolled back", 2), ("1.0.0", "passed", 2)], {"1.0.0"}),
    ],
)
def test_which_releases_devices_may_have_to_be_given(rollouts: list[tuple[str, str, int]], expected: set[str]) -> None:
    found = ledger.needed([wanted_by(*each) for each in rollouts])
    assert found == {("digits", version) for version in expected}


def test_what_was_stopped_is_named() -> None:
    (entry,) = ledger.wanted([wanted_by("1.0.0", "passed", 2), wanted_by("1.1.0", "failed", 1)], ["a"])["a"]
    assert entry["stopped_releases"] == [{"version": "1.1.0", "rollout_id": "digits-1.1.0-1", "why": "it was bad"}]
    assert (entry["version"], entry["rollout_id"], entry["digest"]) == ("1.0.0", "digits-1.0.0-1", "d" * 64)


def test_a_rollout_of_a_part_says_nothing_of_others() -> None:
    assert versions(wanted_by("1.1.0", "passed", 2, limited=True)) == dict.fromkeys("abc", "1.1.0")


def test_a_run_for_a_part_brings_nobody_else_past_a_wave_that_has_not_begun(tmp_path: Path) -> None:
    """The canaries of a rollout have begun, and then ``--limit`` plays one device of the last wave to its end."""
    waves = [PlannedWave(1, "1", ("a",)), PlannedWave(2, "2", ("b",)), PlannedWave(3, "3", ("c", "d"))]
    rollout = dataclasses.replace(a_rollout(), plan=Plan(waves=tuple(waves)))
    rollout = rollout.with_wave_begun(1, "1", hosts="a").with_verdict(1, Verdict.PASS, [], {"a": Outcome.UPDATED})
    part = dataclasses.replace(rollout, plan=Plan(waves=(PlannedWave(3, "3", ("d",)),), limited=True))
    part = part.resumed_from(rollout.closed(State.PAUSED, "the window")).with_wave_begun(3, "3", hosts="d")
    assert versions(part) == {"a": "1.1.0", "d": "1.1.0"}
    part = part.with_verdict(3, Verdict.PASS, [], {"d": Outcome.UPDATED}).closed(State.PASSED, "every wave passed")
    path = ledger.path_of(str(tmp_path), part.id)
    ledger.write(path, part)
    read = ledger.read(path)
    assert read == part
    assert versions(part) == {"a": "1.1.0", "d": "1.1.0"}
    assert ledger.needed([wanted_by("1.0.0", "passed", 2), part]) == {("digits", "1.0.0"), ("digits", "1.1.0")}
    # As a version before this one has written it.
    older = dataclasses.replace(part, waves=tuple(dataclasses.replace(wave, hosts=()) for wave in part.waves))
    assert versions(older) == {"a": "1.1.0", "d": "1.1.0"}
    # The whole fleet goes on, and comes to all; a part of it that is played again takes nothing back.
    whole = rollout.resumed_from(part).with_wave_begun(1, "1", hosts="a")
    assert versions(whole) == {"a": "1.1.0", "d": "1.1.0"}
    whole = whole.closed(State.PASSED, "every wave passed")
    assert versions(whole) == dict.fromkeys("abcd", "1.1.0")
    assert versions(part.resumed_from(whole).closed(State.PASSED, "again")) == dict.fromkeys("abcd", "1.1.0")


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["1.0.0", "1.1.0", "1.2.0"]),
            st.sampled_from([state.value for state in State]),
            st.integers(0, 2),
        ),
        max_size=5,
    )
)
def test_nobody_is_brought_past_a_stopped_rollout_or_a_wave_that_has_not_begun(
    rolls: list[tuple[str, str, int]],
) -> None:
    rollouts = [
        wanted_by(version, state, begun, attempt=number) for number, (version, state, begun) in enumerate(rolls)
    ]
    for host, entries in ledger.wanted(rollouts, HOSTS).items():
        for entry in entries:
            if entry["version"] is not None:
                (source,) = [book for book in rollouts if book.id == entry["rollout_id"]]
                assert not source.state.is_stopped
                number = {"a": 1, "b": 2, "c": 2}.get(host)
                assert source.state is State.PASSED if number is None else number <= len(source.waves)


# ---- files that are no rollouts ----

DAMAGED = {
    "empty": "",
    "list": "[]",
    "mapping": "{}",
    "null": "null",
    "zero": "\0",
    "later": json.dumps({"schema": 2}),
    "no schema of ours": json.dumps({**a_rollout().to_dict(), "schema": "one"}),
    "state": json.dumps({**a_rollout().to_dict(), "state": "odd"}),
    "version": json.dumps({**a_rollout().to_dict(), "version": 1.1}),
    "attempt": json.dumps({**a_rollout().to_dict(), "attempt": "1"}),
    "waves": json.dumps({**a_rollout().to_dict(), "waves": [7]}),
}


@pytest.mark.parametrize("content", DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_file_is_named_and_passed_over(tmp_path: Path, content: str) -> None:
    path = tmp_path / "digits-1.1.0-1.json"
    path.write_text(content)
    with pytest.raises(LedgerError) as caught:
        ledger.read(str(path))
    assert str(path) in str(caught.value)
    newer = (
        "a newer version of the collection wrote it: expected schema 1; found 2. Use that version on this controller"
    )
    assert (newer if content == DAMAGED["later"] else "Move it away") in str(caught.value)
    other = a_rollout(model="faces")
    ledger.write(ledger.path_of(str(tmp_path), other.id), other)
    found = ledger.read_all(str(tmp_path))
    assert found.rollouts == (other,)
    assert found.damaged == {"digits-1.1.0-1": str(caught.value)}
    # What the damaged file may be about is not decided without it.
    assert found.damaged_of("digits") == [str(caught.value)]
    assert found.damaged_of("faces") == []


def test_a_ledger_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(LedgerError, match=r"digits-1\.1\.0-1\.json: cannot be written"):
        ledger.write(ledger.path_of(str(tmp_path / "file"), "digits-1.1.0-1"), a_rollout())
