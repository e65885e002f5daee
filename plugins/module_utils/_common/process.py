# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""Other programs, started in one way: without a shell, with nothing to read, for a limited time.

``run_command`` is for a program that ends by itself, ``ProcessGroup`` for one that is ended, and ``Process`` for one
that may outlive what started it. A module's ``run_command`` is not to be had here: this code runs in the device's own
program, too.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
from typing import IO, TYPE_CHECKING, Any, Callable, Mapping, NamedTuple, Sequence, cast

from .errors import ServerError

if TYPE_CHECKING:
    _Popen = subprocess.Popen[bytes]
else:  # Before Python 3.9 the class takes no parameter.
    _Popen = subprocess.Popen

_LINES_SHOWN = 3


class CommandError(ServerError):
    """A program cannot be started, or did not end in time; the text names the command."""


class TookTooLongError(CommandError):
    """A program did not end in time."""


class Ended(NamedTuple):
    """How a program ended: its exit code, negative for a signal, and what it printed, where that was read."""

    code: int
    stdout: str
    stderr: str

    @property
    def reason(self) -> str:
        """What it said last, or how it ended where it said nothing."""
        lines = (self.stderr.strip() or self.stdout.strip()).splitlines()[-_LINES_SHOWN:]
        return "; ".join(lines) or f"it ended with code {self.code} and said nothing"


class Process(_Popen):
    """A child process; what it prints goes where this process's own output goes.

    ``options`` are those of Popen, such as ``env`` and ``cwd``. Raises OSError where it cannot be started.
    """

    def __init__(self, command: Sequence[str], **options: Any) -> None:
        super().__init__(list(command), **{"stdin": subprocess.DEVNULL, **options})

    def ends_within(self, seconds: float) -> bool:
        """Wait for its end, for so long at most: whether it has ended."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.wait(seconds)
        return self.returncode is not None


class ProcessGroup(Process):
    """A child process and all that it starts, used as a context manager: the end of the block ends them all.

    What it prints is read by ``outcome``.
    """

    def __init__(self, command: Sequence[str], **options: Any) -> None:
        super().__init__(
            command, **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}, start_new_session=True
        )

    def __exit__(self, *_exception: object) -> None:
        self.kill_all()
        # A process that left the group may hold the pipes for ever: nobody reads on.
        for stream in (self.stdout, self.stderr):
            if stream is not None:
                stream.close()
        self.wait()

    def kill_all(self) -> None:
        """End it and all that it has started, at once."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)

    def outcome(self, seconds: float | None) -> Ended:
        """Read what it prints until it ends; bytes that are no UTF-8 are replaced.

        Raises TookTooLongError after ``seconds``; it goes on until the end of the block.
        """
        try:
            outputs = self.communicate(timeout=seconds)
        except subprocess.TimeoutExpired as error:
            raise TookTooLongError(f"no result after {seconds:g} s") from error
        stdout, stderr = ((output or b"").decode("utf-8", "replace") for output in outputs)
        return Ended(self.returncode, stdout, stderr)


def run_command(
    command: Sequence[str],
    seconds: float,
    *,
    shown: str = "",
    env: Mapping[str, str] | None = None,
    cwd: str | None = None,
    prints: bool = False,
    write: Callable[[IO[bytes]], None] | None = None,
) -> Ended:
    """Run a command to its end. It and all that it has started are ended after ``seconds``.

    ``env`` is its whole environment and ``cwd`` its directory, if not this process's. What it says is read, or goes
    where this process's own output goes where it ``prints``. ``write`` writes what the command reads, and closes
    nothing.
    Raises CommandError, which begins with ``shown`` or the command, and what ``write`` raises.
    """
    name = shown or " ".join(command)
    output = None if prints else subprocess.PIPE
    stdin = subprocess.DEVNULL if write is None else subprocess.PIPE
    try:
        process = ProcessGroup(command, env=env, cwd=cwd, stdin=stdin, stdout=output, stderr=output)
    except OSError as error:
        raise CommandError(f"{name}: {error}") from error
    with process:
        writer = _Writer(process, write) if write is not None else None
        try:
            ended = process.outcome(seconds)
        except TookTooLongError as error:
            raise TookTooLongError(f"{name}: {error}") from error
        if writer is not None:
            writer.finish(seconds)
    return ended


class _Writer(threading.Thread):
    """Writes what a program reads, while somebody else reads what it prints."""

    def __init__(self, process: ProcessGroup, write: Callable[[IO[bytes]], None]) -> None:
        super().__init__(daemon=True)
        # Whoever reads what the program prints would close its input.
        self._pipe, process.stdin = cast("IO[bytes]", process.stdin), None
        self._process = process
        self._write = write
        self._failure: Exception | None = None
        self.start()

    def run(self) -> None:
        """Write it all. What fails ends the program, before the end of its input could tell it that this was all."""
        try:
            self._write(self._pipe)
        except BrokenPipeError:
            pass  # A program that has given up says why.
        except Exception as error:
            self._failure = error
            self._process.kill_all()
        finally:
            with contextlib.suppress(BrokenPipeError):
                self._pipe.close()

    def finish(self, seconds: float) -> None:
        """Wait until all is written, for so long at most. Raises what the writing raised."""
        self.join(seconds)
        if self._failure is not None:
            raise self._failure
