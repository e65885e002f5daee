# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A poll that is killed at any of its calls, or cut from power: the version before or the new one is active, the next
poll ends what it began, and each report arrives, once."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import pytest
from pulled import MODEL, PulledFleet, web_fleet

from ansible_collections.edgeml.fleet.plugins.module_utils._pull.command import pull
from ansible_collections.edgeml.fleet.plugins.module_utils._pull.report import read_envelope, read_report
from ansible_collections.edgeml.fleet.plugins.module_utils._release.desired import Ask

from . import strace
from .filesystem_model import Filesystem, Image
from .scenarios import clone
from .strace import Call
from .sweep import Results, sweep
from .trace_replay import WHOLE_LOG, Replay

OLD, NEW = "1.0.0", "2.0.0"
# Without --all-points: so many kills, and one of so many images of what a power cut may leave.
CHOSEN_MAX, CUTS_EACH = 12, 400
# With --all-points a proof has so many parts, which may run beside each other: sending has few points.
PARTS = {"follow": 12, "send": 1}

Point = TypeVar("Point")


class Poll:
    """A device that has a poll before it: one that follows, or one that sends its two reports of that."""

    def __init__(self, directory: Path, fleet: PulledFleet, kind: str) -> None:
        self.fleet = fleet
        self.kind = kind
        self._sends = kind == "send"
        self.device = fleet.device(sources=[f"file://{fleet.signed.path}"])
        self._mailbox_url = str(self.device.document["mailbox"])
        fleet.publish(fleet.rollout(OLD))
        assert self.device.poll().code == 0
        ask = Ask(1, "swap", f"{MODEL}-{NEW}-1", waves=[1])
        fleet.publish(fleet.rollout(NEW), fleet.rollout(OLD), ask=ask)
        self._away()
        if self._sends:
            assert self.device.poll().code == 0
            self.device.document["mailbox"] = self._mailbox_url
        self._prepared, self._mailbox, self.log = (directory / name for name in ("prepared", "mailbox", "log"))
        clone(self.device.directory, self._prepared)
        clone(fleet.mailbox, self._mailbox)
        self._to_send = self._queued()

    def _away(self) -> None:
        """Have the mailbox out of reach, so that what a poll queues is there to be lost."""
        self.device.document["mailbox"] = "http://127.0.0.1:1/reports"

    def fresh(self) -> None:
        """Put device and mailbox back."""
        for path, prepared in ((self.device.directory, self._prepared), (self.fleet.mailbox, self._mailbox)):
            shutil.rmtree(path)
            clone(prepared, path)
        self.device.document["mailbox"] = self._mailbox_url
        if not self._sends:
            self._away()

    def deliver(self) -> None:
        """Have those reports in the mailbox that the device forgot: it does so when they have arrived."""
        queued = self._queued()
        for number, content in self._to_send.items():
            if number not in queued:
                path = self.fleet.mailbox / self.device.name / f"{number}.json"
                path.parent.mkdir(exist_ok=True)
                path.write_bytes(content)

    def act(self) -> None:
        """Look once."""
        assert pull(self.device.config) == 0

    def calls(self, options: Sequence[str] = ()) -> list[Call]:
        """The calls of the poll."""
        for _warm_up in range(2):
            self.fresh()
            self.act()
        self.fresh()
        return strace.calls(self.act, self.log, options)

    def recovered(self) -> str:
        """Look again, with the mailbox in reach, and check. Return what was active before that."""
        device, fleet = self.device, self.fleet
        device.document["mailbox"] = self._mailbox_url
        active = device.active
        assert active in (OLD, NEW), active
        device.store.version(MODEL, active).verify()
        queued = self._queued()
        poll = device.poll()
        assert (poll.code, device.active) == (0, NEW), poll
        device.store.version(MODEL, NEW).verify()
        assert self._queued() == {}
        arrived = {int(path.stem): path.read_bytes() for path in (fleet.mailbox / device.name).glob("*.json")}
        assert {number: arrived.get(number) for number in queued} == queued, (
            "a report was lost, or another took its place"
        )
        answers = [report for report in fleet.reports() if report.question == 1 and not report.begun]
        results: list[Any] = [report.result for report in answers]
        assert results, "the question was not answered"
        assert not any(result["failed"] for result in results if "failed" in result)
        assert sum(bool(result["changed"]) for result in results) <= 1, "a swap was reported twice"
        before = device.snapshot()
        assert device.poll().code == 0
        assert device.snapshot() == before, "the poll after that finds something to do"
        return "old" if active == OLD else "new"

    def _queued(self) -> dict[int, bytes]:
        """The reports that are queued, each whole."""
        paths = (self.device.directory / "state" / "queue").glob("*.json")
        found = {int(path.name.split(".")[0]): path.read_bytes() for path in paths}
        for content in found.values():
            read_report(read_envelope(content).payload)
        return found


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "part" in metafunc.fixturenames:
        all_points = metafunc.config.getoption("--all-points")
        parts = [(kind, part) for kind, count in PARTS.items() for part in range(count if all_points else 1)]
        metafunc.parametrize(("poll", "part"), parts, indirect=["poll"])


@pytest.fixture
def poll(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Poll]:
    with web_fleet(tmp_path / "fleet") as fleet:
        yield Poll(tmp_path, fleet, request.param)


def chosen(points: Sequence[Point], all_points: bool, poll: Poll, part: int) -> Sequence[Point]:
    """A part of all points, or some of them, spread evenly."""
    step = PARTS[poll.kind] if all_points else max(len(points) // CHOSEN_MAX, 1)
    return list(itertools.islice(points, part, None, step))


def test_a_poll_is_killed_at_every_call_about_its_files(
    poll: Poll, request: pytest.FixtureRequest, all_points: bool, part: int, results: Results
) -> None:
    def killed(call: Call) -> str:
        poll.fresh()
        ended = strace.run(poll.act, poll.log, strace.kill_at(call))
        assert ended.killed, ended
        return poll.recovered()

    listed = [call for call in poll.calls() if call.concerns(poll.device.directory)]
    points = listed if all_points else [call for call in listed if call.changes]
    name = request.node.callspec.id
    outcomes = sweep(results, f"killed: edgeml pull, {name}", chosen(points, all_points, poll, part), killed)
    assert outcomes.keys() == ({"old", "new"} if poll.kind == "follow" else {"new"})


def test_a_poll_loses_its_power_on_any_filesystem(
    poll: Poll, request: pytest.FixtureRequest, all_points: bool, part: int, results: Results
) -> None:
    replay: Replay

    def survivors() -> Iterator[tuple[str, Image]]:
        seen = set()
        for call in replay.steps(calls):
            for told, image in replay.filesystem.survivors():
                key = hash(image.key())
                if key not in seen:
                    seen.add(key)
                    yield f"{call or 'done'}: {told}", image
        assert replay.filesystem.now().key() == real, "the model is wrong"

    def cut(survivor: tuple[str, Image]) -> str:
        poll.fresh()
        shutil.rmtree(poll.device.directory)
        survivor[1].write(poll.device.directory)
        poll.deliver()
        return poll.recovered()

    for _warm_up in range(2):
        poll.fresh()
        poll.act()
    poll.fresh()
    replay = Replay(poll.device.directory)
    calls = strace.calls(poll.act, poll.log, WHOLE_LOG)
    real = Filesystem(poll.device.directory).now().key()
    name = request.node.callspec.id
    step = PARTS[poll.kind] if all_points else CUTS_EACH
    images = itertools.islice(survivors(), part, None, step)
    sweep(results, f"power cut, model: edgeml pull, {name}", images, cut)
