# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Calls that fetch, and orders to fetch: what they bring, what they leave to others, and what prunes leave alone."""

from __future__ import annotations

import json
import os
import random
from pathlib import Path
from typing import Any

import pytest
from object_server import ObjectServer, honest, status
from releases import Made, activate, make_release, publish, put, sha256

from ansible_collections.edgeml.fleet.plugins.module_utils._common.files import DurableTree
from ansible_collections.edgeml.fleet.plugins.module_utils._device import fetching
from ansible_collections.edgeml.fleet.plugins.module_utils._device.cli import main
from ansible_collections.edgeml.fleet.plugins.module_utils._device.orders import Order, Orders
from ansible_collections.edgeml.fleet.plugins.module_utils._device.perform import answer_swap
from ansible_collections.edgeml.fleet.plugins.module_utils._device.request import SwapRequest
from ansible_collections.edgeml.fleet.plugins.module_utils._device.state import WATCHING, Limits, State, Trial
from ansible_collections.edgeml.fleet.plugins.module_utils._device.store import Store
from ansible_collections.edgeml.fleet.plugins.module_utils._fetch.options import FetchOptions
from ansible_collections.edgeml.fleet.plugins.module_utils._fetch.partial import Partial
from ansible_collections.edgeml.fleet.plugins.module_utils._release.manifest import parse_release

OLD, NEW, NEXT = (
    make_release(version, files={"model.onnx": random.Random(number).randbytes((2 << 20) + 99)})
    for number, version in enumerate(("1.0.0", "1.1.0", "1.2.0"))
)
TRIAL = Trial(
    phase=WATCHING,
    active=None,
    previous=None,
    seconds=3600.0,
    limits=Limits(),
    baseline=None,
    memory_bytes=1,
    boot_id="this one",
    since=0.0,
)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A store that serves the old version."""
    (tmp_path / "store").mkdir()
    store = Store(str(tmp_path / "store"))
    put(store, OLD)
    activate(store, "digits", "1.0.0")
    return store


def ask(
    store: Store, made: Made, *sources: str, state: str = "present", check: bool = False, **changes: Any
) -> dict[str, Any]:
    """A call for a release, as the controller makes it."""
    request = SwapRequest(
        model=made.document["model"],
        version=made.document["version"],
        state=state,
        manifest=made.document,
        strategy="none",
        store=store.root,
        fetch=FetchOptions(sources=list(sources), **changes),
        min_ready_seconds=0,
        trial_seconds=0,
    )
    return answer_swap(request, check)


def status_of(store: Store, capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    """The orders as ``edgeml status`` tells them."""
    capsys.readouterr()
    assert main(["status", "--json", "--store", store.root]) == 0
    orders: list[dict[str, Any]] = json.loads(capsys.readouterr().out)["fetching"]
    return orders


def fetched_names(store: Store) -> list[str]:
    return sorted(path.name for path in Path(store.root, "fetched").glob("*"))


def test_a_call_fetches_what_the_device_lacks_and_swaps(store: Store) -> None:
    with ObjectServer(NEW.blobs) as server:
        would = ask(store, NEW, server.url, state="active", check=True)
        assert server.asked == []
        done = ask(store, NEW, server.url, state="active")
        again = ask(store, NEW, server.url, state="active")
    size = sum(map(len, NEW.blobs.values()))
    assert (would["changed"], done["changed"], again["changed"]) == (True, True, False)
    assert (done["before"], done["after"]) == (would["before"], would["after"])
    assert done["diff"] == would["diff"]
    assert done["fetched"] == {
        "bytes": size,
        "received_bytes": size,
        "deltas": 0,
        "delta_bytes": 0,
        "made_bytes": 0,
        "copied_bytes": 0,
        "seconds": done["fetched"]["seconds"],
        "failure": None,
    }
    assert store.state("digits").active == "1.1.0"
    assert (fetched_names(store), len(server.asked)) == ([], 1)
    store.version("digits", "1.1.0").verify()


def test_what_no_source_gives_is_left_for_the_controller_to_send(store: Store) -> None:
    golden = b"{}"
    made = make_release("1.1.0", files={"model.onnx": b"a model"}, golden=golden)
    with ObjectServer({sha256(golden): golden}) as server:
        result = ask(store, made, server.url)
    assert "failed" not in result
    assert [blob["path"] for blob in result["missing_blobs"]] == ["model.onnx"]
    assert result["fetched"]["failure"]["kind"] == "refused"
    assert "the server answers 404" in result["fetched"]["failure"]["message"]
    sent = Path(store.root).parent / "sent"
    sent.mkdir()
    (sent / sha256(b"a model")).write_bytes(b"a model")
    request = SwapRequest(
        "digits",
        "1.1.0",
        state="present",
        manifest=made.document,
        strategy="none",
        store=store.root,
        staged_blobs=str(sent),
    )
    assert answer_swap(request, False)["changed"]
    store.version("digits", "1.1.0").verify()


@pytest.mark.parametrize(
    "changes", [{"windows": ["00:00-00:00"]}, {"sources": ["ftp://x"]}, {"key_file": "/k"}], ids=str
)
def test_a_wrong_option_is_refused_before_anything(store: Store, changes: dict[str, Any]) -> None:
    result = ask(store, NEW, *changes.pop("sources", ["http://nobody.invalid"]), state="active", **changes)
    assert (result["failed"], result["refused"]) == (True, True)
    assert not Path(store.root, "fetched").exists()


def test_a_window_that_is_closed_is_a_refusal_and_nothing_is_sent_in_its_place(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "ansible_collections.edgeml.fleet.plugins.module_utils._fetch.transfer.is_open", lambda *_: False
    )
    with ObjectServer(NEW.blobs) as server:
        result = ask(store, NEW, server.url, state="active", windows=["01:00-02:00"])
    assert (result["failed"], result["refused"], server.asked) == (True, True, [])
    assert "the fetch goes on later: none of the windows is open: 01:00-02:00. Live now: 1.0.0" in result["msg"]


def test_an_order_is_given_once_worked_on_and_used_by_the_swap(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    size = sum(map(len, NEW.blobs.values()))
    with ObjectServer(NEW.blobs, honest(1 << 20), status(403), honest()) as server:
        would = ask(store, NEW, server.url, state="staged", check=True)
        assert (would["changed"], would["order"]) == (True, None)
        given = ask(store, NEW, server.url, state="staged")
        assert given["order"] == {
            "model": "digits",
            "version": "1.1.0",
            "bytes": size,
            "held_bytes": 0,
            "delta_bytes": 0,
            "complete": False,
            "last": None,
        }
        assert not ask(store, NEW, server.url, state="staged")["changed"]
        assert server.asked == []
        assert main(["fetch", "--store", store.root]) == 1
        (order,) = status_of(store, capsys)
        assert (order["held_bytes"], order["last"]["kind"]) == (1 << 20, "refused")
        textfile = Path(store.root).parent / "edgeml.prom"
        assert main(["fetch", "--store", store.root, "--textfile", str(textfile)]) == 0
        (order,) = status_of(store, capsys)
        assert (order["complete"], order["last"]["kind"]) == (True, "complete")
        metrics = textfile.read_text().splitlines()
        assert f'edgeml_fetch_held_bytes{{model="digits",version="1.1.0"}} {size}' in metrics
        assert 'edgeml_fetch_last_try{model="digits",version="1.1.0",kind="complete"} 1' in metrics
        assert store.versions("digits") == ["1.0.0"]
        count = len(server.asked)
        done = ask(store, NEW, server.url, state="active")
        assert len(server.asked) == count
    assert done["changed"]
    assert "fetched" not in done
    assert (status_of(store, capsys), fetched_names(store)) == ([], [])
    assert not ask(store, NEW, server.url, state="staged")["changed"], "it is held"


def test_an_order_needs_a_source(store: Store) -> None:
    result = ask(store, NEW, state="staged")
    assert result["failed"]
    assert "fetch.sources: expected where the device fetches from; found nothing" in result["msg"]


def test_an_order_is_taken_back_with_the_version(store: Store) -> None:
    ask(store, NEW, "http://nobody.invalid", state="staged")
    gone = ask(store, NEW, state="absent")
    assert (gone["changed"], ask(store, NEW, state="absent")["changed"]) == (True, False)
    assert Orders(store).all() == []


def test_an_order_with_other_sources_replaces_the_first(store: Store) -> None:
    ask(store, NEW, "http://one.invalid", state="staged")
    assert ask(store, NEW, "http://two.invalid", state="staged")["changed"]
    (order,) = Orders(store).all()
    assert order.request.fetch.sources == ["http://two.invalid"]


def test_no_order_is_worked_on_while_a_version_is_on_trial(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    with ObjectServer(NEW.blobs) as server:
        ask(store, NEW, server.url, state="staged")
        store.update("digits", State("1.0.0", trial=TRIAL))
        assert main(["fetch", "--store", store.root]) == 0
        (order,) = status_of(store, capsys)
    assert (order["last"]["kind"], server.asked) == ("deferred", [])
    assert order["last"]["message"] == "the fetch goes on later: digits 1.0.0 is on trial"


def test_an_order_that_is_taken_back_ends_its_fetch(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    with ObjectServer(NEW.blobs) as server:
        ask(store, NEW, server.url, state="staged")
        (order,) = Orders(store).all()
        Orders(store).end("digits", "1.1.0")
        failure = fetching.fetch_order(store, order).failure
    assert failure is not None
    assert "the order was taken back" in str(failure)
    assert Orders(store).all() == []


def test_two_models_that_are_ordered_at_once_share_their_blocks(store: Store) -> None:
    """Neither is swapped to yet: what was fetched for the first one is there for the second."""
    common = random.Random(8).randbytes(2 << 20)
    first, second = (
        make_release("1.0.0", model=model, files={"model.onnx": common + model.encode()}) for model in ("one", "other")
    )
    with ObjectServer({**first.blobs, **second.blobs}) as server:
        for made in (first, second):
            assert ask(store, made, server.url, state="staged")["changed"]
        assert main(["fetch", "--store", store.root]) == 0
    assert server.sent == sum(map(len, first.blobs.values())) + len(b"other")


def test_what_a_swap_took_while_a_fetch_waited_for_it_is_not_fetched_again(store: Store) -> None:
    """The other process finished the file, and its swap made it a blob."""
    file = max(parse_release(NEW.document).all_files(), key=lambda file: file.size)
    other = Partial(DurableTree(store.root), store.fetched.directory, file)
    assert other.open()

    def swap() -> None:
        if not store.blobs.missing([file]):
            return
        put(store, NEW)
        os.unlink(f"{other.path}.part")
        other.close()

    with ObjectServer(NEW.blobs) as server:
        options = FetchOptions(sources=[server.url])
        result = fetching.fetch_files(store, [file], options, 0, may_go_on=swap)
    assert (result.failure, server.asked, fetched_names(store)) == (None, [], [])


def test_a_damaged_order_is_none(store: Store) -> None:
    ask(store, NEW, "http://nobody.invalid", state="staged")
    (path,) = Path(store.root, "orders").iterdir()
    for content in ("", "{", "[]", '{"arguments": {"model": 1}, "note": null}', '{"arguments": {}}'):
        path.write_text(content)
        assert Orders(store).all() == []
    assert ask(store, NEW, "http://nobody.invalid", state="staged")["changed"]
    assert [type(order) for order in Orders(store).all()] == [Order]


def test_a_swap_makes_room_of_what_nobody_needs_and_leaves_what_is_fetched_now(store: Store) -> None:
    """Fetched objects of an order stay, and so does one that another process fetches at this moment."""
    tree, directory = DurableTree(store.root), store.fetched.directory
    (ordered,), (fetching_now,), (abandoned,) = (
        make_release("9", files={"m": content}).release.all_files()
        for content in (b"ordered", b"fetched now", b"abandoned")
    )
    ask(store, make_release("9", files={"m": b"ordered"}), "http://nobody.invalid", state="staged")
    running = Partial(tree, directory, fetching_now)
    assert running.open()
    for file, content in ((ordered, b"ordered"), (abandoned, b"abandoned")):
        with_it = Partial(tree, directory, file)
        assert with_it.open()
        with_it.write(content)
        with_it.finish()
        with_it.close()
    with ObjectServer(NEW.blobs) as server:
        assert ask(store, NEW, server.url)["changed"]
    assert fetched_names(store) == sorted([ordered.sha256, f"{fetching_now.sha256}.part"])
    running.close()


def test_edgeml_fetch_holds_a_release_from_a_stick(
    store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stick = tmp_path / "stick"
    manifest = publish(NEW, stick)
    command = ["fetch", "--manifest", str(manifest), "--store", store.root, "--server", "/nowhere"]
    assert main(command) == 1
    assert "no source was given" in capsys.readouterr().err
    for expected in ("held now", "was held already"):
        assert main([*command, "--source", stick.as_uri()]) == 0
        assert expected in capsys.readouterr().out
    store.version("digits", "1.1.0").verify()
    manifest.write_text("{}")
    assert main([*command, "--source", stick.as_uri()]) == 1
    assert str(manifest) in capsys.readouterr().err


def test_edgeml_fetch_without_orders_does_nothing(tmp_path: Path, store: Store) -> None:
    assert main(["fetch", "--store", store.root]) == 0
    assert main(["fetch", "--store", str(tmp_path / "none")]) == 0
