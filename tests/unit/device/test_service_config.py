# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How long a load may take is the server's own limit, for whoever waits for it as well."""

from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.edgeml.fleet.plugins.module_utils._device import strategies
from ansible_collections.edgeml.fleet.plugins.module_utils._device.client import Server
from ansible_collections.edgeml.fleet.plugins.module_utils._device.service_config import LOAD_SECONDS, load_seconds
from ansible_collections.edgeml.fleet.plugins.module_utils._device.serving import ANSWER_SECONDS
from ansible_collections.edgeml.fleet.plugins.module_utils._device.state import ModelServer
from ansible_collections.edgeml.fleet.plugins.module_utils._device.store import Store
from ansible_collections.edgeml.fleet.plugins.module_utils._device.strategies import make_strategy


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ('{"load_seconds": 600}', 600),
        ('{"load_seconds": 5}', 5),
        ('{"load_seconds": "600"}', LOAD_SECONDS),
        ('{"load_seconds": 0}', LOAD_SECONDS),
        ("{}", LOAD_SECONDS),
        ("[]", LOAD_SECONDS),
        ("{", LOAD_SECONDS),
        (None, LOAD_SECONDS),
    ],
)
def test_the_servers_limit_or_its_default(tmp_path: Path, content: str | None, expected: int) -> None:
    path = tmp_path / "server.json"
    if content is not None:
        path.write_text(content)
    assert load_seconds(str(path)) == expected


@pytest.mark.parametrize(("limit", "waits"), [(600, 600 + ANSWER_SECONDS), (1, 120.0)])
def test_a_swap_waits_longer_than_the_server_loads(monkeypatch: pytest.MonkeyPatch, limit: int, waits: float) -> None:
    monkeypatch.setattr(strategies, "load_seconds", lambda: limit)
    server = make_strategy(ModelServer(), Store("/nonexistent")).server
    assert isinstance(server, Server)
    assert server.work_seconds == waits
