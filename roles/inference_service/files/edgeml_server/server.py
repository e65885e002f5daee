# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The process: listens, loads, serves, drains and ends."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import ipaddress
import os
import signal
import socket
import sqlite3
import ssl
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NoReturn

from edgeml_device._common.credentials import Credentials, CredentialsError
from edgeml_device._device.store import Store

from . import __version__
from .app import MAX_HEADER_BYTES, Application
from .backend import BackendOptions
from .config import Config
from .connections import Connections
from .drift import DriftMonitor
from .executor import InferenceExecutor
from .guard import Guard
from .http_protocol import protocol_class
from .log import Log
from .metrics import Metrics
from .observer import Observer
from .prediction_log import LogOptions, PredictionLog
from .repository import BatchOptions, ModelRepository
from .sockets import BACKLOG, listen_tcp, listen_unix, remove_unix
from .systemd import Notifier
from .tls import TlsError, make_context
from .uvicorn_parts import Config as UvicornConfig
from .uvicorn_parts import Server as UvicornServer

_log = Log(__name__)
_CANCELLED_SECONDS = 1.0
_KEEP_ALIVE_SECONDS = 60
_HANDSHAKE_SECONDS = 10
_TICKS_PER_SECOND = 10
_CLOSE_SECONDS = 5.0


class StartError(Exception):
    """The server cannot serve anything; the text says why."""


class InferenceServer:
    """One server process with its parts."""

    def __init__(self, config: Config, notifier: Notifier) -> None:
        self._config = config
        self._notifier = notifier
        self._executor = InferenceExecutor(config.inference_threads, config.max_pending)
        # One thread: models are loaded and freed one after the other.
        self._operator = ThreadPoolExecutor(1, thread_name_prefix="operator")
        metrics = Metrics(in_flight=lambda: self._executor.pending, waiting=lambda: self._executor.waiting)
        drift = DriftMonitor(config.drift_window, config.drift_psi, metrics)
        self._repository = ModelRepository(
            Store(config.store),
            BackendOptions(config.threads),
            BatchOptions(config.batch_rows, threading.Semaphore(config.inference_workers)),
            metrics,
            drift,
            config.drain_seconds,
            self._report,
        )
        self._observer = Observer(_prediction_log(config), config.prediction_log_sample_percent, drift, metrics)
        self._app = Application(
            self._repository,
            self._executor,
            self._operator,
            self._observer,
            metrics,
            config.max_request_bytes,
            config.deadline_ms,
        )
        self._connections = Connections(config.max_connections, config.client_seconds, metrics)
        self._tls: ssl.SSLContext | None = None

    def run(self) -> bool:
        """Serve until SIGTERM or SIGINT. Return whether every request was answered.

        Raises ListenError when an address cannot be had, StartError when the store cannot be read.
        """
        loop = _new_event_loop()
        try:
            asyncio.set_event_loop(loop)
            return loop.run_until_complete(self._serve())
        finally:
            loop.close()

    async def _serve(self) -> bool:
        try:
            self._app.guard = self._read_credentials()
            self._tls = self._read_certificates()
        except (CredentialsError, TlsError) as error:
            raise StartError(str(error)) from error
        listeners = [listen_unix(self._config.socket)]
        try:
            listeners.append(listen_tcp(self._config.listen_address, self._config.listen_port))
            server = _Uvicorn(self._app, self._connections, self._config.drain_seconds, self._tls)
            loop = asyncio.get_running_loop()
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.add_signal_handler(number, self._stop, server)
            loop.add_signal_handler(signal.SIGHUP, lambda: loop.create_task(self._reload(server)))
            serving = loop.create_task(server.serve(sockets=listeners))
            await server.listening.wait()
            address, port = listeners[1].getsockname()[:2]
            _log.info(
                "listening",
                socket=self._config.socket,
                address=address,
                port=port,
                version=__version__,
                pid=os.getpid(),
                workers=self._config.inference_workers,
                loop=type(loop).__module__,
                http=server.config.http_protocol_class.__name__,
                tls="off" if self._tls is None else "clients" if self._config.tls_client_ca else "on",
                credentials="off" if self._app.guard is None else "on",
            )
            if not (self._app.guard or self._config.tls_client_ca or ipaddress.ip_address(address).is_loopback):
                _log.warning("everybody on the network is let in: no credentials and no client certificates")
            starting = loop.create_task(self._start(server))
            watching = loop.create_task(self._feed_watchdog())
            await serving
            watching.cancel()
            starting.cancel()
            await asyncio.wait([starting])
            if not starting.cancelled():
                starting.result()
            if server.server_state.tasks:
                await asyncio.wait(server.server_state.tasks, timeout=_CANCELLED_SECONDS)
        finally:
            remove_unix(self._config.socket)
            self._operator.shutdown(wait=False, cancel_futures=True)
            if self._app.guard is not None:
                self._app.guard.close()
            self._executor.close()
            self._observer.close(_CLOSE_SECONDS)
        abandoned = self._executor.pending
        _log.info("stopped", abandoned_requests=abandoned)
        return abandoned == 0

    async def _start(self, server: UvicornServer) -> None:
        loop = asyncio.get_running_loop()
        try:
            await loop.run_in_executor(self._operator, self._repository.load_all)
        except OSError as error:
            server.should_exit = True
            raise StartError(f"cannot read the store: {error}") from error
        if self._app.phase == "starting":
            self._app.phase = "serving"
            self._notifier.notify(READY="1", STATUS=self._status())
            _log.info("ready", status=self._status())

    def _read_credentials(self) -> Guard | None:
        return Guard(Credentials(self._config.credentials)) if self._config.credentials else None

    def _read_certificates(self) -> ssl.SSLContext | None:
        config = self._config
        if not config.tls_certificate:
            return None
        return make_context(config.tls_certificate, config.tls_key, config.tls_client_ca)

    async def _reload(self, server: _Uvicorn) -> None:
        """Use the certificates and credentials that the files hold now. What cannot be used changes nothing."""
        if self._app.phase == "stopping":
            return
        try:
            guard, tls = self._read_credentials(), self._read_certificates()
        except (CredentialsError, TlsError) as error:
            _log.error("reload failed, the old certificates and credentials stay in use", error=error)
            return
        if self._app.guard is not None:
            self._app.guard.close()
        self._app.guard = guard
        if tls is not None:
            await server.listen_again(tls)
            self._connections.end_remote()
        _log.info("reloaded")

    def _stop(self, server: UvicornServer) -> None:
        if self._app.phase != "stopping":
            self._app.phase = "stopping"
            server.should_exit = True
            self._notifier.notify(STOPPING="1", STATUS="finishing the requests in flight")
            _log.info("stopping", requests_in_flight=self._executor.pending)

    async def _feed_watchdog(self) -> None:
        """Tell systemd that the server makes progress: the event loop runs this, and no inference hangs."""
        period = self._notifier.watchdog_seconds
        stalled = False
        while period:
            seconds = self._executor.longest_run_seconds()
            if seconds < period:
                self._notifier.notify(WATCHDOG="1")
                if stalled:
                    self._report()
            else:
                self._notifier.notify(STATUS=f"an inference has run for {seconds:.1f} s: not feeding the watchdog")
                _log.error("inference hangs, watchdog not fed", seconds=seconds, limit=period)
            stalled = seconds >= period
            await asyncio.sleep(period / 2)

    def _report(self) -> None:
        if self._app.phase == "serving":
            self._notifier.notify(STATUS=self._status())

    def _status(self) -> str:
        serving = [f"{model} {version}" for model, version in self._repository.serving().items()]
        failures = [f"{model} not ready: {reason}" for model, reason in self._repository.failures().items()]
        return "; ".join([f"serving {', '.join(serving) or 'no model'}", *failures])[:512]


class _Uvicorn(UvicornServer):
    """Uvicorn as a part: it tells when it listens and leaves signals to the process."""

    def __init__(
        self, app: Application, connections: Connections, drain_seconds: int, tls: ssl.SSLContext | None
    ) -> None:
        super().__init__(
            UvicornConfig(
                app,
                http=protocol_class(connections),
                h11_max_incomplete_event_size=MAX_HEADER_BYTES,
                timeout_keep_alive=_KEEP_ALIVE_SECONDS,
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                proxy_headers=False,
                server_header=False,
                timeout_graceful_shutdown=drain_seconds,
            )
        )
        self._connections = connections
        self._tls = tls
        self.listening = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen on the Unix socket and, maybe with TLS, on the TCP socket."""
        assert sockets is not None
        self._unix, self._tcp = sockets
        self.servers = [await self._listen(self._unix, None), await self._listen(self._tcp, self._tls)]
        self.started = True
        self.listening.set()

    async def listen_again(self, tls: ssl.SSLContext) -> None:
        """Do every TLS handshake from now on with ``tls``. Clients that are connecting notice nothing."""
        new = await self._listen(self._tcp, tls)
        self.servers[1].close()
        self.servers[1] = new

    async def _listen(self, listener: socket.socket, tls: ssl.SSLContext | None) -> asyncio.Server:
        # A copy, for it is closed with the asyncio.Server. The connections that wait in the kernel are not its own.
        handshake = None if tls is None else _HANDSHAKE_SECONDS
        return await asyncio.get_running_loop().create_server(
            self._new_protocol, sock=listener.dup(), ssl=tls, backlog=BACKLOG, ssl_handshake_timeout=handshake
        )

    def _new_protocol(self) -> asyncio.Protocol:
        kind: Any = self.config.http_protocol_class
        protocol: asyncio.Protocol = kind(config=self.config, server_state=self.server_state, app_state={})
        return protocol

    async def on_tick(self, counter: int) -> bool:
        if counter % _TICKS_PER_SECOND == 0:
            self._connections.drop_slow(time.monotonic())
        return await super().on_tick(counter)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _prediction_log(config: Config) -> PredictionLog | None:
    """The prediction log, if one is wanted. A server that cannot write it serves nonetheless."""
    if not config.prediction_log:
        return None
    try:
        return PredictionLog(
            LogOptions(
                path=config.prediction_log,
                rows=config.prediction_log_rows,
                bytes=config.prediction_log_bytes,
                full_inputs=config.prediction_log_inputs == "full",
            )
        )
    except (OSError, sqlite3.Error) as error:
        _log.error("prediction log cannot be opened, serving without", path=config.prediction_log, error=error)
        return None


def _new_event_loop() -> asyncio.AbstractEventLoop:
    """uvloop where it is installed and works, else asyncio's own."""
    try:
        loop: asyncio.AbstractEventLoop = importlib.import_module("uvloop").new_event_loop()
    except (ImportError, OSError) as error:
        _log.info("without uvloop", reason=error)
        return asyncio.new_event_loop()
    return loop


def end_process(code: int) -> NoReturn:
    """End at once: a runtime that hangs or still loads in a thread must not keep the process."""
    sys.stderr.flush()
    os._exit(code)
