# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the strategy says of a device: whether it can take a snapshot at all, and what its server counts."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from debian_root import DebianRoot
from edgeml_device._common.errors import IncompatibleError, ServerError
from edgeml_device._device import packages_strategy, restarts
from edgeml_device._device.client import LateError, Server
from edgeml_device._device.package_manager import PackageManager
from edgeml_device._device.packages_strategy import PackagesStrategy, install_wanted
from edgeml_device._device.state import State
from edgeml_device._device.store import Store
from edgeml_device._release.release import Variant

VARIANT = Variant("bookworm-arm64", "deb", ("aarch64",), "dpkg", "1.0.0", 0, {}, ())
METRICS = 'edgeml_inference_requests_total{model="digits",version="1",code="200"} 7\n'


@pytest.fixture
def strategy(tmp_path: Path) -> PackagesStrategy:
    return PackagesStrategy(
        Server(str(tmp_path / "socket")), Store(str(tmp_path)), DebianRoot(tmp_path / "root").manager
    )


def test_a_device_without_apt_or_needrestart_is_refused(
    strategy: PackagesStrategy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packages_strategy, "systemd_runs", lambda: True)
    monkeypatch.setattr(restarts, "_PROGRAM", "/nowhere")
    with pytest.raises(IncompatibleError, match="needrestart is not installed"):
        strategy.refuse(VARIANT, 20)
    monkeypatch.setattr(PackageManager, "is_there", lambda _self: False)
    with pytest.raises(IncompatibleError, match="no apt and dpkg"):
        strategy.refuse(VARIANT, 20)


def test_the_server_is_measured_with_all_of_its_models(
    strategy: PackagesStrategy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Server, "metrics", lambda _self: METRICS)
    assert [found["requests"]["requests"] for found in strategy.measured("debian", "1", "2")] == [7, 7]
    record = strategy.record("debian", "1")
    assert record is not None
    assert record.requests == 7


def test_a_server_that_is_down_counts_nothing_and_is_not_ready(strategy: PackagesStrategy) -> None:
    assert strategy.measured("debian", "1", "2") == [{}, {}]
    assert strategy.record("debian", "1") is None
    assert strategy.answers() is False
    assert strategy.reading("debian", "1", ["1"]).answers is False
    with pytest.raises(ServerError, match="GET /v2/health/ready: no answer from the server"):
        strategy.is_ready("debian", "1", ["1"])


def test_a_server_that_is_late_is_told_from_one_that_is_down(strategy: PackagesStrategy, tmp_path: Path) -> None:
    """A device may be busy: a swap looks again."""
    strategy._server.look_seconds = 0.2
    with socket.socket(socket.AF_UNIX) as deaf:
        deaf.bind(str(tmp_path / "socket"))
        deaf.listen()
        with pytest.raises(LateError):
            strategy.is_ready("debian", "1", ["1"])


def test_a_version_that_cannot_be_read_is_not_live(strategy: PackagesStrategy) -> None:
    assert strategy.live("debian", State(active="1"), []) is None
    assert strategy.live("debian", State(), ["1"]) is None


def test_without_a_snapshot_only_what_was_interrupted_is_finished(tmp_path: Path, strategy: PackagesStrategy) -> None:
    updates = tmp_path / "root/var/lib/dpkg/updates/0001"
    updates.touch()
    assert strategy._manager.was_interrupted()
    strategy.follow("debian", None)
    done = install_wanted(strategy._store, strategy._manager)
    assert done == "no snapshot: the packages stay as they are"
    assert not updates.exists()


def test_a_system_that_does_not_say_what_it_is(tmp_path: Path, strategy: PackagesStrategy) -> None:
    (tmp_path / "root/etc/os-release").unlink()
    assert strategy._manager.suite() == ""
