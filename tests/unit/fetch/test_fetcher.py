# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Fetching from good and bad servers: it ends with the object, verified, or with an error that says why."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import object_server as servers
import pytest
from fetches import CONTENT, FILE, HASTY, OBJECTS, QUICK, SMALL, fetch, fetcher_in, file_of, refused
from hypothesis import given, settings
from hypothesis import strategies as st
from object_server import Behaviour, ObjectServer, honest, serving, status

from ansible_collections.edgeml.fleet.plugins.module_utils._common.errors import ArgumentError
from ansible_collections.edgeml.fleet.plugins.module_utils._common.hashing import BLOCK_BYTES
from ansible_collections.edgeml.fleet.plugins.module_utils._fetch.failures import FetchError, Kind
from ansible_collections.edgeml.fleet.plugins.module_utils._fetch.options import FetchOptions
from ansible_collections.edgeml.fleet.plugins.module_utils._fetch.pace import Pace, Patience

# A wrong block that was received once, and what had been sent behind it.
ONE_BLOCK_MORE = BLOCK_BYTES + (512 << 10)


def test_an_object_comes_by_one_request(tmp_path: Path) -> None:
    with ObjectServer(OBJECTS) as server:
        fetcher = fetch(tmp_path, server.url)
    assert [asked.start for asked in server.asked] == [0]
    assert fetcher.tally[:2] == (len(CONTENT), len(CONTENT))
    headers = server.asked[0].headers
    assert headers["range"] == f"bytes=0-{len(CONTENT) - 1}"
    assert headers["accept-encoding"] == "identity"
    assert "authorization" not in headers


@pytest.mark.parametrize("behaviour", [honest(), servers.chunked], ids=["with length", "chunked"])
def test_objects_share_a_connection_where_the_reply_allows_it(tmp_path: Path, behaviour: Behaviour) -> None:
    with ObjectServer(OBJECTS, behaviour) as server:
        fetcher = fetcher_in(tmp_path, server.url)
        for content in (CONTENT, SMALL):
            fetcher.fetch(file_of(content))
        fetcher.close()
    assert len(server.asked) == 2
    assert server.connections == (1 if behaviour is not servers.chunked else 2)


@pytest.mark.parametrize("codes", [(100,), (103,), (102, 103, 100, 103)])
def test_answers_that_go_before_the_answer_are_passed_over(tmp_path: Path, codes: tuple[int, ...]) -> None:
    """As a front end sends them: 103 Early Hints."""
    with ObjectServer(OBJECTS, servers.interim(honest(), *codes)) as server:
        server.answer_index = servers.interim(status(404), *codes)
        fetcher = fetcher_in(tmp_path, server.url)
        for content in (CONTENT, SMALL):
            fetcher.fetch(file_of(content))
        fetcher.close()
    assert (len(server.asked), len(server.asked_indexes), server.connections) == (2, 1, 1)


def test_what_is_there_is_not_fetched_again(tmp_path: Path) -> None:
    with ObjectServer(OBJECTS) as server:
        fetch(tmp_path, server.url)
        fetch(tmp_path, server.url)
    assert len(server.asked) == 1


# What a server does, the kind of the error, and a part of its message.
HOSTILE: dict[str, tuple[Behaviour, Kind, str]] = {
    "portal": (servers.page, Kind.MISMATCH, "a Content-Length of '2600'"),
    "portal without a length": (servers.page_without_length, Kind.MISMATCH, "found a page (text/html)"),
    "gzip": (servers.packed, Kind.MISMATCH, "expected no Content-Encoding; found 'gzip'"),
    "several parts": (servers.several_parts, Kind.MISMATCH, "expected one range; found multipart/byteranges"),
    "another first byte": (servers.ranged(first=1), Kind.MISMATCH, "expected the range bytes 0-"),
    "another last byte": (servers.ranged(last=1), Kind.MISMATCH, "expected the range bytes 0-"),
    "another size": (servers.ranged(size=1), Kind.MISMATCH, "expected the range bytes 0-"),
    "no range": (servers.ranged(text=""), Kind.MISMATCH, "found 'none'"),
    "a range that is none": (servers.ranged(text="bytes 0-9/x"), Kind.MISMATCH, "found 'bytes 0-9/x'"),
    "longer than promised": (servers.whole(length=len(CONTENT) + 9), Kind.MISMATCH, "found a Content-Length of"),
    "shorter than promised": (servers.whole(length=len(CONTENT) - 9), Kind.MISMATCH, "found a Content-Length of"),
    "other bytes": (servers.wrong, Kind.CORRUPT, "block 1 of 4: expected SHA-256"),
    "absent": (status(404), Kind.REFUSED, "the server answers 404 Not Found"),
    "forbidden": (status(403), Kind.REFUSED, "the server answers 403"),
    "no such range": (status(416), Kind.MISMATCH, "expected 200 or 206; found 416"),
    "no content": (status(204), Kind.MISMATCH, "expected 200 or 206; found 204"),
    "overloaded": (status(503), Kind.BUSY, "the server answers 503"),
    "too many": (status(429), Kind.BUSY, "the server answers 429"),
    "no answer at last": (servers.interim(honest(), *[103] * 33), Kind.INTERRUPTED, "33 interim answers and no final"),
    "another protocol": (status(101), Kind.MISMATCH, "expected 200 or 206; found 101"),
    "no HTTP": (servers.chattering, Kind.INTERRUPTED, "no reply"),
    "hangs up": (servers.hanging_up, Kind.INTERRUPTED, "no reply"),
    "says nothing": (servers.silent, Kind.INTERRUPTED, "no reply"),
    "stalls at once": (servers.stalling(0), Kind.INTERRUPTED, "timed out"),
    "to a file": (status(302, Location="file:///etc/passwd"), Kind.REDIRECTED, "found one to 'file:///etc/passwd'"),
    "to another scheme": (status(302, Location="ftp://127.0.0.1/"), Kind.REDIRECTED, "found one to 'ftp://"),
    "to nowhere": (status(302), Kind.REDIRECTED, "expected at most 5 redirects"),
    "in circles": (status(302, Location="/round"), Kind.REDIRECTED, "expected at most 5 redirects"),
}


SILENT = ("says nothing", "stalls at once")


@pytest.mark.parametrize("case", HOSTILE)
def test_a_bad_server_alone_is_an_error_that_says_why(tmp_path: Path, case: str) -> None:
    behaviour, kind, message = HOSTILE[case]
    with ObjectServer(OBJECTS, behaviour) as server:
        error = refused(tmp_path, server.url, patience=HASTY if case in SILENT else QUICK)
    assert (error.kind, message in str(error)) == (kind, True), error
    assert kind.permanent <= (len({asked.target for asked in server.asked}) <= 2)
    assert not (tmp_path / "fetched" / FILE.sha256).exists()


@pytest.mark.parametrize("case", HOSTILE)
def test_a_bad_server_first_costs_next_to_nothing(tmp_path: Path, case: str) -> None:
    behaviour, kind, _message = HOSTILE[case]
    with serving(OBJECTS, (behaviour,), (honest(),)) as (bad, good):
        fetcher = fetch(tmp_path, bad.url, good.url, patience=HASTY if case in SILENT else QUICK)
    assert fetcher.tally.fetched == len(CONTENT)
    spare = ONE_BLOCK_MORE if kind is Kind.CORRUPT else len(CONTENT) // 10
    assert fetcher.tally.received <= len(CONTENT) + spare


@pytest.mark.parametrize("case", HOSTILE)
def test_a_server_that_turns_bad_loses_nothing(tmp_path: Path, case: str) -> None:
    """Two blocks and a half come; then the server is another. What had come is used by the next fetch."""
    behaviour, _kind, _message = HOSTILE[case]
    cut = 2 * BLOCK_BYTES + BLOCK_BYTES // 2
    with ObjectServer(OBJECTS, honest(cut), status(404)) as server:
        refused(tmp_path, server.url)
        before = server.sent
        server.script = [behaviour]
        refused(tmp_path, server.url, patience=HASTY if case in SILENT else QUICK)
        server.script = [honest()]
        fetcher = fetch(tmp_path, server.url)
    assert server.asked[-1].start in (2 * BLOCK_BYTES, cut)
    assert fetcher.tally.received == len(CONTENT) - server.asked[-1].start
    assert before >= cut


def test_a_broken_connection_goes_on_where_it_broke(tmp_path: Path) -> None:
    with ObjectServer(OBJECTS, honest(10_000), honest(BLOCK_BYTES), honest(BLOCK_BYTES), honest()) as server:
        fetcher = fetch(tmp_path, server.url)
    assert [asked.start for asked in server.asked] == [0, 10_000, 10_000 + BLOCK_BYTES, 10_000 + 2 * BLOCK_BYTES]
    assert fetcher.tally.received == len(CONTENT)


def test_a_stall_ends_the_connection_and_not_the_fetch(tmp_path: Path) -> None:
    with ObjectServer(OBJECTS, servers.stalling(BLOCK_BYTES), honest()) as server:
        fetch(tmp_path, server.url, patience=HASTY)
    assert [asked.start for asked in server.asked] == [0, BLOCK_BYTES]


def test_a_server_without_ranges_is_the_last_choice(tmp_path: Path) -> None:
    with serving(OBJECTS, (servers.whole(BLOCK_BYTES), servers.whole()), (honest(),)) as (first, second):
        fetcher = fetch(tmp_path, first.url, second.url)
    assert fetcher.tally.received == len(CONTENT)
    assert [asked.start for asked in second.asked] == [BLOCK_BYTES]


def test_a_server_without_ranges_is_enough(tmp_path: Path) -> None:
    with ObjectServer(OBJECTS, servers.whole(BLOCK_BYTES + 10), servers.whole()) as server:
        fetcher = fetch(tmp_path, server.url)
    assert fetcher.tally.fetched == len(CONTENT)
    assert [asked.start for asked in server.asked] == [0, BLOCK_BYTES + 10, 0]


def test_a_server_without_ranges_does_not_use_up_the_link(tmp_path: Path) -> None:
    with ObjectServer(OBJECTS, servers.whole(2 * BLOCK_BYTES)) as server:
        error = refused(tmp_path, server.url)
    assert error.kind in (Kind.EXHAUSTED, Kind.INTERRUPTED)
    assert server.sent < 4 * len(CONTENT)


def test_a_cache_that_is_wrong_is_passed_by_once(tmp_path: Path) -> None:
    with ObjectServer(OBJECTS, servers.wrong, honest()) as server:
        fetch(tmp_path, server.url)
    assert [asked.headers.get("cache-control") for asked in server.asked] == [None, "no-cache"]
    assert [asked.start for asked in server.asked] == [0, 0]


def test_who_gave_a_part_of_a_wrong_block_does_not_ruin_another_source(tmp_path: Path) -> None:
    """The first server gives a wrong half of each block and breaks; the second one is good."""

    def wrong_half(exchange: servers.Exchange) -> None:
        start, total = exchange.asked.start, len(exchange.content)
        exchange.head(206, Content_Range=f"bytes {start}-{total - 1}/{total}", Content_Length=total - start)
        exchange.send(bytes(BLOCK_BYTES // 2))

    with serving(OBJECTS, (wrong_half,), (honest(),)) as (first, second):
        fetch(tmp_path, first.url, second.url)


def test_a_file_that_changes_under_the_fetch_is_noticed_at_its_block(tmp_path: Path) -> None:
    def changed(exchange: servers.Exchange) -> None:
        start, total = exchange.asked.start, len(exchange.content)
        exchange.head(206, Content_Range=f"bytes {start}-{total - 1}/{total}", Content_Length=total - start)
        exchange.send(exchange.content[start : BLOCK_BYTES + 7])
        exchange.send(bytes(total - BLOCK_BYTES - 7))

    with ObjectServer(OBJECTS, changed, honest()) as server:
        fetch(tmp_path, server.url)
    assert [asked.start for asked in server.asked] == [0, BLOCK_BYTES]


def test_a_server_that_asks_for_time_is_left_alone(tmp_path: Path) -> None:
    with serving(OBJECTS, (status(503, Retry_After=3600),), (honest(),)) as (busy, good):
        fetch(tmp_path, busy.url, good.url)
    assert len(busy.asked) == 1


@pytest.mark.parametrize("when", ["3600", "Wed, 21 Oct 2099 07:28:00 GMT"])
def test_a_server_that_asks_for_more_time_than_there_is_ends_the_fetch(tmp_path: Path, when: str) -> None:
    with ObjectServer(OBJECTS, status(429, Retry_After=when)) as server:
        error = refused(tmp_path, server.url, seconds_max=60)
    assert (error.kind, len(server.asked)) == (Kind.EXHAUSTED, 1)


@pytest.mark.parametrize("when", ["soon", "-5", "", "0"])
def test_a_time_that_is_none_is_no_time(tmp_path: Path, when: str) -> None:
    with ObjectServer(OBJECTS, status(503, Retry_After=when), honest()) as server:
        fetch(tmp_path, server.url)
    assert len(server.asked) == 2


def test_a_redirect_to_the_same_scheme_is_followed_without_the_token(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("secret\n")
    with serving(OBJECTS, (honest(),), (honest(),)) as (first, other):
        first.script = [status(302, Location=f"{other.url}/elsewhere/{FILE.sha256}")]
        fetch(tmp_path, f"{first.url}/models", token_file=str(token))
    assert first.asked[0].headers["authorization"] == "Bearer secret"
    assert first.asked[0].target == f"/models/blobs/sha256/{FILE.sha256}"
    assert "authorization" not in other.asked[0].headers


@pytest.mark.parametrize("content", ["", "two words", "two\nlines", "caf\xe9"])
def test_a_token_that_is_none_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "token").write_text(content)
    with ObjectServer(OBJECTS) as server:
        error = refused(tmp_path, server.url, token_file=str(tmp_path / "token"))
    assert (error.kind, server.asked) == (Kind.REFUSED, [])
    assert "expected a bearer token" in str(error)


def test_a_user_of_an_address_is_sent_and_not_shown(tmp_path: Path) -> None:
    with ObjectServer(OBJECTS, status(403)) as server:
        error = refused(tmp_path, server.url.replace("http://", "http://camera:p%40ss@"))
    assert server.asked[0].headers["authorization"] == "Basic Y2FtZXJhOnBAc3M="
    assert "p@ss" not in str(error)
    assert "camera" not in str(error)


def test_a_proxy_gets_the_whole_address(tmp_path: Path) -> None:
    with ObjectServer(OBJECTS) as proxy:
        fetch(tmp_path, "http://models.invalid/site", proxy=proxy.url)
    assert proxy.asked[0].target == f"http://models.invalid/site/blobs/sha256/{FILE.sha256}"


def test_nobody_there_is_an_error_after_some_rounds(tmp_path: Path) -> None:
    with ObjectServer(OBJECTS) as server:
        pass
    error = refused(tmp_path, server.url, "http://name.invalid")
    assert error.kind is Kind.UNREACHABLE
    assert server.url in str(error)
    assert "name.invalid" in str(error)


def test_where_somebody_else_can_send_each_source_is_tried_once(tmp_path: Path) -> None:
    with ObjectServer(OBJECTS) as server, ObjectServer(OBJECTS, honest(10_000), honest()) as good:
        pass
    error = refused(tmp_path, server.url, good.url, patience=Patience(connects_once=True))
    assert error.kind is Kind.UNREACHABLE
    assert str(error).count("no connection") == 2
    with ObjectServer(OBJECTS, honest(10_000), honest()) as good:
        # One of them is enough, and that it breaks is no reason to give up.
        fetch(tmp_path, server.url, good.url, patience=QUICK._replace(connects_once=True))


# ---- directories ----


def stick(directory: Path, content: bytes = CONTENT) -> str:
    """A directory that holds the object."""
    blobs = directory / "stick" / "blobs" / "sha256"
    blobs.mkdir(parents=True)
    (blobs / FILE.sha256).write_bytes(content)
    return (directory / "stick").as_uri()


def test_a_directory_is_a_source(tmp_path: Path) -> None:
    fetch(tmp_path, stick(tmp_path))


@pytest.mark.parametrize(
    ("content", "kind", "message"),
    [
        (CONTENT[:-1], Kind.MISMATCH, f"expected {len(CONTENT)} bytes; found {len(CONTENT) - 1}"),
        (b"x" + CONTENT[1:], Kind.CORRUPT, "block 1 of 4"),
    ],
    ids=["too short", "another byte"],
)
def test_a_directory_with_something_else_is_an_error(tmp_path: Path, content: bytes, kind: Kind, message: str) -> None:
    error = refused(tmp_path, stick(tmp_path, content))
    assert (error.kind, message in str(error)) == (kind, True), error


def test_a_directory_without_the_object_leads_to_the_next_source(tmp_path: Path) -> None:
    with ObjectServer(OBJECTS) as server:
        fetch(tmp_path, (tmp_path / "none").as_uri(), server.url)


# ---- when, and how fast ----


def test_nothing_flows_outside_the_windows(tmp_path: Path) -> None:
    later = (datetime.now(UTC).hour + 2) % 24
    with ObjectServer(OBJECTS) as server:
        error = refused(tmp_path, server.url, windows=[f"{later:02}:00-{later:02}:30"])
    assert (error.kind, server.asked) == (Kind.DEFERRED, [])


def test_a_fetch_that_must_stop_keeps_what_it_has(tmp_path: Path) -> None:
    answers = iter([None, None, "digits 1.1.0 is on trial"])
    with ObjectServer(OBJECTS, honest(BLOCK_BYTES), honest()) as server:
        error = refused(tmp_path, server.url, may_go_on=lambda: next(answers))
        assert (error.kind, str(error)) == (Kind.DEFERRED, "the fetch goes on later: digits 1.1.0 is on trial")
        fetcher = fetch(tmp_path, server.url)
    assert fetcher.tally.received + server.asked[-1].start == len(CONTENT)
    assert server.asked[-1].start >= BLOCK_BYTES


def test_a_rate_slows_the_sender_down(tmp_path: Path) -> None:
    """At no time has the server sent much more than was received."""
    ahead = 0

    def watched(exchange: servers.Exchange) -> None:
        nonlocal ahead
        exchange.head(206, Content_Range=f"bytes 0-{len(CONTENT) - 1}/{len(CONTENT)}", Content_Length=len(CONTENT))
        for start in range(0, len(CONTENT), 10_000):
            exchange.send(CONTENT[start : start + 10_000])
            ahead = max(ahead, start - fetcher.tally.received)

    with ObjectServer(OBJECTS, watched) as server:
        fetcher = fetcher_in(tmp_path, server.url, bytes_per_second=4 << 20)
        fetcher.fetch(FILE)
        fetcher.close()
    assert 0 < ahead < 1 << 20, "the sender was not slowed down"


def test_a_pace_waits_for_what_was_spent() -> None:
    now = 0.0

    def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds

    pace = Pace(1000, clock=lambda: now, sleep=sleep)
    for _chunk in range(100):
        pace.spend(pace.chunk_bytes)
    assert 100 * pace.chunk_bytes / 1000 - 1 <= now <= 100 * pace.chunk_bytes / 1000
    now += 3600
    before = now
    for _chunk in range(100):
        pace.spend(pace.chunk_bytes)
    assert now - before >= 100 * pace.chunk_bytes / 1000 - 1, "an hour of rest is no credit"


def test_the_backoff_is_a_random_part_of_a_bound_that_doubles() -> None:
    patience = Patience(backoff=1, backoff_most=60)
    assert [patience.pause(number, lambda: 1.0) for number in (1, 2, 3, 7, 1000)] == [1, 2, 4, 60, 60]
    assert patience.pause(3, lambda: 0.0) == 0


# ---- on the disk ----


def test_space_is_checked_before_the_first_byte(tmp_path: Path) -> None:
    with ObjectServer(OBJECTS) as server:
        error = refused(tmp_path, server.url, file=FILE._replace(size=1 << 50, blocks=()))
        assert error.kind is Kind.DISK
        error = refused(tmp_path, server.url, headroom_percent=100)
        assert error.kind is Kind.DISK
        assert "100% are to stay free" in str(error)
    assert server.asked == []


@pytest.mark.parametrize("lost", [0, BLOCK_BYTES, 2 * BLOCK_BYTES + 5])
def test_what_a_power_cut_took_comes_again_and_nothing_else(tmp_path: Path, lost: int) -> None:
    """Blocks that were verified are zeros afterwards, as on a disk that had not written them."""
    part = tmp_path / "fetched" / f"{FILE.sha256}.part"
    with ObjectServer(OBJECTS, honest(3 * BLOCK_BYTES), status(404)) as server:
        refused(tmp_path, server.url)
        content = bytearray(part.read_bytes())
        assert len(content) == 3 * BLOCK_BYTES
        content[lost] ^= 1
        part.write_bytes(content)
        server.script = [honest()]
        fetch(tmp_path, server.url)
        resumed = [asked.start for asked in server.asked[2:]]
    last_block_is_right = lost < 2 * BLOCK_BYTES
    assert resumed == ([3 * BLOCK_BYTES, lost] if last_block_is_right else [2 * BLOCK_BYTES])


@pytest.mark.parametrize("length", [0, 1, BLOCK_BYTES - 1, BLOCK_BYTES, len(CONTENT), len(CONTENT) + 1])
@pytest.mark.parametrize("right", [True, False])
def test_whatever_is_left_on_the_disk_the_object_is_right(tmp_path: Path, length: int, right: bool) -> None:
    (tmp_path / "fetched").mkdir()
    left = (CONTENT + b"more")[:length] if right else bytes(length)
    (tmp_path / "fetched" / f"{FILE.sha256}.part").write_bytes(left)
    with ObjectServer(OBJECTS) as server:
        fetch(tmp_path, server.url)


def test_a_manifest_that_contradicts_itself_is_an_error_and_no_loop(tmp_path: Path) -> None:
    other = FILE._replace(sha256="0" * 64)
    with ObjectServer({other.sha256: CONTENT}) as server:
        error = refused(tmp_path, server.url, file=other)
    assert (error.kind, len(server.asked)) == (Kind.CORRUPT, 1)
    assert "the manifest contradicts itself" in str(error)


def test_a_file_without_a_list_of_blocks_is_verified_whole(tmp_path: Path) -> None:
    with ObjectServer(OBJECTS, servers.wrong, honest(BLOCK_BYTES), honest()) as server:
        fetch(tmp_path, server.url, file=FILE._replace(blocks=()))
    assert [asked.start for asked in server.asked] == [0, 0, BLOCK_BYTES]


def test_two_fetches_at_once_share_the_work(tmp_path: Path) -> None:
    with ObjectServer(OBJECTS, servers.stalling(BLOCK_BYTES), honest()) as server:
        both = [lambda: fetch(tmp_path, server.url, patience=HASTY)] * 2
        run_together(*both)
    assert [asked.start for asked in server.asked] == [0, BLOCK_BYTES]


def test_a_fetch_whose_file_is_removed_meanwhile_ends_or_begins_anew(tmp_path: Path) -> None:
    part = tmp_path / "fetched" / f"{FILE.sha256}.part"

    def remove(exchange: servers.Exchange) -> None:
        part.unlink()
        honest()(exchange)

    with ObjectServer(OBJECTS, honest(BLOCK_BYTES), remove, honest()) as server:
        with pytest.raises((FetchError, FileNotFoundError)):
            fetch(tmp_path, server.url)
        fetch(tmp_path, server.url)


def run_together(*functions: Callable[[], object]) -> None:
    """Run all at once; raise what one raised."""
    raised: list[BaseException] = []

    def run(function: Callable[[], object]) -> None:
        try:
            function()
        except BaseException as error:
            raised.append(error)

    threads = [threading.Thread(target=run, args=(function,)) for function in functions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if raised:
        raise raised[0]


BEHAVIOURS = st.one_of(
    st.integers(0, len(CONTENT)).map(honest),
    st.integers(0, len(CONTENT)).map(servers.whole),
    st.sampled_from([behaviour for name, (behaviour, _kind, _text) in HOSTILE.items() if name not in SILENT]),
)


@settings(max_examples=25)
@given(script=st.lists(BEHAVIOURS, max_size=6))
def test_whatever_the_first_source_does_the_second_one_brings_the_object(
    tmp_path_factory: pytest.TempPathFactory, script: list[Behaviour]
) -> None:
    directory = tmp_path_factory.mktemp("device")
    with serving(OBJECTS, (*script, status(404)), (honest(),)) as (first, second):
        fetch(directory, first.url, second.url, bytes_max_percent=1000)


# ---- options ----


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sources": ["ftp://models"]}, "sources: expected an address that begins with http:// or https:// or file://"),
        ({"sources": ["/srv/models"]}, "sources: expected an address"),
        ({"sources": ["http://"]}, "sources: expected an address"),
        ({"sources": ["http://models:99999"]}, "sources: expected an address"),
        ({"sources": ["http://models/?a=b"]}, "sources: expected an address"),
        ({"sources": ["http://mod els/"]}, "sources: expected an address"),
        ({"sources": ["file://"]}, "sources: expected an address"),
        ({"sources": ["file://stick/models"]}, "sources: expected an address"),
        ({"proxy": "https://proxy"}, "proxy: expected an address that begins with http://"),
        ({"key_file": "/key"}, "key_file: expected certificate_file with it"),
        ({"bytes_per_second": -1}, "bytes_per_second: expected a number from 0; found -1"),
        ({"seconds_max": 0}, "seconds_max: expected a number from 1; found 0"),
        ({"seconds_max": float("nan")}, "seconds_max: expected a number from 1; found nan"),
        ({"bytes_max_percent": 99}, "bytes_max_percent: expected a number from 100; found 99"),
        ({"windows": ["night"]}, "window: expected a text like"),
    ],
)
def test_an_option_out_of_its_range_is_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        FetchOptions(**changes).check()
    assert str(caught.value).startswith(message)
