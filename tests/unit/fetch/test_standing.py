# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a source did for one object counts for the next ones; and what there is for odd servers, clocks and disks."""

from __future__ import annotations

import contextlib
import email.utils
import gc
import http.client
import random
import time
from pathlib import Path

import object_server as servers
import pytest
from fetches import CONTENT, OBJECTS, QUICK, fetch, fetcher_in, file_of, refused
from object_server import Behaviour, ObjectServer, honest, serving, status
from releases import sha256

from ansible_collections.edgeml.fleet.plugins.module_utils._common.hashing import BLOCK_BYTES
from ansible_collections.edgeml.fleet.plugins.module_utils._fetch import transfer
from ansible_collections.edgeml.fleet.plugins.module_utils._fetch.failures import Kind, SourceError
from ansible_collections.edgeml.fleet.plugins.module_utils._fetch.sources import Directory
from ansible_collections.edgeml.fleet.plugins.module_utils._fetch.standing import Standing

SMALL_ONES = [random.Random(seed).randbytes(2000 + seed) for seed in range(12)]
MANY = {sha256(content): content for content in SMALL_ONES}


@pytest.mark.parametrize(
    ("behaviour", "stall"),
    [(servers.silent, 2), (servers.stalling(100), 2), (status(503, Retry_After="3600"), 60)],
    ids=["silent", "stalling", "busy"],
)
def test_a_source_that_costs_time_is_asked_for_one_object_and_not_for_each(
    tmp_path: Path, behaviour: Behaviour, stall: float
) -> None:
    with serving(MANY, (behaviour,), (honest(),)) as (first, good):
        fetcher = fetcher_in(tmp_path, first.url, good.url, patience=QUICK._replace(stall=stall))
        fetcher.fetch_all([file_of(content) for content in SMALL_ONES])
        fetcher.close()
    # On a busy machine the good one may once be taken for one that is silent.
    assert len(first.asked) <= 3


def test_a_time_that_is_asked_for_with_the_index_holds_for_the_file(tmp_path: Path) -> None:
    with serving(OBJECTS, (honest(),), (honest(),)) as (busy, good):
        busy.answer_index = status(503, Retry_After="3600")
        fetch(tmp_path, busy.url, good.url)
    assert (len(busy.asked_indexes), len(busy.asked), len(good.asked)) == (1, 0, 1)


def test_a_source_that_breaks_at_once_is_asked_first_for_the_next_object(tmp_path: Path) -> None:
    """It costs nothing to ask it, and it may be the cache of the site that was loaded anew."""
    with serving(MANY, (servers.hanging_up, honest()), (honest(),)) as (first, good):
        fetcher = fetcher_in(tmp_path, first.url, good.url)
        fetcher.fetch_all([file_of(content) for content in SMALL_ONES])
        fetcher.close()
    assert (len(first.asked), len(good.asked)) == (len(SMALL_ONES), 1)


def test_a_source_is_away_for_twice_as_long_each_time_up_to_a_bound() -> None:
    now = 1000.0
    standing = Standing(Directory("file:///models"), 30.0, clock=lambda: now)
    away = []
    for _time in range(9):
        standing.note(SourceError(Kind.INTERRUPTED, "timed out"), now - 30)
        # Who asks it all the same, as there is no other, does not make it worse.
        standing.note(SourceError(Kind.UNREACHABLE, "refused"), now)
        began = now
        while standing.is_away:
            now += 60
        away.append(now - began)
    assert away == [60, 120, 240, 480, 960, 1920, 3840, 3840, 3840]
    assert standing.unreachable == "refused"
    standing.note_bytes()
    standing.note(SourceError(Kind.INTERRUPTED, "reset"), now)
    assert not standing.is_away
    found: str | None = standing.unreachable
    assert found is None


def test_a_time_to_be_left_alone_is_read_by_the_clock_of_the_server(tmp_path: Path) -> None:
    """The device believes that it is 1970, or 2033: one second is one second."""
    for clock in (0, 2_000_000_000):
        told = {"Date": clock, "Retry_After": clock + 1}
        headers = {name: email.utils.formatdate(value, usegmt=True) for name, value in told.items()}
        (tmp_path / str(clock)).mkdir()
        with ObjectServer(OBJECTS, status(503, **headers), honest()) as server:
            fetch(tmp_path / str(clock), server.url, seconds_max=3000)
        assert len(server.asked) == 2


def test_a_page_that_trickles_does_not_hold_the_fetch(tmp_path: Path) -> None:
    def trickling(exchange: servers.Exchange) -> None:
        exchange.head(404, Content_Length=4000)
        with contextlib.suppress(OSError):
            for _byte in range(4000):
                exchange.send(b"x")
                time.sleep(0.05)
                sent.append(1)

    sent: list[int] = []
    with serving(OBJECTS, (trickling,), (honest(),)) as (first, good):
        fetch(tmp_path, first.url, good.url)
    assert len(sent) < 2000


def connections() -> int:
    return sum(isinstance(item, http.client.HTTPConnection) for item in gc.get_objects())


def test_a_connection_that_failed_is_given_back_without_a_search(tmp_path: Path) -> None:
    """``edgeml fetch`` does not search for what can be freed, and may try for a day: each has many certificates."""
    with ObjectServer(OBJECTS) as gone:
        pass
    gc.collect()
    gc.disable()
    try:
        before = connections()
        with ObjectServer(OBJECTS, *[servers.hanging_up] * 99) as broken:
            refused(tmp_path, broken.url, gone.url.replace("http:", "https:"))
        deadline = time.monotonic() + 10
        # A thread that connected may not have ended yet.
        while connections() > before and time.monotonic() < deadline:
            time.sleep(0.05)
        assert connections() <= before
    finally:
        gc.enable()


def test_the_unit_of_a_range_has_no_case(tmp_path: Path) -> None:
    told = f"Bytes 0-{len(CONTENT) - 1}/*"
    with ObjectServer(OBJECTS, servers.ranged(text=told)) as server:
        fetch(tmp_path, server.url)
    assert len(server.asked) == 1


def test_a_file_that_ends_before_its_size_is_an_error_and_no_loop(tmp_path: Path) -> None:
    """A file of the kernel says that it has a page, and has a line: so does one whose card is damaged."""
    short = next(path for path in Path("/sys/kernel").iterdir() if path.is_file() and path.stat().st_size == 4096)
    content = random.Random(7).randbytes(4096)
    blobs = tmp_path / "stick" / "blobs" / "sha256"
    blobs.mkdir(parents=True)
    (blobs / sha256(content)).symlink_to(short)
    error = refused(tmp_path, (tmp_path / "stick").as_uri(), file=file_of(content))
    assert error.kind is Kind.INTERRUPTED
    assert "bytes too early" in str(error)


def test_a_budget_that_ends_with_the_last_byte_is_enough(tmp_path: Path) -> None:
    """What came once is sent again, and the spare bytes are used up just where the object is complete."""
    cut = transfer._SPARE_BYTES + 1000
    with ObjectServer(OBJECTS, honest(cut), servers.whole()) as server:
        fetcher = fetch(tmp_path, server.url, bytes_max_percent=100)
    assert fetcher.tally.received > len(CONTENT) + transfer._SPARE_BYTES


@pytest.mark.parametrize("size", [1, BLOCK_BYTES - 1, BLOCK_BYTES, BLOCK_BYTES + 1, 2 * BLOCK_BYTES])
def test_files_that_end_at_a_block_come_whole(tmp_path: Path, size: int) -> None:
    content = random.Random(size).randbytes(size)
    with ObjectServer({sha256(content): content}, honest(size // 2), honest()) as server:
        fetch(tmp_path, server.url, file=file_of(content))
    assert server.sent == size
