# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""What the roles of the collection have put on a device, and its removal.

Units stop first, so that nothing writes any more; then go the secrets, and last the program. Each step can be repeated:
after an interruption the next call goes on. Nothing is overwritten, because flash memory writes elsewhere: who must be
sure destroys the card, or has it encrypted from the beginning.
"""

from __future__ import annotations

import glob
import os
import shutil
from typing import NamedTuple

from .._common.errors import EdgemlError, ServerError
from .._common.process import run_command

_UNIT_FILES = ("etc/systemd/system/edgeml-*",)
# In this order. Keys and credentials are below the first.
_PATHS = (
    "etc/edgeml",
    *_UNIT_FILES,
    "var/lib/edgeml-inference",
    "var/lib/edgeml",
    "opt/edgeml",
    "usr/local/bin/edgeml",
    "etc/ansible/facts.d/edgeml.fact",
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

    Units are stopped only where ``root`` is that of the running machine, and systemd runs it.
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
    found = Wiped(units if os.path.realpath(root) == "/" and os.path.isdir(_SYSTEMD_RUNS) else [], paths)
    if check_mode:
        return found
    if found.units:
        _systemctl("disable", "--now", *found.units)
    for path in paths:
        _remove(path)
    if found.units:
        _systemctl("daemon-reload")
        _systemctl("reset-failed")
    return found


def _holds(path: str) -> bool:
    """Whether there is something at ``path``; a disk of its own stays mounted when it is empty."""
    return not os.path.ismount(path) or bool(os.listdir(path))


def _remove(path: str) -> None:
    try:
        if os.path.ismount(path):
            for name in os.listdir(path):
                _remove(os.path.join(path, name))
        elif os.path.isdir(path) and not os.path.islink(path):
            shutil.rmtree(path)
        else:
            os.unlink(path)
    except OSError as error:
        raise WipeError(f"{error.filename or path}: cannot be removed: {error.strerror}. Run it again") from error


def _systemctl(*arguments: str) -> None:
    command = ["systemctl", *arguments]
    try:
        ended = run_command(command, _STOP_SECONDS)
    except ServerError as error:
        raise WipeError(str(error)) from error
    if ended.code != 0:
        raise WipeError(f"{' '.join(command)}: ended with {ended.code}: {ended.reason}")
