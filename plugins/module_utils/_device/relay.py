# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""The command ``edgeml relay``: runs the service where its manager hears nothing of the server itself.

systemd takes notifications from processes of the unit only, and those of a container belong to its engine. So the relay
is the unit's process: it runs the engine's command, has a notification socket of its own in the directory that the
container shares, and passes on what it hears. Where no manager listens (Supervisor), it is the watchdog itself.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import socket
import sys
import time
from typing import Callable, Iterable, Mapping, Sequence

from .._common.arguments import ArgumentParser
from .._common.process import Process

SOCKET = "/run/edgeml/notify.sock"
# The exit code of a server that was ended because it made no progress: that of the command `timeout`.
NO_PROGRESS = 124
# What a server may say of itself. Which process is the main one, and file descriptors, are the relay's affair.
PASSED_ON = ("READY", "STATUS", "STOPPING", "RELOADING", "EXTEND_TIMEOUT_USEC", "WATCHDOG", "WATCHDOG_USEC")
_MESSAGE_BYTES_MAX = 4096
_MODE = 0o660
_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class Progress:
    """Until when the server has to say something, by what it said. Times in seconds of a monotonic clock."""

    def __init__(self, start_seconds: float, watchdog_seconds: float, now: float) -> None:
        self._watchdog_seconds = watchdog_seconds
        self._ready = False
        self.deadline = now + start_seconds

    def hear(self, messages: Iterable[tuple[str, str]], now: float) -> None:
        """Take note of what the server said, as names and values."""
        for name, value in messages:
            if name == "READY" and value == "1":
                self._ready = True
            elif name == "EXTEND_TIMEOUT_USEC" and not self._ready:
                self.deadline = max(self.deadline, now + _seconds(value))
            elif name == "WATCHDOG_USEC" and self._watchdog_seconds:
                self._watchdog_seconds = _seconds(value) or self._watchdog_seconds
            if self._ready and name in ("READY", "WATCHDOG", "WATCHDOG_USEC"):
                self.deadline = now + (self._watchdog_seconds or float("inf"))

    @property
    def waits_for(self) -> str:
        """What is missing when the deadline is over."""
        return "a sign of progress" if self._ready else "the server to be ready"


def parse_notification(message: bytes) -> list[tuple[str, str]]:
    """The assignments of a notification that are passed on, as names and values."""
    lines = (line.partition("=") for line in message.decode("utf-8", "replace").splitlines())
    return [(name, value) for name, _equals, value in lines if name in PASSED_ON]


class Relay:
    """One run of the service's command.

    ``address`` is where the server notifies, and ``environment`` that of this process: its ``NOTIFY_SOCKET`` is where
    the service's manager listens. Without it, the server is ended when it is not ready within ``start_seconds``, or
    says nothing for ``watchdog_seconds`` afterwards (0: for ever).
    """

    def __init__(
        self,
        command: Sequence[str],
        address: str,
        environment: Mapping[str, str],
        start_seconds: float,
        watchdog_seconds: float,
    ) -> None:
        self._command = command
        self._address = address
        self._manager = environment.get("NOTIFY_SOCKET", "")
        self._environment = {**environment, "NOTIFY_SOCKET": address}
        # It names this process, and the server is another one.
        self._environment.pop("WATCHDOG_PID", None)
        if not self._manager:
            self._environment["WATCHDOG_USEC"] = str(int(watchdog_seconds * 1e6))
        self._progress = Progress(start_seconds, watchdog_seconds, time.monotonic())
        self._server: Process | None = None
        self._signals: list[int] = []
        self.when_ready: Callable[[], None] = _nothing
        """Called when the server says that it is ready."""
        self.when_stopped: Callable[[], None] = _nothing
        """Called when somebody asks for the end of the service."""

    def run(self, prepare: Callable[[], None] | None = None) -> int:
        """Run the command until it ends. Return its exit code, or NO_PROGRESS; ``prepare`` is called in its process."""
        wakeup, waker = socket.socketpair()
        with wakeup, waker, _listen(self._address) as listener, contextlib.ExitStack() as stack:
            selector = stack.enter_context(selectors.DefaultSelector())
            for end in (wakeup, waker):
                end.setblocking(False)
            signal.set_wakeup_fd(waker.fileno())
            # Whoever starts processes afterwards hears of their ends no more.
            stack.callback(signal.set_wakeup_fd, -1)
            # Its end wakes the relay.
            signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
            # Whoever asks for the end while the server is being started gets it as well.
            for number in _SIGNALS:
                signal.signal(number, lambda number, _frame: self._stop(number))
            self._server = server = Process(self._command, env=self._environment, preexec_fn=prepare)
            for asked in self._signals:
                server.send_signal(asked)
            selector.register(listener, selectors.EVENT_READ)
            selector.register(wakeup, selectors.EVENT_READ)
            while server.poll() is None:
                selector.select(self._seconds_left())
                with contextlib.suppress(BlockingIOError):
                    wakeup.recv(_MESSAGE_BYTES_MAX)
                self._pass_on(listener)
                if not self._manager and time.monotonic() > self._progress.deadline and server.poll() is None:
                    sys.stderr.write(f"edgeml relay: waited in vain for {self._progress.waits_for}: ending it\n")
                    server.kill()
                    server.wait()
                    return NO_PROGRESS
        return server.returncode if server.returncode >= 0 else 128 - server.returncode

    def _stop(self, number: int) -> None:
        self.when_stopped()
        if self._server is None:
            self._signals.append(number)
        else:
            self._server.send_signal(number)

    def _seconds_left(self) -> float | None:
        """How long to wait for a message; a manager that listens has a watchdog of its own."""
        left = self._progress.deadline - time.monotonic()
        return None if self._manager or left == float("inf") else max(left, 0.0)

    def _pass_on(self, listener: socket.socket) -> None:
        """Read what has come, and send on what the server may say."""
        while True:
            try:
                messages = parse_notification(listener.recv(_MESSAGE_BYTES_MAX))
            except BlockingIOError:
                return
            self._progress.hear(messages, time.monotonic())
            if ("READY", "1") in messages:
                self.when_ready()
            if self._manager and messages:
                text = "\n".join(f"{name}={value}" for name, value in messages)
                with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
                    sender.sendto(text.encode("utf-8"), self._manager.replace("@", "\0", 1))


def _nothing() -> None:
    """What is done where nobody wants to know."""


def _listen(address: str) -> socket.socket:
    """A socket for notifications, for the group of its directory."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(address)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        listener.bind(address)
        os.chown(address, -1, os.stat(os.path.dirname(address)).st_gid)
        os.chmod(address, _MODE)
        listener.setblocking(False)
    except OSError:
        listener.close()
        raise
    return listener


def _seconds(microseconds: str) -> float:
    return int(microseconds) / 1e6 if microseconds.isdigit() else 0.0


def main(arguments: Sequence[str]) -> int:
    """Run the command that the arguments name. Exit code: the command's; 1 when it could not be started."""
    parser = ArgumentParser(prog="edgeml relay", description="Run the service, as its unit does.")
    parser.add_argument("--socket", default=SOCKET, metavar="PATH", help="where the server notifies")
    parser.add_argument("--start-seconds", type=float, default=180.0, metavar="S", help="until it has to be ready")
    parser.add_argument("--watchdog-seconds", type=float, default=0.0, metavar="S", help="between signs of progress")
    parser.add_argument("command", nargs="+", metavar="COMMAND")
    options = parser.parse_args(arguments)
    relay = Relay(options.command, options.socket, os.environ, options.start_seconds, options.watchdog_seconds)
    try:
        return relay.run()
    except OSError as error:
        sys.stderr.write(f"edgeml relay: {error}\n")
        return 1
