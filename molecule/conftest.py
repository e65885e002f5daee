# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the checks of all scenarios share. When one fails, what the device's units said is part of the report."""

from __future__ import annotations

import os
import platform
from collections.abc import Generator

import pytest


@pytest.fixture(scope="session")
def architecture() -> str:
    """What the kernel calls the processor of the fleet's devices."""
    return platform.machine() if os.environ.get("FLEET") == "native" else "aarch64"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add the units' journal to the report of a failed check."""
    report = yield
    host = getattr(item, "funcargs", {}).get("host")
    if report.failed and host is not None:
        journal = host.run("journalctl --no-pager --lines=100 --unit='edgeml-*'")
        report.sections.append(("journal of the units edgeml-*", journal.stdout + journal.stderr))
    return report
