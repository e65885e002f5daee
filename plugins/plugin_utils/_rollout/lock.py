# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""A lock that a run of Ansible holds until it ends, however it ends.

Each task of a run is a process of its own. So a small process beside the run holds the lock (``flock``, which the
kernel gives back when its last holder ends) and ends with the run. Runs on the controller only.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import select
import socket
import time
from typing import Any

from ansible_collections.edgeml.fleet.plugins.module_utils._common.errors import EdgemlError

POLL_SECONDS = 0.5


class LockedError(EdgemlError):
    """Another run holds the lock; the text says which."""


def take(path: str, owner: int, note: str) -> None:
    """Hold the lock at ``path`` until the process ``owner`` has ended; ``note`` tells whoever finds it held what for.

    The same owner may take it again. Raises LockedError if another run holds it, OSError if the file cannot be written.
    """
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    _take(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644), path, owner, note)


def take_unwritable(path: str, owner: int) -> None:
    """Hold the lock as ``take`` does, where its file can only be read: without a note; not at all where there is none.

    Raises LockedError if another run holds it.
    """
    with contextlib.suppress(OSError):
        _take(os.open(path, os.O_RDONLY | os.O_CLOEXEC), path, owner, None)


def _take(descriptor: int, path: str, owner: int, note: str | None) -> None:
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = _read(descriptor)
            if holder.get("run") == _run_id(owner):
                return
            where = f" on {holder['host']}" if "host" in holder else ""
            raise LockedError(
                f"{path}: another run is at work since {holder.get('since', 'an unknown time')}: "
                f"{holder.get('note', 'unknown')} (process {holder.get('owner', 'unknown')}{where}). "
                "Wait for its end, or end that process"
            ) from None
        if note is not None:
            since = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
            os.ftruncate(descriptor, 0)
            told = {"owner": owner, "host": socket.gethostname(), "run": _run_id(owner), "since": since, "note": note}
            os.pwrite(descriptor, json.dumps(told).encode(), 0)
        if os.fork() == 0:
            _hold(descriptor, owner)
    finally:
        os.close(descriptor)


def _run_id(owner: int) -> str:
    """What tells the run from every other one, also of a machine or a container that shares the ledger.

    In containers, such as AWX's execution environments, ansible-playbook often has the same process number.
    """
    found = [socket.gethostname(), str(owner)]
    with contextlib.suppress(OSError):  # There is no /proc on macOS.
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            found.append(file.read().strip())
        found.append(os.readlink("/proc/self/ns/pid"))
        with open(f"/proc/{owner}/stat", encoding="utf-8", errors="replace") as file:
            # The name in parentheses may hold anything; the start is the 20th field after it.
            found.append(file.read().rpartition(")")[2].split()[19])
    return " ".join(found)


def _read(descriptor: int) -> dict[str, Any]:
    try:
        found = json.loads(os.pread(descriptor, 65536, 0))
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _hold(descriptor: int, owner: int) -> None:
    """In the process beside the run: keep nothing of the run's open but the lock, and end when it does."""
    try:
        os.setsid()
        os.closerange(0, descriptor)
        os.closerange(descriptor + 1, os.sysconf("SC_OPEN_MAX"))
        with contextlib.suppress(ProcessLookupError):
            if hasattr(os, "pidfd_open"):
                select.select([os.pidfd_open(owner)], [], [])
            else:
                while True:
                    os.kill(owner, 0)
                    time.sleep(POLL_SECONDS)
    finally:
        os._exit(0)
