# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Each module of these tests is about one device, which its ``testinfra_hosts`` names."""

from __future__ import annotations

import pytest


def pytest_configure(config: pytest.Config) -> None:
    """Forget that Molecule asks for every test on every device: testinfra would put that above what a module names."""
    config.option.hosts = None
