# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""What is measured on a serving model: its accuracy on the labelled probe set, and the server's own metrics."""

from __future__ import annotations

import contextlib
import json
import math
import re
import time
from typing import Any, Dict, Mapping, Tuple

from .._common.errors import ServerError, StoreError
from .client import Server

BATCH_ROWS = 32
# The key of the latency histogram among what was counted.
BUCKETS = "latency_buckets"

_SAMPLE = re.compile(r"(?P<name>[a-zA-Z_:][\w:]*)(?:\{(?P<labels>.*)\})? (?P<value>\S+)\Z")
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


def probe_accuracy(server: Server, model: str, probe_path: str) -> dict[str, Any]:
    """Send the labelled probe set to the server and compare its answers with the labels.

    Returns ``version`` (which answered), ``samples``, ``correct``, ``accuracy`` (0 to 1) and
    ``latency_seconds`` (the median time of one batch of at most 32 rows, as seen from this device).
    Raises StoreError for a damaged probe set and ServerError when a request fails.
    """
    source, labels, output = _read_probe(probe_path)
    rows, shape = len(labels), source["shape"]
    row_size = len(source["data"]) // rows
    correct, times, version = 0, [], None
    for start in range(0, rows, BATCH_ROWS):
        count = min(BATCH_ROWS, rows - start)
        batch = {**source, "shape": [count, *shape[1:]]}
        batch["data"] = source["data"][start * row_size : (start + count) * row_size]
        began = time.monotonic()
        reply = server.infer(model, {"inputs": [batch], "outputs": [{"name": output}]})
        times.append(time.monotonic() - began)
        version = reply.get("model_version")
        answers = _answers(reply, count, f"{server.address}: {model}")
        correct += sum(answer == label for answer, label in zip(answers, labels[start:]))
    return {
        "version": version,
        "samples": rows,
        "correct": correct,
        "accuracy": round(correct / rows, 6),
        "latency_seconds": round(sorted(times)[len(times) // 2], 6),
    }


def request_counts(metrics: str, model: str, version: str) -> dict[str, Any]:
    """Return what the server counted for one version of a model, from its metrics in Prometheus' text format.

    ``requests`` leaves out those that were the client's mistake (status 400 to 499); ``errors`` have status 500 and
    above; ``timed`` were answered as asked, ``latency_seconds_sum`` is over them, and ``latency_buckets`` are pairs of
    a time in seconds and how many took no longer, ascending.
    """
    return _request_counts(_of_version(parse_metrics(metrics), model, version))


def measure(metrics: str, model: str, version: str) -> dict[str, Any]:
    """All that the server tells of one version of a model, from its metrics in Prometheus' text format.

    ``requests`` as ``request_counts`` returns them; ``labels``: how many predictions were ``right`` and ``wrong`` by
    the labels that came back; ``drift``: for each series of the release's reference ``psi`` and whether it is an
    ``alarm``, of the last full window, and how many ``windows`` were compared; ``shadow``: copies of requests that it
    answered as a candidate, by outcome; ``resident_bytes`` and ``started`` (seconds of the epoch) of the server's
    process, None where it does not tell.
    """
    samples = parse_metrics(metrics)
    own = _of_version(samples, model, version)
    process = {name: value for name, labels, value in samples if not labels and math.isfinite(value)}
    resident = process.get("process_resident_memory_bytes")
    return {
        "requests": _request_counts(own),
        "labels": _by_outcome(own, "edgeml_feedback_labels_total", ("right", "wrong")),
        "drift": _drift(own),
        "shadow": _by_outcome(own, "edgeml_shadow_requests_total", ("agreed", "disagreed", "failed", "dropped")),
        # 0 is what an emulated kernel tells, not what anything takes.
        "resident_bytes": int(resident) if resident else None,
        "started": process.get("process_start_time_seconds"),
    }


def counted_since(begun: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, Any]:
    """What was counted since ``begun``, both as ``request_counts`` or an outcome's counts return it; a counter that is
    lower than it was began anew, and all with it."""
    if any(now[name] < begun.get(name, 0) for name in now if name != BUCKETS):
        return dict(now)
    since = {name: now[name] - begun.get(name, 0) for name in now if name != BUCKETS}
    if BUCKETS in now:
        earlier = dict(begun.get(BUCKETS, []))
        since[BUCKETS] = [[edge, count - earlier.get(edge, 0)] for edge, count in now[BUCKETS]]
    return since


def parse_metrics(text: str) -> list[tuple[str, dict[str, str], float]]:
    """The samples of Prometheus' text format: name, labels, value."""
    samples = []
    for line in text.splitlines():
        match = _SAMPLE.match(line)
        if match:
            with contextlib.suppress(ValueError):
                labels = dict(_LABEL.findall(match["labels"] or ""))
                samples.append((match["name"], labels, float(match["value"])))
    return samples


Sample = Tuple[str, Dict[str, str], float]


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


def _answers(reply: Mapping[str, Any], rows: int, origin: str) -> list[int]:
    """The class with the highest score in each row of a reply's first output."""
    try:
        scores = reply["outputs"][0]["data"]
        classes, rest = divmod(len(scores), rows)
        if rest:
            raise ValueError(f"{len(scores)} scores")
        table = [scores[row * classes : (row + 1) * classes] for row in range(rows)]
        return [row.index(max(row)) for row in table]
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise ServerError(f"{origin}: expected scores for {rows} rows; found no such output: {error!r}") from error


def _read_probe(path: str) -> tuple[Mapping[str, Any], list[int], str]:
    try:
        with open(path, "rb") as file:
            document = json.loads(file.read().decode("utf-8"))
        source, labels, output = document["inputs"][0], document["labels"], document["output"]
        data, shape = source["data"], source["shape"]
        if not (isinstance(labels, list) and isinstance(data, list) and isinstance(shape, list)):
            raise TypeError("labels, data and shape: expected lists")
        if not labels or not data or shape[0] != len(labels) or len(data) % len(labels):
            raise ValueError(f"{len(labels)} labels for shape {shape} with {len(data)} values")
        return source, labels, output
    except (OSError, ValueError, KeyError, IndexError, TypeError, RecursionError) as error:
        raise StoreError(f"{path}: damaged probe set: {error!r}") from error
