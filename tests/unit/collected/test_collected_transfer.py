# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How a device's collected inputs are taken: by its own answers, and by those of one that lies."""

from __future__ import annotations

import base64
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.edgeml.fleet.plugins.module_utils._device.collected import answer_collect
from ansible_collections.edgeml.fleet.plugins.module_utils._device.request import CollectRequest
from ansible_collections.edgeml.fleet.plugins.module_utils._release.collected_input import (
    CollectedInput,
    Tensor,
    file_name,
    pack,
)
from ansible_collections.edgeml.fleet.plugins.plugin_utils._collected.inbox import Inbox, stored_inputs
from ansible_collections.edgeml.fleet.plugins.plugin_utils._collected.outcome import device_rows, failed_devices
from ansible_collections.edgeml.fleet.plugins.plugin_utils._collected.transfer import (
    AnswerError,
    bring,
    parse_waiting,
    select,
)


def item(number: int, size: int = 4) -> CollectedInput:
    tensor = Tensor("x", "UINT8", (size,), bytes([number]) * size)
    return CollectedInput("digits", "1.0.0", float(number), ("drifting",), (tensor,))


class Spool:
    """The directory of a device's inputs, and what the device answers."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.asked: list[dict[str, Any]] = []

    def put(self, *items: CollectedInput) -> None:
        for each in items:
            path = self.path / each.model / file_name(each.digest)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(pack(each))
            os.utime(path, (each.time, each.time))

    def ask(self, arguments: dict[str, Any], check_mode: bool = False) -> dict[str, Any]:
        self.asked.append(arguments)
        return answer_collect(CollectRequest(spool=str(self.path), **arguments), check_mode)

    @property
    def left(self) -> int:
        return len(list(self.path.glob("*/*.input")))


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(tmp_path / "spool")


@pytest.fixture
def inbox(tmp_path: Path) -> Inbox:
    return Inbox(str(tmp_path / "controller"), "edge-1")


def take(spool: Spool, inbox: Inbox, max_bytes: int = 1 << 30) -> dict[str, Any]:
    selection = select(parse_waiting(spool.ask({})["waiting"]), inbox, max_bytes)
    with inbox.hold():
        return {**bring(spool.ask, inbox, selection), "left": selection.left}


def stored(tmp_path: Path) -> set[str]:
    return {found.digest for found in stored_inputs(str(tmp_path / "controller"))}


def test_all_is_taken_and_a_second_time_nothing(tmp_path: Path, spool: Spool, inbox: Inbox) -> None:
    items = [item(number) for number in range(5)]
    spool.put(*items)
    found = take(spool, inbox)
    assert (found["brought"], found["removed"], found["left"], found["refused"]) == (5, 5, 0, [])
    assert found["bytes"] == sum(len(pack(each)) for each in items)
    assert stored(tmp_path) == {each.digest for each in items}
    assert spool.left == 0
    assert take(spool, inbox)["brought"] == 0


def test_a_device_without_any_has_none(spool: Spool) -> None:
    assert spool.ask({}) == {"changed": False, "removed": 0, "waiting": []}


def test_what_waits_longest_comes_first_and_the_rest_next_time(tmp_path: Path, spool: Spool, inbox: Inbox) -> None:
    spool.put(*(item(number) for number in range(5)))
    size = len(pack(item(0)))
    assert take(spool, inbox, 3 * size - 1)["left"] == 3
    assert stored(tmp_path) == {item(0).digest, item(1).digest}
    assert take(spool, inbox)["brought"] == 3


def test_many_bytes_come_in_several_calls(spool: Spool, inbox: Inbox) -> None:
    spool.put(*(item(number, 3 << 20) for number in range(3)))
    assert take(spool, inbox)["brought"] == 3
    assert [len(arguments.get("want", [])) for arguments in spool.asked] == [0, 1, 1, 1, 0]
    # What is stored is removed with the next question.
    assert [len(arguments.get("remove", [])) for arguments in spool.asked] == [0, 0, 1, 1, 1]


@pytest.mark.parametrize("calls", range(5))
def test_a_run_that_ends_anywhere_loses_and_repeats_nothing(
    tmp_path: Path, spool: Spool, inbox: Inbox, calls: int
) -> None:
    items = [item(number, 3 << 20) for number in range(3)]
    spool.put(*items)

    class EndedError(Exception):
        pass

    def ask(arguments: dict[str, Any]) -> dict[str, Any]:
        if len(spool.asked) >= calls:
            raise EndedError
        return spool.ask(arguments)

    selection = select(parse_waiting(Spool(spool.path).ask({})["waiting"]), inbox, 1 << 30)
    try:
        with inbox.hold():
            bring(ask, inbox, selection)
    except EndedError:
        pass
    on_the_device = {path.stem for path in spool.path.glob("*/*")}
    assert on_the_device | stored(tmp_path) == {each.digest for each in items}
    found = take(spool, inbox)
    assert found["brought"] == 3 - min(calls, 3)
    assert (spool.left, stored(tmp_path)) == (0, {each.digest for each in items})


def test_check_mode_removes_nothing(spool: Spool) -> None:
    spool.put(item(1))
    assert spool.ask({"remove": [f"digits:{item(1).digest}"]}, check_mode=True)["removed"] == 0
    assert spool.left == 1


def test_what_the_server_took_away_meanwhile_is_not_missed(spool: Spool, inbox: Inbox) -> None:
    spool.put(item(1), item(2))
    selection = select(parse_waiting(spool.ask({})["waiting"]), inbox, 1 << 30)
    (spool.path / "digits" / file_name(item(1).digest)).unlink()
    with inbox.hold():
        assert bring(spool.ask, inbox, selection)["brought"] == 1


# ---- on the device: links and other things in a directory of the server's ----


def test_no_link_is_followed_and_nothing_else_removed(tmp_path: Path, spool: Spool) -> None:
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / file_name("a" * 64)).write_text("secret")
    (secret / "key").write_text("secret")
    spool.put(item(1))
    (spool.path / "linked").symlink_to(secret)
    (spool.path / "digits" / file_name("b" * 64)).symlink_to(secret / "key")
    os.mkfifo(spool.path / "digits" / file_name("c" * 64))
    (spool.path / "digits" / file_name("d" * 64)).mkdir()
    assert [entry["sha256"] for entry in spool.ask({})["waiting"]] == [item(1).digest]
    names = [f"digits:{letter * 64}" for letter in "bcd"]
    assert spool.ask({"want": names})["inputs"] == []
    for names in ([f"linked:{'a' * 64}"], ["digits:../../secret/key"], ["..:" + "a" * 64]):
        for kind in ("want", "remove"):
            answer = spool.ask({kind: names})
            assert answer["failed"]
            assert answer.get("inputs", []) == []
    assert (secret / file_name("a" * 64)).exists()
    assert (secret / "key").read_text() == "secret"


# ---- a device that lies ----


def answering(entries: list[dict[str, Any]]) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda _arguments: {"removed": 0, "inputs": entries}


def entry(content: bytes, digest: str | None = None) -> dict[str, Any]:
    encoded = base64.b64encode(content).decode()
    return {"model": "digits", "sha256": digest or item(1).digest, "content": encoded}


@pytest.mark.parametrize(
    "waiting",
    [
        None,
        [1],
        [{"model": "digits"}],
        [{"model": "../x", "sha256": "a" * 64, "bytes": 5}],
        [{"model": "digits", "sha256": "../" + "a" * 61, "bytes": 5}],
        [{"model": "digits", "sha256": "a" * 64, "bytes": 1 << 40}],
        [{"model": "digits", "sha256": "a" * 64, "bytes": True}],
        [{"model": "digits", "sha256": "a" * 64, "bytes": 5}] * 2,
    ],
)
def test_a_list_that_is_none_is_refused(waiting: Any) -> None:
    with pytest.raises(AnswerError, match="expected"):
        parse_waiting(waiting)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (pack(item(2)), "expected digits"),
        (pack(item(1)._replace(model="other")), "expected digits"),
        (pack(item(1))[:-1], "x: expected 4 bytes; found 3"),
        (b"\0" * (5 << 20), "expected at most"),
        (b"", "expected a line of JSON"),
    ],
)
def test_what_is_no_such_input_is_named_and_stays(tmp_path: Path, inbox: Inbox, content: bytes, reason: str) -> None:
    waiting = parse_waiting([{"model": "digits", "sha256": item(1).digest, "bytes": 5}])
    with inbox.hold():
        found = bring(answering([entry(content)]), inbox, select(waiting, inbox, 100))
    assert (found["brought"], found["removed"]) == (0, 0)
    assert f"digits {item(1).digest[:12]}: {reason}" in found["refused"][0]
    assert stored(tmp_path) == set()


@pytest.mark.parametrize(
    "entries",
    [
        [entry(pack(item(1)))] * 2,
        [entry(pack(item(3)), item(3).digest)],
        [{"model": "digits", "sha256": item(1).digest, "content": "no base64!"}],
        [{}],
    ],
)
def test_what_was_not_asked_for_is_refused(inbox: Inbox, entries: list[dict[str, Any]]) -> None:
    waiting = parse_waiting([{"model": "digits", "sha256": item(1).digest, "bytes": 5}])
    with inbox.hold(), pytest.raises(AnswerError, match="expected"):
        bring(answering(entries), inbox, select(waiting, inbox, 100))


def test_the_table_and_who_failed() -> None:
    taken = {
        "a": {"collect_inputs_taken": {"brought": 2, "bytes": 9, "left": 1, "refused": []}},
        "b": {"collect_inputs_taken": {"unreachable": True, "msg": "no route"}},
        "c": {"collect_inputs_taken": {"failed": True, "msg": "no space"}},
        "d": {"collect_inputs_taken": {"brought": 0, "bytes": 0, "left": 0, "refused": ["x"]}},
        "e": {"collect_inputs_taken": {"skipped": True, "msg": "pulls"}},
        "f": {},
    }
    assert [(row["brought"], row["note"]) for row in device_rows(taken)] == [
        (2, ""),
        ("", "away"),
        ("", "no space"),
        (0, "refused: x"),
        ("", "pulls"),
        ("", "not asked"),
    ]
    assert failed_devices(taken) == ["c", "d"]
