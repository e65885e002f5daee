# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The ledger of rollouts: what is written is read again, and it tells what each device should be on."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout import ledger
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.ledger import LedgerError

HOSTS = ["a", "b", "c", "d"]
WAVES = [{"number": 1, "name": "canary", "hosts": ["a"]}, {"number": 2, "name": "100%", "hosts": ["b", "c"]}]


def wished(version: str = "1.1.0", attempt: int = 1, **changes: Any) -> dict[str, Any]:
    return {
        "id": ledger.rollout_id("digits", version, attempt),
        "model": "digits",
        "version": version,
        "attempt": attempt,
        "digest": "d" * 64,
        "reason": "",
        "settings": {},
        "plan": {"waves": WAVES, "device_classes": dict.fromkeys(HOSTS, "small"), "left_out": {}, "limited": False},
        **changes,
    }


def rollout(version: str, state: str, begun: int, began: str = "2026-11-22T01:00:00Z", **changes: Any) -> Any:
    waves = [{"number": number} for number in range(1, begun + 1)]
    opened = ledger.opened(None, wished(version, **changes))
    return {**opened, "state": state, "why": "it was bad", "waves": waves, "began": began}


def versions(*rollouts: Any) -> dict[str, str | None]:
    return {host: entries[0]["version"] for host, entries in ledger.wanted(rollouts, HOSTS).items()}


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    directory = str(tmp_path / "deep" / "ledger")
    assert ledger.read_all(directory) == []
    assert ledger.read(directory, "digits-1.1.0-1") is None
    opened = ledger.opened(None, wished())
    ledger.write(directory, opened)
    assert ledger.read(directory, "digits-1.1.0-1") == opened
    assert ledger.read_all(directory) == [opened]
    assert os.listdir(directory) == ["digits-1.1.0-1.json"]


def test_the_course_of_a_rollout() -> None:
    book = ledger.opened(None, wished())
    assert (book["state"], book["waves"], ledger.reached(book)) == ("running", [], 0)
    book = ledger.with_wave(book, {"number": 1, "name": "canary"})
    assert ledger.reached(book) == 1
    (wave,) = book["waves"]
    assert (wave["verdict"], wave["ended"], wave["analyses"]) == (None, None, [])
    for verdict in ("inconclusive", "pass"):
        judged = {"number": 1, "verdict": verdict, "findings": [{"check": "coverage"}], "outcomes": {"a": "updated"}}
        book = ledger.with_wave(book, judged)
    (wave,) = book["waves"]
    assert [analysis["verdict"] for analysis in wave["analyses"]] == ["inconclusive", "pass"]
    assert (wave["name"], wave["verdict"], wave["outcomes"]) == ("canary", "pass", {"a": "updated"})
    assert wave["began"] <= wave["ended"]
    book = ledger.closed(book, "passed", "every wave passed", [{"device": "a"}])
    assert (book["state"], book["devices"]) == ("passed", [{"device": "a"}])


def test_an_interrupted_rollout_goes_on() -> None:
    book = ledger.with_wave(ledger.opened(None, wished()), {"number": 1, "name": "canary"})
    again = ledger.opened(book, wished())
    assert (again["began"], again["waves"], again["state"]) == (book["began"], book["waves"], "running")
    judged = ledger.with_wave(again, {"number": 1, "verdict": "inconclusive"})
    begun_again = ledger.with_wave(judged, {"number": 1, "name": "canary"})
    assert begun_again["waves"][0]["verdict"] is None
    assert len(begun_again["waves"][0]["analyses"]) == 1


@pytest.mark.parametrize("state", ["failed", "rolled back"])
def test_a_stopped_rollout_does_not_go_on(state: str) -> None:
    book = ledger.closed(ledger.opened(None, wished()), state, "accuracy fell", [])
    with pytest.raises(LedgerError, match=r"digits-1.1.0-1 was stopped: .*accuracy fell.*rollout_attempt=2"):
        ledger.opened(book, wished())


def test_another_release_of_the_same_name_is_refused() -> None:
    with pytest.raises(LedgerError, match="A release is immutable"):
        ledger.opened(ledger.opened(None, wished()), wished(digest="e" * 64))


def test_the_hosts_of_another_limit_stay_planned() -> None:
    first = wished()
    first["plan"] = {**first["plan"], "waves": [{"number": 2, "name": "100%", "hosts": ["c"]}], "limited": True}
    second = wished()
    second["plan"] = {**second["plan"], "waves": [WAVES[0], {"number": 2, "name": "100%", "hosts": ["b"]}]}
    waves = ledger.opened(ledger.opened(None, first), second)["plan"]["waves"]
    assert [(wave["number"], sorted(wave["hosts"])) for wave in waves] == [(1, ["a"]), (2, ["b", "c"])]


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
    assert versions(*(rollout(*each) for each in rollouts)) == expected


def test_what_was_stopped_is_named() -> None:
    (entry,) = ledger.wanted([rollout("1.0.0", "passed", 2), rollout("1.1.0", "failed", 1)], ["a"])["a"]
    assert entry["stopped_releases"] == [{"version": "1.1.0", "rollout_id": "digits-1.1.0-1", "why": "it was bad"}]
    assert (entry["version"], entry["rollout_id"], entry["digest"]) == ("1.0.0", "digits-1.0.0-1", "d" * 64)


def test_a_rollout_of_a_part_says_nothing_of_others() -> None:
    book = rollout("1.1.0", "passed", 2)
    book["plan"] = {**book["plan"], "limited": True}
    assert versions(book) == dict.fromkeys("abc", "1.1.0")


@given(
    st.lists(
        st.tuples(st.sampled_from(["1.0.0", "1.1.0", "1.2.0"]), st.sampled_from(ledger.STATES), st.integers(0, 2)),
        max_size=5,
    )
)
def test_nobody_is_brought_past_a_stopped_rollout_or_a_wave_that_has_not_begun(
    rolls: list[tuple[str, str, int]],
) -> None:
    rollouts = [rollout(version, state, begun, attempt=number) for number, (version, state, begun) in enumerate(rolls)]
    for host, entries in ledger.wanted(rollouts, HOSTS).items():
        for entry in entries:
            if entry["version"] is not None:
                (source,) = [book for book in rollouts if book["id"] == entry["rollout_id"]]
                assert source["state"] not in ledger.STOPPED
                number = {"a": 1, "b": 2, "c": 2}.get(host)
                assert source["state"] == "passed" if number is None else number <= len(source["waves"])


@pytest.mark.parametrize(
    "content",
    ["", "[]", "{}", "null", "\0", json.dumps({"schema": 2}), json.dumps({**wished(), "schema": 1, "state": "odd"})],
)
def test_a_damaged_ledger_is_named(tmp_path: Path, content: str) -> None:
    path = tmp_path / "digits-1.1.0-1.json"
    path.write_text(content)
    with pytest.raises(LedgerError) as caught:
        ledger.read_all(str(tmp_path))
    assert str(path) in str(caught.value)
    assert "Move it away" in str(caught.value)


def test_a_ledger_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(LedgerError, match=r"digits-1\.1\.0-1\.json: cannot be written"):
        ledger.write(str(tmp_path / "file"), ledger.opened(None, wished()))
