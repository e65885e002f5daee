# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""What the roles of the collection have put on a device, and its removal.

Units stop first, so that nothing writes any more; then go the secrets, and last the files of the units, by which a call
after an interruption knows what is still to be stopped. Each step can be repeated. Nothing is overwritten, because
flash memory writes elsewhere: who must be sure destroys the card, or has it encrypted from the beginning.
"""

from __future__ import annotations

import glob
import os
import shutil
import subprocess
from typing import NamedTuple

from .._common.errors import EdgemlError
from .supervisor import supervisor_runs

_UNIT_FILES = ("etc/systemd/system/edgeml-*",)
# Of a device where Supervisor is the first process: these go first, so that it forgets the programs.
_PROGRAM_FILES = ("etc/supervisor/conf.d/edgeml-*",)
_PROGRAMS = ("edgeml-listener", "edgeml-inference", "edgeml-go-back", "edgeml-clear")
# In this order. Keys and credentials are below /etc/edgeml.
_PATHS = (
    *_PROGRAM_FILES,
    "etc/edgeml",
    "var/lib/edgeml-inference",
    "var/lib/edgeml",
    "opt/edgeml",
    "usr/local/bin/edgeml",
    "etc/ansible/facts.d/edgeml.fact",
    "var/log/edgeml-*",
    *_UNIT_FILES,
)
_SYSTEMD_RUNS = "/run/systemd/system"
# A server that answers its last requests.
_STOP_SECONDS = 300


class WipeError(EdgemlError):
    """Something cannot be stopped or removed; the text names it."""


class Wiped(NamedTuple):
    """What is removed, or in check mode would be: the units that are stopped, and paths."""

    units: list[str]
    paths: list[str]

    @property
    def changed(self) -> bool:
        """Whether there is anything of the fleet on the device."""
        return bool(self.paths)


def wipe(root: str = "/", check_mode: bool = False) -> Wiped:
    """Remove everything of the fleet from the device whose files are below ``root``. Raises WipeError.

    Units are stopped only where ``root`` is that of the running machine, and systemd or Supervisor runs it.
    """
    paths = [path for pattern in _PATHS for path in sorted(glob.glob(os.path.join(root, pattern))) if _holds(path)]
    units = sorted(
        {
            os.path.basename(path)
            for pattern in _UNIT_FILES
            for path in glob.glob(os.path.join(root, pattern))
            if path.endswith((".service", ".timer", ".socket", ".path"))
        }
    )
    running = os.path.realpath(root) == "/"
    found = Wiped(units if running and os.path.isdir(_SYSTEMD_RUNS) else [], paths)
    if check_mode:
        return found
    if found.units:
        _run("systemctl", "disable", "--now", *found.units)
    if paths and running and supervisor_runs():
        for pattern in _PROGRAM_FILES:
            for path in glob.glob(os.path.join(root, pattern)):
                _remove(path)
        _run("supervisorctl", "update", *_PROGRAMS)
    for path in paths:
        if os.path.lexists(path):
            _remove(path)
    if found.units:
        _run("systemctl", "reset-failed", "edgeml-*")
        _run("systemctl", "daemon-reload")
    return found


def _holds(path: str) -> bool:
    """Whether there is something at ``path``; a disk of its own stays mounted when it is empty."""
    return not _is_disk(path) or bool(os.listdir(path))


def _is_disk(path: str) -> bool:
    """Whether another filesystem is mounted at ``path``. On an overlay, files have other devices than directories."""
    return os.path.isdir(path) and os.path.ismount(path)


def _remove(path: str) -> None:
    try:
        if _is_disk(path):
            for name in os.listdir(path):
                _remove(os.path.join(path, name))
        elif os.path.isdir(path) and not os.path.islink(path):
            shutil.rmtree(path)
        else:
            os.unlink(path)
    except OSError as error:
        raise WipeError(f"{error.filename or path}: cannot be removed: {error.strerror}. Run it again") from error


def _run(*command: str) -> None:
    try:
        run = subprocess.run(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=_STOP_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise WipeError(f"{' '.join(command)}: {error}") from error
    if run.returncode != 0:
        text = run.stdout.decode("utf-8", "replace").strip()
        raise WipeError(f"{' '.join(command)}: ended with {run.returncode}: {text}")
