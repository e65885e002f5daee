# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Inputs for retraining: of the requests in the prediction log, those that the model finds hard, where that is allowed.

Each is a file below ``collected`` beside the log, until the controller takes it (``_device/collected.py``), its time
is over, or a fairer share needs its place. Files are renamed into place and not fsynced: what a power cut damages is
removed at the next start, which costs a sample and spares flash memory. One thread uses an InputCollector, but for
``offer_disagreement``.
"""

from __future__ import annotations

import contextlib
import os
import random
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Callable, NamedTuple

import numpy as np
from edgeml_device._common.files import remove_tree
from edgeml_device._release.collected_input import (
    INPUT_BYTES_MAX,
    REASONS,
    CollectedInput,
    CollectedInputError,
    Tensor,
    digest_of,
    directory_name,
    file_name,
    pack,
    unpack,
)
from edgeml_device._release.probe_set import Task

from edgeml_server.common.errors import UnavailableError
from edgeml_server.common.log import Log
from edgeml_server.common.tensors import Array, datatype_of, to_binary

from .answers import UNKNOWN, answer_in, has_rows, predictions_of, rows_of
from .collect_rules import CollectRule
from .drift import DriftMonitor
from .metrics import Metrics
from .prediction_log import Labelled, Record, check_free_space
from .reservoir import Cell, Held, Reservoir

TICK_SECONDS = 60.0
"""How often what is old is removed, and what the controller took is noted."""
_DISAGREEMENTS_MAX = 64
_DISAGREEMENT_BYTES_MAX = 4 << 20
# A label speaks of that many rows at most (answers.predictions_of).
_AWAITED_ROWS_MAX = 64
_HOUR_SECONDS = 3600

_log = Log(__name__)


class _Disagreement(NamedTuple):
    """A request that a shadow answered otherwise, with which of its rows, and the size of its inputs."""

    record: Record
    rows: Array
    size: int


class InputCollector:
    """Keeps inputs below ``directory`` as the ``rules`` of their models say; without rules it removes what is there."""

    def __init__(
        self,
        rules: Mapping[str, CollectRule],
        drift: DriftMonitor,
        metrics: Metrics,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._rules = dict(rules)
        self._drift = drift
        self._metrics = metrics
        self._clock = clock
        self._directory: str | None = None
        self._reservoirs: dict[str, Reservoir] = {}
        self._disagreements: deque[_Disagreement] = deque()
        # Each counter has one writing thread.
        self._bytes_in = 0
        self._bytes_out = 0
        self._failing = False
        self._next_tick = 0.0

    @property
    def collects(self) -> bool:
        """Whether anything may be kept."""
        return bool(self._rules)

    @property
    def awaits_labels(self) -> frozenset[str]:
        """The models of which inputs are kept in the prediction log until their labels come."""
        return frozenset(model for model, rule in self._rules.items() if "disagreeing" in rule.reasons)

    # ---- for other threads ----

    def offer_disagreement(self, record: Record, rows: Array, size: int) -> None:
        """Take a request of which a shadow answered these ``rows`` otherwise than the active version, or drop it when
        there are many."""
        rule = self._rules.get(record.model)
        if rule is None or "shadow" not in rule.reasons:
            return
        waiting = self._bytes_in - self._bytes_out
        if len(self._disagreements) >= _DISAGREEMENTS_MAX or waiting + size > _DISAGREEMENT_BYTES_MAX:
            self._drop(record.model, "queue")
            return
        self._bytes_in += size
        self._disagreements.append(_Disagreement(record, rows, size))

    # ---- for the observer's thread ----

    def open(self, directory: str) -> None:
        """Keep inputs in ``directory`` from now on. What is there of models without a rule is removed, and what is
        damaged. An error of the disk is logged, and nothing is kept."""
        self._reservoirs = {}
        self._directory = None
        try:
            self._remove_others(directory)
            for model, rule in self._rules.items():
                os.makedirs(os.path.join(directory, directory_name(model)), mode=0o750, exist_ok=True)
                self._reservoirs[model] = Reservoir(rule.rows, rule.bytes, random.Random())
        except OSError as error:
            _log.error("no inputs are collected", path=directory, error=error)
            return
        self._directory = directory
        for model in self._rules:
            self._scan(model)
        self.tick()

    def close(self) -> None:
        """Keep nothing from now on."""
        self._directory = None

    def add(self, records: Sequence[Record]) -> None:
        """Keep what is drifting or of low confidence in these requests, which succeeded and are in the log."""
        while self._disagreements:
            record, rows, size = self._disagreements.popleft()
            self._bytes_out += size
            # An answer that has no rows is that of all of them.
            self._keep(record, {"shadow": np.broadcast_to(rows, rows_of(record.inputs))})
        for record in records:
            rule = self._rules.get(record.model)
            if rule is None or record.in_sequence or self._directory is None:
                continue
            found: dict[str, Array] = {}
            if "drifting" in rule.reasons:
                drifting = self._drift.drifting_rows(record)
                if drifting is not None and len(drifting) == rows_of(record.inputs):
                    found["drifting"] = drifting
            if "low_confidence" in rule.reasons:
                margins = _margins(record)
                if margins is not None:
                    found["low_confidence"] = margins < rule.margin
            if any(rows.any() for rows in found.values()):
                self._keep(record, found)

    def awaiting_label(self, record: Record) -> bytes | None:
        """What the log keeps of a request until its label comes: its rows, each after its length. None for nothing."""
        if record.request_id is None or record.in_sequence or record.model not in self.awaits_labels:
            return None
        rows = rows_of(record.inputs)
        if not 1 <= rows <= _AWAITED_ROWS_MAX:
            return None
        parts = [pack(item) for item in _inputs(record, range(rows), {"disagreeing": np.ones(rows, bool)})]
        return b"".join(piece for part in parts for piece in (len(part).to_bytes(4, "little"), part))

    def labelled(self, model: str, labelled: Labelled) -> None:
        """Keep the rows that the label says were answered wrong, and note the labels of others that are kept."""
        reservoir = self._reservoirs.get(model)
        if labelled.awaiting is None or reservoir is None or self._directory is None:
            return
        try:
            items = list(_unpacked(labelled.awaiting))
        except CollectedInputError as error:
            _log.error("what waited for a label cannot be read", error=error)
            return
        for item, predicted, label in zip(items, labelled.predictions, labelled.labels):
            if isinstance(label, list):
                # Several labels of a row are no class.
                continue
            # Of numbers none is just right: how far off they are says no label of a class.
            wrong = not labelled.absolute_errors and predicted != label
            kept = reservoir.get(item.digest)
            if wrong or (kept is not None and not kept.labelled):
                reasons = item.reasons if wrong else (kept.cell.reason,) if kept is not None else ()
                self._admit(item._replace(reasons=reasons, predicted=predicted, label=label))

    def awaited_since(self) -> dict[str, float]:
        """From when on requests may wait for their labels, for each model of which they may."""
        return {model: self._oldest(model) for model in self.awaits_labels}

    def tick(self) -> bool:
        """Once in a while: remove what is older than allowed, and note what the controller has taken. Return whether
        it was time for that."""
        if self._directory is None or time.monotonic() < self._next_tick:
            return False
        self._next_tick = time.monotonic() + TICK_SECONDS
        self.add(())
        now = self._clock()
        for model, reservoir in self._reservoirs.items():
            self._note_taken(model)
            for digest in reservoir.older_than(self._oldest(model)):
                self._remove(model, digest)
            reservoir.forget_offers(int(now // _HOUR_SECONDS))
            self._show(model)
        return True

    def _oldest(self, model: str) -> float:
        return self._clock() - self._rules[model].days * 86400

    # ---- files ----

    def _keep(self, record: Record, reasons: Mapping[str, Array]) -> None:
        """Keep the rows of a request for which any of the ``reasons`` is true."""
        chosen = np.flatnonzero(np.logical_or.reduce(list(reasons.values())))
        items = list(_inputs(record, chosen.tolist(), reasons)) if rows_of(record.inputs) else []
        if not items:
            self._drop(record.model, "shape")
        for item in items:
            self._admit(item)

    def _admit(self, item: CollectedInput) -> None:
        """Write an input, if there is a place for it; with a label, in place of the same one without."""
        if self._directory is None or item.model not in self._reservoirs:
            return
        reservoir, digest, content = self._reservoirs[item.model], item.digest, pack(item)
        same = reservoir.get(digest)
        if same is not None and (same.labelled or item.label is None):
            return
        cell = Cell(item.reasons[0], item.predicted if isinstance(item.predicted, int) else None, _hour(item.time))
        if len(content) > INPUT_BYTES_MAX:
            self._drop(item.model, "large")
            return
        if reservoir.is_full(len(content)):
            self._note_taken(item.model)
        gone = [] if same is not None else reservoir.admit(cell, len(content))
        if gone is None:
            self._drop(item.model, "full")
            return
        try:
            check_free_space(self._directory)
            for other in gone:
                self._remove(item.model, other)
            self._write(item.model, digest, content)
        except (OSError, UnavailableError) as error:
            self._drop(item.model, "disk")
            if not self._failing:
                _log.error("inputs cannot be collected", error=error)
            self._failing = True
            return
        self._failing = False
        reservoir.put(digest, Held(len(content), item.time, cell, item.label is not None))
        if same is None:
            self._metrics.collected_inputs.labels(item.model, item.reasons[0]).inc()
        for _other in gone:
            self._drop(item.model, "full")
        self._show(item.model)

    def _write(self, model: str, digest: str, content: bytes) -> None:
        staged = self._path(model, f"{digest}.tmp")
        os.makedirs(os.path.dirname(staged), mode=0o750, exist_ok=True)
        try:
            # Only the service's user and group may read it.
            descriptor = os.open(staged, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o640)
            with open(descriptor, "wb") as file:
                file.write(content)
            os.rename(staged, self._path(model, file_name(digest)))
        except OSError:
            with contextlib.suppress(OSError):
                os.unlink(staged)
            raise

    def _remove(self, model: str, digest: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._path(model, file_name(digest)))
        self._reservoirs[model].remove(digest)

    def _note_taken(self, model: str) -> None:
        """The controller takes what it wants at any time."""
        names: list[str] = []
        with contextlib.suppress(FileNotFoundError):
            names = os.listdir(self._path(model, ""))
        self._reservoirs[model].retain({digest for digest in map(digest_of, names) if digest is not None})

    def _scan(self, model: str) -> None:
        """Find what an earlier process kept of a model; remove what is damaged, unfinished or too much."""
        reservoir = self._reservoirs[model]
        for name in sorted(os.listdir(self._path(model, ""))):
            path, digest = self._path(model, name), digest_of(name)
            item = None if digest is None else _read(path, digest)
            if digest is None or item is None:
                with contextlib.suppress(OSError):
                    os.unlink(path)
                continue
            size = os.stat(path).st_size
            cell = Cell(item.reasons[0], item.predicted if isinstance(item.predicted, int) else None, _hour(item.time))
            gone = reservoir.admit(cell, size)
            for other in [digest] if gone is None else gone:
                self._remove(model, other)
            if gone is not None:
                reservoir.put(digest, Held(size, item.time, cell, item.label is not None))

    def _remove_others(self, directory: str) -> None:
        """Remove the inputs of models that none may be kept of any more."""
        wanted = {directory_name(model) for model in self._rules}
        with contextlib.suppress(FileNotFoundError):
            for name in sorted(set(os.listdir(directory)) - wanted):
                _log.info("collected inputs are removed: no rule allows them", name=name)
                remove_tree(os.path.join(directory, name))
            if not wanted:
                os.rmdir(directory)

    def _path(self, model: str, name: str) -> str:
        return os.path.join(str(self._directory), directory_name(model), name)

    # ---- metrics ----

    def _show(self, model: str) -> None:
        self._metrics.collected_waiting.labels(model).set(len(self._reservoirs[model]))
        self._metrics.collected_waiting_bytes.labels(model).set(self._reservoirs[model].bytes)

    def _drop(self, model: str, reason: str) -> None:
        self._metrics.collected_dropped.labels(model, reason).inc()


def _hour(seconds: float) -> int:
    return int(seconds // _HOUR_SECONDS)


def _read(path: str, digest: str) -> CollectedInput | None:
    """The input in a file; None for one that a power cut damaged."""
    try:
        with open(path, "rb") as file:
            item = unpack(file.read(INPUT_BYTES_MAX + 1))
    except (OSError, CollectedInputError):
        return None
    return item if item.digest == digest else None


def _unpacked(content: bytes) -> Iterator[CollectedInput]:
    at = 0
    while at < len(content):
        start = at + 4
        at = start + int.from_bytes(content[at:start], "little")
        yield unpack(content[start:at])


def _scores(record: Record) -> Array | None:
    """The scores of the classes in the output with the answers, one row for each of the request's."""
    values, form = answer_in(record.outputs, record.form)
    if (form or UNKNOWN).task not in (None, Task.CLASS_SCORES):
        return None
    if values is None or values.dtype.kind != "f" or values.ndim != 2 or values.shape[1] < 2:
        return None
    return values if has_rows(values, rows_of(record.inputs)) else None


def _margins(record: Record) -> Array | None:
    """By how much the highest score of each row is above the second; NaN where a score is NaN."""
    scores = _scores(record)
    if scores is None or not len(scores):
        return None
    highest = np.partition(scores, -2, axis=1)[:, -2:]
    margins: Array = highest[:, 1] - highest[:, 0]
    margins[np.isnan(scores).any(axis=1)] = np.nan
    return margins


def _inputs(record: Record, rows: Sequence[int], reasons: Mapping[str, Array]) -> Iterator[CollectedInput]:
    """The rows of a request with these numbers."""
    scores = _scores(record)
    output, form = answer_in(record.outputs, record.form)
    predictions: Sequence[Any] | None = None
    if scores is not None and not np.isnan(scores).any():
        predictions = scores.argmax(axis=1).tolist()
    elif output is not None:
        predictions = predictions_of(output, form)
    if predictions is not None and len(predictions) != rows_of(record.inputs):
        predictions = None
    for row in rows:
        tensors = tuple(
            Tensor(name, datatype_of(values), tuple(values.shape[1:]), to_binary(values[row : row + 1]))
            for name, values in sorted(record.inputs.items())
        )
        why = tuple(reason for reason in REASONS if reason in reasons and reasons[reason][row])
        predicted = None if predictions is None or isinstance(predictions[row], list) else predictions[row]
        yield CollectedInput(record.model, record.version, record.time, why, tensors, predicted)
