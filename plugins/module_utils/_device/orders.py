# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""Orders to fetch a release ahead of its rollout, and how far each has come.

``orders/<model>@<version>.json`` in the store has the request that gave the order, and a note of what happened last.
The unit ``edgeml-fetch.service`` works through them at idle priority. An order ends when the version is held or
removed.
"""

from __future__ import annotations

import contextlib
import json
import os
from typing import Any, Iterator, Mapping, NamedTuple

from .._common.errors import EdgemlError, StoreError, with_path
from .._common.files import fsync_directory, is_directory, remove_file
from .._common.records import as_document
from .._release.manifest import parse_release
from .._release.names import check_name
from .._release.release import File, Release
from .._release.variant_choice import choose_variant
from .facts import device_facts, has_locale
from .journal import utc_now
from .request import SwapRequest, make_request
from .store import Store

_SCHEMA = 1
_MODE = 0o640
# What of a request an order keeps: the rest is decided when the version is swapped to.
_KEPT = ("model", "version", "manifest", "fetch", "headroom_percent", "rollout_id", "reason")
_SUFFIX = ".json"


class Progress(NamedTuple):
    """How far an order has come: bytes of the device's variant, how many of them the device holds, and what has come of
    deltas, of which the others will be made."""

    bytes: int
    held: int
    delta: int

    @property
    def is_complete(self) -> bool:
        """Whether a swap has nothing left to fetch."""
        return self.held == self.bytes


class Order(NamedTuple):
    """An order: what was asked, the release, and the ``note``: ``time``, ``kind`` and ``message`` of the last fetch."""

    request: SwapRequest
    release: Release
    note: Mapping[str, Any] | None


class Orders:
    """The orders of a store."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._directory = os.path.join(store.root, "orders")

    def all(self) -> list[Order]:
        """The orders, by model and version; without those that are damaged, which the next call writes anew."""
        names = sorted(os.listdir(self._directory)) if is_directory(self._directory) else []
        return [order for name in names for order in self._readable(os.path.join(self._directory, name))]

    def find(self, model: str, version: str) -> Order | None:
        """The order for a version, if there is one."""
        return next(iter(self._readable(self._path(model, version))), None)

    def is_given(self, model: str, version: str) -> bool:
        """Whether there is an order for a version, to be asked again and again: nothing is parsed."""
        return os.path.exists(self._path(model, version))

    def is_new(self, request: SwapRequest) -> bool:
        """Whether what ``request`` asks for was not ordered, or in another way."""
        order = self.find(request.model, request.version)
        return order is None or _arguments(order.request) != _arguments(request)

    def give(self, request: SwapRequest) -> None:
        """Order what ``request`` asks for. Hold the store's lock."""
        self._write(request, None)

    def note(self, order: Order, kind: str, message: str) -> None:
        """Note what became of the last fetch, unless the order is another by now."""
        with self._store.lock():
            if self.find(order.request.model, order.request.version) == order:
                self._write(order.request, {"time": utc_now(), "kind": kind, "message": message})

    def end(self, model: str, version: str) -> bool:
        """Forget an order; return whether there was one. What was fetched stays until a swap makes room."""
        path = self._path(model, version)
        if not os.path.exists(path):
            return False
        remove_file(path)
        fsync_directory(self._directory)
        return True

    def files(self) -> list[File]:
        """What the orders need."""
        return [file for order in self.all() for file in order.release.all_files()]

    def wanted(self, order: Order) -> list[File]:
        """The files of the variant for this device. Raises IncompatibleError where none runs on it."""
        variant = choose_variant(order.release, device_facts(), order.request.headroom_percent, has_locale)
        return list({file.sha256: file for file in order.release.files(variant)}.values())

    def progress(self, order: Order) -> Progress:
        """How far an order has come. Raises IncompatibleError."""
        wanted = self.wanted(order)
        missing = {file.sha256 for file in self._store.blobs.missing(wanted)}
        held = sum(self._store.fetched.bytes_of(file) if file.sha256 in missing else file.size for file in wanted)
        delta = self._store.fetched.delta_bytes_of(file for file in wanted if file.sha256 in missing)
        return Progress(sum(file.size for file in wanted), held, delta)

    def describe(self, order: Order) -> dict[str, Any]:
        """An order as modules and the command tell it. Raises IncompatibleError."""
        progress = self.progress(order)
        return {
            "model": order.request.model,
            "version": order.request.version,
            "bytes": progress.bytes,
            "held_bytes": progress.held,
            "delta_bytes": progress.delta,
            "complete": progress.is_complete,
            "last": dict(order.note) if order.note is not None else None,
        }

    # ---- the parts ----

    def _path(self, model: str, version: str) -> str:
        name = f"{check_name(model, 'model')}@{check_name(version, 'version')}{_SUFFIX}"
        return os.path.join(self._directory, name)

    def _readable(self, path: str) -> Iterator[Order]:
        with contextlib.suppress(FileNotFoundError, ValueError, KeyError, TypeError, RecursionError, EdgemlError):
            with with_path(path), open(path, "rb") as file:
                document = json.loads(file.read().decode("utf-8"))
            request = make_request(SwapRequest, document["arguments"])
            request.fetch.check()
            yield Order(request, parse_release(request.manifest), document["note"])

    def _write(self, request: SwapRequest, note: Mapping[str, Any] | None) -> None:
        document = {"schema": _SCHEMA, "arguments": _arguments(request), "note": note}
        self._store.write_document(self._path(request.model, request.version), document, _MODE)


def _arguments(request: SwapRequest) -> dict[str, Any]:
    """What an order keeps of a request, as JSON."""
    kept = {name: value for name, value in as_document(request).items() if name in _KEPT}
    found: dict[str, Any] = json.loads(json.dumps(kept))
    return found


def trial_running(store: Store) -> str | None:
    """Which version is on trial on this device, in words; None without one."""
    for name in store.models():
        with contextlib.suppress(StoreError):
            state = store.state(name)
            if state.trial is not None:
                return f"{name} {state.active} is on trial"
    return None
