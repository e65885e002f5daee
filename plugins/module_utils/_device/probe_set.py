# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""The probe set: labelled questions that are put to a serving model, to measure its accuracy."""

from __future__ import annotations

import json
import time
from typing import Any, Mapping

from .._common.errors import ServerError, StoreError
from .client import Server

BATCH_ROWS = 32


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
