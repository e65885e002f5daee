# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Store and forward: what a device recorded is stored once the receiver can be reached, whatever happens between."""

from __future__ import annotations

import errno
import itertools
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from forwarding import MINUTE, ForwardingDevice, MetricsReceiver, SimulatedClock

from ansible_collections.edgeml.fleet.plugins.module_utils._common.files import DurableTree, hold_directory
from ansible_collections.edgeml.fleet.plugins.module_utils._forward import forwarder, spool
from ansible_collections.edgeml.fleet.plugins.module_utils._forward.forwarder import ATTEMPTS, MISSING_MAX, Forwarder

NOON = 1_795_953_600_000
DOWN = 503


@pytest.fixture
def clock() -> SimulatedClock:
    return SimulatedClock(NOON)


@pytest.fixture
def receiver(clock: SimulatedClock) -> Iterator[MetricsReceiver]:
    with MetricsReceiver(clock) as found:
        yield found


@pytest.fixture
def device(tmp_path: Path, receiver: MetricsReceiver, clock: SimulatedClock) -> ForwardingDevice:
    return ForwardingDevice(tmp_path, receiver.url, clock)


def expected(device: ForwardingDevice) -> dict[int, set[str]]:
    return {time_ms: set(samples) for time_ms, samples in device.recorded.items()}


def test_each_minute_is_stored_and_then_deleted(device: ForwardingDevice, receiver: MetricsReceiver) -> None:
    device.minutes(5)
    assert receiver.moments() == expected(device)
    assert list(receiver.moments()) == [NOON + minute * 60_000 for minute in range(1, 6)]
    # The last one is not known to be stored before the next minute.
    assert [batch.sequence for batch in device.spool.batches()] == [5]
    assert 'up{device="edge-1",job="edgeml-server"} 0' in receiver.moments()[NOON + 60_000]


def test_a_minute_costs_two_requests(device: ForwardingDevice, receiver: MetricsReceiver) -> None:
    device.minutes(2)
    receiver.requests.clear()
    device.minute()
    assert receiver.requests == [("GET", "/api/v1/export"), ("POST", "/api/v1/import/prometheus")]


def test_a_device_that_records_each_ten_seconds_asks_as_well(
    device: ForwardingDevice, receiver: MetricsReceiver
) -> None:
    for _moment in range(9):
        device.clock.pass_time(10)
        device.run()
    assert len(device.spool.batches()) <= 3
    device.minutes(2)
    assert receiver.moments() == expected(device)


def test_a_receiver_that_is_down_for_a_day_leaves_no_gap(device: ForwardingDevice, receiver: MetricsReceiver) -> None:
    device.minute()
    receiver.status = DOWN
    device.minutes(130)
    assert len(device.spool.batches()) == 131
    assert "HTTP status 503: what was recorded is kept" in " ".join(device.lines)
    receiver.status = None
    device.minutes(2)
    assert receiver.moments() == expected(device)
    # In their order, many at once, and each once.
    times = [int(line.rsplit(" ", 1)[1]) for post in receiver.posts for line in post]
    assert times == sorted(times)
    assert len(receiver.posts) == 1 + 2 + 1
    assert len(device.spool.batches()) == 1


def test_nobody_answers(device: ForwardingDevice, tmp_path: Path, clock: SimulatedClock) -> None:
    away = ForwardingDevice(tmp_path / "away", "http://127.0.0.1:1", clock)
    (tmp_path / "away").mkdir()
    assert away.minute() == 0
    assert any("127.0.0.1:1: cannot be reached" in line for line in away.lines)
    assert len(away.spool.batches()) == 1


def test_the_timer_leaves_moments_out_while_nobody_answers(device: ForwardingDevice, receiver: MetricsReceiver) -> None:
    receiver.status = DOWN
    for _minute in range(9):
        device.minute(by_timer=True)
    assert len(receiver.requests) == 3
    assert len(device.spool.batches()) == 9


def test_what_the_receiver_drops_is_sent_again(device: ForwardingDevice, receiver: MetricsReceiver) -> None:
    receiver.drops = lambda line: "queued_batches" in line
    device.minutes(40)
    # It stores nothing whole, so it does not get much more before it does.
    assert len(device.spool.batches()) == 40
    assert device.spool.batches(device.spool.aside) == []
    assert len(receiver.moments()) == MISSING_MAX + 1
    receiver.drops = lambda _line: False
    device.minutes(4)
    assert receiver.moments() == expected(device)
    assert len(device.spool.batches()) == 1


def test_what_is_never_stored_is_set_aside_while_others_are(
    device: ForwardingDevice, receiver: MetricsReceiver
) -> None:
    device.minute()
    old = f" {NOON + 2 * 60_000}"
    receiver.drops = lambda line: line.endswith(old)
    device.minutes(1 + 2 * ATTEMPTS + 1)
    (aside,) = device.spool.batches(device.spool.aside)
    assert aside.reading.time_ms == NOON + 2 * 60_000
    assert len(device.spool.batches()) == 1
    device.minute()
    assert (
        'edgeml_forward_aside_batches{device="edge-1",job="edgeml-device"} 1' in device.recorded[device.clock.true_ms]
    )
    receiver.drops = lambda _line: False
    device.minute(take_back=True)
    device.minutes(2)
    assert receiver.moments() == expected(device)
    assert device.spool.batches(device.spool.aside) == []


def test_a_refusal_is_an_error_that_says_what_was_refused(device: ForwardingDevice, receiver: MetricsReceiver) -> None:
    receiver.status = 401
    assert device.minute() == 1
    assert "GET /health: HTTP status 401" in device.lines[-1]
    assert len(device.spool.batches()) == 1


# ---- clocks ----


@pytest.mark.parametrize("believed", [0, 2_145_916_800_000])
def test_a_clock_that_is_wrong_is_corrected_before_anything_is_sent(
    device: ForwardingDevice, receiver: MetricsReceiver, clock: SimulatedClock, believed: int
) -> None:
    """1970, as without a battery, and 2038."""
    receiver.status = DOWN
    clock.set_to(believed)
    device.minutes(5)
    receiver.status = None
    device.minute()
    assert any("the clock was wrong: 6 batches" in line for line in device.lines)
    device.minute()
    assert_stored_within_a_second(device, receiver)
    # What is recorded after the receiver has answered has its time at once.
    device.minutes(2)
    assert_stored_within_a_second(device, receiver)
    value = next(line for line in device.recorded[clock.true_ms] if "clock_error_seconds" in line).rsplit(" ", 1)[1]
    assert abs(float(value) * 1000 - clock.error_ms) <= 1000


def assert_stored_within_a_second(device: ForwardingDevice, receiver: MetricsReceiver) -> None:
    stored = receiver.moments()
    assert len(stored) == len(device.recorded)
    for found, (true_ms, samples) in zip(sorted(stored), sorted(device.recorded.items()), strict=True):
        assert abs(found - true_ms) <= 1000
        assert stored[found] == set(samples)


def test_a_clock_that_was_set_right_before_a_start_tells_what_was_before(
    device: ForwardingDevice, receiver: MetricsReceiver, clock: SimulatedClock
) -> None:
    receiver.status = DOWN
    clock.set_to(0)
    device.minutes(3)
    clock.error_ms, clock.trusted = 0, True
    device.minutes(3)
    device.restart()
    device.minutes(2)
    receiver.status = None
    device.minute()
    assert sorted(receiver.moments()) == sorted(device.recorded)


def test_what_nobody_knows_the_time_of_is_kept_and_not_sent(
    device: ForwardingDevice, receiver: MetricsReceiver, clock: SimulatedClock
) -> None:
    receiver.status = DOWN
    clock.set_to(NOON - 86_400_000)
    device.minutes(3)
    device.restart()
    unknown = list(device.recorded)
    receiver.status = None
    assert device.minute() == 1
    assert any("3 batches are of a time that nobody knows" in line for line in device.lines)
    assert len(device.spool.batches(device.spool.aside)) == 3
    device.minute()
    stored = receiver.moments()
    assert len(stored) == 2
    assert min(stored) > max(unknown)


def test_a_small_error_of_the_clock_is_none(
    device: ForwardingDevice, receiver: MetricsReceiver, clock: SimulatedClock
) -> None:
    clock.error_ms = 3000
    device.minutes(3)
    assert sorted(receiver.moments()) == [time_ms + 3000 for time_ms in device.recorded]


def test_a_reply_without_a_date_is_refused(device: ForwardingDevice, receiver: MetricsReceiver) -> None:
    receiver.has_date = False
    assert device.minute() == 1
    assert "expected a reply with a Date" in device.lines[-1]
    assert receiver.posts == []


# ---- room, damage, power ----


def test_the_oldest_make_room_and_are_counted(tmp_path: Path, receiver: MetricsReceiver, clock: SimulatedClock) -> None:
    device = ForwardingDevice(tmp_path, receiver.url, clock, batches_max=4)
    receiver.status = DOWN
    device.minutes(7)
    assert [batch.sequence for batch in device.spool.batches()] == [4, 5, 6, 7]
    assert "1 recorded minutes were lost" in " ".join(device.lines)
    assert 'edgeml_forward_lost_batches_total{device="edge-1",job="edgeml-device"} 2' in device.recorded[clock.true_ms]
    receiver.status = None
    device.minutes(2)
    assert set(receiver.moments()) == set(list(device.recorded)[4:])


def test_a_disk_that_is_nearly_full_keeps_the_newest(
    device: ForwardingDevice, receiver: MetricsReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    receiver.status = DOWN
    device.minutes(3)
    monkeypatch.setattr(spool, "FREE_BYTES_MIN", 1 << 62)
    device.minutes(2)
    assert [batch.sequence for batch in device.spool.batches()] == [3, 4, 5]
    receiver.status = None
    device.minutes(2)
    assert set(receiver.moments()) == set(list(device.recorded)[3:])


@pytest.mark.parametrize(("fails", "lost"), [(2, 2), (99, 3)])
def test_a_disk_that_is_full_keeps_the_newest_that_it_can(
    device: ForwardingDevice, receiver: MetricsReceiver, monkeypatch: pytest.MonkeyPatch, fails: int, lost: int
) -> None:
    """A write fails until enough was removed, or however much was removed."""
    receiver.status = DOWN
    device.minutes(2)
    replace, left = DurableTree.replace, [None] * fails

    def full(*arguments: Any) -> None:
        if left:
            left.pop()
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        replace(*arguments)

    monkeypatch.setattr(DurableTree, "replace", full)
    assert device.minute() == 1
    told = " ".join(device.lines)
    assert f"{lost} recorded minutes were lost" in told
    assert ("this minute is lost: No space left on device" in told) == (fails > 2)
    left.clear()
    receiver.status = None
    device.minutes(2)
    assert receiver.moments() == dict(list(expected(device).items())[-5 + lost :])


def test_a_damaged_file_is_told_and_hinders_nothing(device: ForwardingDevice, receiver: MetricsReceiver) -> None:
    receiver.status = DOWN
    device.minutes(3)
    damaged = device.spool.batches()[1]
    path = Path(device.spool.path(damaged))
    path.write_bytes(path.read_bytes()[:-9])
    receiver.status = None
    device.minute()
    assert any("damaged" in line for line in device.lines)
    device.minute()
    assert set(receiver.moments()) == {*device.recorded} - {damaged.reading.time_ms}


def test_a_start_sends_again_what_may_be_stored(device: ForwardingDevice, receiver: MetricsReceiver) -> None:
    device.minutes(3)
    device.restart()
    device.minutes(3)
    assert receiver.moments() == expected(device)


def test_what_is_sent_at_once_is_bounded(
    device: ForwardingDevice, receiver: MetricsReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forwarder, "CHUNK_BYTES", 300)
    receiver.status = DOWN
    device.minutes(6)
    receiver.status = None
    device.minute()
    assert 3 <= len(receiver.posts) <= 7
    assert receiver.moments() == expected(device)


def test_a_start_ends_in_time_for_the_next_one(
    device: ForwardingDevice, receiver: MetricsReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forwarder, "SEND_SECONDS", -1.0)
    device.minutes(2)
    assert receiver.posts == []
    assert len(device.spool.batches()) == 2


class KilledError(BaseException):
    """The process ends, whatever it is about to do."""


def kill_at(patch: pytest.MonkeyPatch, call: int) -> None:
    """End the process at its call number ``call`` that changes a directory."""
    calls = itertools.count(1)

    def counted(real: Callable[..., None]) -> Callable[..., None]:
        def ends(*arguments: Any) -> None:
            if next(calls) == call:
                raise KilledError
            real(*arguments)

        return ends

    for name in ("rename", "replace", "unlink"):
        patch.setattr(os, name, counted(getattr(os, name)))


def test_a_kill_at_any_call_leaves_no_gap(
    tmp_path: Path, receiver: MetricsReceiver, clock: SimulatedClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each time another device, which is killed one call later, while it asks and sends."""
    ended = False
    call = 0
    while not ended:
        call += 1
        (tmp_path / str(call)).mkdir()
        device = ForwardingDevice(tmp_path / str(call), receiver.url, clock, f"edge-{call}")
        device.minute()
        receiver.status = DOWN
        device.minute()
        receiver.status = None
        with monkeypatch.context() as patch:
            kill_at(patch, call)
            try:
                device.minute()
                ended = True
            except KilledError:
                pass
        device.minutes(2)
        stored = receiver.moments(f"edge-{call}")
        # The minute that it was killed in may be lost, and no other; a batch is stored whole.
        assert [stored.get(time_ms) for time_ms in device.recorded] == [*map(set, device.recorded.values())]
        assert len(device.recorded) >= 4
    assert call > 5


def test_what_a_power_cut_left_is_removed(device: ForwardingDevice, receiver: MetricsReceiver) -> None:
    """A batch was given its right time, and its old name was not gone yet; another one was being written."""
    receiver.status = DOWN
    device.minutes(2)
    first, second = device.spool.batches()
    content = device.spool.read(second)
    wrong = second._replace(reading=second.reading._replace(time_ms=0, trusted=False))
    Path(device.spool.path(wrong)).write_bytes(content)
    staged = Path(device.config.state) / "staging" / "half.gz"
    staged.write_bytes(content[:10])
    device.spool.tidy()
    assert device.spool.batches() == [first, second]
    assert not staged.exists()
    receiver.status = None
    device.minutes(2)
    assert receiver.moments() == expected(device)


def test_two_at_once_do_not_disturb_each_other(device: ForwardingDevice) -> None:
    device.minute()
    with hold_directory(device.config.state):
        device.clock.pass_time(MINUTE)
        second = Forwarder(device.config, device.clock)
        assert second.run() == 0
    assert second.lines == ["another one is at work"]


def test_a_note_that_is_damaged_is_one_that_is_missing(device: ForwardingDevice, receiver: MetricsReceiver) -> None:
    device.minutes(2)
    (Path(device.config.runtime) / "progress.json").write_text("{")
    device.minutes(2)
    assert receiver.moments() == expected(device)
