# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a handover needs of a running server (``handover.predecessor``), from the parts that the process has."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Any, Callable, NamedTuple

from .common.log import Log
from .common.memory import private_memory
from .handover.channel import Description, HandoverError
from .handover.predecessor import ServingProcess
from .http.lifecycle import Lifecycle, Phase
from .http.server import HttpServer
from .http.sockets import Listeners
from .models.repository import ModelRepository
from .observe.observer import Observer
from .observe.prediction_log import PredictionLog
from .systemd import Notifier

_PAUSE_SECONDS = 20.0

_log = Log(__name__)


class RunningServer(NamedTuple):
    """The parts of a server that serves. ``open_log`` opens its prediction log."""

    definition: str
    loop: asyncio.AbstractEventLoop
    http: HttpServer
    lifecycle: Lifecycle
    repository: ModelRepository
    observer: Observer
    notifier: Notifier
    listeners: Listeners
    open_log: Callable[[], PredictionLog | None]


class HandedOverServer(ServingProcess):
    """Hands a running server over."""

    def __init__(self, server: RunningServer) -> None:
        self._server = server
        self._log_is_closed = False

    def describe(self) -> Description:
        """Say what the server is. Raises HandoverError while it starts or stops."""
        server = self._server
        if server.lifecycle.phase is not Phase.SERVING:
            raise HandoverError(f"the server is {server.lifecycle.phase.value}")
        return Description(
            server.definition,
            list(server.repository.serving()),
            private_memory(),
            server.notifier.address,
            server.notifier.watchdog_seconds,
        )

    def listeners(self) -> Sequence[Any]:
        """The listening sockets."""
        return self._server.listeners

    def extend_start(self, seconds: float) -> None:
        """Let systemd wait for the successor."""
        self._server.notifier.notify(EXTEND_TIMEOUT_USEC=str(int(seconds * 1e6)))

    def pause(self) -> None:
        """Accept no more connections and close the log. Raises TimeoutError when that takes long."""
        self._call(self._server.http.pause())
        self._server.observer.close_log(_PAUSE_SECONDS)
        self._log_is_closed = True

    def resume(self) -> None:
        """Open the log, if it was closed, and accept connections again."""
        if self._log_is_closed:
            self._server.observer.use_log(self._server.open_log())
            self._log_is_closed = False
        self._call(self._server.http.resume())

    def hand_over(self, successor: int | None) -> None:
        """Name the successor to systemd, if it is of this service, answer what is open, and end."""
        server = self._server
        if successor is not None:
            server.notifier.notify(MAINPID=str(successor))
            server.notifier.silence()
        # A successor in another container notifies a unit of its own; the watchdog of this one goes on until its end.
        server.lifecycle.phase = Phase.HANDED_OVER
        server.lifecycle.owns_sockets = False
        for listener in server.listeners:
            listener.close()
        server.loop.call_soon_threadsafe(server.http.leave)
        _log.info("handed over", successor=successor or "another container")

    def _call(self, call: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(call, self._server.loop).result(_PAUSE_SECONDS)
