# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""``edgeml pull`` is killed at each of its writes: the next poll ends what it began, and each report arrives once."""

from __future__ import annotations

import shutil
from pathlib import Path

from kills import killed_before_write
from pulled import MODEL, PulledFleet, PullingDevice, web_fleet

from ansible_collections.edgeml.fleet.plugins.module_utils._pull.command import pull
from ansible_collections.edgeml.fleet.plugins.module_utils._release.desired import Ask


def restored(device: PullingDevice, before: Path, fleet: PulledFleet) -> None:
    """Put the device and its mailbox back."""
    for path in (device.directory, fleet.mailbox):
        shutil.rmtree(path)
    shutil.copytree(before / "device", device.directory, symlinks=True)
    shutil.copytree(before / "mailbox", fleet.mailbox)


def test_a_poll_that_is_killed_at_any_write_is_ended_by_the_next_one(tmp_path: Path) -> None:
    with web_fleet(tmp_path / "fleet") as fleet:
        device = fleet.device()
        fleet.publish(fleet.rollout("1.0.0"))
        device.poll()
        before = tmp_path / "before"
        shutil.copytree(device.directory, before / "device", symlinks=True)
        shutil.copytree(fleet.mailbox, before / "mailbox")
        ask = Ask(1, "swap", f"{MODEL}-2.0.0-1", waves=[1])
        fleet.publish(fleet.rollout("2.0.0"), fleet.rollout("1.0.0"), ask=ask)
        between = set()
        for write in range(1, 1000):
            killed = killed_before_write(write, lambda: pull(device.config))
            between.add(device.active)
            assert device.active in ("1.0.0", "2.0.0"), write
            device.store.version(MODEL, device.active or "").verify()
            assert (device.poll().code, device.active) == (0, "2.0.0"), write
            assert device.queued() == []
            reports = fleet.reports()
            sequences = [report.sequence for report in reports]
            assert sequences == sorted(set(sequences)), write
            answers = [report for report in reports if report.question == 1 and not report.begun]
            assert answers, write
            result = answers[-1].result
            assert result is not None
            assert not result.get("failed"), write
            if not killed:
                break
            restored(device, before, fleet)
        assert between == {"1.0.0", "2.0.0"}
        assert write > 40
