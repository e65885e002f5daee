# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The process: it listens, loads the models, serves, drains and exits."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import importlib
import os
import signal
import sqlite3
import ssl
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NoReturn

from edgeml_device._common.credentials import Credentials, CredentialsError
from edgeml_device._device.store import Store

from . import __version__
from .common.log import Log
from .config import Config
from .handover.channel import HandoverError, handover_path
from .handover.predecessor import Predecessor
from .handover.successor import Successor
from .http.app import Application
from .http.authenticator import Authenticator
from .http.body import BodyReader
from .http.connections import Connections
from .http.forward import Forwarder
from .http.inference import InferenceEndpoint
from .http.lifecycle import Lifecycle, Phase
from .http.metadata import MetadataEndpoints
from .http.repository import FeedbackEndpoint, RepositoryEndpoints
from .http.routes import Router
from .http.server import HttpServer
from .http.sockets import (
    ListenError,
    Listeners,
    is_loopback,
    listen_for_successor,
    listen_tcp,
    listen_unix,
    listens_at,
    remove_unix,
)
from .http.tls import TlsError, make_context
from .models.backend import BackendOptions
from .models.executor import InferenceExecutor
from .models.repository import BatchOptions, LoadLimits, ModelRepository
from .observe.collector import InputCollector
from .observe.drift import DriftMonitor
from .observe.feedback import Feedback
from .observe.metrics import EXPOSITION, Metrics
from .observe.model_observer import ModelObserver
from .observe.observer import Observer
from .observe.prediction_log import LogOptions, PredictionLog
from .running_server import HandedOverServer, RunningServer
from .systemd import Notifier

_log = Log(__name__)
_CANCELLED_SECONDS = 1.0
_CLOSE_SECONDS = 5.0
_LOADS_AT_ONCE = 2
_SLOW_LOAD_SECONDS = 10.0
_START_MARGIN_SECONDS = 60.0
# At most one line about refused handshakes in this time: a port scan must not fill the journal.
_REFUSAL_LOG_SECONDS = 1.0


class StartError(Exception):
    """The server cannot serve anything; the text says why."""


class InferenceServer:
    """One server process with its parts."""

    def __init__(
        self, config: Config, notifier: Notifier, definition: str = "", successor: Successor | None = None
    ) -> None:
        self._config = config
        self._notifier = notifier
        self._definition = definition
        self._successor = successor
        self._executor = InferenceExecutor(config.inference_threads, config.max_pending)
        # A load that takes long holds up one of them.
        self._loader = ThreadPoolExecutor(_LOADS_AT_ONCE, thread_name_prefix="loader")
        self._loads_lock = threading.Lock()
        self._loads = 0
        self._metrics = metrics = Metrics(
            in_flight=lambda: self._executor.pending, waiting=lambda: self._executor.waiting
        )
        drift = DriftMonitor(config.drift_window, config.drift_psi, metrics)
        self._collector = InputCollector(config.collect_inputs, drift, metrics)
        self._lifecycle = Lifecycle(owns_sockets=successor is None)
        self._repository = ModelRepository(
            Store(config.store),
            BackendOptions(config.threads, runs=config.inference_workers, provider=config.execution_provider),
            BatchOptions(config.batch_rows, threading.Semaphore(config.inference_workers)),
            ModelObserver(metrics, drift, self._collector),
            config.drain_seconds,
            LoadLimits(config.load_seconds, self._while_loading),
            self._report,
        )
        self._observer = Observer(config.prediction_log_sample_percent, drift, self._collector, metrics)
        bodies = BodyReader(config.max_request_bytes)
        router = Router(
            MetadataEndpoints(self._repository, metrics, self._lifecycle),
            InferenceEndpoint(
                self._repository,
                self._executor,
                self._observer,
                metrics,
                self._lifecycle,
                bodies,
                config.deadline_ms,
            ),
            RepositoryEndpoints(self._repository, self._loader, bodies),
            FeedbackEndpoint(self._observer, Feedback(metrics, self._collector), bodies),
        )
        self._app = Application(router, Forwarder(config.socket, bodies), self._lifecycle, metrics)
        self._connections = Connections(config.max_connections, config.client_seconds, metrics)
        self._tls: ssl.SSLContext | None = None
        self._next_refusal = 0.0

    def run(self) -> bool:
        """Serve until SIGTERM or SIGINT. Return whether every request was answered.

        Raises ListenError when an address cannot be used, StartError when the store cannot be read, and, of a
        successor, what would make it a worse server than its predecessor.
        """
        loop = _new_event_loop()
        try:
            asyncio.set_event_loop(loop)
            return loop.run_until_complete(self._serve())
        finally:
            loop.close()

    async def _serve(self) -> bool:
        try:
            self._app.authenticator = self._read_credentials()
            self._tls = self._read_certificates()
        except (CredentialsError, TlsError) as error:
            raise StartError(str(error)) from error
        loop = asyncio.get_running_loop()
        listeners = self._listen()
        try:
            if self._successor is None:
                self._observer.use_log(self._open_log())
            else:
                await self._take_over(self._successor)
            server = HttpServer(self._app.answer, self._connections, self._config.drain_seconds, self._tls)
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.add_signal_handler(number, self._stop, server)
            loop.add_signal_handler(signal.SIGHUP, lambda: loop.create_task(self._reload(server)))
            serving = loop.create_task(server.serve(listeners.unix, listeners.tcp))
            await server.listening.wait()
            self._await_successor(server, listeners)
            address, port = listeners.tcp.getsockname()[:2]
            _log.info(
                "listening",
                socket=self._config.socket,
                address=address,
                port=port,
                version=__version__,
                pid=os.getpid(),
                workers=self._config.inference_workers,
                loop=type(loop).__module__,
                http=server.protocol_name,
                tls="off" if self._tls is None else "clients" if self._config.tls_client_ca else "on",
                credentials="off" if self._app.authenticator is None else "on",
            )
            if not (self._app.authenticator or self._config.tls_client_ca or is_loopback(address)):
                _log.warning("any client on the network has access: no credentials and no client certificates")
            starting = loop.create_task(self._start(server))
            watching = loop.create_task(self._feed_watchdog())
            await serving
            watching.cancel()
            starting.cancel()
            await asyncio.wait([starting])
            if not starting.cancelled():
                starting.result()
            await server.cancel_requests(_CANCELLED_SECONDS)
        finally:
            if self._lifecycle.owns_sockets:
                remove_unix(self._config.socket)
                remove_unix(handover_path(self._config.socket))
            self._loader.shutdown(wait=False, cancel_futures=True)
            if self._app.authenticator is not None:
                self._app.authenticator.close()
            self._executor.close()
            self._observer.close(_CLOSE_SECONDS)
        abandoned = self._executor.pending
        _log.info("stopped", abandoned_requests=abandoned)
        return abandoned == 0

    def _listen(self) -> Listeners:
        """Raises ListenError, and StartError where the predecessor listens elsewhere."""
        config = self._config
        if self._successor is None:
            unix = listen_unix(config.socket)
            try:
                tcp = listen_tcp(config.listen_address, config.listen_port)
                return Listeners(unix, tcp, listen_for_successor(handover_path(config.socket)))
            except ListenError:
                remove_unix(config.socket)
                raise
        found = Listeners(*self._successor.listeners)
        if found.unix.getsockname() != config.socket:
            raise StartError(f"expected to take over {config.socket}; the server listens on {found.unix.getsockname()}")
        if not listens_at(found.tcp, config.listen_address, config.listen_port):
            found.tcp.close()
            found = found._replace(tcp=listen_tcp(config.listen_address, config.listen_port))
        return found

    def _open_log(self) -> PredictionLog | None:
        return _prediction_log(self._config, self._collector)

    async def _take_over(self, successor: Successor) -> None:
        """Load the models, and become the service's main process. Raises StartError when a model that serves would
        serve no more."""
        loop = asyncio.get_running_loop()
        await self._load_models()
        failures = self._repository.failures()
        reasons = [f"{model}: {failures[model]}" for model in successor.predecessor.models if model in failures]
        if reasons:
            raise StartError(f"a model that serves would not: {'; '.join(reasons)}")
        try:
            await loop.run_in_executor(None, successor.ready)
            self._observer.use_log(self._open_log())
            await loop.run_in_executor(None, successor.become_main)
        except HandoverError as error:
            raise StartError(str(error)) from error
        self._lifecycle.owns_sockets = True
        self._lifecycle.phase = Phase.SERVING

    def _await_successor(self, server: HttpServer, listeners: Listeners) -> None:
        loop = asyncio.get_running_loop()
        running = RunningServer(
            self._definition,
            loop,
            server,
            self._lifecycle,
            self._repository,
            self._observer,
            self._notifier,
            listeners,
            self._open_log,
        )
        predecessor = Predecessor(listeners.handover, HandedOverServer(running))
        threading.Thread(target=predecessor.run, name="handover", daemon=True).start()

    async def _start(self, server: HttpServer) -> None:
        try:
            # After a handover again: another version may have become active meanwhile.
            await self._load_models()
        except StartError:
            server.stop()
            raise
        if self._lifecycle.phase is Phase.STARTING:
            self._lifecycle.phase = Phase.SERVING
        if self._lifecycle.phase is Phase.SERVING:
            self._notifier.notify(READY="1", STATUS=self._status())
            _log.info("ready", status=self._status())
        # What the start has made is left out of every search for what can be freed: it takes time, and finds nothing.
        gc.freeze()
        gc.enable()
        # Now, so that no request waits for it while metrics are asked for.
        await asyncio.get_running_loop().run_in_executor(self._loader, importlib.import_module, EXPOSITION)

    async def _load_models(self) -> None:
        """Load each model of the store, unless it serves. Raises StartError."""
        loop = asyncio.get_running_loop()
        try:
            models = await loop.run_in_executor(self._loader, self._repository.models)
        except OSError as error:
            raise StartError(f"cannot read the store: {error}") from error
        loads = []
        for model in models:
            loads.append(loop.run_in_executor(self._loader, self._repository.load_at_start, model))
            # One after the other, as long as none takes long: two take more memory at once.
            await asyncio.wait(loads[-1:], timeout=_SLOW_LOAD_SECONDS)
        await asyncio.gather(*loads)

    @contextlib.contextmanager
    def _while_loading(self) -> Iterator[None]:
        """Let systemd wait for a load, within its limit: some runtimes let no other thread run meanwhile."""
        seconds = self._config.load_seconds + self._notifier.watchdog_seconds
        with self._loads_lock:
            self._loads += 1
            if self._lifecycle.phase is Phase.STARTING:
                self._notifier.notify(EXTEND_TIMEOUT_USEC=_microseconds(seconds + _START_MARGIN_SECONDS))
            if self._loads == 1 and self._notifier.watchdog_seconds:
                self._notifier.notify(WATCHDOG_USEC=_microseconds(seconds))
        try:
            yield
        finally:
            with self._loads_lock:
                self._loads -= 1
                if self._loads == 0 and self._notifier.watchdog_seconds:
                    self._notifier.notify(WATCHDOG_USEC=_microseconds(self._notifier.watchdog_seconds))

    def _read_credentials(self) -> Authenticator | None:
        return Authenticator(Credentials(self._config.credentials)) if self._config.credentials else None

    def _read_certificates(self) -> ssl.SSLContext | None:
        config = self._config
        if not config.tls_certificate:
            return None
        return make_context(
            config.tls_certificate, config.tls_key, config.tls_client_ca, on_refused=self._note_refused_handshake
        )

    def _note_refused_handshake(self, reason: str) -> None:
        self._metrics.refused_handshakes.inc()
        now = time.monotonic()
        if now >= self._next_refusal:
            self._next_refusal = now + _REFUSAL_LOG_SECONDS
            _log.warning("TLS handshake refused", reason=reason)

    async def _reload(self, server: HttpServer) -> None:
        """Read the certificates and credentials again. If any of them cannot be used, none is replaced."""
        if self._lifecycle.phase in (Phase.HANDED_OVER, Phase.STOPPING):
            return
        try:
            authenticator, tls = self._read_credentials(), self._read_certificates()
        except (CredentialsError, TlsError) as error:
            _log.error("reload failed, the old certificates and credentials stay in use", error=error)
            self._metrics.reload_successful.set(0)
            self._metrics.reloads.inc()
            return
        if self._app.authenticator is not None:
            self._app.authenticator.close()
        self._app.authenticator = authenticator
        if tls is not None:
            await server.listen_again(tls)
            self._connections.renew_tcp()
        self._metrics.reload_successful.set(1)
        self._metrics.reloads.inc()
        _log.info("reloaded")

    def _stop(self, server: HttpServer) -> None:
        if self._lifecycle.phase is not Phase.STOPPING:
            self._lifecycle.phase = Phase.STOPPING
            server.stop()
            self._notifier.notify(STOPPING="1", STATUS="finishing the requests in flight")
            _log.info("stopping", requests_in_flight=self._executor.pending)

    async def _feed_watchdog(self) -> None:
        """Feed systemd's watchdog while the event loop runs and no inference hangs."""
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
        if self._lifecycle.phase is Phase.SERVING:
            self._notifier.notify(STATUS=self._status())

    def _status(self) -> str:
        serving = [f"{model} {version}" for model, version in self._repository.serving().items()]
        failures = [f"{model} not ready: {reason}" for model, reason in self._repository.failures().items()]
        return "; ".join([f"serving {', '.join(serving) or 'no model'}", *failures])[:512]


def _microseconds(seconds: float) -> str:
    return str(int(seconds * 1e6))


def _prediction_log(config: Config, collector: InputCollector) -> PredictionLog | None:
    """Open the prediction log, if it is configured. A server that cannot write it serves without it."""
    if not config.prediction_log:
        return None
    try:
        return PredictionLog(
            LogOptions(
                path=config.prediction_log,
                rows=config.prediction_log_rows,
                bytes=config.prediction_log_bytes,
                full_inputs=config.prediction_log_inputs == "full",
                awaiting_label=collector.awaiting_label if collector.awaits_labels else None,
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
    """Exit at once, even when a runtime hangs or loads in a thread."""
    sys.stderr.flush()
    os._exit(code)
