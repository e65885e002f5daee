# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""All metrics in Prometheus' text format, by prometheus_client, with those that it has of any process."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
    SummaryMetricFamily,
)
from prometheus_client.exposition import generate_latest

from .series import Family


class _Collector:
    """What prometheus_client asks for metrics."""

    def __init__(self) -> None:
        self.families: Sequence[Family[Any]] = ()

    def collect(self) -> Iterable[Metric]:
        return [_metric(family) for family in self.families]


_OURS = _Collector()
_REGISTRY = CollectorRegistry()
for _of_any_process in (ProcessCollector, PlatformCollector, GCCollector):
    _of_any_process(registry=_REGISTRY)
_REGISTRY.register(_OURS)


def write(families: Sequence[Family[Any]]) -> bytes:
    """Return all series in Prometheus' text format."""
    _OURS.families = families
    return generate_latest(_REGISTRY)


def _metric(family: Family[Any]) -> Any:
    about = (family.name, family.text)
    metric: Any
    if family.kind == "histogram":
        metric = HistogramMetricFamily(*about, labels=family.label_names)
        for values, child in family.series():
            metric.add_metric(values, child.buckets(), child.sum)
    elif family.kind == "summary":
        metric = SummaryMetricFamily(*about, labels=family.label_names)
        for values, child in family.series():
            metric.add_metric(values, child.count, child.sum)
    else:
        kind = CounterMetricFamily if family.kind == "counter" else GaugeMetricFamily
        metric = kind(*about, labels=family.label_names)
        for values, child in family.series():
            metric.add_metric(values, child.value)
    return metric
