# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Files that come as deltas or without the blocks that are held, and are right whatever is wrong with those."""

from __future__ import annotations

import io
import json
import os
import random
import threading
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import object_server as servers
import pytest
from deltas import delta_between
from object_server import Behaviour, ObjectServer, honest, status
from releases import file_entry, sha256

from ansible_collections.edgeml.fleet.plugins.module_utils._common.errors import IntegrityError
from ansible_collections.edgeml.fleet.plugins.module_utils._common.files import DurableTree
from ansible_collections.edgeml.fleet.plugins.module_utils._common.hashing import BLOCK_BYTES
from ansible_collections.edgeml.fleet.plugins.module_utils._fetch.failures import FetchError, Kind
from ansible_collections.edgeml.fleet.plugins.module_utils._fetch.fetcher import Fetcher
from ansible_collections.edgeml.fleet.plugins.module_utils._fetch.held import Held, blocks_of
from ansible_collections.edgeml.fleet.plugins.module_utils._fetch.options import FetchOptions
from ansible_collections.edgeml.fleet.plugins.module_utils._fetch.pace import Patience
from ansible_collections.edgeml.fleet.plugins.module_utils._release.delta_form import (
    DEFLATE,
    HEAD,
    LITERAL,
    MAGIC,
    PREFIX_BYTES,
    STORED,
)
from ansible_collections.edgeml.fleet.plugins.module_utils._release.release import File
from ansible_collections.edgeml.fleet.plugins.plugin_utils._publish.delta_planes import varint

QUICK = Patience(connect=60, stall=60, stall_bytes=64, backoff=0.001, backoff_most=0.002, rounds=3)


def changed(content: bytes, *positions: int) -> bytes:
    made = bytearray(content)
    for position in positions:
        made[position] ^= 0xFF
    return bytes(made)


OLD = random.Random(1).randbytes(2 * BLOCK_BYTES + 1234)
NEW = changed(OLD, 5, BLOCK_BYTES + 9, 2 * BLOCK_BYTES + 7) + random.Random(2).randbytes(30_000)
OTHER = random.Random(3).randbytes(40_000)
DELTA = delta_between(NEW, OLD)
assert len(DELTA) < len(NEW) // 20


def file_of(content: bytes) -> File:
    entry = file_entry("model.onnx", content)
    return File(entry["path"], entry["size"], entry["sha256"], tuple(entry.get("blocks", ())))


FILE = file_of(NEW)


def held_of(*contents: bytes, blocks: bool = False, damaged: Mapping[str, bytes] | None = None) -> Held:
    """A device that holds these files; ``damaged``: what it reads of one, or nothing if that is gone."""
    blobs = {**{sha256(content): content for content in contents}, **(damaged or {})}

    def open_blob(digest: str, _size: int) -> io.BytesIO:
        if not blobs.get(digest):
            raise IntegrityError(f"{digest}: no such blob")
        return io.BytesIO(blobs[digest])

    known = blocks_of(map(file_of, contents)) if blocks else {}
    return Held(set(blobs), known, open_blob)


def entry(delta: bytes, *bases: bytes, **changes: Any) -> dict[str, Any]:
    return {"sha256": sha256(delta), "size": len(delta), "bases": [sha256(base) for base in bases], **changes}


def index(*entries: Mapping[str, Any]) -> bytes:
    return json.dumps({"schema": 1, "deltas": entries}).encode()


INDEX = index(entry(DELTA, OLD))


def server_of(*objects: bytes, found: bytes = INDEX, script: Iterable[Behaviour] = ()) -> ObjectServer:
    """A server of these objects, and of the index for the new file."""
    server = ObjectServer({sha256(content): content for content in objects}, *script)
    server.indexes = {FILE.sha256: found} if found else {}
    return server


def fetcher_in(directory: Path, *sources: str, held: Held | None = None, **changes: Any) -> Fetcher:
    more = {name: changes.pop(name) for name in ("may_go_on", "headroom_percent") if name in changes}
    options = FetchOptions(sources=sources, **changes)
    tree = DurableTree(str(directory))
    held = held if held is not None else held_of(OLD)
    return Fetcher(tree, str(directory / "fetched"), options, patience=QUICK, held=held, **more)


def fetch(directory: Path, *sources: str, **changes: Any) -> Fetcher:
    """Fetch the new file, and check that it is that, and that nothing else was left."""
    fetcher = fetcher_in(directory, *sources, **changes)
    try:
        path = Path(fetcher.fetch(FILE))
    finally:
        fetcher.close()
    assert path.read_bytes() == NEW
    assert [found.name for found in path.parent.iterdir()] == [FILE.sha256]
    return fetcher


def targets(server: ObjectServer) -> list[str]:
    return [asked.target for asked in server.asked]


DELTA_TARGET = f"/deltas/{FILE.sha256}/{sha256(DELTA)}"
BLOB_TARGET = f"/blobs/sha256/{FILE.sha256}"


def test_a_file_comes_as_a_delta_of_what_is_held(tmp_path: Path) -> None:
    with server_of(DELTA, NEW) as server:
        fetcher = fetch(tmp_path, server.url)
    assert targets(server) == [DELTA_TARGET]
    assert [asked.target for asked in server.asked_indexes] == [f"/deltas/{FILE.sha256}/index.json"]
    tally = fetcher.tally
    assert (tally.received, tally.deltas, tally.delta_bytes) == (len(INDEX) + len(DELTA), 1, len(DELTA))
    assert (tally.made, fetcher.warnings) == (len(NEW), [])


def in_chunks(exchange: servers.Exchange) -> None:
    exchange.head(200, Transfer_Encoding="chunked")
    exchange.send(b"%x\r\n%s\r\n0\r\n\r\n" % (len(exchange.content), exchange.content))


def to_the_end(exchange: servers.Exchange) -> None:
    exchange.head(200)
    exchange.send(exchange.content)


@pytest.mark.parametrize("behaviour", [in_chunks, to_the_end])
def test_an_index_whose_size_nobody_says_is_read_to_its_end(tmp_path: Path, behaviour: Behaviour) -> None:
    with server_of(DELTA, NEW) as server:
        server.answer_index = behaviour
        fetcher = fetch(tmp_path, server.url)
    assert (targets(server), fetcher.tally.deltas) == ([DELTA_TARGET], 1)


def test_a_device_that_holds_nothing_gets_the_compressed_file(tmp_path: Path) -> None:
    content = bytes(range(256)) * 5000
    file, packed = file_of(content), delta_between(content)
    with server_of(content, packed) as server:
        server.indexes = {file.sha256: index(entry(DELTA, OLD), entry(packed))}
        fetcher = fetcher_in(tmp_path, server.url, held=held_of())
        assert Path(fetcher.fetch(file)).read_bytes() == content
        fetcher.close()
    assert (targets(server), fetcher.tally.deltas) == ([f"/deltas/{file.sha256}/{sha256(packed)}"], 1)


def test_a_delta_without_its_base_is_no_choice(tmp_path: Path) -> None:
    with server_of(DELTA, NEW) as server:
        fetcher = fetch(tmp_path, server.url, held=held_of(OTHER))
    assert (targets(server), fetcher.warnings) == ([BLOB_TARGET], [])


def test_a_file_without_deltas_costs_one_request_more_and_no_connection(tmp_path: Path) -> None:
    with server_of(NEW, found=b"") as server:
        fetch(tmp_path, server.url)
    assert (len(server.asked_indexes), targets(server), server.connections) == (1, [BLOB_TARGET], 1)


def test_nothing_is_asked_for_a_small_file(tmp_path: Path) -> None:
    small = file_of(OTHER[:5000])
    with server_of(OTHER[:5000]) as server:
        fetcher = fetcher_in(tmp_path, server.url)
        fetcher.fetch(small)
        fetcher.close()
    assert (server.asked_indexes, len(server.asked)) == ([], 1)


def test_a_file_of_an_earlier_source_is_taken_before_a_delta_of_a_later_one(tmp_path: Path) -> None:
    """Another device of the site has the file; the delta would cost the link to the origin."""
    with server_of(NEW, found=b"") as peer, server_of(DELTA, NEW) as origin:
        fetch(tmp_path, peer.url, origin.url)
    assert (targets(peer), origin.asked, origin.asked_indexes) == ([BLOB_TARGET], [], [])
    assert [asked.target for asked in peer.asked_heads] == [BLOB_TARGET]


def test_the_next_source_is_asked_where_the_first_has_neither_index_nor_file(tmp_path: Path) -> None:
    with server_of(found=b"") as first, server_of(DELTA) as second:
        fetch(tmp_path, first.url, second.url)
    # The delta is asked for in the order of the sources.
    assert (targets(first), targets(second)) == ([DELTA_TARGET], [DELTA_TARGET])


def test_an_index_without_a_delta_of_use_does_not_hide_that_of_the_next_source(tmp_path: Path) -> None:
    """A mirror is behind: it has neither the file nor the delta that was added later."""
    with server_of(found=index(entry(DELTA, OTHER))) as mirror, server_of(DELTA, NEW) as origin:
        fetch(tmp_path, mirror.url, origin.url)
    assert (targets(mirror), targets(origin)) == ([DELTA_TARGET], [DELTA_TARGET])


@pytest.mark.parametrize("first", [servers.hanging_up, status(503), status(503, Retry_After=1)])
def test_the_only_index_is_asked_for_once_more_where_the_link_breaks(tmp_path: Path, first: Behaviour) -> None:
    """Without it the whole file would come."""
    answers = [first, servers.document]
    with server_of(DELTA, NEW) as server:
        server.answer_index = lambda exchange: answers.pop(0)(exchange)
        fetch(tmp_path, server.url)
    assert (len(server.asked_indexes), targets(server)) == (2, [DELTA_TARGET])


def test_an_index_that_never_comes_leaves_the_whole_file(tmp_path: Path) -> None:
    with server_of(DELTA, NEW) as server:
        server.answer_index = servers.hanging_up
        fetch(tmp_path, server.url)
    assert (len(server.asked_indexes), targets(server)) == (2, [BLOB_TARGET])


def test_a_directory_with_the_file_is_taken_before_a_delta_of_the_web(tmp_path: Path) -> None:
    blobs = tmp_path / "stick" / "blobs" / "sha256"
    blobs.mkdir(parents=True)
    (blobs / FILE.sha256).write_bytes(NEW)
    with server_of(DELTA, NEW) as origin:
        fetch(tmp_path, (tmp_path / "stick").as_uri(), origin.url)
    assert (origin.asked, origin.asked_indexes) == ([], [])


def test_a_directory_has_deltas_too(tmp_path: Path) -> None:
    directory = tmp_path / "stick" / "deltas" / FILE.sha256
    directory.mkdir(parents=True)
    (directory / "index.json").write_bytes(INDEX)
    (directory / sha256(DELTA)).write_bytes(DELTA)
    fetcher = fetch(tmp_path, (tmp_path / "stick").as_uri())
    assert fetcher.tally.delta_bytes == len(DELTA)


def test_a_broken_delta_goes_on_where_it_broke(tmp_path: Path) -> None:
    with server_of(DELTA, NEW, script=(honest(5000), status(403), honest())) as server:
        # The file itself is not there either: the fetch ends, and keeps what it has of the delta.
        server.objects.pop(FILE.sha256)
        with pytest.raises(FetchError):
            fetch(tmp_path, server.url)
        fetch(tmp_path, server.url)
    assert [asked.start for asked in server.asked if asked.target == DELTA_TARGET][-1] == 5000


def test_a_part_of_the_file_that_is_there_counts_against_the_delta(tmp_path: Path) -> None:
    """What is missing is less than the delta: so the file itself is gone on with."""
    cut = len(NEW) - 20_000
    with server_of(NEW, found=b"", script=(honest(cut), status(404))) as server:
        with pytest.raises(FetchError):
            fetch(tmp_path, server.url)
        server.script, server.indexes, server.objects = [honest()], {FILE.sha256: INDEX}, {FILE.sha256: NEW}
        fetch(tmp_path, server.url)
    assert (server.asked[-1].target, server.asked[-1].start) == (BLOB_TARGET, cut)


def bomb() -> bytes:
    """A delta whose first stream says that it expands to a block, and expands to 64 MiB."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    stream = b"".join(packer.compress(bytes(1 << 20)) for _mebibyte in range(64)) + packer.flush()
    piece = varint(1 << 1) + varint(BLOCK_BYTES)
    table = bytes([STORED]) + varint(len(piece)) + piece
    body = table + bytes([1, LITERAL, DEFLATE]) + varint(BLOCK_BYTES) + varint(len(stream)) + stream
    head = HEAD.pack(MAGIC, bytes.fromhex(FILE.sha256)[:PREFIX_BYTES], STORED, 0) + varint(FILE.size)
    return head + varint(len(body)) + body


def relabelled(delta: bytes, base: bytes) -> bytes:
    """A delta that says to be of another base of the same size."""
    return delta.replace(bytes.fromhex(sha256(OLD)), bytes.fromhex(sha256(base)))


SIMILAR = changed(OLD, 77)
# What is wrong: the index, the delta that is served, what the device holds, and a part of the warning.
WRONG: dict[str, tuple[bytes, bytes, Held, str]] = {
    "a delta of another file": (
        index(entry(delta_between(OTHER, OLD), OLD)),
        delta_between(OTHER, OLD),
        held_of(OLD),
        "expected a delta that makes",
    ),
    "a delta that is no delta": (index(entry(OTHER, OLD)), OTHER, held_of(OLD), "expected a delta of the form"),
    "a delta that ends early": (index(entry(DELTA[:-9], OLD)), DELTA[:-9], held_of(OLD), "the delta ends after"),
    "the right base and a wrong result": (
        index(entry(relabelled(DELTA, SIMILAR), SIMILAR)),
        relabelled(DELTA, SIMILAR),
        held_of(SIMILAR),
        "block 1 of 3: expected SHA-256",
    ),
    "a base that is damaged": (
        INDEX,
        DELTA,
        held_of(OLD, damaged={sha256(OLD): SIMILAR}),
        "the delta or its base is damaged",
    ),
    "a base that was pruned meanwhile": (INDEX, DELTA, held_of(OLD, damaged={sha256(OLD): b""}), "no such blob"),
    "a bomb": (index(entry(bomb())), bomb(), held_of(OLD), "expected a stream of 1048576 bytes; found 1048577"),
    "other bytes than the index says": (
        index(entry(DELTA, OLD, sha256="ab" * 32)),
        DELTA,
        held_of(OLD),
        "expected SHA-256 abab",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_delta_costs_the_delta_once_and_is_told(tmp_path: Path, case: str) -> None:
    found, delta, held, message = WRONG[case]
    with server_of(NEW, found=found) as server:
        digest = json.loads(found)["deltas"][0]["sha256"]
        # Only the delta is there at first: what the next fetch knows of it is on the disk.
        server.objects = {digest: delta}
        with pytest.raises(FetchError):
            fetch(tmp_path, server.url, held=held)
        assert len([target for target in targets(server) if target.endswith(digest)]) in (1, 2)
        server.objects[FILE.sha256], server.asked[:] = NEW, []
        again = fetch(tmp_path, server.url, held=held)
        assert (set(targets(server)), again.warnings) == ({BLOB_TARGET}, [])
    with server_of(NEW, found=found) as server:
        server.objects[digest] = delta
        (tmp_path / "other").mkdir()
        fetcher = fetch(tmp_path / "other", server.url, held=held)
    (warning,) = fetcher.warnings
    assert warning.startswith("model.onnx: fetched without its delta, which could not be used: ")
    assert message in warning
    assert fetcher.tally.deltas == fetcher.tally.made == 0


def test_the_blocks_that_a_wrong_delta_made_are_kept(tmp_path: Path) -> None:
    """Two blocks are right; the third is not, and is all that comes."""
    cut = DELTA[:-9]
    with server_of(NEW, cut, found=index(entry(cut, OLD))) as server:
        fetch(tmp_path, server.url)
    assert [asked.start for asked in server.asked if asked.target == BLOB_TARGET] == [2 * BLOCK_BYTES]


def told(text: str) -> Behaviour:
    def answer(exchange: servers.Exchange) -> None:
        exchange.head(200, Content_Length=text)
        exchange.send(exchange.content)

    return answer


# How the index is answered, and whether a person is told.
WRONG_INDEXES: dict[str, tuple[bytes, Behaviour, bool]] = {
    "no JSON": (b"{", servers.document, True),
    "a login page": (b"<html>Please log in</html>", servers.document, True),
    "deep": (b"[" * 100_000, servers.document, True),
    "another schema": (b'{"schema": 2, "deltas": []}', servers.document, True),
    "a path for a digest": (index(entry(DELTA, OLD, sha256="../../../etc/passwd")), servers.document, True),
    "a path for a base": (index(entry(DELTA, bases=["../../lock"])), servers.document, True),
    "an address": (index(entry(DELTA, sha256="http://127.0.0.1:1/x")), servers.document, True),
    "no size": (index(entry(DELTA, OLD, size=-1)), servers.document, True),
    "a delta larger than the file": (index(entry(DELTA, OLD, size=len(NEW))), servers.document, False),
    "a delta that is not there": (index(entry(OTHER, OLD)), servers.document, True),
    "too large": (b" " * (1 << 18) + INDEX, servers.document, False),
    "larger than it says": (INDEX, told("99999999999"), False),
    "too large, of no size": (b" " * (1 << 18) + INDEX, to_the_end, False),
    "a page": (INDEX, servers.page_without_length, False),
    "gzip": (INDEX, servers.packed, False),
    "several parts": (INDEX, servers.several_parts, False),
    "overloaded": (INDEX, status(503), False),
    "forbidden": (INDEX, status(403), False),
    "to a file": (INDEX, status(302, Location="file:///etc/passwd"), False),
    "in circles": (INDEX, status(302, Location="index.json"), False),
    "hangs up": (INDEX, servers.hanging_up, False),
    "ends early": (INDEX, told(str(len(INDEX) + 9)), False),
}


@pytest.mark.parametrize("case", WRONG_INDEXES)
def test_a_wrong_index_is_no_index(tmp_path: Path, case: str) -> None:
    found, behaviour, is_told = WRONG_INDEXES[case]
    with server_of(NEW, found=found) as server:
        server.answer_index = behaviour
        fetcher = fetch(tmp_path, server.url)
    assert [target for target in targets(server) if "deltas" not in target] == [BLOB_TARGET]
    assert all(".." not in target for target in targets(server))
    assert bool(fetcher.warnings) == is_told, fetcher.warnings
    # An index whose connection ends comes once more.
    assert fetcher.tally.received <= len(NEW) + 2 * len(found)
    assert len(server.asked_indexes) <= 6


GONE = [entry(bytes(size), OLD) for size in (100, 200, 300)]


def test_an_older_index_that_names_a_delta_that_is_gone_leads_to_the_next_one(tmp_path: Path) -> None:
    with server_of(DELTA, NEW, found=index(*GONE[1:], entry(DELTA, OLD))) as server:
        fetcher = fetch(tmp_path, server.url)
    gone = [f"/deltas/{FILE.sha256}/{found['sha256']}" for found in GONE[1:]]
    assert targets(server) == [*gone, DELTA_TARGET]
    assert len(server.asked_indexes) == 1
    assert (fetcher.tally.deltas, len(fetcher.warnings)) == (1, 2)
    assert "the server answers 404" in fetcher.warnings[0]


def test_a_mirror_with_an_older_index_does_not_hide_that_of_the_next_source(tmp_path: Path) -> None:
    with (
        server_of(found=index(GONE[0])) as mirror,
        server_of(DELTA, NEW, found=index(GONE[0], entry(DELTA, OLD))) as origin,
    ):
        fetcher = fetch(tmp_path, mirror.url, origin.url)
    assert fetcher.tally.deltas == 1
    assert targets(origin).count(DELTA_TARGET) == 1
    assert BLOB_TARGET not in targets(origin)


def test_an_index_of_nothing_that_is_there_costs_three_requests(tmp_path: Path) -> None:
    with server_of(DELTA, NEW, found=index(*GONE, entry(DELTA, OLD))) as server:
        fetcher = fetch(tmp_path, server.url)
    assert (len(targets(server)), targets(server)[-1]) == (4, BLOB_TARGET)
    assert fetcher.tally.deltas == 0


def test_what_a_wrong_delta_cost_counts_for_the_budget(tmp_path: Path) -> None:
    # The budget has 2 MiB to spare: what is beyond it is more than comes at once.
    large, noise = (random.Random(seed).randbytes((3 << 20) - seed) for seed in (0, 1))
    with server_of(large, noise) as server:
        server.indexes = {sha256(large): index(entry(noise, OLD))}
        fetcher = fetcher_in(tmp_path, server.url, bytes_max_percent=100)
        with pytest.raises(FetchError) as caught:
            fetcher.fetch(file_of(large))
        fetcher.close()
        assert caught.value.kind is Kind.EXHAUSTED
        assert fetcher.tally.received <= len(large) + (2 << 20) + (128 << 10)
        # The next fetch knows the delta, and has its own budget.
        fetcher = fetcher_in(tmp_path, server.url, bytes_max_percent=100)
        assert Path(fetcher.fetch(file_of(large))).read_bytes() == large
        fetcher.close()


def test_a_delta_needs_room_beside_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """There is room for the file, and not for its delta too: the file comes whole."""
    real = os.statvfs(tmp_path)

    class Full:
        f_frsize = 1
        f_bavail = len(NEW) + 10
        f_files = 0

    assert real.f_bavail
    monkeypatch.setattr(os, "statvfs", lambda _path: Full)
    with server_of(DELTA, NEW) as server:
        fetcher = fetch(tmp_path, server.url)
    assert targets(server) == [BLOB_TARGET]
    assert "are free" in fetcher.warnings[0]


def test_a_fetch_that_must_stop_keeps_its_delta(tmp_path: Path) -> None:
    answers = iter([None, None, "digits 1.1.0 is on trial"])
    with server_of(DELTA, NEW, script=(honest(5000), honest())) as server:
        with pytest.raises(FetchError) as caught:
            fetch(tmp_path, server.url, may_go_on=lambda: next(answers))
        assert caught.value.kind is Kind.DEFERRED
        fetch(tmp_path, server.url)
    assert [(asked.target, asked.start) for asked in server.asked] == [(DELTA_TARGET, 0), (DELTA_TARGET, 5000)]


def test_two_fetches_at_once_fetch_one_delta(tmp_path: Path) -> None:
    went_on = threading.Event()

    def slow(exchange: servers.Exchange) -> None:
        went_on.wait(60)
        honest()(exchange)

    results: list[bytes] = []

    def run(fetcher: Fetcher) -> None:
        results.append(Path(fetcher.fetch(FILE)).read_bytes())
        fetcher.close()

    with server_of(DELTA, NEW, script=(slow,)) as server:
        asked_twice = threading.Event()

        def may_go_on() -> None:
            # Who waits for the other one asks again and again.
            asked_twice.set()

        first = threading.Thread(target=run, args=(fetcher_in(tmp_path, server.url),))
        first.start()
        while not server.asked:
            assert first.is_alive()
        second = threading.Thread(target=run, args=(fetcher_in(tmp_path, server.url, may_go_on=may_go_on),))
        second.start()
        assert asked_twice.wait(60)
        went_on.set()
        first.join(60)
        second.join(60)
    assert (results, targets(server)) == ([NEW, NEW], [DELTA_TARGET])


def test_a_source_that_is_away_is_asked_after_the_others(tmp_path: Path) -> None:
    with ObjectServer({}) as gone:
        pass
    with server_of(NEW, found=b"") as server:
        fetcher = fetch(tmp_path, gone.url, server.url)
        assert fetcher.tally.received == len(NEW)
        away = [standing.source.name for standing in fetcher._transfer._standings if standing.is_away]
        assert away == [gone.url]


# ---- blocks that are held ----


def test_blocks_that_another_file_has_are_copied(tmp_path: Path) -> None:
    """A tensor was appended: two of three blocks are in the version before, of which there is no delta."""
    appended = OLD + OTHER
    file = file_of(appended)
    with server_of(appended, found=b"") as server:
        fetcher = fetcher_in(tmp_path, server.url, held=held_of(OLD, blocks=True))
        assert Path(fetcher.fetch(file)).read_bytes() == appended
        fetcher.close()
    assert [(asked.start, asked.end) for asked in server.asked] == [(2 * BLOCK_BYTES, len(appended))]
    tally = fetcher.tally
    assert (tally.copied, tally.received) == (2 * BLOCK_BYTES, len(appended) - 2 * BLOCK_BYTES)


SHARED = random.Random(4).randbytes(BLOCK_BYTES)
MIXED = b"".join((random.Random(5).randbytes(BLOCK_BYTES), SHARED, random.Random(6).randbytes(BLOCK_BYTES), SHARED))


@pytest.mark.parametrize("behaviour", [honest(), servers.whole()], ids=["ranges", "whole files only"])
def test_only_what_is_between_held_blocks_is_asked_for(tmp_path: Path, behaviour: Behaviour) -> None:
    """Two models share a block, which is at other places in them."""
    file = file_of(MIXED)
    with server_of(MIXED, found=b"", script=(behaviour,)) as server:
        fetcher = fetcher_in(tmp_path, server.url, held=held_of(SHARED + OTHER, blocks=True))
        assert Path(fetcher.fetch(file)).read_bytes() == MIXED
        fetcher.close()
    asked = [(asked.start, asked.end) for asked in server.asked]
    assert asked[:2] == [(0, BLOCK_BYTES), (2 * BLOCK_BYTES, 3 * BLOCK_BYTES)]
    if len(asked) == 2:
        assert fetcher.tally[:2] == (2 * BLOCK_BYTES, 2 * BLOCK_BYTES)
        assert fetcher.tally.copied == 2 * BLOCK_BYTES
    else:
        # It began at the first byte once more, and was read to the end.
        assert asked[2:] == [(0, 4 * BLOCK_BYTES)]
        assert behaviour.__qualname__.startswith("whole")


@pytest.mark.parametrize(
    "content", [b"", OLD[:999], changed(OLD, 3, BLOCK_BYTES + 3)], ids=["gone", "short", "changed"]
)
def test_a_held_block_that_is_not_right_is_fetched(tmp_path: Path, content: bytes) -> None:
    appended = OLD + OTHER
    with server_of(appended, found=b"") as server:
        held = held_of(OLD, blocks=True, damaged={sha256(OLD): content})
        fetcher = fetcher_in(tmp_path, server.url, held=held)
        assert Path(fetcher.fetch(file_of(appended))).read_bytes() == appended
        fetcher.close()
    assert (fetcher.tally.copied, fetcher.tally.received) == (0, len(appended))


def test_a_delta_has_to_beat_what_is_missing_beside_held_blocks(tmp_path: Path) -> None:
    """All blocks but the last are held: a delta of half the file is larger than that last one."""
    appended = OLD + OTHER[:20_000]
    large = random.Random(7).randbytes(len(appended) // 2)
    with server_of(appended, large, found=b"") as server:
        server.indexes = {sha256(appended): index(entry(large, OLD))}
        fetcher = fetcher_in(tmp_path, server.url, held=held_of(OLD, blocks=True))
        assert Path(fetcher.fetch(file_of(appended))).read_bytes() == appended
        fetcher.close()
    assert [asked.start for asked in server.asked] == [2 * BLOCK_BYTES]
