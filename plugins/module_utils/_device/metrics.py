# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""The server's own metrics, in Prometheus' text format: what it counted of one version of a model. Pure."""

from __future__ import annotations

import contextlib
import math
import re
from typing import Any, Dict, Mapping, Tuple

# The key of the latency histogram among what was counted.
BUCKETS = "latency_buckets"

Sample = Tuple[str, Dict[str, str], float]

_SAMPLE = re.compile(r"(?P<name>[a-zA-Z_:][\w:]*)(?:\{(?P<labels>.*)\})? (?P<value>\S+)\Z")
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


def request_counts(metrics: str, model: str, version: str) -> dict[str, Any]:
    """Return what the server counted for one version of a model.

    ``requests`` leaves out those that were the client's mistake (status 400 to 499); ``errors`` have status 500 and
    above; ``timed`` were answered, ``latency_seconds_sum`` is over them, and ``latency_buckets`` are pairs of a time in
    seconds and how many took no longer, ascending.
    """
    return _request_counts(_of_version(parse_metrics(metrics), model, version))


def measure(metrics: str, model: str, version: str) -> dict[str, Any]:
    """Return everything that the metrics say of one version of a model.

    ``requests`` as ``request_counts`` returns them; ``labels``: how many predictions were ``right`` and ``wrong`` by
    the labels that clients sent; ``drift``: for each series of the release's reference ``psi`` and whether there is an
    ``alarm``, of the last full window, and how many ``windows`` were compared; ``shadow``: the rows of the copies of
    requests that it answered as a candidate, by outcome, and how many ``requests`` were answered or failed;
    ``resident_bytes`` and ``started`` (seconds of the epoch) of the server's process, None where the server does not
    report them.
    """
    samples = parse_metrics(metrics)
    own = _of_version(samples, model, version)
    return {
        "requests": _request_counts(own),
        "labels": _by_outcome(own, "edgeml_feedback_labels_total", ("right", "wrong")),
        "drift": _drift(own),
        "shadow": _shadow(own),
        **_process(samples),
    }


def measure_candidate(metrics: str, model: str, version: str) -> dict[str, Any]:
    """Return what the metrics say of a version that answers copies of requests.

    ``shadow`` and ``resident_bytes`` as ``measure`` does; ``model_seconds``: the processor time that the ``candidate``
    and the ``active`` version took for the same ``timed`` requests.
    """
    samples = parse_metrics(metrics)
    own = _of_version(samples, model, version)
    name = "edgeml_shadow_run_duration_seconds"
    sums = {labels.get("role"): value for found, labels, value in own if found == f"{name}_sum"}
    timed = [value for found, _labels, value in own if found == f"{name}_count"]
    return {
        "shadow": _shadow(own),
        "model_seconds": {
            "timed": int(min(timed, default=0)),
            "active": sums.get("active", 0.0),
            "candidate": sums.get("candidate", 0.0),
        },
        "resident_bytes": _process(samples)["resident_bytes"],
    }


def server_counts(metrics: str) -> dict[str, Any]:
    """Return what the server counted for all models together: ``requests``, ``errors``, ``timed`` and
    ``latency_seconds_sum``, as ``request_counts`` does, and ``resident_bytes``."""
    measured = measure_server(metrics)
    counts = {name: value for name, value in measured["requests"].items() if name != BUCKETS}
    return {**counts, "resident_bytes": measured["resident_bytes"]}


def measure_server(metrics: str) -> dict[str, Any]:
    """Return what the metrics say of the server with all of its models: ``requests``, ``resident_bytes`` and
    ``started``, as ``measure`` does."""
    samples = [sample for sample in parse_metrics(metrics) if math.isfinite(sample[2])]
    by_model: dict[tuple[str, str], list[Sample]] = {}
    for name, labels, value in samples:
        by_model.setdefault((labels.get("model", ""), labels.get("version", "")), []).append((name, labels, value))
    total: dict[str, Any] = _request_counts([])
    edges: dict[float, int] = {}
    for found in map(_request_counts, by_model.values()):
        for name in total:
            if name != BUCKETS:
                total[name] += found[name]
        for edge, count in found[BUCKETS]:
            edges[edge] = edges.get(edge, 0) + count
    return {"requests": {**total, BUCKETS: sorted([edge, count] for edge, count in edges.items())}, **_process(samples)}


def counted_since(begun: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, Any]:
    """Return what was counted since ``begun``; both are counts by name, as ``request_counts`` returns them.

    If a counter is lower than it was, the server counts from 0 again, and the result is ``now``.
    """
    if any(now[name] < begun.get(name, 0) for name in now if name != BUCKETS):
        return dict(now)
    since = {name: now[name] - begun.get(name, 0) for name in now if name != BUCKETS}
    if BUCKETS in now:
        earlier = dict(begun.get(BUCKETS, []))
        since[BUCKETS] = [[edge, count - earlier.get(edge, 0)] for edge, count in now[BUCKETS]]
    return since


def parse_metrics(text: str) -> list[tuple[str, dict[str, str], float]]:
    """Return the samples of a page in Prometheus' text format: name, labels, value."""
    samples = []
    for line in text.splitlines():
        match = _SAMPLE.match(line)
        if match:
            with contextlib.suppress(ValueError):
                labels = dict(_LABEL.findall(match["labels"] or ""))
                samples.append((match["name"], labels, float(match["value"])))
    return samples


def _process(samples: list[Sample]) -> dict[str, Any]:
    """What the server's process says of itself."""
    process = {name: value for name, labels, value in samples if not labels and math.isfinite(value)}
    resident = process.get("process_resident_memory_bytes")
    return {
        # An emulated kernel reports 0, which no process takes.
        "resident_bytes": int(resident) if resident else None,
        "started": process.get("process_start_time_seconds"),
    }


def _of_version(samples: list[Sample], model: str, version: str) -> list[Sample]:
    """The finite samples of one version of a model."""
    return [
        (name, labels, value)
        for name, labels, value in samples
        if labels.get("model") == model and labels.get("version") == version and math.isfinite(value)
    ]


def _request_counts(samples: list[Sample]) -> dict[str, Any]:
    counts: dict[str, Any] = {"requests": 0, "errors": 0, "timed": 0, "latency_seconds_sum": 0.0}
    buckets = []
    for name, labels, value in samples:
        if name == "edgeml_inference_requests_total":
            code = labels.get("code", "")
            # A client's mistake says nothing about the version that refused it.
            counts["requests"] += 0 if code.startswith("4") else int(value)
            counts["errors"] += int(value) if code.startswith("5") else 0
        elif name == "edgeml_inference_duration_seconds_count":
            counts["timed"] = int(value)
        elif name == "edgeml_inference_duration_seconds_sum":
            counts["latency_seconds_sum"] = value
        elif name == "edgeml_inference_duration_seconds_bucket":
            with contextlib.suppress(ValueError):
                edge = float(labels.get("le", ""))
                if math.isfinite(edge):
                    buckets.append([edge, int(value)])
    return {**counts, BUCKETS: sorted(buckets)}


def _shadow(own: list[Sample]) -> dict[str, int]:
    rows = _by_outcome(own, "edgeml_shadow_rows_total", ("agreed", "disagreed", "failed", "dropped"))
    requests = [int(value) for name, _labels, value in own if name == "edgeml_shadow_requests_total"]
    return {**rows, "requests": sum(requests)}


def _by_outcome(samples: list[Sample], series: str, outcomes: tuple[str, ...]) -> dict[str, int]:
    found = {labels.get("outcome"): int(value) for name, labels, value in samples if name == series}
    return {outcome: found.get(outcome, 0) for outcome in outcomes}


def _drift(samples: list[Sample]) -> list[dict[str, Any]]:
    names = {"edgeml_drift_psi": "psi", "edgeml_drift_alarm": "alarm", "edgeml_drift_windows_total": "windows"}
    found: dict[str, dict[str, Any]] = {}
    for name, labels, value in samples:
        if name in names:
            found.setdefault(labels.get("series", ""), {})[names[name]] = value
    return [
        {
            "series": series,
            "psi": round(values.get("psi", 0.0), 6),
            "alarm": values.get("alarm", 0.0) > 0,
            "windows": int(values.get("windows", 0)),
        }
        for series, values in sorted(found.items())
    ]
