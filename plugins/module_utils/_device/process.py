# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""A child process that leaves nothing behind."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from typing import TYPE_CHECKING, Any

from .._common.errors import ServerError

if TYPE_CHECKING:
    _Popen = subprocess.Popen[bytes]
else:  # Before Python 3.9 the class takes no parameter.
    _Popen = subprocess.Popen


class ProcessGroup(_Popen):
    """A child process and all that it starts, used as a context manager: the end of the block ends them all.

    It reads nothing; what it prints comes through pipes (``communicate``), as bytes.
    """

    def __init__(self, command: list[str], **options: Any) -> None:
        super().__init__(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            **options,
        )

    def __exit__(self, *_exception: object) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        # A process that left the group may hold the pipes for ever: nobody reads on.
        for stream in (self.stdout, self.stderr):
            if stream is not None:
                stream.close()
        self.wait()


def run_command(command: list[str], seconds: float, shown: str = "", **options: Any) -> tuple[int, str, str]:
    """Run a command to its end: its exit code, and what it printed on standard output and on standard error.

    Raises ServerError, which begins with ``shown`` or the command, where it cannot be run or takes longer than
    ``seconds``.
    """
    try:
        with ProcessGroup(command, **options) as process:
            stdout, stderr = (output.decode("utf-8", "replace") for output in process.communicate(timeout=seconds))
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ServerError(f"{shown or ' '.join(command)}: {error}") from error
    return process.returncode, stdout, stderr
