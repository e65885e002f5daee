# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the model repository reports: which versions serve, and how loading them went."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Callable

from edgeml_server.common.tensors import Array

from .answers import AnswerForm
from .collector import InputCollector
from .drift import DriftMonitor
from .metrics import Metrics
from .prediction_log import Record
from .reference import Series
from .shadow import Candidate, MirroredRequest, Shadow


class ModelObserver:
    """Keeps the metrics and the drift monitor in step with what serves."""

    def __init__(self, metrics: Metrics, drift: DriftMonitor, collector: InputCollector) -> None:
        self._metrics = metrics
        self._drift = drift
        self._collector = collector

    def serves(
        self,
        model: str,
        version: str,
        *,
        variant: str,
        digest: str,
        load_seconds: float,
        references: Mapping[str, tuple[Series, ...]],
    ) -> None:
        """Report that a version serves from now on. ``references`` are those of its parts by the name under which each
        is served, empty for one without a reference."""
        self._metrics.add_version(model, version)
        self._metrics.model_info.labels(model, version, variant, digest).set(1)
        self._metrics.load_duration.labels(model, version).set(load_seconds)
        self._metrics.swaps.labels(model, "succeeded").inc()
        self._drift.forget(model)
        for name, reference in references.items():
            self._drift.watch(name, version, reference)

    def serves_no_more(self, model: str, version: str, *, variant: str, digest: str) -> None:
        """Report that another version serves instead of this one, or none, beside its requests in flight."""
        self._metrics.model_info.remove(model, version, variant, digest)
        self._metrics.load_duration.remove(model, version)

    def freed(self, model: str, version: str, serving: str | None) -> None:
        """Report that a version is freed: no request to it is left, nor are shadows from before ``serving``."""
        for gone in {version, *self._metrics.versions(model)} - {serving}:
            self._metrics.forget_version(model, gone)

    def unloaded(self, model: str) -> None:
        """Report that no version of the model serves."""
        self._drift.forget(model)

    def failed(self, model: str) -> None:
        """Report that a version could not be loaded."""
        self._metrics.swaps.labels(model, "failed").inc()

    def batch_rows(self, model: str, version: str) -> Callable[[int], None]:
        """Return the function that takes the number of rows of each batch that runs."""
        observe: Callable[[int], None] = self._metrics.batch_rows.labels(model, version).observe
        return observe

    def start_shadow(
        self,
        model: str,
        version: str,
        candidate: Candidate,
        active_version: str,
        *,
        timed: bool,
        form: AnswerForm | None,
    ) -> Shadow:
        """Start to mirror requests for ``active_version`` to ``candidate``; ``timed``: time both. ``form`` is what the
        candidate's release says of its answers."""
        self._metrics.add_version(model, version)

        def disagreed(request: MirroredRequest, rows: Array) -> None:
            inputs, outputs = request.inputs, request.outputs
            record = Record(
                time.time(), model, active_version, None, 200, request.seconds, inputs, outputs, None, form=form
            )
            self._collector.offer_disagreement(record, rows, request.size)

        return Shadow(model, version, candidate, active_version, self._metrics, timed, disagreed, form)
