# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The models that serve: loaded from the store, swapped without a gap, freed after their last request."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import threading
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Callable, NamedTuple

from edgeml_device._common.errors import EdgemlError
from edgeml_device._device.store import Store
from edgeml_device._device.version import Version
from edgeml_device._release.release import MODEL

from edgeml_server.common.errors import ModelError, NotFoundError, UnavailableError
from edgeml_server.common.log import Log
from edgeml_server.common.memory import memory_headroom, trim_heap
from edgeml_server.observe.answers import read_answer_form
from edgeml_server.observe.model_observer import ModelObserver
from edgeml_server.observe.shadow import Shadow

from .backend import BackendOptions
from .batching import BatchingBackend
from .independence import has_independent_rows
from .interfaces import check_interfaces
from .loading import LoadedModel, load_parts, model_files
from .served import ServedModel, full_name
from .time_limit import run_within

_log = Log(__name__)


class BatchOptions(NamedTuple):
    """The largest number of rows of a batch (1: no batching), and the semaphore of runs at once."""

    rows: int
    slots: threading.Semaphore


class EndedShadow(NamedTuple):
    """What came of a shadow: its version, the one that served, and the rows of its copies of requests by outcome."""

    version: str
    active_version: str
    counts: Mapping[str, int]


class LoadLimits(NamedTuple):
    """How long a load may take, and a context for each: what must know that the process may stall meanwhile."""

    seconds: float
    while_loading: Callable[[], AbstractContextManager[None]]


class ModelRepository:
    """The served version of each model of the store. Changes to one model happen one after the other."""

    def __init__(
        self,
        store: Store,
        options: BackendOptions,
        batching: BatchOptions,
        observer: ModelObserver,
        drain_seconds: float,
        limits: LoadLimits,
        on_change: Callable[[], None],
    ) -> None:
        self._store = store
        self._options = options
        self._batching = batching
        self._observer = observer
        self._drain_seconds = drain_seconds
        self._limits = limits
        self._on_change = on_change
        self._lock = threading.Lock()
        self._changing: dict[str, threading.Lock] = {}
        self._reserved_bytes: dict[str, int] = {}
        self._served: dict[str, ServedModel] = {}
        self._retiring: dict[str, ServedModel] = {}
        self._shadows: dict[str, dict[str, Shadow]] = {}
        self._failures: dict[str, str] = {}

    # ---- for requests ----

    def lease(self, model: str, version: str | None) -> ServedModel:
        """Return what serves ``model`` (exactly ``version``, unless None), leased: call its ``release``.

        Raises NotFoundError, or UnavailableError for a model that should be served but could not be loaded.
        """
        with self._lock:
            served = self._served.get(model)
            if served is not None and version in (None, served.version):
                served.lease()
                return served
            retiring = self._retiring.get(model)
            if retiring is not None and retiring.version == version and retiring.lease_retiring():
                return retiring
            reason = self._failures.get(model)
        if served is not None:
            raise NotFoundError(f"model {model!r} version {version!r} is not served; {served.version} is")
        if reason is not None:
            raise UnavailableError(f"model {model!r} is not ready: {reason}")
        raise NotFoundError(f"model {model!r} is not served")

    def serving(self) -> dict[str, str]:
        """The version of each model that serves."""
        with self._lock:
            return {name: served.version for name, served in sorted(self._served.items())}

    def failures(self) -> dict[str, str]:
        """Why models that should be served are not."""
        with self._lock:
            return dict(sorted(self._failures.items()))

    # ---- for the loader ----

    def models(self) -> list[str]:
        """The models of the store, to be loaded at the start. Raises OSError when it cannot be read at all."""
        return [model for model in self._store.models() if self._store.kind(model) == MODEL]

    def load_at_start(self, model: str) -> None:
        """Load the model's active version. A failure is logged and does not stop the others."""
        try:
            self.load(model)
        except NotFoundError as error:
            _log.info("model not loaded", model=model, reason=error)
        except Exception as error:
            _log.error("model not loaded", model=model, error=error)

    def load(self, model: str) -> ServedModel:
        """Serve the store's active version of ``model``; what serves now goes on until the new one is tested.

        Returns once the old one is freed, or drain_seconds after the switch. Raises NotFoundError when the store
        has no such model, ModelError when it cannot be loaded in time or fails its test.
        """
        with self._change(model):
            return self._swap(model)

    def _swap(self, model: str) -> ServedModel:
        current = self._served.get(model)
        try:
            version = self._active(model)
            if current is not None and current.is_same(version):
                return current
            parts = self._loaded(version, check_memory=current is not None)
            candidate = ServedModel(version, parts, functools.partial(self._freed, version))
        except NotFoundError:
            self._failures.pop(model, None)
            raise
        except Exception as error:
            self._failed(model, current, error)
            raise
        with self._lock:
            self._served[model] = candidate
            if current is not None and current.is_pipeline:
                self._retiring[model] = current
            self._failures.pop(model, None)
        self._report_retired(current)
        self._observer.serves(
            model,
            candidate.version,
            variant=candidate.variant,
            digest=candidate.digest,
            load_seconds=candidate.load_seconds,
            references={full_name(model, name): part.reference for name, part in parts.items()},
        )
        self._end_shadow(model)
        self._changed(
            "model loaded",
            current,
            model=model,
            version=candidate.version,
            variant=candidate.variant,
            seconds=candidate.load_seconds,
            prepared=candidate.prepared,
        )
        return candidate

    def unload(self, model: str) -> None:
        """Stop serving ``model``. Raises NotFoundError when neither the server nor the store knows it."""
        with self._change(model):
            self._unload(model)

    def _unload(self, model: str) -> None:
        with self._lock:
            current = self._served.pop(model, None)
            failed = self._failures.pop(model, None)
        if current is None and failed is None and model not in self.models():
            raise NotFoundError(f"model {model!r} is not served, and the store does not have it")
        self._report_retired(current)
        self._observer.unloaded(model)
        self._end_shadow(model)
        self._changed("model unloaded", current, model=model)

    def start_shadow(self, model: str, version: str, seconds: float | None = None) -> ServedModel:
        """Mirror the requests to ``model`` to another version of the store, until the next load or unload, or for
        ``seconds``.

        Raises NotFoundError when the model is not served, ModelError when the version cannot shadow it.
        """
        with self._change(model):
            candidate = self._start_shadow(model, version)
            if seconds is not None:
                timer = threading.Timer(seconds, self._end_shadow_if, (model, self._shadows[model]))
                timer.daemon = True
                timer.start()
            return candidate

    def _start_shadow(self, model: str, version: str) -> ServedModel:
        active = self._served.get(model)
        if active is None:
            raise NotFoundError(f"model {model!r} is not served")
        try:
            found = self._store.version(model, version)
            found.check_sizes()
        except EdgemlError as error:
            raise ModelError(str(error)) from error
        if active.is_same(found):
            raise ModelError(f"model {model!r}: {version} is what serves; expected another version")
        self._end_shadow(model)
        parts = self._loaded(found, check_memory=True, batched=False)
        candidate = ServedModel(found, parts, functools.partial(self._freed, found))
        try:
            check_interfaces(candidate, active)
        except ModelError:
            _close(parts)
            raise
        self._shadows[model] = {
            name: self._observer.start_shadow(
                model, version, part.backend, active.version, timed=self._batching.rows == 1, form=part.form
            )
            for name, part in parts.items()
        }
        _log.info("shadow started", model=model, version=version, active=active.version)
        return candidate

    def stop_shadow(self, model: str) -> EndedShadow:
        """End the model's shadow and return its counts. Raises NotFoundError when there is none."""
        with self._change(model):
            shadow = self._end_shadow(model)
        if shadow is None:
            raise NotFoundError(f"model {model!r} has no shadow")
        return shadow

    def shadow(self, model: str, part: str) -> Shadow | None:
        """The shadow of the model's part, to which answered requests are offered; None without one."""
        return self._shadows.get(model, {}).get(part)

    def index(self) -> list[dict[str, str]]:
        """The repository extension's index: each model, its version, state and the state's reason."""
        serving, failures = self.serving(), self.failures()
        entries = []
        for model in sorted({*serving, *failures, *self.models()}):
            entry = {"name": model, "version": serving.get(model) or self._active_version(model)}
            if model in serving:
                names = [model, *self._parts_of(model)]
                entries += [{**entry, "name": name, "state": "READY", "reason": ""} for name in names]
            else:
                entries.append({**entry, "state": "UNAVAILABLE", "reason": failures.get(model, "not loaded")})
        return entries

    # ---- the parts ----

    @contextlib.contextmanager
    def _change(self, model: str) -> Iterator[None]:
        with self._lock:
            changing = self._changing.setdefault(model, threading.Lock())
        with changing:
            yield

    def _loaded(self, version: Version, *, check_memory: bool, batched: bool = True) -> dict[str, LoadedModel]:
        """Load all parts of a version within the limits. Raises ModelError."""
        with self._lock:
            if check_memory:
                _check_memory(version, sum(self._reserved_bytes.values()))
            self._reserved_bytes[version.model] = version.chosen.memory_bytes

        def load_all() -> dict[str, LoadedModel]:
            parts = self._load(version)
            return {name: self._batched(version, name, part) for name, part in parts.items()} if batched else parts

        try:
            with self._limits.while_loading():
                return run_within(self._limits.seconds, load_all, _close)
        except TimeoutError as error:
            _log.error("load given up, its thread ends with it or the server", model=version.model, error=error)
            raise ModelError(
                f"model {version.model!r}: {version.version} was not loaded and tested within "
                f"{self._limits.seconds:g} s; it was given up"
            ) from error
        finally:
            with self._lock:
                del self._reserved_bytes[version.model]

    def _active(self, model: str) -> Version:
        try:
            active = self._store.state(model).active
            if active is None:
                raise NotFoundError(f"model {model!r}: the store has no active version of it")
            version = self._store.version(model, active)
            version.check_sizes()
        except EdgemlError as error:
            raise ModelError(str(error)) from error
        return version

    def _load(self, version: Version) -> dict[str, LoadedModel]:
        files = model_files(version.directory, version.release, version.chosen)
        parts = load_parts(files, self._options, version.directory, self._store.prepared(version))
        for name, part in parts.items():
            form = read_answer_form(files[name].probe, part.backend.outputs, files[name].golden)
            parts[name] = dataclasses.replace(part, form=form)
            if part.inputs is None:
                model = full_name(version.model, name)
                _log.warning("neither tested nor warmed up: the release has no golden inputs", model=model)
        return parts

    def _batched(self, version: Version, part: str, loaded: LoadedModel) -> LoadedModel:
        if self._batching.rows == 1:
            return loaded
        able = loaded.inputs is not None and has_independent_rows(loaded.backend, loaded.inputs)
        model = full_name(version.model, part)
        _log.info("batching" if able else "no batching", model=model, version=version.version)
        observe_rows = self._observer.batch_rows(version.model, version.version)
        most = self._batching.rows if able else 1
        return dataclasses.replace(
            loaded, backend=BatchingBackend(loaded.backend, most, self._batching.slots, observe_rows)
        )

    def _end_shadow(self, model: str) -> EndedShadow | None:
        shadows = list(self._shadows.pop(model, {}).values())
        if not shadows:
            return None
        ended = [shadow.stop(self._drain_seconds) for shadow in shadows]
        trim_heap()
        each = [dataclasses.asdict(shadow.counts) for shadow in shadows]
        counts = {outcome: sum(part[outcome] for part in each) for outcome in each[0]}
        _log.info("shadow ended", model=model, version=shadows[0].version, freed=all(ended), **counts)
        return EndedShadow(shadows[0].version, shadows[0].active_version, counts)

    def _end_shadow_if(self, model: str, shadows: Mapping[str, Shadow]) -> None:
        """End a shadow whose time is over, unless another one has taken its place."""
        with self._change(model):
            if self._shadows.get(model) is shadows:
                self._end_shadow(model)

    def _failed(self, model: str, current: ServedModel | None, error: Exception) -> None:
        self._observer.failed(model)
        if current is None:
            with self._lock:
                self._failures[model] = str(error)
            self._on_change()
        else:
            _log.error("swap failed, the old version serves on", model=model, version=current.version, error=error)

    def _changed(self, event: str, old: ServedModel | None, **fields: object) -> None:
        self._on_change()
        _log.info(event, **fields)
        if old is not None and not old.retire(self._drain_seconds):
            _log.warning(
                "the old version is still in use", model=old.name, version=old.version, seconds=self._drain_seconds
            )
        with self._lock:
            self._retiring.pop(old.name if old is not None else "", None)

    def _report_retired(self, old: ServedModel | None) -> None:
        if old is not None:
            self._observer.serves_no_more(old.name, old.version, variant=old.variant, digest=old.digest)

    def _freed(self, version: Version) -> None:
        with self._lock:
            serving = self._served.get(version.model)
        self._observer.freed(version.model, version.version, None if serving is None else serving.version)

    def _parts_of(self, model: str) -> list[str]:
        """The names of a pipeline's parts."""
        with self._lock:
            served = self._served.get(model)
        return [full_name(model, part) for part in served.parts if part] if served is not None else []

    def _active_version(self, model: str) -> str:
        try:
            return self._store.state(model).active or ""
        except EdgemlError:
            return ""


def _check_memory(version: Version, reserved: int) -> None:
    """Raise ModelError when the version does not fit into the memory that what serves and loads now leaves."""
    needed, left = version.chosen.memory_bytes, memory_headroom()
    if needed + reserved > left.bytes:
        raise ModelError(
            f"model {version.model!r}: {version.version} needs {needed} bytes of memory beside what serves now; "
            f"{max(0, left.bytes - reserved)} are left ({left.limit})"
        )


def _close(parts: Mapping[str, LoadedModel]) -> None:
    for part in parts.values():
        part.backend.close()
