# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Devices forward their metrics to a real VictoriaMetrics: what it has at the end is what they have recorded.

The hours are simulated: the devices' clocks are the tests'. VictoriaMetrics has the real time, which the devices reach
at the end.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from fake_server import FakeServer
from forwarding import ForwardingDevice, SimulatedClock
from victoria_metrics import GUARD_SECONDS, VictoriaMetrics, exported_form, has_all

from ansible_collections.edgeml.fleet.plugins.module_utils._forward.forwarder import ASK_AFTER_MS
from ansible_collections.edgeml.fleet.plugins.module_utils._forward.spool import Batch, write_batch

HOUR_MS = 3_600_000
# As many as a server with a model and some traffic has, beside the device's own.
SERIES = 150
# A device asks for what it sent only then: who asks at once is told for some seconds that nothing is there.
ASKS_SECONDS = ASK_AFTER_MS / 1000 + 1


def now_ms() -> int:
    return time.time_ns() // 1_000_000


@pytest.fixture
def receiver(tmp_path: Path) -> Iterator[VictoriaMetrics]:
    with VictoriaMetrics(tmp_path / "victoria-metrics") as found:
        yield found


class MeasuredDevice(ForwardingDevice):
    """A device with a server whose metrics differ each minute."""

    def __init__(self, directory: Path, receiver: VictoriaMetrics, hours: float, *, batches_max: int = 10_080) -> None:
        clock = SimulatedClock(now_ms() - round(hours * HOUR_MS))
        super().__init__(directory, receiver.url, clock, batches_max=batches_max)
        self._server = FakeServer(self.config.server)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._minute = 0

    def __enter__(self) -> MeasuredDevice:
        self._thread.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def run(self, **options: bool) -> int:
        self._minute += 1
        lines = (f'edgeml_test_total{{series="{number}"}} {number + self._minute / 8}\n' for number in range(SERIES))
        self._server.reply = (200, "".join(lines).encode())
        return super().run(**options)

    def run_now(self) -> int:
        """Run once in the real time."""
        self.clock.true_ms = now_ms()
        return self.run()

    def deliver(self) -> None:
        """Run in the real time until only the last minute is not known to be stored."""
        end = time.monotonic() + GUARD_SECONDS
        self.run_now()
        while time.monotonic() < end:
            time.sleep(ASKS_SECONDS)
            self.run_now()
            if len(self.spool.batches()) == 1:
                return
        pytest.fail(f"not known to be stored: {self.spool.batches()}; {self.lines}")


def assert_no_gap(device: MeasuredDevice, receiver: VictoriaMetrics, tolerance_ms: int = 0) -> None:
    """All but the last minute, which may not show yet, is stored: each sample once, at its time."""
    recorded = sorted(device.recorded.items())[:-1]
    stored = sorted(receiver.stored(device.config.device).items())[: len(recorded)]
    assert len(stored) == len(recorded)
    for (found_ms, found), (true_ms, samples) in zip(stored, recorded, strict=True):
        assert abs(found_ms - true_ms) <= tolerance_ms
        wanted = exported_form(samples)
        assert found.keys() == wanted.keys()
        assert has_all(found, wanted)


def test_a_device_that_was_cut_off_for_six_hours_leaves_no_gap(receiver: VictoriaMetrics, tmp_path: Path) -> None:
    receiver.kill()
    with MeasuredDevice(tmp_path, receiver, 6) as device:
        device.minutes(359)
        assert len(device.spool.batches()) == 359
        receiver.start()
        device.deliver()
        assert_no_gap(device, receiver)


def test_a_receiver_that_was_down_for_a_day_leaves_no_gap(receiver: VictoriaMetrics, tmp_path: Path) -> None:
    receiver.kill()
    with MeasuredDevice(tmp_path, receiver, 24) as device:
        device.minutes(1439)
        receiver.start()
        device.deliver()
        assert_no_gap(device, receiver)


@pytest.mark.parametrize("believed", [0, 2_145_916_800_000], ids=["1970", "2038"])
def test_a_clock_that_jumps_leaves_no_gap_and_no_wrong_time(
    receiver: VictoriaMetrics, tmp_path: Path, believed: int
) -> None:
    receiver.kill()
    with MeasuredDevice(tmp_path, receiver, 1) as device:
        device.minutes(20)
        device.clock.set_to(believed)
        device.minutes(20)
        device.clock.error_ms = 0
        device.minutes(19)
        receiver.start()
        device.deliver()
        assert_no_gap(device, receiver, tolerance_ms=1500)


def test_what_a_receiver_loses_that_is_killed_is_sent_again(receiver: VictoriaMetrics, tmp_path: Path) -> None:
    with MeasuredDevice(tmp_path, receiver, 0) as device:
        device.run()
        # It said that it took them, and had them in its memory only.
        assert len(receiver.stored("edge-1")) == 0
        receiver.kill()
        receiver.start()
        device.deliver()
        assert_no_gap(device, receiver)


def test_a_receiver_whose_disk_is_full_leaves_no_gap(receiver: VictoriaMetrics, tmp_path: Path) -> None:
    receiver.kill()
    receiver.start(f"-storage.minFreeDiskSpaceBytes={1 << 50}")
    with MeasuredDevice(tmp_path, receiver, 0) as device:
        for _minute in range(3):
            device.run_now()
        assert len(device.spool.batches()) == 3
        assert "what was recorded is kept" in device.lines[-1]
        receiver.kill()
        receiver.start()
        device.deliver()
        assert_no_gap(device, receiver)


def test_a_device_whose_disk_is_full_keeps_the_newest(receiver: VictoriaMetrics, tmp_path: Path) -> None:
    receiver.kill()
    with MeasuredDevice(tmp_path, receiver, 1, batches_max=30) as device:
        device.minutes(59)
        receiver.start()
        lost = len(device.recorded) - 29
        for time_ms in sorted(device.recorded)[:lost]:
            del device.recorded[time_ms]
        device.deliver()
        assert_no_gap(device, receiver)


DEVICES, MINUTES = 1000, 60


def test_a_thousand_devices_forward_at_once_after_an_outage(receiver: VictoriaMetrics, tmp_path: Path) -> None:
    """Each has an hour to forward, and 40 series; all begin in the same moment, 32 connections at a time."""
    begun = now_ms() - MINUTES * 60_000
    devices = []
    for number in range(DEVICES):
        clock = SimulatedClock(begun)
        device = ForwardingDevice(tmp_path / f"{number:04}", receiver.url, clock, f"edge-{number:04}")
        spooled = Path(device.config.state)
        spooled.mkdir(parents=True)
        for minute in range(MINUTES):
            clock.pass_time(60)
            samples = [f'm{{device="edge-{number:04}",series="{series}"}} {minute}' for series in range(40)]
            batch = Batch(minute + 1, clock(), len(samples))
            (spooled / batch.name).write_bytes(write_batch(samples, batch.reading.time_ms))
        devices.append(device)

    def forward(device: ForwardingDevice) -> int:
        device.clock.true_ms = now_ms()
        return device.run()

    end = time.monotonic() + GUARD_SECONDS
    with ThreadPoolExecutor(32) as pool:
        begun_s = time.monotonic()
        assert max(pool.map(forward, devices)) == 0
        seconds = time.monotonic() - begun_s
        waiting = devices
        while waiting and time.monotonic() < end:
            time.sleep(ASKS_SECONDS)
            assert max(pool.map(forward, waiting)) == 0
            waiting = [device for device in waiting if device.spool.batches()[0].sequence <= MINUTES]
    assert waiting == []
    print(
        f"{DEVICES} devices, {DEVICES * MINUTES * 40} samples: sent in {seconds:.1f} s, {rss_mb(receiver.pid):.0f} MB"
    )
    counted = receiver.get("/api/v1/query", query="count(count_over_time(m[2h]))", time=f"{now_ms() / 1000 + 60:.0f}")
    assert f'"{DEVICES * 40}"' in counted
    summed = receiver.get("/api/v1/query", query="sum(sum_over_time(m[2h]))", time=f"{now_ms() / 1000 + 60:.0f}")
    assert f'"{DEVICES * 40 * sum(range(MINUTES))}"' in summed


def rss_mb(process: int) -> float:
    pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6
