# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Devices that all integration tests share, pristine for each of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from device import Device

CLASSES = {"edge-s1": "small", "edge-s2": "small", "edge-l1": "large", "edge-l2": "large"}


@pytest.fixture(scope="session")
def machines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Device]]:
    """Four devices of two classes, by name, in whatever condition the test before left them."""
    with ExitStack() as stack:
        yield {
            name: stack.enter_context(Device(tmp_path_factory.mktemp("device"), name, device_class))
            for name, device_class in CLASSES.items()
        }


@pytest.fixture
def fleet(machines: dict[str, Device]) -> dict[str, Device]:
    """Four pristine devices of two classes, by name."""
    for device in machines.values():
        device.reset()
    return machines
