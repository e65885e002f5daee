# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The command ``edgeml mcu``: what is said of the microcontrollers behind a device, and when they are looked at."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from smp_peer import DEVICE_CLASS, FIRMWARE, MODEL, Microcontroller, signed_image

from ansible_collections.edgeml.fleet.plugins.module_utils._common.errors import StoreError
from ansible_collections.edgeml.fleet.plugins.module_utils._device import cli, microcontrollers, smp_strategy
from ansible_collections.edgeml.fleet.plugins.module_utils._device.microcontrollers import main, read_microcontrollers
from ansible_collections.edgeml.fleet.plugins.module_utils._device.state import ModelServer, State
from ansible_collections.edgeml.fleet.plugins.module_utils._device.store import Store


@pytest.fixture(autouse=True)
def stopped(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The timers that were stopped."""
    found: list[str] = []
    monkeypatch.setattr(microcontrollers, "stop_watching", lambda: found.append("edgeml-mcu.timer"))
    monkeypatch.setattr(smp_strategy, "ANSWER_SECONDS", 0.05)
    return found


def config(directory: Path, *ports: str) -> Path:
    path = directory / "mcu.json"
    items = [
        {"name": f"meter-{number}", "port": port, "device_class": DEVICE_CLASS, "store": str(directory / f"m{number}")}
        for number, port in enumerate(ports)
    ]
    for item in items:
        Path(item["store"]).mkdir()
    path.write_text(json.dumps({"microcontrollers": items}))
    return path


def test_each_is_said_beside_what_its_store_says(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Microcontroller() as there, Microcontroller() as away:
        away.is_dead = True
        path = config(tmp_path, there.address, away.address)
        assert main(["--config", str(path), "status", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["microcontrollers"]
    assert [(item["name"], item["answers"], item["models"]) for item in found] == [
        ("meter-0", True, []),
        ("meter-1", False, []),
    ]


def test_the_devices_status_has_them_below_its_models(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "store").mkdir()
    with Microcontroller() as there:
        monkeypatch.setattr(cli, "MICROCONTROLLERS", str(config(tmp_path, there.address)))
        assert cli.main(["status", "--store", str(tmp_path / "store")]) == 0
    assert "no model\n\nmicrocontroller" in capsys.readouterr().out


def test_looks_end_when_nothing_is_left_to_do(tmp_path: Path, stopped: list[str]) -> None:
    with Microcontroller() as there:
        path = config(tmp_path, there.address)
        assert main(["--config", str(path), "watch"]) == 0
    assert stopped == ["edgeml-mcu.timer"]


def test_looks_go_on_while_one_does_not_run_what_its_store_says(
    tmp_path: Path, stopped: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with Microcontroller() as away:
        away.is_dead = True
        path = config(tmp_path, away.address)
        store = Store(str(tmp_path / "m0"))
        serving = ModelServer(strategy="smp", server=away.address)
        store.transition(
            "digits", State(None, "1.0.0", serving=serving), {"event": "activate", "from": None, "to": None}
        )
        store.update("digits", State("1.0.0", None, serving=serving))
        assert main(["--config", str(path), "watch"]) == 1
    assert stopped == []
    assert "the store does not hold digits 1.0.0" in capsys.readouterr().err


def test_looks_go_on_while_a_swap_is_at_work(tmp_path: Path, stopped: list[str]) -> None:
    with Microcontroller() as there:
        path = config(tmp_path, there.address)
        with Store(str(tmp_path / "m0")).lock():
            assert main(["--config", str(path), "watch"]) == 1
    assert stopped == []


def test_what_others_flashed_is_left_alone(tmp_path: Path, stopped: list[str]) -> None:
    """Without a release in its store nobody says what a microcontroller should run."""
    with Microcontroller() as there:
        there.program(FIRMWARE, signed_image(b"firmware"))
        there.program(MODEL, signed_image(b"\x90model"))
        path = config(tmp_path, there.address)
        assert main(["--config", str(path), "watch"]) == 0
        assert (there.running(MODEL), there.flash.resets) == ("1.0.0+0", 0)


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        "{}",
        '{"microcontrollers": [{"name": "a"}]}',
        '{"microcontrollers": [{"name": "a", "port": "/tmp/x", "device_class": "c", "store": "/s"}]}',
    ],
)
def test_a_damaged_configuration_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "mcu.json"
    path.write_text(text)
    with pytest.raises(
        StoreError, match=r"mcu\.json: expected the microcontrollers that the role mcu_gateway describes"
    ):
        read_microcontrollers(str(path))


def test_a_device_without_a_configuration_has_none(tmp_path: Path) -> None:
    assert read_microcontrollers(str(tmp_path / "mcu.json")) == []
