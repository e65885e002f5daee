# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Devices with a store and a server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import onnx_models
import pytest
from server_process import Device


@pytest.fixture
def device(tmp_path: Path) -> Iterator[Device]:
    """A device with an empty store and no server yet."""
    device = Device(tmp_path)
    yield device
    device.stop()


@pytest.fixture(scope="module")
def shared_device(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Device]:
    """A serving device for tests that change nothing: models ``plus``, ``identities``, ``repeat``, ``gather``."""
    device = Device(tmp_path_factory.mktemp("device"))
    try:
        device.publish("plus", "1.0.0", onnx_models.plus(1))
        device.publish("identities", "1.0.0", onnx_models.identities())
        device.publish("repeat", "1.0.0", onnx_models.repeat())
        device.publish("gather", "1.0.0", onnx_models.gather())
        device.start(max_request_bytes=100_000)
        yield device
    finally:
        device.stop()
