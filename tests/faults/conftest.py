# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the proofs share: the option for all points, a place for devices, and the table of what was proven."""

from __future__ import annotations

import ctypes
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .sweep import Results

_CLONE_NEWNS = 0x20000
_RESULTS = pytest.StashKey[Results]()
_SENT = "edgeml_faults"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--all-points", action="store_true", help="tests/faults: every point of every proof, not a choice")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_RESULTS] = Results()


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Where several processes share the tests, send what this one found to the one that prints the table."""
    output: dict[str, Any] | None = getattr(session.config, "workeroutput", None)
    if output is not None:
        output[_SENT] = session.config.stash[_RESULTS].dump()


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Take what another process found."""
    sent = getattr(node, "workeroutput", {}).get(_SENT, {})
    node.config.stash[_RESULTS].load(sent)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    lines = config.stash[_RESULTS].lines()
    if lines:
        terminalreporter.section("faults: points and outcomes")
        for line in lines:
            terminalreporter.write_line(line)


@pytest.fixture(scope="session")
def results(pytestconfig: pytest.Config) -> Results:
    """What the proofs found, for the table at the end."""
    return pytestconfig.stash[_RESULTS]


@pytest.fixture(scope="session")
def all_points(pytestconfig: pytest.Config) -> bool:
    """Whether every point is wanted."""
    return bool(pytestconfig.getoption("--all-points"))


@pytest.fixture(scope="session")
def _private_mounts() -> None:
    """What is mounted from here on is seen by this process and its children alone, and ends with the last of them."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWNS) != 0:
        raise OSError(ctypes.get_errno(), "unshare: these tests need root")
    subprocess.run(["mount", "--make-rprivate", "/"], check=True)


@pytest.fixture
def memory(tmp_path: Path, _private_mounts: None) -> Iterator[Path]:
    """A directory in memory, for what is made and thrown away a thousand times."""
    directory = tmp_path / "memory"
    directory.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1g", "tmpfs", str(directory)], check=True)
    yield directory
    subprocess.run(["umount", "--recursive", str(directory)], check=True)
