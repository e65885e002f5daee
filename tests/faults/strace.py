# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One action, run in a child process under strace: to list its system calls, or to have one of them fail or kill it.

The child is forked from a process that has imported everything, and waits until strace is attached. So each run makes
the same calls, and a call is named by its name and its number among the calls of that name: what strace counts.
"""

from __future__ import annotations

import ctypes
import gc
import json
import mmap
import os
import re
import signal
import subprocess
import traceback
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from ansible_collections.edgeml.fleet.plugins.module_utils._common.errors import EdgemlError

Action = Callable[[], object]

# All calls that take a path or a file descriptor, sockets among them.
_TRACED = "%file,%desc,%network"
_BEGIN, _END = "edgeml-begin", "edgeml-end"
# Strings as hexadecimal bytes: paths and data can then hold nothing that ends a string or a line.
_FORMAT = ["-xx", "-y", "-s", "256"]
_LINE = re.compile(r"\d+ +(\w+)\((.*)\) += (.*)", re.DOTALL)
_CHANGING = re.compile(
    "chmod|chown|fchmod|fchmodat|fchown|fchownat|lchown|utimensat|creat|mkdir|mkdirat|mknod|mknodat|link|linkat|symlink|"
    "symlinkat|rename|renameat|renameat2|rmdir|unlink|unlinkat|write|writev|pwrite64|pwritev|copy_file_range|sendfile|"
    "fallocate|truncate|ftruncate|fsync|fdatasync|sync_file_range|syncfs"
)
_ESCAPE = re.compile(r"\\x([0-9a-f]{2})")
_REPORT_BYTES = 1 << 16
_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None)


@dataclass(frozen=True)
class Call:
    """A system call: the ``number``-th of its ``name``, from 1. ``arguments`` and ``result`` are strace's text."""

    name: str
    number: int
    arguments: str
    result: str

    @property
    def opens_to_change(self) -> bool:
        """Whether the call opens a file for writing, or makes it."""
        return self.name in ("open", "openat") and re.search(r"O_(CREAT|WRONLY|RDWR|TRUNC)", self.arguments) is not None

    @property
    def changes(self) -> bool:
        """Whether the call changes a file or a directory, or brings a change to the disk."""
        return _CHANGING.fullmatch(self.name) is not None or self.opens_to_change

    @property
    def succeeded(self) -> bool:
        """Whether the call was done, and returned no error."""
        return not self.result.startswith(("-1 ", "?"))

    def concerns(self, directory: Path) -> bool:
        """Whether the call is about a file below ``directory``, by its path or by a descriptor of it."""
        path = _hexadecimal(str(directory))
        return f'"{path}' in self.arguments or f"<{path}" in self.arguments

    def __str__(self) -> str:
        return f"{self.name} #{self.number}({_ESCAPE.sub(_shown, self.arguments[:1000])[:200]})"


@dataclass(frozen=True)
class Ended:
    """How the child ended: ``killed``, or by itself, with the text of the error that its action raised, if any.

    ``unexpected`` is the traceback of an error that no caller of the action would expect.
    """

    killed: bool
    error: str | None = None
    unexpected: str | None = None


class Traced:
    """A child that runs ``action`` under strace, with its log at ``log`` and what ``options`` inject."""

    def __init__(self, action: Action, log: Path, options: Iterable[str] = ()) -> None:
        self._log = log
        # Memory, because the injected errors would hit a pipe or a file as well.
        self._report = mmap.mmap(-1, _REPORT_BYTES)
        # Blocked before the fork, so that it can't come too early.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
        self.pid = os.fork()
        if self.pid == 0:
            _be_the_child(action, self._report)
        command = ["strace", "-f", "-p", str(self.pid), "-o", str(log), *_FORMAT, "-e", f"trace={_TRACED}", *options]
        self._strace = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        assert self._strace.stderr is not None
        said = self._strace.stderr.readline()
        if "attached" not in said:
            os.kill(self.pid, signal.SIGKILL)
            raise RuntimeError(f"strace: {said}")

    def start(self) -> None:
        """Let the action begin."""
        os.kill(self.pid, signal.SIGUSR1)

    def wait(self) -> Ended:
        """Wait for the end of the action and of strace."""
        _pid, status = os.waitpid(self.pid, 0)
        with self._report, self._strace:
            said = self._report.read().rstrip(b"\0")
        if os.WIFSIGNALED(status):
            assert os.WTERMSIG(status) == signal.SIGKILL, status
            return Ended(killed=True)
        assert status == 0, f"{self._log}: the child ended with status {status}"
        return Ended(killed=False, **json.loads(said))

    def wait_until_stopped(self) -> bool:
        """Wait until the action was stopped by SIGSTOP (True), or has ended (False: ``wait`` tells how)."""
        found = os.waitid(os.P_PID, self.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
        assert found is not None
        return found.si_code in (os.CLD_STOPPED, os.CLD_TRAPPED)

    def resume(self) -> None:
        """Let a stopped action go on."""
        os.kill(self.pid, signal.SIGCONT)


def run(action: Action, log: Path, options: Iterable[str] = ()) -> Ended:
    """Run ``action`` under strace to its end."""
    traced = Traced(action, log, options)
    traced.start()
    return traced.wait()


def calls(action: Action, log: Path, options: Iterable[str] = ()) -> list[Call]:
    """Run ``action``, which must succeed, and list its calls."""
    ended = run(action, log, options)
    assert ended == Ended(killed=False), ended
    return read_log(log)


def kill_at(call: Call) -> list[str]:
    """Options of strace: SIGKILL when ``call`` is entered, before it does anything."""
    return ["-e", f"inject={call.name}:signal=SIGKILL:when={call.number}"]


def stop_at(call: Call) -> list[str]:
    """Options of strace: SIGSTOP when ``call`` is entered."""
    return ["-e", f"inject={call.name}:signal=SIGSTOP:when={call.number}"]


def fail_at(call: Call, error: str) -> list[str]:
    """Options of strace: ``call`` does nothing and returns ``error``."""
    return ["-e", f"inject={call.name}:error={error}:when={call.number}"]


def fail_from(call: Call, listed: Iterable[Call], error: str, names: Iterable[str]) -> list[str]:
    """Options of strace: ``call`` and every later call of one of the ``names`` returns ``error``."""
    done: Counter[str] = Counter()
    for earlier in listed:
        if earlier == call:
            break
        done[earlier.name] = earlier.number
    options = []
    for name in sorted(set(names)):
        options += ["-e", f"inject={name}:error={error}:when={done[name] + 1}+"]
    return options


def read_log(log: Path) -> list[Call]:
    """The calls of the action in strace's log, without those before and after it."""
    numbers: Counter[str] = Counter()
    found: list[Call] = []
    inside = False
    for line in log.read_text().splitlines():
        parsed = _LINE.fullmatch(line)
        if parsed is None:
            continue
        name, arguments, result = parsed.groups()
        numbers[name] += 1
        if _quoted(_END) in arguments:
            break
        if inside:
            found.append(Call(name, numbers[name], arguments, result))
        inside = inside or _quoted(_BEGIN) in arguments
    return found


def _shown(escape: re.Match[str]) -> str:
    character = chr(int(escape[1], 16))
    return character if " " <= character <= "~" else "."


def _quoted(text: str) -> str:
    return f'"{_hexadecimal(text)}"'


def _hexadecimal(text: str) -> str:
    return "".join(f"\\x{byte:02x}" for byte in text.encode())


def die_with_parent() -> None:
    """Have the kernel kill this process when its parent has ended, however that was."""
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _be_the_child(action: Action, report: mmap.mmap) -> None:
    """Wait for the word, run ``action``, leave in ``report`` what became of it, and exit."""
    said: dict[str, str] = {}
    code = 1
    try:
        die_with_parent()
        # The collector would close, at any time, what other tests have left open.
        gc.disable()
        signal.sigwait({signal.SIGUSR1})
        os.access(_BEGIN, os.F_OK)
        try:
            action()
        except (EdgemlError, OSError) as error:
            said["error"] = str(error)
        except BaseException:
            said["unexpected"] = traceback.format_exc()
        os.access(_END, os.F_OK)
        report.write(json.dumps(said).encode())
        code = 0
    finally:
        os._exit(code)
