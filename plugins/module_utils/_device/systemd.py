# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""systemd on the device: asked about units, and notified when a trial is to be watched."""

from __future__ import annotations

import os

from .._common.errors import ServerError

TIMER = "edgeml-trial.timer"
FETCH_TIMER = "edgeml-fetch.timer"
FETCH_UNIT = "edgeml-fetch.service"
# A unit may take its time to start: the server's own limit is 180 s.
SECONDS = 300


def start_watching() -> None:
    """Have systemd look at the trials regularly. Nothing to do where it does not run, or does not know the timer.

    Raises ServerError when systemd does not start it: a version that nobody watches must not be switched to.
    """
    if _known(TIMER):
        systemctl("start", TIMER)


def stop_watching() -> None:
    """No more looks until the next switch. Hold the lock: a swap that waits for it starts them again."""
    if _known(TIMER):
        systemctl("stop", "--no-block", TIMER)


def start_fetching() -> None:
    """Have systemd work on the orders now, and regularly. Raises ServerError when it does not."""
    if _known(FETCH_TIMER):
        systemctl("start", FETCH_TIMER)
        systemctl("start", "--no-block", FETCH_UNIT)


def stop_fetching() -> None:
    """No more fetches until the next order. Hold the lock."""
    if _known(FETCH_TIMER):
        systemctl("stop", "--no-block", FETCH_TIMER)


def rescue_service(unit: str) -> None:
    """Let systemd start a unit again that it had given up."""
    if systemd_runs():
        systemctl("reset-failed", unit)
        systemctl("start", "--no-block", unit)


def systemd_runs() -> bool:
    """Whether systemd manages this machine."""
    return os.path.isdir("/run/systemd/system")


def unit_property(unit: str, name: str) -> str:
    """What systemd says of a unit. Raises ServerError where it does not run."""
    return systemctl("show", f"--property={name}", "--value", "--", unit)


def systemctl(*arguments: str) -> str:
    """Run systemctl and return what it printed. Raises ServerError with its reason when it fails."""
    # Many a call asks systemd nothing.
    import subprocess

    from .process import ProcessGroup

    command = ["systemctl", *arguments]
    try:
        with ProcessGroup(command) as process:
            stdout, stderr = (output.decode("utf-8", "replace") for output in process.communicate(timeout=SECONDS))
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ServerError(f"{' '.join(command)}: {error}") from error
    if process.returncode != 0:
        raise ServerError(f"{' '.join(command)}: {stderr.strip()}")
    return stdout.strip()


def _known(unit: str) -> bool:
    return systemd_runs() and os.path.exists(f"/etc/systemd/system/{unit}")
