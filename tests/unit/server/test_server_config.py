# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The server's configuration file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from edgeml_server.config import Config, ConfigError, parse_config, read_config

MINIMAL = {"store": "/store", "socket": "/run/server.sock"}


def test_configuration_defaults() -> None:
    config = parse_config(MINIMAL)
    assert config == Config(store="/store", socket="/run/server.sock")
    assert (config.listen_address, config.listen_port, config.threads) == ("127.0.0.1", 8080, 1)
    assert (config.max_request_bytes, config.max_pending, config.drain_seconds) == (16777216, 64, 10)


def test_workers_follow_the_processors_unless_told() -> None:
    assert parse_config({**MINIMAL, "workers": 3}).inference_workers == 3
    assert parse_config({**MINIMAL, "threads": 1 << 20}).inference_workers == 1
    assert parse_config(MINIMAL).inference_workers >= 1


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        ([], "expected an object; found list"),
        ({"store": "/store"}, "socket: missing"),
        ({**MINIMAL, "prot": 1}, "unknown key prot"),
        ({**MINIMAL, "listen_port": "8080"}, "listen_port: expected a whole number from 0 to 65535; found '8080'"),
        ({**MINIMAL, "listen_port": 65536}, "listen_port: expected"),
        ({**MINIMAL, "threads": 0}, "threads: expected a whole number from 1"),
        ({**MINIMAL, "threads": True}, "threads: expected"),
        ({**MINIMAL, "socket": ""}, "socket: expected a text"),
        (
            {**MINIMAL, "prediction_log_sample_percent": 101},
            "prediction_log_sample_percent: expected a number from 0 to",
        ),
        ({**MINIMAL, "prediction_log_inputs": "all"}, "prediction_log_inputs: expected one of summary, full; found"),
        ({**MINIMAL, "log_level": "loud"}, "log_level: expected one of debug, info, warning, error; found 'loud'"),
    ],
)
def test_a_wrong_configuration_names_the_key(document: Any, expected: str, tmp_path: Path) -> None:
    path = tmp_path / "server.json"
    path.write_text(json.dumps(document))
    with pytest.raises(ConfigError, match=r".") as caught:
        read_config(str(path))
    assert str(caught.value).startswith(f"{path}: ")
    assert expected in str(caught.value)


@pytest.mark.parametrize("content", [None, "{"])
def test_an_unreadable_configuration_names_the_file(content: str | None, tmp_path: Path) -> None:
    path = tmp_path / "server.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ConfigError, match=r"server\.json"):
        read_config(str(path))
