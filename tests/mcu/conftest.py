# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Emulated microcontrollers (`make mcu`): the images that they get."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from figures import Figures
from mcu_images import Images
from microcontrollers import Microcontroller


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> Images:
    """The images that most tests begin with."""
    return Images.signed(tmp_path_factory.mktemp("images"))


@pytest.fixture
def device(tmp_path: Path, images: Images) -> Iterator[Microcontroller]:
    """A new microcontroller with firmware and model 1.0.0, that is on."""
    with Microcontroller(tmp_path / "device", images.firmware, images.model).powered() as device:
        yield device


_FIGURES = pytest.StashKey[Figures]()


@pytest.fixture(scope="session")
def figures(pytestconfig: pytest.Config) -> Figures:
    """What the run measures; its end shows them."""
    return pytestconfig.stash.setdefault(_FIGURES, Figures())


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Show the figures."""
    found = config.stash.get(_FIGURES, Figures())
    if found.rows:
        terminalreporter.section("figures")
        for line in found.lines():
            terminalreporter.line(line)
