# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Drift: do live inputs and outputs look like those that the release was made with?

A release's reference file says how some statistics of its tensors were distributed, for example the mean of each row of
an input or the highest of the scores of an output. The same statistics of live rows are counted in the same bins; when
a window of rows is full, the two distributions are compared:

PSI (population stability index): the sum over the bins of (a - e) ln(a / e), a and e the actual and expected shares.
Without any drift it is not 0: n actual and m expected rows in B bins give (1/n + 1/m) times a chi-squared variable with
B - 1 degrees of freedom (Yurdakul and Naranjo, Statistical properties of the population stability index, Journal of
Risk Model Validation 14(4), 2020), on average (B - 1)(1/n + 1/m), which is taken off here. The usual reading is: below
0.1 no drift, above 0.25 a large one (Siddiqi, Credit Risk Scorecards, 2006).

KS (Kolmogorov-Smirnov): the largest difference of the two cumulative distributions, here at the edges of the bins, so
that it is never too large. It is significant at level p above sqrt(-ln(p / 2) / 2 * (n + m) / (n m)) (Smirnov, Table
for estimating the goodness of fit of empirical distributions, Annals of Mathematical Statistics 19(2), 1948).
"""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from edgeml_server.common.log import Log
from edgeml_server.common.tensors import Array

from .metrics import Metrics
from .prediction_log import Record
from .reference import Series

_KS_LEVEL = 0.001
# A bin in which nothing was seen would make the PSI infinite.
_PSEUDO_COUNT = 0.5
# A bin with so many times the rows that it should have is one that the drift consists of.
_CROWDED_RATIO = 2.0
_JOINED_BYTES_MAX = 256 << 10

_log = Log(__name__)


class Comparison(NamedTuple):
    """``psi`` without its bias; ``ks`` and the value above which it is significant, None for bins without an order."""

    psi: float
    ks: float | None
    ks_limit: float

    def drifted(self, psi_limit: float) -> bool:
        """Whether the difference is both large and no accident."""
        return self.psi > psi_limit and (self.ks is None or self.ks > self.ks_limit)


def compare(expected: Array, actual: Array, ordered: bool) -> Comparison:
    """Compare the counts of two histograms with the same bins."""
    m, n, bins = float(expected.sum()), float(actual.sum()), len(expected)
    expected_shares = (expected + _PSEUDO_COUNT) / (m + _PSEUDO_COUNT * bins)
    actual_shares = (actual + _PSEUDO_COUNT) / (n + _PSEUDO_COUNT * bins)
    psi = float(((actual_shares - expected_shares) * np.log(actual_shares / expected_shares)).sum())
    bias = (bins - 1) * (1 / n + 1 / m)
    ks = float(np.abs(np.cumsum(actual) / n - np.cumsum(expected) / m).max()) if ordered else None
    return Comparison(max(0.0, psi - bias), ks, math.sqrt(-math.log(_KS_LEVEL / 2) / 2 * (n + m) / (n * m)))


def crowded(expected: Array, actual: Array) -> Array:
    """For each bin of two histograms, whether it has far more of the ``actual`` rows than it should."""
    bins = len(expected)
    expected_shares = (expected + _PSEUDO_COUNT) / (expected.sum() + _PSEUDO_COUNT * bins)
    return actual / actual.sum() > _CROWDED_RATIO * expected_shares


class _Window:
    """What was counted since the last comparison, for one version that serves."""

    def __init__(self, version: str, series: tuple[Series, ...]) -> None:
        self.version = version
        self.series = series
        self.alarms: dict[str, bool] = {}
        # Of the series with an alarm, the bins that the drift consists of.
        self.crowded: dict[str, Array] = {}
        self.counts = {series.name: np.zeros(len(series.counts), np.int64) for series in self.series}


class DriftMonitor:
    """Counts the rows of the versions that have a reference; every ``window`` rows compares, reports, begins anew."""

    def __init__(self, window: int, psi_limit: float, metrics: Metrics) -> None:
        self._window = window
        self._psi_limit = psi_limit
        self._metrics = metrics
        self._lock = threading.Lock()
        self._watched: dict[str, _Window] = {}

    def watch(self, model: str, version: str, series: tuple[Series, ...]) -> None:
        """From now on count the rows of this version of the model or part; of none, if there are no ``series``."""
        with self._lock:
            self._forget(model)
            if series:
                self._watched[model] = _Window(version, series)

    def forget(self, model: str) -> None:
        """Stop counting the rows of the model, and of its parts."""
        with self._lock:
            for name in [name for name in self._watched if name == model or name.startswith(f"{model}/")]:
                self._forget(name)

    def watches(self, model: str, version: str) -> bool:
        """Whether rows of this version are counted."""
        watched = self._watched.get(model)
        return watched is not None and watched.version == version

    def drifting_rows(self, record: Record) -> Array | None:
        """Which rows of a request the drift consists of: those in crowded bins of a series that has an alarm. None
        where no alarm is on, or a series speaks of something else than the request's rows."""
        with self._lock:
            watched = self._watched.get(record.model)
            if watched is None or watched.version != record.version or not watched.crowded:
                return None
            found: Array | None = None
            for series in watched.series:
                bins = watched.crowded.get(series.name)
                (tensor,) = _joined(series.tensor, [record]) or [None]
                if bins is None or tensor is None:
                    continue
                rows = bins[series.bins(series.values(tensor))]
                if found is not None and len(found) != len(rows):
                    return None
                found = rows if found is None else found | rows
            return found

    def add(self, records: Sequence[Record]) -> None:
        """Count the rows of these requests, which succeeded."""
        groups: dict[str, list[Record]] = {}
        for record in records:
            if self.watches(record.model, record.version):
                groups.setdefault(record.model, []).append(record)
        with self._lock:
            for model, group in groups.items():
                watched = self._watched.get(model)
                if watched is not None and watched.version == group[0].version:
                    self._count(model, watched, group)

    def _count(self, model: str, watched: _Window, records: Sequence[Record]) -> None:
        tensors: dict[str, list[Array]] = {}
        for series in watched.series:
            if series.tensor not in tensors:
                tensors[series.tensor] = _joined(series.tensor, records)
            for tensor in tensors[series.tensor]:
                watched.counts[series.name] += series.histogram(series.values(tensor))
            if watched.counts[series.name].sum() >= self._window:
                self._compare(model, watched, series)

    def _compare(self, model: str, watched: _Window, series: Series) -> None:
        result = compare(series.counts, watched.counts[series.name], ordered=series.edges is not None)
        crowded_bins = crowded(series.counts, watched.counts[series.name])
        watched.counts[series.name][:] = 0
        labels = _labels(model, watched.version, series)
        self._metrics.drift_psi.labels(*labels).set(result.psi)
        if result.ks is not None:
            self._metrics.drift_ks.labels(*labels).set(result.ks)
        alarm = result.drifted(self._psi_limit)
        self._metrics.drift_alarm.labels(*labels).set(alarm)
        self._metrics.drift_windows.labels(*labels).inc()
        if alarm != watched.alarms.get(series.name, False):
            fields = {"model": model, "version": watched.version, "series": series.name, "psi": result.psi}
            if alarm:
                _log.warning("drift", **fields)
            else:
                _log.info("drift is over", **fields)
        watched.alarms[series.name] = alarm
        watched.crowded.pop(series.name, None)
        if alarm:
            watched.crowded[series.name] = crowded_bins

    def _forget(self, model: str) -> None:
        watched = self._watched.pop(model, None)
        if watched is not None:
            for series in watched.series:
                self._metrics.forget_drift(*_labels(model, watched.version, series))


def _labels(name: str, version: str, series: Series) -> tuple[str, str, str]:
    """The labels of a series: of a part of a pipeline the model's, and the part's name before the series'."""
    model, separator, part = name.partition("/")
    return model, version, f"{part}{separator}{series.name}"


def _joined(name: str, records: Sequence[Record]) -> list[Array]:
    """The tensors of that name in all records, those with rows of one shape as one unless they are large."""
    found = [record.inputs[name] if name in record.inputs else record.outputs.get(name) for record in records]
    tensors = [tensor for tensor in found if tensor is not None and tensor.size]
    if len(tensors) < 2 or not tensors[0].ndim or len({tensor.shape[1:] for tensor in tensors}) > 1:
        return tensors
    # To copy them would cost more than it saves.
    if sum(tensor.nbytes for tensor in tensors) > _JOINED_BYTES_MAX:
        return tensors
    return [np.concatenate(tensors)]
