# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""Fetching what a version needs and the device lacks: within a call, and for the orders."""

from __future__ import annotations

import contextlib
from io import BufferedIOBase
from typing import Any, Callable, Iterable, Mapping, Sequence

from .._common.errors import EdgemlError, IntegrityError
from .._common.files import DurableTree, write_whole
from .._fetch.failures import FetchError, Kind
from .._fetch.fetcher import Fetcher
from .._fetch.held import Held, blocks_of
from .._fetch.options import FetchOptions
from .._fetch.pace import Patience
from .._fetch.transfer import Tally
from .._release.release import File
from .orders import Order, Orders, trial_running
from .store import Store

_PATIENCE = Patience()


class FetchResult:
    """What a fetch came to: its cost, the ``failure`` that ended it, if one did, and ``warnings`` for the operator."""

    def __init__(self, tally: Tally, failure: FetchError | None, warnings: Sequence[str]) -> None:
        self.tally = tally
        self.failure = failure
        self.warnings = tuple(warnings)

    def summary(self) -> str:
        """What it came to, for a person."""
        if self.failure is not None:
            return str(self.failure)
        tally = self.tally
        parts = [f"all files are here; {tally.received} bytes came"]
        if tally.deltas:
            parts.append(f"{tally.delta_bytes} of them as deltas for {tally.made}")
        if tally.copied:
            parts.append(f"{tally.copied} were copied from files that were held")
        return "; ".join((", ".join(parts), *self.warnings))

    @property
    def falls_back(self) -> bool:
        """Whether somebody else may bring the bytes: not where now is no time for them, or where there is no room."""
        return self.failure is not None and self.failure.kind not in (Kind.DEFERRED, Kind.DISK)

    def document(self) -> dict[str, Any]:
        """The return value ``fetched``."""
        failure, tally = self.failure, self.tally
        return {
            "bytes": tally.fetched,
            "received_bytes": tally.received,
            "deltas": tally.deltas,
            "delta_bytes": tally.delta_bytes,
            "made_bytes": tally.made,
            "copied_bytes": tally.copied,
            "seconds": round(tally.seconds, 3),
            "failure": {"kind": failure.kind.value, "message": str(failure)} if failure is not None else None,
        }


def fetch_files(
    store: Store,
    files: Iterable[File],
    options: FetchOptions,
    headroom_percent: int,
    may_go_on: Callable[[], str | None] = lambda: None,
    patience: Patience = _PATIENCE,
) -> FetchResult:
    """Fetch the files that the store lacks into ``fetched``; the small ones first, which say the most about a source.

    Raises ArgumentError for a wrong option, and OSError for a disk that fails.
    """
    fetcher = Fetcher(
        DurableTree(store.root),
        store.fetched.directory,
        options,
        headroom_percent=headroom_percent,
        patience=patience,
        held=_held(store),
        may_go_on=may_go_on,
    )
    try:
        fetcher.fetch_all(sorted(store.blobs.missing(files), key=lambda file: (file.size, file.sha256)))
    except FetchError as error:
        return FetchResult(fetcher.tally, error, fetcher.warnings)
    finally:
        fetcher.close()
    return FetchResult(fetcher.tally, None, fetcher.warnings)


def _held(store: Store) -> Held:
    """The blobs of the store, and what was fetched for orders and no swap has taken yet."""
    fetched = [file for file in Orders(store).files() if store.fetched.has(file)]
    blobs = {*store.blobs.held(), *(file.sha256 for file in fetched)}

    def open_blob(sha256: str, size: int) -> BufferedIOBase:
        # A swap may make it a blob meanwhile.
        with contextlib.suppress(IntegrityError):
            return store.blobs.open_blob(sha256, size)
        with contextlib.suppress(IntegrityError):
            return store.fetched.open_object(sha256, size)
        return store.blobs.open_blob(sha256, size)

    return Held(blobs, blocks_of([*store.held_files(), *fetched]), open_blob)


def fetch_order(store: Store, order: Order) -> FetchResult:
    """Work on an order until it is complete, or cannot go on now, and note what it came to.

    Raises IncompatibleError where no variant of the release runs on this device any more.
    """
    orders, request = Orders(store), order.request

    def may_go_on() -> str | None:
        if not orders.is_given(request.model, request.version):
            return "the order was taken back"
        return trial_running(store)

    try:
        result = fetch_files(store, orders.wanted(order), request.fetch, request.headroom_percent, may_go_on)
    except (EdgemlError, OSError) as error:
        orders.note(order, "error", str(error))
        raise
    failure = result.failure
    orders.note(order, failure.kind.value if failure else "complete", result.summary())
    return result


def fetch_orders(store: Store, textfile: str | None) -> list[dict[str, Any]]:
    """Work on every order; return what each came to, as ``Orders.describe`` tells it, with ``error`` where nothing but
    another order or another release would help. ``textfile`` gets the progress for node_exporter."""
    orders, results = Orders(store), []
    for order in orders.all():
        error = None
        try:
            failure = fetch_order(store, order).failure
            if failure is not None and failure.kind.permanent:
                error = str(failure)
        except (EdgemlError, OSError) as raised:
            error = str(raised)
        found = orders.find(order.request.model, order.request.version)
        if found is not None:
            results.append({**orders.describe(found), "error": error})
            if textfile is not None:
                write_whole(textfile, metrics_text(results))
    return results


def metrics_text(orders: Iterable[Mapping[str, Any]]) -> str:
    """The progress of orders in Prometheus' text format."""
    lines = []
    for name, field, text in (
        ("edgeml_fetch_bytes", "bytes", "Bytes of a release that is fetched ahead."),
        ("edgeml_fetch_held_bytes", "held_bytes", "Bytes of it that the device holds."),
        ("edgeml_fetch_delta_bytes", "delta_bytes", "Bytes of deltas that have come and are not used yet."),
    ):
        lines += [f"# HELP {name} {text}", f"# TYPE {name} gauge"]
        lines += [f"{name}{{{_labels(order)}}} {order[field]}" for order in orders]
    name = "edgeml_fetch_last_try"
    lines += [f"# HELP {name} 1 for how the last try ended: complete, or why not.", f"# TYPE {name} gauge"]
    lines += [f'{name}{{{_labels(order)},kind="{order["last"]["kind"]}"}} 1' for order in orders if order["last"]]
    return "\n".join([*lines, ""])


def _labels(order: Mapping[str, Any]) -> str:
    return f'model="{order["model"]}",version="{order["version"]}"'
