# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A device that forwards its metrics loses its power: what it had recorded arrives, but for the minute of the cut.

What the receiver has is what it had before that minute: the device must not have deleted anything else.
"""

from __future__ import annotations

import copy
import shutil
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest
from forwarding import MINUTE, ForwardingDevice, MetricsReceiver, SimulatedClock

from . import strace
from .filesystem_model import Filesystem, Image
from .scenarios import clone
from .sweep import Results, sweep
from .trace_replay import WHOLE_LOG, Replay

NOON = 1_795_953_600_000
DOWN = 503
# The receiver tells whole seconds.
TOLERANCE_MS = 1500


class Minute:
    """A device that has a minute before it. Of those before, one was recorded while it believed that it was 1970.

    ``sends``: it corrects that, and sends all; ``confirms``: it has, and deletes what the receiver has; ``full``: the
    oldest has to make room.
    """

    def __init__(self, directory: Path, receiver: MetricsReceiver, kind: str) -> None:
        self.receiver, self.clock = receiver, receiver.clock
        self.device = ForwardingDevice(
            directory / "device", receiver.url, self.clock, batches_max=3 if kind == "full" else 100
        )
        self.state = Path(self.device.config.state)
        self.state.parent.mkdir()
        receiver.status = DOWN
        self.device.minute()
        if kind != "full":
            self.clock.set_to(0)
        self.device.minute()
        self.clock.error_ms, self.clock.trusted = 0, True
        # What may be lost beside the minute of the cut: the two that make room for it and for the next one.
        self._optional = set()
        if kind == "full":
            self.device.minute()
            self._optional = set(sorted(self.device.recorded)[:2])
        else:
            receiver.status = None
        if kind == "confirms":
            self.device.minute()
        self.clock.pass_time(MINUTE)
        self._prepared, self.log = directory / "prepared", directory / "log"
        clone(self.state.parent, self._prepared)
        self._before = copy.deepcopy((dict(receiver.stored), self.device.recorded, self.clock.__dict__))
        self._status = receiver.status

    def fresh(self) -> None:
        """Put device, receiver and time back."""
        shutil.rmtree(self.state.parent)
        clone(self._prepared, self.state.parent)
        stored, self.device.recorded, clock = copy.deepcopy(self._before)
        self.receiver.stored = defaultdict(dict, stored)
        self.receiver.status = self._status
        self.clock.__dict__.update(clock)

    def act(self) -> None:
        """Let the minute happen."""
        self.device.run()

    def recovered(self) -> str:
        """Start anew, and check. Return what became of the minute of the cut."""
        cut_ms, recorded = self.clock.true_ms, dict(self.device.recorded)
        self.receiver.status = None
        self.device.restart()
        self.device.minutes(3)
        stored = self.receiver.moments()
        for true_ms, samples in {**recorded, **self.device.recorded}.items():
            found = [time_ms for time_ms in stored if abs(time_ms - true_ms) <= TOLERANCE_MS]
            assert len(found) == 1 or (true_ms in self._optional and not found), f"{true_ms} is stored at {found}"
            assert all(stored.pop(time_ms) == set(samples) for time_ms in found)
        assert stored.keys() <= {cut_ms}, f"{stored.keys()}: a wrong time, or twice"
        assert len(self.device.spool.batches()) == 1
        assert self.device.spool.batches(self.device.spool.aside) == []
        assert list((self.state / "staging").iterdir()) == []
        return "kept" if stored else "lost"


@pytest.fixture(params=["sends", "confirms", "full"])
def minute(request: pytest.FixtureRequest, memory: Path) -> Iterator[Minute]:
    with MetricsReceiver(SimulatedClock(NOON)) as receiver:
        yield Minute(memory, receiver, request.param)


def test_a_minute_loses_its_power_on_any_filesystem(
    minute: Minute, request: pytest.FixtureRequest, results: Results
) -> None:
    for _warm_up in range(2):
        minute.fresh()
        minute.act()
    minute.fresh()
    replay = Replay(minute.state)
    calls = strace.calls(minute.act, minute.log, WHOLE_LOG)
    real = Filesystem(minute.state).now().key()

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
        minute.fresh()
        shutil.rmtree(minute.state)
        survivor[1].write(minute.state)
        return minute.recovered()

    name = request.node.callspec.id
    outcomes = sweep(results, f"power cut, model: edgeml forward, {name}", survivors(), cut)
    assert outcomes.keys() == {"kept", "lost"}
