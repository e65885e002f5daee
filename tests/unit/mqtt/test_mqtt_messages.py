# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a device writes to a broker, what is read from there, and how the listener is configured."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pulled import MODEL, PulledFleet

from ansible_collections.edgeml.fleet.plugins.module_utils._common.errors import ArgumentError
from ansible_collections.edgeml.fleet.plugins.module_utils._mqtt import command
from ansible_collections.edgeml.fleet.plugins.module_utils._mqtt.command import main, next_start, read_telemetry
from ansible_collections.edgeml.fleet.plugins.module_utils._mqtt.config import MqttConfig, parse_config, read_config
from ansible_collections.edgeml.fleet.plugins.module_utils._mqtt.listener import own_delay
from ansible_collections.edgeml.fleet.plugins.module_utils._mqtt.messages import (
    MESSAGE_BYTES_MAX,
    read_message,
    rollout_topic,
    write_message,
)

CONFIG = {"device": "edge-1", "fleet": "shop", "broker": "broker.example"}


def test_a_message_is_read_as_it_was_written() -> None:
    assert read_message(write_message((3, 14), {"online": True})) == ((3, 14), {"online": True})


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff",
        b"[]",
        b"{}",
        b'{"counter": 1}',
        b'{"counter": [1]}',
        b'{"counter": [1, true]}',
        b'{"counter": [1, "2"]}',
        b"[" * 10_000,
    ],
)
def test_what_no_device_writes_is_nothing(content: bytes) -> None:
    assert read_message(content) is None


def test_a_message_that_is_too_long_is_nothing() -> None:
    assert read_message(write_message((1, 1), {"x": "x" * MESSAGE_BYTES_MAX})) is None


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"device": "a/b"}, "device: expected a name without"),
        ({"fleet": "#"}, "fleet: expected a name without"),
        ({"fleet": ""}, "fleet: expected a name without"),
        ({"echo_seconds": 0}, "echo_seconds: expected more than 0"),
        ({"port": "x"}, "port"),
        ({"other": 1}, "other"),
    ],
)
def test_a_configuration_that_is_refused(change: dict[str, Any], problem: str) -> None:
    with pytest.raises(ArgumentError, match=f"mqtt.json: .*{problem}"):
        parse_config({**CONFIG, **change}, "mqtt.json")


def test_a_file_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("{")
    for name in ("x", "absent"):
        with pytest.raises(ArgumentError, match=f"{name}: expected the configuration of edgeml listen"):
            read_config(str(tmp_path / name))
    with pytest.raises(ArgumentError, match="expected an object"):
        parse_config([], "mqtt.json")
    (tmp_path / "x").write_text(json.dumps(CONFIG))
    assert read_config(str(tmp_path / "x")).port == 8883


def test_starts_are_counted(tmp_path: Path) -> None:
    assert [next_start(str(tmp_path)) for _time in range(3)] == [1, 2, 3]
    (tmp_path / "mqtt-starts").write_text("damaged")
    assert next_start(str(tmp_path)) == 1


def test_a_device_has_a_delay_of_its_own() -> None:
    delays = [own_delay(f"edge-{number}", 30) for number in range(1000)]
    assert delays == [own_delay(f"edge-{number}", 30) for number in range(1000)]
    assert 0 <= min(delays) < 1 < 29 < max(delays) < 30
    assert 13 < sum(delays) / 1000 < 17


def telemetry(store: Path) -> dict[str, Any]:
    """What a device tells of its store; its server is away."""
    return read_telemetry(
        MqttConfig("edge-1", "shop", "broker.example", store=str(store), server=str(store / "absent"))
    )


def test_a_device_without_a_store_serves_nothing(tmp_path: Path) -> None:
    assert telemetry(tmp_path / "absent") == {"server_live": False, "models": {}}


def test_a_device_tells_what_was_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fleet = PulledFleet(tmp_path)
    fleet.publish(fleet.rollout("1.0.0"))
    device = fleet.device()
    device.poll()
    told = telemetry(device.directory / "store")
    assert told["server_live"] is False
    model = told["models"][MODEL]
    assert (model["active"], model["rollout_id"]) == ("1.0.0", f"{MODEL}-1.0.0-1")
    assert model["active_seconds"] >= 0
    assert not {"baseline", "past", "history"} & set(model)
    monkeypatch.setattr(command, "_TELEMETRY_BYTES_MAX", 100)
    assert telemetry(device.directory / "store") == {
        "server_live": False,
        "models": {MODEL: {"active": "1.0.0"}},
        "error": "what was measured does not fit into a message",
    }


def test_a_store_that_is_damaged_is_told(tmp_path: Path) -> None:
    fleet = PulledFleet(tmp_path)
    fleet.publish(fleet.rollout("1.0.0"))
    device = fleet.device()
    device.poll()
    (device.directory / "store/models" / MODEL / "state.json").write_text("{")
    assert "state.json" in telemetry(device.directory / "store")["error"]


def test_a_model_may_have_any_name() -> None:
    assert rollout_topic("shop", "digits") == "edgeml/shop/rollouts/digits"
    # Somebody who publishes to a topic with a + is cut off.
    assert rollout_topic("shop", "a+b") == "edgeml/shop/rollouts/a%2Bb"


def test_a_wrong_call(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["look"])
    assert caught.value.code == 2
    assert main(["--config", str(tmp_path / "absent")]) == 1
    assert "expected the configuration" in capsys.readouterr().err
