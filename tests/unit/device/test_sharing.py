# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A device that shares what it holds with the others of its site: what it gives, to whom, and how fast."""

from __future__ import annotations

import http.client
import json
import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from authorities import Authority
from object_server import ObjectServer
from releases import activate, make_release, put, sha256

from ansible_collections.edgeml.fleet.plugins.module_utils._common.errors import ArgumentError
from ansible_collections.edgeml.fleet.plugins.module_utils._common.files import DurableTree
from ansible_collections.edgeml.fleet.plugins.module_utils._common.hashing import BLOCK_BYTES
from ansible_collections.edgeml.fleet.plugins.module_utils._device import sharing
from ansible_collections.edgeml.fleet.plugins.module_utils._device.fetching import fetch_orders
from ansible_collections.edgeml.fleet.plugins.module_utils._device.perform import answer_swap
from ansible_collections.edgeml.fleet.plugins.module_utils._device.request import SwapRequest
from ansible_collections.edgeml.fleet.plugins.module_utils._device.sharing import (
    BlobServer,
    ShareOptions,
    read_options,
)
from ansible_collections.edgeml.fleet.plugins.module_utils._device.store import Store
from ansible_collections.edgeml.fleet.plugins.module_utils._fetch.failures import FetchError, Kind
from ansible_collections.edgeml.fleet.plugins.module_utils._fetch.fetcher import Fetcher
from ansible_collections.edgeml.fleet.plugins.module_utils._fetch.options import FetchOptions
from ansible_collections.edgeml.fleet.plugins.module_utils._fetch.pace import Patience

MODEL = random.Random(1).randbytes(2 * BLOCK_BYTES + 99)
HELD = make_release("1.0.0", files={"model.onnx": MODEL})
(FILE,) = HELD.release.all_files()
PATH = f"/blobs/sha256/{FILE.sha256}"
QUICK = Patience(backoff=0.001, backoff_most=0.002, rounds=3)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A store that serves a version."""
    (tmp_path / "store").mkdir()
    store = Store(str(tmp_path / "store"))
    put(store, HELD)
    activate(store, "digits", "1.0.0")
    return store


@contextmanager
def shared(store: Store, **changes: Any) -> Iterator[BlobServer]:
    """The device shares, on some port of this machine."""
    options = ShareOptions(address="127.0.0.1", port=0, **{"bytes_per_second": 1 << 30, **changes})
    with BlobServer(store, options) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        try:
            yield server
        finally:
            server.shutdown()


def url_of(server: BlobServer, scheme: str = "http") -> str:
    return f"{scheme}://127.0.0.1:{server.server_address[1]}"


def fetch(directory: Path, *sources: str, **options: Any) -> Fetcher:
    directory.mkdir()
    chosen = FetchOptions(sources=sources, **options)
    fetcher = Fetcher(DurableTree(str(directory)), str(directory / "fetched"), chosen, patience=QUICK)
    try:
        assert Path(fetcher.fetch(FILE)).read_bytes() == MODEL
    finally:
        fetcher.close()
    return fetcher


def ask(server: BlobServer, path: str = PATH, method: str = "GET", **headers: str) -> tuple[int, bytes, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", server.server_address[1])
    connection.request(method, path, headers=headers)
    reply = connection.getresponse()
    try:
        return reply.status, reply.read(), reply.headers
    finally:
        connection.close()


def test_a_device_fetches_from_another_one_and_not_from_the_origin(store: Store, tmp_path: Path) -> None:
    with shared(store) as peer, ObjectServer(HELD.blobs) as origin:
        fetcher = fetch(tmp_path / "device", url_of(peer), origin.url)
    assert (origin.asked, fetcher.tally.received) == ([], len(MODEL))


def test_what_a_device_does_not_have_comes_from_the_next_source(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with shared(Store(str(tmp_path / "empty"))) as peer, ObjectServer(HELD.blobs) as origin:
        fetch(tmp_path / "device", url_of(peer), origin.url)
    assert len(origin.asked) == 1


def test_what_was_fetched_ahead_is_shared(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    store = Store(str(tmp_path / "store"))
    with ObjectServer(HELD.blobs) as origin:
        request = SwapRequest("digits", "1.0.0", state="staged", manifest=HELD.document, store=store.root)
        fetch_options = FetchOptions(sources=[origin.url])
        answer_swap(request._replace(fetch=fetch_options, strategy="none"), check_mode=False)
        with shared(store) as peer:
            assert ask(peer)[0] == 404, "it was ordered, and has not come"
            (order,) = fetch_orders(store, None)
            assert order["complete"]
            assert ask(peer)[1] == MODEL


def test_a_damaged_file_costs_a_block_and_is_not_believed(store: Store, tmp_path: Path) -> None:
    path = Path(store.blobs.path(FILE))
    path.chmod(0o600)
    path.write_bytes(MODEL[: BLOCK_BYTES + 5] + b"?" + MODEL[BLOCK_BYTES + 6 :])
    with shared(store) as peer, ObjectServer(HELD.blobs) as origin:
        fetch(tmp_path / "device", url_of(peer), origin.url)
    assert [asked.start for asked in origin.asked] == [BLOCK_BYTES]


@pytest.mark.parametrize(
    ("asked", "status", "content"),
    [
        ("bytes=0-9", 206, MODEL[:10]),
        (f"bytes={len(MODEL) - 3}-{len(MODEL) + 99}", 206, MODEL[-3:]),
        (f"bytes={len(MODEL) - 3}-", 206, MODEL[-3:]),
        (f"bytes={len(MODEL)}-", 416, b""),
        ("bytes=9-0", 416, b""),
        ("bytes=0-1,5-6", 416, b""),
        ("bytes=-5", 416, b""),
        ("lines=1-2", 416, b""),
    ],
)
def test_one_range_is_served(store: Store, asked: str, status: int, content: bytes) -> None:
    with shared(store) as peer:
        found = ask(peer, Range=asked)
    assert found[:2] == (status, content)
    assert found[2]["Content-Length"] == str(len(content))


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/lock",
        f"/blobs/sha256/{'0' * 64}",
        f"/blobs/sha256/../../blobs/sha256/{FILE.sha256}",
        f"{PATH}/",
        f"{PATH}?x",
        f"/blobs/sha256/{FILE.sha256.upper()}",
        "/models/digits/state.json",
        "/%2e%2e/etc/passwd",
    ],
)
def test_nothing_else_is_served(store: Store, path: str) -> None:
    with shared(store) as peer:
        assert ask(peer, path)[:2] == (404, b"")


def test_a_blob_that_no_manifest_names_is_not_served(store: Store) -> None:
    stray = Path(store.blobs.directory) / sha256(b"stray")
    stray.write_bytes(b"stray")
    with shared(store) as peer:
        assert ask(peer, f"/blobs/sha256/{stray.name}")[0] == 404


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "CONNECT"])
def test_it_is_for_reading(store: Store, method: str) -> None:
    with shared(store) as peer:
        assert ask(peer, method=method)[0] == 501
        assert ask(peer, method="HEAD")[:2] == (200, b"")


def test_all_devices_together_get_the_rate(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spent: list[float] = []
    with shared(store, bytes_per_second=1 << 20) as peer:
        monkeypatch.setattr(peer._pace, "_sleep", spent.append)
        monkeypatch.setattr(peer._pace, "_clock", lambda: peer._pace._due)
        threads = [threading.Thread(target=fetch, args=(tmp_path / name, url_of(peer))) for name in ("a", "b")]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sum(spent) >= 2 * len(MODEL) / (1 << 20) - 0.5


def test_who_finds_all_connections_in_use_is_told_when_to_come_again(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sharing, "_WAIT_SECONDS", 0.01)
    with shared(store, connections_max=1) as peer:
        peer.places.acquire()
        status, _body, headers = ask(peer)
        assert (status, headers["Retry-After"]) == (503, "10")
        peer.places.release()
        assert ask(peer)[1] == MODEL
        assert ask(peer)[1] == MODEL, "a place is given back"


def test_with_the_fleets_certificates_it_speaks_to_the_fleet_alone(store: Store, tmp_path: Path) -> None:
    authority = Authority("fleet")
    both = authority.issue("device", tmp_path / "device.pem")
    ca = str(authority.write(tmp_path / "ca.pem"))
    stranger = str(Authority("another").issue("device", tmp_path / "stranger.pem"))
    files = {"certificate_file": str(both), "key_file": str(both), "client_ca_file": ca}
    with shared(store, **files) as peer:
        fetch(tmp_path / "good", url_of(peer, "https"), ca_file=ca, certificate_file=str(both))
        for name, certificate in (("stranger", stranger), ("nobody", None)):
            with pytest.raises(FetchError):
                fetch(tmp_path / name, url_of(peer, "https"), ca_file=ca, certificate_file=certificate)
        with pytest.raises(FetchError) as caught:
            fetch(tmp_path / "plain", url_of(peer))
        assert caught.value.kind in (Kind.INTERRUPTED, Kind.UNREACHABLE)


@pytest.mark.parametrize(
    "content", ["", "[]", '{"port": "x"}', '{"unknown": 1}', '{"bytes_per_second": 0}', '{"connections_max": 0}']
)
def test_wrong_options_are_named(tmp_path: Path, content: str) -> None:
    path = tmp_path / "share.json"
    path.write_text(content)
    with pytest.raises(ArgumentError, match=r"share\.json"):
        read_options(str(path))


def test_the_options_of_the_role_are_read(tmp_path: Path) -> None:
    path = tmp_path / "share.json"
    path.write_text(json.dumps({"address": "::", "port": 1, "bytes_per_second": 2, "connections_max": 3}))
    assert read_options(str(path)) == ShareOptions("::", 1, 2, 3)
