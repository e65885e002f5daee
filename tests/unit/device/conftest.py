# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A fake inference server, the client that asks it, and the directory of a device's runtimes."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from fake_server import FakeServer

from ansible_collections.edgeml.fleet.plugins.module_utils._device import runtime, smoke_test
from ansible_collections.edgeml.fleet.plugins.module_utils._device.client import Server


@pytest.fixture
def fake(tmp_path: Path) -> Iterator[FakeServer]:
    with FakeServer(str(tmp_path / "s")) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def server(fake: FakeServer) -> Server:
    return Server(fake.path, look_seconds=10, work_seconds=10)


@pytest.fixture
def opt(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """What is /opt/edgeml on a device; empty, and no user of the service yet."""
    root = tmp_path / "opt"
    root.mkdir()
    monkeypatch.setattr(runtime, "ROOT", str(root))
    monkeypatch.setattr(smoke_test, "USER", "no such user")
    return root
