# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Power cut: what was not fsynced is gone, or there, or there in part; and the device still has the old or the new.

Two ways: a real ext4 that loses its power, and a model of any filesystem. README.md says what each cannot show.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from . import strace
from .checks import check_of
from .filesystem_model import Filesystem, Image
from .loop_image import copy_image, make_image, mounted
from .scenarios import SCENARIOS, SWAP, Scenario, clone
from .strace import Call, Ended
from .sweep import Results, sweep
from .test_fetch import DELTA, DELTA_PARTS
from .trace_replay import WHOLE_LOG, Replay

IMAGE_MEGABYTES = 16
# Each of so many points of a delta is in the quick run.
_STEP = 20


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Every scenario and every way to mount an ext4 with --all-points, else one."""
    all_points = metafunc.config.getoption("--all-points")
    if "scenario" in metafunc.fixturenames:
        chosen = (*SCENARIOS, DELTA, DELTA_PARTS) if all_points else (SWAP,)
        metafunc.parametrize("scenario", chosen, ids=lambda scenario: scenario.name)
    if "options" in metafunc.fixturenames:
        metafunc.parametrize("options", ["data=ordered", "data=writeback"] if all_points else ["data=ordered"])


# ---- a real ext4 ----


class Ext4:
    """A device on an ext4, as ``scenario`` starts, that loses its power."""

    def __init__(self, directory: Path, scenario: Scenario, options: str) -> None:
        self.scenario = scenario
        self._options = options
        self._prepared, self._image, self._survivor = (directory / name for name in ("prepared", "image", "survivor"))
        self._mount, self._log = directory / "mount", directory / "log"
        make_image(self._prepared, IMAGE_MEGABYTES)
        with mounted(self._prepared, self._mount, options) as mount:
            scenario.prepare(mount / "device")
            self._check = check_of(scenario, mount / "device")

    def calls(self) -> list[Call]:
        """The calls of the action that change something."""
        with self._fresh():
            self._act()
        with self._fresh():
            return [call for call in strace.calls(self._act, self._log) if call.changes]

    def cut(self, call: Call | None) -> str:
        """Cut the power when ``call`` is entered, or (None) when the action is done. Return what is active then."""
        with self._fresh():
            ended = strace.run(self._act, self._log, strace.kill_at(call) if call else [])
            assert ended == Ended(killed=call is not None), ended
            copy_image(self._image, self._survivor)
        with mounted(self._survivor, self._mount, self._options) as mount:
            return self._check.recovered(mount / "device", done=call is None)

    def _act(self) -> None:
        self.scenario.action(self._mount / "device")

    @contextmanager
    def _fresh(self) -> Iterator[None]:
        copy_image(self._prepared, self._image)
        with mounted(self._image, self._mount, self._options):
            yield


def test_ext4_loses_its_power_at_every_changing_call(
    scenario: Scenario, options: str, memory: Path, results: Results
) -> None:
    device = Ext4(memory, scenario, options)
    sweep(results, f"power cut, ext4 {options}: {scenario.name}", [*device.calls(), None], device.cut)


# ---- the model ----


class Modelled:
    """A device on the model of a filesystem, as ``scenario`` starts, that loses its power."""

    def __init__(self, directory: Path, scenario: Scenario) -> None:
        self.scenario = scenario
        self._prepared, self._device, self._log = (directory / name for name in ("prepared", "device", "log"))
        scenario.prepare(self._prepared)
        self._check = check_of(scenario, self._prepared)

    def survivors(self) -> Iterator[tuple[str, bool, Image]]:
        """Everything that may be there after a power cut at any call: when, whether the action was done, and what."""
        for _warm_up in range(2):
            shutil.rmtree(self._device, ignore_errors=True)
            clone(self._prepared, self._device)
            replay = Replay(self._device / "store")
            calls = strace.calls(lambda: self.scenario.action(self._device), self._log, WHOLE_LOG)
        real = Filesystem(self._device / "store").now().key()
        for call in replay.steps(calls):
            seen = set()
            for told, image in replay.filesystem.survivors():
                key = image.key()
                if key not in seen:
                    seen.add(key)
                    yield f"{call or 'done'}: {told}", call is None, image
        assert replay.filesystem.now().key() == real, "the model is wrong"

    def check(self, survivor: tuple[str, bool, Image]) -> str:
        """Recover from what survived, and check. Return what is active then."""
        _told, done, image = survivor
        shutil.rmtree(self._device)
        self._device.mkdir()
        # What the controller sends, and what the device fetches from.
        for name in ("incoming", "large", "stick"):
            if (self._prepared / name).exists():
                (self._device / name).symlink_to(self._prepared / name)
        image.write(self._device / "store")
        return self._check.recovered(self._device, done)


def test_any_filesystem_loses_its_power_at_every_changing_call(
    scenario: Scenario, memory: Path, results: Results
) -> None:
    device = Modelled(memory, scenario)
    sweep(results, f"power cut, model: {scenario.name}", device.survivors(), device.check)


@pytest.mark.parametrize("scenario_of_delta", [DELTA, DELTA_PARTS], ids=lambda scenario: scenario.name)
def test_a_delta_is_staged_through_power_cuts(scenario_of_delta: Scenario, memory: Path, results: Results) -> None:
    """A choice of what may be left; with --all-points all of it is in the test above."""
    device = Modelled(memory, scenario_of_delta)
    # The last ones are those of an action that was done.
    points = (survivor for number, survivor in enumerate(device.survivors()) if number % _STEP == 0 or survivor[1])
    outcomes = sweep(results, f"power cut, model, chosen: {scenario_of_delta.name}", points, device.check)
    assert outcomes.keys() == {"old", "new"}
