# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Swaps against servers that misbehave: each has one defined end, the old version, and the next good swap succeeds."""

from __future__ import annotations

import json
import re
import resource
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from controller import DIGITS
from device import Device
from odd_server import Answer, OddServer
from onnx_models import reshape
from releases import make_release, make_store, put, read_release

from ansible_collections.edgeml.fleet.plugins.module_utils._common.errors import ServerError, StoreError, SwapError
from ansible_collections.edgeml.fleet.plugins.module_utils._device import swap
from ansible_collections.edgeml.fleet.plugins.module_utils._device.cli import main
from ansible_collections.edgeml.fleet.plugins.module_utils._device.client import Server
from ansible_collections.edgeml.fleet.plugins.module_utils._device.describe import describe_model
from ansible_collections.edgeml.fleet.plugins.module_utils._device.facts import device_facts
from ansible_collections.edgeml.fleet.plugins.module_utils._device.plan import SwapOptions
from ansible_collections.edgeml.fleet.plugins.module_utils._device.serving import LoadStrategy
from ansible_collections.edgeml.fleet.plugins.module_utils._device.state import Limits, ModelServer, State
from ansible_collections.edgeml.fleet.plugins.module_utils._device.store import Store
from ansible_collections.edgeml.fleet.plugins.module_utils._device.swap import Swap
from ansible_collections.edgeml.fleet.plugins.module_utils._device.transitions import Cause
from ansible_collections.edgeml.fleet.plugins.module_utils._device.trial import UNREADY_MAX

LOAD = "/v2/repository/models/digits/load"
MODEL = "/v2/models/digits"
GUARD_SECONDS = 240


@pytest.fixture(autouse=True)
def _short_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that died has this long to come back."""
    monkeypatch.setattr(swap, "SERVER_RETURN_SECONDS", 0.6)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A store where 1.0.0 is active and 1.1.0 held."""
    return make_store(tmp_path, *(read_release(DIGITS, "digits", version) for version in ("1.0.0", "1.1.0")))


@pytest.fixture
def odd(store: Store, tmp_path: Path) -> Iterator[OddServer]:
    """A server that does everything right, as long as it is told nothing else."""
    with OddServer(store, tmp_path / "s") as server:
        yield server


def open_swap(store: Store, address: str, look_seconds: float = 10, work_seconds: float = 10) -> Swap:
    swap = Swap(store, "digits", Cause("test"), ModelServer(server=address))
    swap.strategy = LoadStrategy(Server(address, look_seconds=look_seconds, work_seconds=work_seconds))
    return swap


def go(swap: Swap, version: str = "1.1.0", before_acting: Any = lambda: None, **options: Any) -> Swap:
    """Swap to a version that the store holds, as the module does."""
    wishes = SwapOptions(**{"min_ready_seconds": 0.0, "trial_seconds": 0.0, **options})
    with swap.store.lock():
        swap.recover_interrupted(act=True, ends_trial=swap.state.active != version)
        plan = swap.plan_active(swap.store.version("digits", version).release, device_facts(), wishes)
        before_acting()
        swap.activate(plan, wishes)
    return swap


def events(store: Store) -> list[tuple[str, str | None, str | None]]:
    return [(entry["event"], entry["from"], entry["to"]) for entry in store.journal("digits").history()]


FIRST = ("activate", None, "1.0.0")
SWITCH = ("activate", "1.0.0", "1.1.0")
PUT_BACK = ("put_back", "1.1.0", "1.0.0")


def must_be_refused(swap: Swap, message: str) -> None:
    """Before anything is switched: nothing is noted, nothing is held against the version."""
    store = swap.store
    before, journal = store.state("digits"), events(store)
    with pytest.raises(ServerError, match=message):
        go(swap)
    assert store.state("digits") == before
    assert events(store) == journal


def must_be_put_back(swap: Swap, message: str, live: str | None, before_acting: Any = lambda: None) -> None:
    """After the switch: the old version is active, the reason noted, and the version refused until told otherwise."""
    store = swap.store
    with pytest.raises(SwapError, match=f"^digits 1.1.0 did not become healthy: {message}") as caught:
        go(swap, before_acting=before_acting)
    assert caught.value.live == live
    state = store.state("digits")
    assert (state.active, state.previous, state.trial) == ("1.0.0", None, None)
    assert re.match(message, state.failed["1.1.0"].reason)
    assert swap.state == state
    assert events(store) == [FIRST, SWITCH, PUT_BACK]
    assert store.journal("digits").history()[-1]["reason"] == state.failed["1.1.0"].reason
    with pytest.raises(
        StoreError, match=r"failed on this device at .*not tried again until it is asked for with retry"
    ):
        go(open_swap(store, swap.serving.server))


def must_swap(store: Store, address: str) -> None:
    """The next good swap succeeds."""
    swap = go(open_swap(store, address, GUARD_SECONDS, GUARD_SECONDS), retry=True)
    assert swap.live() == "1.1.0"
    state = store.state("digits")
    assert (state.active, state.previous, state.trial, state.failed) == ("1.1.0", "1.0.0", None, {})
    assert events(store)[-1] == SWITCH


# ---- refused, before anything is switched ----


@pytest.mark.parametrize("address", ["nowhere", "file", "http://127.0.0.1:1", "ftp://here", "http://a..b:1"])
def test_a_server_that_is_not_there(store: Store, tmp_path: Path, address: str) -> None:
    (tmp_path / "file").write_text("no socket")
    address = address if "://" in address else str(tmp_path / address)
    must_be_refused(open_swap(store, address), f"^{re.escape(address)}: the inference server does not answer$")


@pytest.mark.parametrize(
    "answer", [Answer(500), Answer(None), Answer(None, b"rubbish\r\n\r\n"), Answer(None, b"\0" * 999)]
)
def test_a_server_that_is_not_well(store: Store, odd: OddServer, answer: Answer) -> None:
    odd.answers["/v2/health/ready"] = answer
    must_be_refused(open_swap(store, odd.address), "the inference server does not answer$")
    odd.answers.clear()
    must_swap(store, odd.address)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "metadata: expected JSON"),
        (b"<html>", "metadata: expected JSON"),
        (b"\xff\xff", "metadata: expected JSON"),
        (b"[" * 100_000, "metadata: expected JSON"),
        (b"[]", "metadata: expected a JSON object"),
        (b'{"versions": {"1": 1}}', "metadata: expected a list of versions; found dict"),
        (b'{"versions": 7}', "metadata: expected a list of versions; found int"),
    ],
)
def test_a_server_that_talks_nonsense(store: Store, odd: OddServer, body: bytes, message: str) -> None:
    odd.answers[MODEL] = Answer(200, body)
    must_be_refused(open_swap(store, odd.address), message)
    odd.answers.clear()
    must_swap(store, odd.address)


# ---- put back, after the switch ----


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (
            Answer(500, b'{"error": "out of memory"}'),
            f".*: POST {LOAD}: expected status 200; found 500: out of memory$",
        ),
        (Answer(404, b"<html>none</html>"), f".*: POST {LOAD}: expected status 200; found 404: <html>none</html>$"),
        (Answer(None), f".*: POST {LOAD}: no answer from the server: the server hung up without an answer$"),
        (
            Answer(None, b"rubbish\r\n\r\n"),
            f".*: POST {LOAD}: no answer from the server: expected an HTTP reply; found b'rubbish'$",
        ),
        (Answer(200), r"digits 1\.1\.0 is not ready$"),
    ],
    ids=["500", "404", "hangs up", "rubbish", "does nothing"],
)
def test_a_server_that_does_not_load(store: Store, odd: OddServer, answer: Answer, message: str) -> None:
    odd.answers[LOAD] = answer
    must_be_put_back(open_swap(store, odd.address), message, live="1.0.0")
    assert odd.serving == {"digits": "1.0.0"}
    odd.answers.clear()
    must_swap(store, odd.address)


def test_a_server_that_serves_another_version_than_it_was_told(store: Store, odd: OddServer) -> None:
    put(store, read_release(DIGITS, "digits", "1.2.0"))
    odd.naming = lambda version: "1.2.0" if version == "1.1.0" else version
    must_be_put_back(open_swap(store, odd.address), r"digits 1\.1\.0 is not ready$", live="1.0.0")
    odd.naming = str
    must_swap(store, odd.address)


def test_a_version_that_is_served_and_never_ready(store: Store, odd: OddServer) -> None:
    odd.answers[f"{MODEL}/versions/1.1.0/ready"] = Answer(503)
    must_be_put_back(open_swap(store, odd.address), r"digits 1\.1\.0 is not ready$", live="1.0.0")
    odd.answers.clear()
    must_swap(store, odd.address)


def test_a_server_that_talks_nonsense_once_it_has_loaded(store: Store, odd: OddServer) -> None:
    def lose_its_mind() -> None:
        odd.answers[MODEL] = Answer(200, b"<html>")

    odd.answers[LOAD] = Answer(200, before=lose_its_mind, acts=True)
    must_be_put_back(open_swap(store, odd.address), "metadata: expected JSON", live=None)
    assert odd.serving == {"digits": "1.0.0"}
    odd.answers.clear()
    must_swap(store, odd.address)


def test_a_server_that_dies_while_it_loads_serves_the_old_version_when_it_is_back(store: Store, odd: OddServer) -> None:
    odd.answers[LOAD] = Answer(None, before=odd.stop)
    must_be_put_back(open_swap(store, odd.address), "no answer from the server|.*no answer from the server", live=None)
    odd.answers.clear()
    odd.serving.clear()
    odd.start()
    assert odd.serving == {"digits": "1.0.0"}
    must_swap(store, odd.address)


def test_a_server_that_takes_its_time(store: Store, odd: OddServer) -> None:
    loading = threading.Event()
    odd.answers[LOAD] = Answer(200, before=lambda: loading.wait(0.3), acts=True)
    go(open_swap(store, odd.address, look_seconds=GUARD_SECONDS, work_seconds=GUARD_SECONDS))
    assert odd.serving == {"digits": "1.1.0"}
    assert events(store) == [FIRST, SWITCH]


def test_a_server_that_takes_too_long_is_told_again_when_it_loads_the_new_version_after_all(
    store: Store, odd: OddServer
) -> None:
    gave_up = threading.Event()
    odd.answers[LOAD] = Answer(200, before=lambda: gave_up.wait(GUARD_SECONDS))
    swap = open_swap(store, odd.address, look_seconds=10, work_seconds=0.3)
    must_be_put_back(swap, ".*no answer from the server: TimeoutError", live="1.0.0")
    gave_up.set()
    odd.answers.clear()
    odd.serving["digits"] = "1.1.0"
    with store.lock():
        open_swap(store, odd.address).notify_if_needed()
    assert odd.serving == {"digits": "1.0.0"}
    must_swap(store, odd.address)


@pytest.mark.parametrize("looks", [1, 3, 4])
def test_a_version_whose_server_answers_late_for_a_while_is_not_at_fault(
    store: Store, odd: OddServer, looks: int
) -> None:
    """As on a machine that is busy: it is looked again as often as the trial does, and a fourth time is too often."""
    enough, waited = threading.Event(), 0
    server = Server(odd.address, look_seconds=GUARD_SECONDS, work_seconds=GUARD_SECONDS)

    def wait() -> None:
        nonlocal waited
        if waited < looks:
            waited += 1
            if waited == looks:
                # What is asked from now on is answered, however long this machine takes.
                server.look_seconds = GUARD_SECONDS
            enough.wait(GUARD_SECONDS)

    def become_slow() -> None:
        server.look_seconds = GUARD_SECONDS if waited else 1.0
        body = json.dumps({"versions": ["1.1.0"]}).encode()
        paths = () if waited else (MODEL, f"{MODEL}/ready", f"{MODEL}/versions/1.1.0/ready")
        odd.answers = {LOAD: odd.answers[LOAD], **{path: Answer(200, body, before=wait) for path in paths}}

    odd.answers[LOAD] = Answer(200, before=become_slow, acts=True)
    swap = open_swap(store, odd.address)
    swap.strategy = LoadStrategy(server)
    try:
        if looks > UNREADY_MAX:
            must_be_put_back(swap, r".*no answer from the server: .*, 4 times in a row \(at most 3\)$", live="1.0.0")
        else:
            assert go(swap).live() == "1.1.0"
            assert events(store) == [FIRST, SWITCH]
            assert store.state("digits").failed == {}
        assert waited == looks
    finally:
        enough.set()


def test_metrics_that_are_none_keep_nobody_from_swapping(store: Store, odd: OddServer) -> None:
    pages = [b"\xff\xfe", b"process_resident_memory_bytes NaN\n", b"process_resident_memory_bytes +Inf\n", b"{}" * 9999]
    for page in pages:
        odd.answers["/metrics"] = Answer(200, page)
        for version in ("1.1.0", "1.0.0"):
            assert go(open_swap(store, odd.address), version, trial_seconds=60.0).live() == version
            swap = open_swap(store, odd.address)
            assert swap.check_trial().startswith("wait: ")
            assert describe_model(store, "digits", odd.address)["live"] == version


def test_a_trial_that_a_refused_call_ended_is_ended_on_the_server_too(store: Store, odd: OddServer) -> None:
    """The engineer asks for a version that is not held, and the one on trial has broken a limit."""
    trial = go(open_swap(store, odd.address), trial_seconds=60.0).state.trial
    assert trial is not None
    state = store.state("digits")
    store.update("digits", state._replace(trial=trial._replace(crashes=3)))
    assert main(["activate", "digits", "9.9.9", "--store", store.root]) == 1
    assert store.state("digits").active == "1.0.0"
    assert odd.serving == {"digits": "1.0.0"}


# ---- a disk that is full ----


@contextmanager
def no_more_bytes() -> Iterator[Callable[[], None]]:
    """What is returned makes every write of a file fail from then on, until the block ends."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        yield lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)


def test_a_disk_that_is_full_before_the_switch(store: Store, odd: OddServer) -> None:
    before = store.state("digits")
    with no_more_bytes() as fill, pytest.raises(StoreError, match=r"to set aside for a way back: .*File too large"):
        go(open_swap(store, odd.address), before_acting=fill)
    assert odd.serving == {"digits": "1.0.0"}
    assert store.state("digits") == before
    must_swap(store, odd.address)


def test_a_disk_that_is_full_after_the_switch(store: Store, odd: OddServer) -> None:
    with no_more_bytes() as fill:
        odd.answers[LOAD] = Answer(200, before=fill, acts=True)
        with pytest.raises(
            SwapError, match=r"File too large.*; to put 1\.0\.0 back failed as well, and is tried again "
        ) as caught:
            go(open_swap(store, odd.address))
    assert caught.value.live == "1.1.0"
    odd.answers.clear()
    with store.lock():
        swap = open_swap(store, odd.address)
        swap.recover()
        swap.notify_if_needed()
    assert store.state("digits") == State("1.0.0", serving=ModelServer(server=odd.address))
    assert odd.serving == {"digits": "1.0.0"}
    assert events(store) == [FIRST, SWITCH, ("interrupted", "1.1.0", "1.0.0")]
    must_swap(store, odd.address)


# ---- the collection's own server ----


@pytest.fixture
def device(machines: dict[str, Device]) -> Iterator[Device]:
    """A device that serves 1.0.0, committed, and holds 1.1.0."""
    found = machines["edge-s2"]
    found.reset()
    found.serve(read_release(DIGITS, "digits", "1.0.0"))
    put(found.store, read_release(DIGITS, "digits", "1.1.0"))
    yield found
    found.signal_server(signal.SIGCONT)


def test_a_server_that_hangs_before_the_swap(device: Device) -> None:
    device.signal_server(signal.SIGSTOP)
    must_be_refused(open_swap(device.store, device.server.address, 0.3, 0.3), "the inference server does not answer$")
    device.signal_server(signal.SIGCONT)
    assert device.live == "1.0.0"
    must_swap(device.store, device.server.address)


def test_a_server_that_hangs_in_the_swap(device: Device) -> None:
    must_be_put_back(
        open_swap(device.store, device.server.address, 0.3, 0.3),
        ".*no answer from the server: TimeoutError",
        live=None,
        before_acting=lambda: device.signal_server(signal.SIGSTOP),
    )
    device.signal_server(signal.SIGCONT)
    assert device.live == "1.0.0"
    must_swap(device.store, device.server.address)


def test_a_server_that_was_killed_in_the_swap_starts_with_the_old_version(device: Device) -> None:
    must_be_put_back(
        open_swap(device.store, device.server.address),
        ".*no answer from the server: ",
        live=None,
        before_acting=device.stop_server,
    )
    device.start_server("digits")
    assert device.live == "1.0.0"
    must_swap(device.store, device.server.address)


def test_a_version_that_is_tried_again_is_judged_by_this_trial(device: Device) -> None:
    """The server still counts what the version did in its first trial."""
    for version, model in {"1.0.0": reshape(-1), "1.1.0": reshape(7)}.items():
        put(device.store, make_release(version, model="numbers", files={"model.onnx": model}))

    def open_numbers() -> Swap:
        return Swap(device.store, "numbers", Cause("test"), ModelServer(server=device.server.address))

    def try_it(version: str) -> None:
        options = SwapOptions(min_ready_seconds=0.0, trial_seconds=3600.0, retry=True, limits=Limits(requests_min=20))
        with device.store.lock():
            swap = open_numbers()
            swap.recover_interrupted(act=True, ends_trial=True)
            plan = swap.plan_active(device.store.version("numbers", version).release, device_facts(), options)
            swap.activate(plan, options)

    def ask(times: int) -> None:
        tensor: dict[str, Any] = {"name": "x", "shape": [1], "datatype": "FP32", "data": [1]}
        for _request in range(times):
            device.ask("numbers", **tensor)

    def look() -> str:
        with device.store.lock():
            swap = open_numbers()
            outcome = swap.check_trial()
            swap.notify_if_needed()
        return outcome

    try_it("1.0.0")
    try_it("1.1.0")
    ask(30)
    assert look().startswith("revert: 30 of 30 requests failed")
    try_it("1.1.0")
    ask(19)
    assert look().startswith("wait: ")
    ask(1)
    assert look().startswith("revert: 20 of 20 requests failed")


# ---- servers of another make ----


@pytest.fixture(params=["unix", "tcp"])
def other(request: pytest.FixtureRequest, store: Store, tmp_path: Path) -> Iterator[OddServer]:
    """A server that calls each version 1, as Triton does, and has no metrics there."""
    with OddServer(store, tmp_path / "s" if request.param == "unix" else None, naming=lambda _version: "1") as server:
        yield server


def test_a_server_with_other_names_for_versions_is_driven_well(store: Store, other: OddServer) -> None:
    swap = go(open_swap(store, other.address), trial_seconds=60.0)
    assert other.calls.count(f"POST {LOAD}") == 1
    assert swap.live() == "1.1.0"
    assert describe_model(store, "digits", other.address)["live"] == "1.1.0"
    assert open_swap(store, other.address).check_trial().startswith("wait: ")
    open_swap(store, other.address).notify_if_needed()
    assert other.calls.count(f"POST {LOAD}") == 1, "it was told nothing that it knows"

    with store.lock():
        swap = open_swap(store, other.address)
        swap.revert(swap.plan_revert("1.1.0"))
    assert (swap.live(), store.state("digits").active) == ("1.0.0", "1.0.0")
    assert other.calls.count(f"POST {LOAD}") == 2

    with store.lock():
        swap = open_swap(store, other.address)
        swap.revert(swap.plan_revert("1.0.0"))
    assert (swap.live(), store.state("digits").active) == (None, None)
    assert other.serving == {}
    go(open_swap(store, other.address), "1.0.0", retry=True)
    assert other.serving == {"digits": "1"}


def test_a_server_with_other_names_that_does_not_load_keeps_the_old_version(store: Store, other: OddServer) -> None:
    other.answers[LOAD] = Answer(400, b'{"error": "failed to load"}')
    must_be_put_back(open_swap(store, other.address), ".*found 400: failed to load$", live="1.0.0")
    other.answers.clear()
    must_swap(store, other.address)


def test_a_server_with_other_names_that_lost_its_model_in_the_trial(store: Store, other: OddServer) -> None:
    go(open_swap(store, other.address), trial_seconds=60.0)
    other.serving.clear()
    with store.lock():
        swap = open_swap(store, other.address)
        assert swap.check_trial().startswith("revert: ")
        swap.notify_if_needed()
    state = store.state("digits")
    assert (state.active, state.previous, list(state.failed)) == ("1.0.0", None, ["1.1.0"])
    assert other.serving == {"digits": "1"}


def test_a_server_that_still_starts_is_waited_for(store: Store, odd: OddServer) -> None:
    go(open_swap(store, odd.address), trial_seconds=60.0)
    odd.serving.clear()
    odd.answers["/v2/health/ready"] = Answer(503, b'{"error": "the server is starting"}')
    assert open_swap(store, odd.address).check_trial() == "wait: the server does not answer"
    odd.answers.clear()
    odd.load("digits")
    assert open_swap(store, odd.address).check_trial().startswith("wait: ")
    assert store.state("digits") == State(
        "1.1.0", "1.0.0", trial=store.state("digits").trial, serving=ModelServer(server=odd.address)
    )
