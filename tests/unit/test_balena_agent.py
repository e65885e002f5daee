# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""balena's update lock, which the example's agent shares with the Supervisor, operators and its own restarts."""

from __future__ import annotations

import fcntl
from pathlib import Path

import pytest
from balena_agent import OWNER, UpdateLock


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "balena" / "updates.lock"


def test_it_exists_with_its_owner_as_long_as_it_is_held(path: Path) -> None:
    lock = UpdateLock(str(path))
    assert lock.holder() is None
    assert lock.acquire()
    assert path.read_text() == OWNER
    assert lock.acquire()
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]
    lock.release()
    assert not path.exists()


def test_the_host_does_not_restart_the_device_meanwhile(path: Path) -> None:
    lock = UpdateLock(str(path))
    assert lock.acquire()
    with path.open() as file, pytest.raises(BlockingIOError):
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    lock.release()


@pytest.mark.parametrize("content", ["", "an operator\n"])
def test_the_lock_of_somebody_else_is_left_alone(path: Path, content: str) -> None:
    """The Supervisor's is empty; so is one that an operator made with `touch`."""
    path.parent.mkdir()
    path.write_text(content)
    lock = UpdateLock(str(path))
    assert not lock.acquire()
    lock.release()
    assert path.read_text() == content
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_an_agent_that_was_ended_takes_up_its_lock(path: Path) -> None:
    assert UpdateLock(str(path)).acquire()
    again = UpdateLock(str(path))
    assert again.acquire()
    again.release()
    assert not path.exists()
