# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What needrestart names is restarted, but for what would end the device's work; what is left then is an error."""

from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.edgeml.fleet.plugins.module_utils._common.errors import ServerError
from ansible_collections.edgeml.fleet.plugins.module_utils._device import restarts

NAMED = "NEEDRESTART-VER: 3.6\nNEEDRESTART-SVC: edgeml-inference.service\nNEEDRESTART-SVC: dbus.service\n"


@pytest.fixture
def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """What systemctl is asked; needrestart says what the file ``named`` has, and nothing after a restart."""
    (tmp_path / "named").write_text(NAMED)
    program = tmp_path / "needrestart"
    program.write_text(f"#!/bin/sh\ncat {tmp_path}/named\n[ ! -e {tmp_path}/broken ] || exit 1\n")
    program.chmod(0o755)
    asked: list[tuple[str, ...]] = []

    def systemctl(*arguments: str) -> str:
        asked.append(arguments)
        if arguments[0] == "restart" and not (tmp_path / "stubborn").exists():
            (tmp_path / "named").write_text("NEEDRESTART-SVC: dbus.service\n")
        return "a.service loaded failed failed\n\nb.service loaded failed failed\n"

    monkeypatch.setattr(restarts, "_PROGRAM", str(program))
    monkeypatch.setattr(restarts, "systemctl", systemctl)
    monkeypatch.setattr(restarts, "systemd_runs", lambda: True)
    return asked


def test_what_is_named_is_restarted(calls: list[tuple[str, ...]]) -> None:
    assert restarts.is_there()
    assert restarts.restart() == ["edgeml-inference.service"]
    assert calls == [("restart", "--", "edgeml-inference.service")]
    assert restarts.restart() == []


def test_what_failed_before_is_started_again_though_needrestart_does_not_see_it(calls: list[tuple[str, ...]]) -> None:
    assert restarts.restart(["a.service"]) == ["a.service", "edgeml-inference.service"]
    assert restarts.restart(["a.service"]) == ["a.service"]
    assert calls.count(("restart", "--", "a.service")) == 2


def test_what_is_named_again_is_an_error(calls: list[tuple[str, ...]], tmp_path: Path) -> None:
    (tmp_path / "stubborn").touch()
    with pytest.raises(ServerError, match="still run what has been replaced, after a restart: edgeml-inference"):
        restarts.restart()


def test_a_needrestart_that_fails_is_an_error(calls: list[tuple[str, ...]], tmp_path: Path) -> None:
    (tmp_path / "broken").touch()
    with pytest.raises(ServerError, match="needrestart -b -l"):
        restarts.restart()


def test_the_units_that_failed(calls: list[tuple[str, ...]]) -> None:
    assert restarts.failed_units() == ["a.service", "b.service"]


def test_without_systemd_nothing_is_restarted(calls: list[tuple[str, ...]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(restarts, "systemd_runs", lambda: False)
    assert (restarts.restart(), restarts.failed_units(), calls) == ([], [], [])
