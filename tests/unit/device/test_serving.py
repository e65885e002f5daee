# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Strategies: what systemd says of a unit, read from a ``systemctl`` that is a script, because a machine that runs
these tests need not have systemd. The devices of the Molecule scenarios have the real one."""

from __future__ import annotations

import contextlib
import os
import shlex
import socket
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from releases import make_release, make_store

from ansible_collections.edgeml.fleet.plugins.module_utils._common.errors import ServerError, SwapError
from ansible_collections.edgeml.fleet.plugins.module_utils._device import systemd
from ansible_collections.edgeml.fleet.plugins.module_utils._device.client import LateError, Server
from ansible_collections.edgeml.fleet.plugins.module_utils._device.facts import device_facts
from ansible_collections.edgeml.fleet.plugins.module_utils._device.plan import SwapOptions
from ansible_collections.edgeml.fleet.plugins.module_utils._device.service_manager import Systemd
from ansible_collections.edgeml.fleet.plugins.module_utils._device.serving import LoadStrategy, NoStrategy
from ansible_collections.edgeml.fleet.plugins.module_utils._device.state import ModelServer, Record, State
from ansible_collections.edgeml.fleet.plugins.module_utils._device.store import Store
from ansible_collections.edgeml.fleet.plugins.module_utils._device.strategies import make_strategy
from ansible_collections.edgeml.fleet.plugins.module_utils._device.swap import Swap
from ansible_collections.edgeml.fleet.plugins.module_utils._device.transitions import Cause

STORE = Store("/nonexistent")
UNIT = "gauge-reader.service"
GOOD = {"LoadState": "loaded", "ActiveState": "active", "NRestarts": "0"}


class Systemctl:
    """A script called ``systemctl`` that notes how it was called, and says what it is told to."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "systemctl"
        self._calls = directory / "calls"
        self.answer(GOOD)

    def answer(self, properties: Mapping[str, str], verb: str = "exit 0") -> None:
        """Have ``show`` print these properties, and any other verb run a line of shell."""
        cases = "\n".join(f"*--property={name}*) printf {shlex.quote(value)} ;;" for name, value in properties.items())
        self.path.unlink(missing_ok=True)
        self.path.write_text(
            f'#!/bin/sh\necho "$@" >>{shlex.quote(str(self._calls))}\n'
            f'case "$*" in\n{cases}\nshow*) echo "Failed to get properties" >&2; exit 1 ;;\n*) {verb} ;;\nesac\n'
        )
        self.path.chmod(0o755)

    def calls(self, without: str = "show") -> list[str]:
        """How it was called, the questions left out."""
        lines = self._calls.read_text().splitlines() if self._calls.exists() else []
        return [line for line in lines if not line.startswith(without)]


@pytest.fixture
def systemctl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Systemctl:
    directory = tmp_path / "bin"
    directory.mkdir()
    monkeypatch.setenv("PATH", f"{directory}:{os.environ['PATH']}")
    return Systemctl(directory)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A store where 1.0.0 is active and 1.1.0 held."""
    return make_store(tmp_path, make_release("1.0.0"), make_release("1.1.0"))


def serving(verb: str = "restart", unit: str = UNIT) -> ModelServer:
    return ModelServer(strategy=verb, unit=unit)


# ---- what systemd says ----


@pytest.mark.parametrize(
    ("loaded", "answers"),
    [("loaded", True), ("not-found", False), ("masked", False), ("bad-setting", False), ("", False)],
)
def test_whether_there_is_such_a_unit(systemctl: Systemctl, loaded: str, answers: bool) -> None:
    systemctl.answer({**GOOD, "LoadState": loaded})
    assert make_strategy(serving(), STORE).answers() is answers


@pytest.mark.parametrize(
    ("active", "ready"),
    [
        ("active", True),
        ("reloading", True),
        ("activating", False),
        ("deactivating", False),
        ("inactive", False),
        ("failed", False),
        ("", False),
    ],
)
def test_a_unit_that_runs_serves_the_active_version(systemctl: Systemctl, active: str, ready: bool) -> None:
    systemctl.answer({**GOOD, "ActiveState": active})
    strategy = make_strategy(serving(), STORE)
    assert strategy.is_ready("digits", "1.0.0", []) is ready
    assert strategy.live("digits", State("1.0.0"), []) == ("1.0.0" if ready else None)
    assert strategy.live("digits", State(), []) is None


@pytest.mark.parametrize(
    ("active", "gave_up"), [("failed", True), ("inactive", True), ("activating", False), ("active", False)]
)
def test_a_service_that_systemd_starts_again_is_not_given_up(systemctl: Systemctl, active: str, gave_up: bool) -> None:
    """systemd from 254 on starts the units of OnFailure= at each failure, also where Restart= follows."""
    systemctl.answer({**GOOD, "ActiveState": active})
    assert Systemd().gave_up("edgeml-inference.service") is gave_up


@pytest.mark.parametrize(
    ("restarts", "record"),
    [("0", Record(restarts=0)), ("17", Record(restarts=17)), ("", None), ("[not set]", None), ("many", None)],
)
def test_restarts_are_counted_by_systemd(systemctl: Systemctl, restarts: str, record: Record | None) -> None:
    systemctl.answer({**GOOD, "NRestarts": restarts})
    assert make_strategy(serving(), STORE).record("digits", "1.0.0") == record


def test_a_systemctl_that_fails(systemctl: Systemctl) -> None:
    systemctl.answer({}, "echo 'Job for x failed.' >&2; exit 1")
    strategy = make_strategy(serving(), STORE)
    assert not strategy.answers()
    assert strategy.record("digits", "1.0.0") is None
    assert strategy.live("digits", State("1.0.0"), []) is None
    with pytest.raises(ServerError, match=f"^systemctl show .*{UNIT}: Failed to get properties$"):
        strategy.is_ready("digits", "1.0.0", [])
    with pytest.raises(ServerError, match=rf"^systemctl restart -- {UNIT}: Job for x failed\.$"):
        strategy.notify("digits", "1.0.0")


def test_a_machine_without_systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    strategy = make_strategy(serving(), STORE)
    assert not strategy.answers()
    with pytest.raises(ServerError, match=r"^systemctl restart .*No such file"):
        strategy.notify("digits", "1.0.0")


def test_a_systemctl_that_hangs(systemctl: Systemctl, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(systemd, "SECONDS", 0.3)
    systemctl.answer({}, "exec sleep 50")
    with pytest.raises(ServerError, match=r"^systemctl restart .*: no result after 0\.3 s"):
        make_strategy(serving(), STORE).notify("digits", "1.0.0")


def test_a_systemctl_that_says_no_text(systemctl: Systemctl) -> None:
    systemctl.answer({"LoadState": r"\377\376"}, r"printf '\377' >&2; exit 1")
    assert not make_strategy(serving(), STORE).answers()
    with pytest.raises(ServerError, match=r"^systemctl restart .*\ufffd"):
        make_strategy(serving(), STORE).notify("digits", "1.0.0")


@pytest.mark.parametrize("verb", ["reload", "restart"])
@pytest.mark.parametrize("unit", [UNIT, "--now", "-H root@elsewhere"])
def test_the_unit_is_told_and_is_no_option(systemctl: Systemctl, verb: str, unit: str) -> None:
    make_strategy(serving(verb, unit), STORE).notify("digits", "1.0.0")
    assert systemctl.calls() == [f"{verb} -- {unit}"]


def test_an_unknown_strategy_is_named() -> None:
    with pytest.raises(ServerError, match=r"^strategy: expected load, reload, restart, smp or none; found 'hope'$"):
        make_strategy(ModelServer(strategy="hope"), STORE)


def test_nobody_is_told_where_nobody_is_to_be() -> None:
    strategy = make_strategy(ModelServer(strategy="none"), STORE)
    assert isinstance(strategy, NoStrategy)
    assert strategy.answers()
    assert strategy.is_ready("digits", "1.0.0", [])
    assert strategy.record("digits", "1.0.0") is None
    assert strategy.live("digits", State("1.0.0"), []) == "1.0.0"


# ---- what the server says ----


def test_a_server_that_is_late_at_first_says_nothing_of_a_version(tmp_path: Path) -> None:
    """Whether the model is ready in any version is asked of a server that names none, and of no other one."""

    def answer(listener: socket.socket) -> None:
        # Nothing to the first connection, for as long as there is another one.
        first, _address = listener.accept()
        with first, contextlib.suppress(OSError):
            while True:
                connection, _address = listener.accept()
                with connection:
                    connection.recv(4096)
                    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")

    address = str(tmp_path / "socket")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(address)
        listener.listen()
        thread = threading.Thread(target=answer, args=(listener,))
        thread.start()
        strategy = LoadStrategy(Server(address, look_seconds=0.5))
        with pytest.raises(LateError):
            strategy.is_ready("digits", "1.1.0", ["1.0.0", "1.1.0"])
        strategy.server.look_seconds = 10
        assert strategy.is_ready("digits", "1.1.0", ["1.0.0", "1.1.0"])
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


# ---- a swap ----


def go(store: Store, version: str = "1.1.0", **options: Any) -> Swap:
    wishes = SwapOptions(**{"min_ready_seconds": 0.0, "trial_seconds": 0.0, **options})
    swap = Swap(store, "digits", Cause("test"), serving())
    plan = swap.plan_active(store.version("digits", version).release, device_facts(), wishes)
    swap.activate(plan, wishes)
    return swap


def test_a_unit_is_restarted_with_the_new_version_in_place(systemctl: Systemctl, store: Store, tmp_path: Path) -> None:
    link = Path(store.root, "models", "digits", "active")
    systemctl.answer(GOOD, f"readlink {link} >>{tmp_path}/served")
    assert go(store).live() == "1.1.0"
    assert (tmp_path / "served").read_text() == "versions/1.1.0\n"
    assert systemctl.calls() == [f"restart -- {UNIT}"]


def test_a_unit_that_does_not_start_gets_the_old_version_back(
    systemctl: Systemctl, store: Store, tmp_path: Path
) -> None:
    link = Path(store.root, "models", "digits", "active")
    served = tmp_path / "served"
    systemctl.answer(
        GOOD, f'readlink {link} >>{served}; case "$(tail -n1 {served})" in *1.1.0) echo no >&2; exit 1 ;; esac'
    )
    with pytest.raises(SwapError, match=rf"did not become healthy: systemctl restart -- {UNIT}: no$") as caught:
        go(store)
    assert caught.value.live == "1.0.0"
    assert served.read_text() == "versions/1.1.0\nversions/1.0.0\n"
    state = store.state("digits")
    assert (state.active, state.trial, list(state.failed)) == ("1.0.0", None, ["1.1.0"])


def test_restarts_of_the_trial_are_counted_from_its_begin(systemctl: Systemctl, store: Store) -> None:
    """systemd counts anew once it is told to restart a unit."""
    systemctl.answer({**GOOD, "NRestarts": "5"}, f"sed -i 's/printf 5/printf 0/' {systemctl.path}")
    swap = go(store, trial_seconds=3600.0)
    assert swap.state.trial is not None
    assert swap.check_trial().startswith("wait: ")
    systemctl.answer({**GOOD, "NRestarts": "3"})
    assert swap.check_trial() == "revert: the service crashed 3 times (at most 2)"
    assert store.state("digits").active == "1.0.0"


def test_a_unit_that_has_not_started_when_the_device_has_is_waited_for(systemctl: Systemctl, store: Store) -> None:
    swap = go(store, trial_seconds=3600.0)
    trial = swap.state.trial
    assert trial is not None
    store.update("digits", State("1.1.0", "1.0.0", trial=trial._replace(boot_id="x")))
    systemctl.answer({**GOOD, "ActiveState": "inactive"})
    again = Swap(store, "digits", Cause("test"), serving())
    again.recover()
    assert again.state.active == "1.1.0"
    assert again.state.trial is not None
    assert again.state.trial.boots == 1
