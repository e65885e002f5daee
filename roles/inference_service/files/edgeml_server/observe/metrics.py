# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""All metrics of the server, for Prometheus."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any, Callable

from edgeml_server import __version__
from edgeml_server.common.memory import memory_headroom

from .series import Distribution, Family, Number

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
EXPOSITION = "edgeml_server.observe.exposition"
"""The module that the first scrape imports."""

_DURATION_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)

_ROWS_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Metrics:
    """The metrics of one server. ``in_flight`` returns how many inferences wait or run, ``waiting`` how many wait."""

    def __init__(self, in_flight: Callable[[], int], waiting: Callable[[], int]) -> None:
        self.families: list[Family[Any]] = []
        self.requests = self._numbers(
            "counter",
            "edgeml_inference_requests_total",
            "Inference requests answered, by HTTP status code; model and version are empty when unknown.",
            ["model", "version", "code"],
        )
        self.duration = self._distributions(
            "histogram",
            "edgeml_inference_duration_seconds",
            "Time from the arrival of an inference request's last byte to its reply, waiting included; successes only.",
            ["model", "version"],
            buckets=_DURATION_BUCKETS,
        )
        self._part_requests = self._numbers(
            "counter",
            "edgeml_part_requests_total",
            "Inference requests to one part of a pipeline answered, by HTTP status code.",
            ["model", "version", "part", "code"],
        )
        self._part_duration = self._distributions(
            "histogram",
            "edgeml_part_duration_seconds",
            "As edgeml_inference_duration_seconds, for one part of a pipeline.",
            ["model", "version", "part"],
            buckets=_DURATION_BUCKETS,
        )
        self._numbers(
            "gauge",
            "edgeml_inference_in_flight_requests",
            "Inferences that wait or run.",
        ).only.set_function(in_flight)
        self._numbers(
            "gauge",
            "edgeml_inference_waiting_requests",
            "Inferences that wait for one of the threads.",
        ).only.set_function(waiting)
        self._numbers(
            "gauge",
            "edgeml_server_info",
            "1; the server's version.",
            ["version"],
        ).labels(__version__).set(1)
        self.unauthorized = self._numbers(
            "counter",
            "edgeml_http_unauthorized_total",
            "Requests over TCP without a good credential.",
        ).only
        self.refused_handshakes = self._numbers(
            "counter",
            "edgeml_tls_handshakes_refused_total",
            "TLS handshakes that failed, such as those of clients without a good certificate.",
        ).only
        self.reloads = self._numbers(
            "counter",
            "edgeml_reloads_total",
            "Reloads of certificates and credentials that came to their end, failed ones too.",
        ).only
        self.reload_successful = self._numbers(
            "gauge",
            "edgeml_reload_successful",
            "1 if the last reload of certificates and credentials succeeded, or none was asked for; else 0.",
        ).only
        self.reload_successful.set(1)
        self.connections = self._numbers(
            "gauge",
            "edgeml_http_connections",
            "Open connections.",
        ).only
        self.dropped_connections = self._numbers(
            "counter",
            "edgeml_http_connections_dropped_total",
            "Connections closed: of slow clients, or because there were too many (crowded).",
            ["reason"],
        )
        self.model_info = self._numbers(
            "gauge",
            "edgeml_model_info",
            "1 for the version of each model that serves now; digest is that of the release's manifest.",
            ["model", "version", "variant", "digest"],
        )
        self.load_duration = self._numbers(
            "gauge",
            "edgeml_model_load_duration_seconds",
            "Time that loading, warming up and testing the version that serves now took.",
            ["model", "version"],
        )
        self.swaps = self._numbers(
            "counter",
            "edgeml_model_swaps_total",
            "Attempts to serve another version of a model, by outcome: succeeded or failed.",
            ["model", "outcome"],
        )

        self.logged_records = self._numbers(
            "counter", "edgeml_prediction_log_rows_total", "Rows written to the prediction log."
        ).only
        self.dropped_records = self._numbers(
            "counter",
            "edgeml_prediction_log_dropped_total",
            "Requests that were not noted because the queue was full or the log could not be written.",
        ).only
        self.log_bytes = self._numbers(
            "gauge", "edgeml_prediction_log_bytes", "Bytes of the prediction log's file that hold rows."
        ).only

        self.collected_inputs = self._numbers(
            "counter",
            "edgeml_collected_inputs_total",
            "Inputs that were kept for retraining, by the first reason.",
            ["model", "reason"],
        )
        self.collected_dropped = self._numbers(
            "counter",
            "edgeml_collected_inputs_dropped_total",
            "Inputs for retraining that were not kept, or gave way: no room (full), too large, no rows (shape), "
            "too many at once (queue), or the disk.",
            ["model", "reason"],
        )
        self.collected_waiting = self._numbers(
            "gauge",
            "edgeml_collected_inputs_waiting",
            "Inputs that are kept until the controller takes them.",
            ["model"],
        )
        self.collected_waiting_bytes = self._numbers(
            "gauge",
            "edgeml_collected_inputs_waiting_bytes",
            "Bytes of the inputs that are kept until the controller takes them.",
            ["model"],
        )

        self.labels = self._numbers(
            "counter",
            "edgeml_feedback_labels_total",
            "True labels that came back for predictions of classes, by whether the prediction was right or wrong.",
            ["model", "version", "outcome"],
        )
        self.accuracy = self._numbers(
            "gauge",
            "edgeml_feedback_accuracy_ratio",
            "Share of right predictions among the last 500 that a true label came back for.",
            ["model", "version"],
        )
        self.label_error = self._distributions(
            "summary",
            "edgeml_feedback_absolute_error",
            "Absolute errors of predictions of numbers that a true value came back for.",
            ["model", "version"],
        )
        drift_labels = ["model", "version", "series"]
        self.drift_psi = self._numbers(
            "gauge",
            "edgeml_drift_psi",
            "Population stability index of the last full window against the release's reference, without its bias.",
            drift_labels,
        )
        self.drift_ks = self._numbers(
            "gauge",
            "edgeml_drift_ks",
            "Kolmogorov-Smirnov distance of the last full window from the release's reference.",
            drift_labels,
        )
        self.drift_alarm = self._numbers(
            "gauge",
            "edgeml_drift_alarm",
            "1 if the last full window differed from the release's reference by much, and significantly.",
            drift_labels,
        )
        self.drift_windows = self._numbers(
            "counter",
            "edgeml_drift_windows_total",
            "Windows that were compared with the release's reference.",
            drift_labels,
        )

        self._numbers(
            "gauge",
            "edgeml_memory_available_bytes",
            "Memory that the server may still take: the machine's, or what its control group's limit leaves.",
        ).only.set_function(lambda: memory_headroom().bytes)
        self.batch_rows = self._distributions(
            "histogram",
            "edgeml_inference_batch_rows",
            "Rows that ran together, of models whose requests are batched.",
            ["model", "version"],
            buckets=_ROWS_BUCKETS,
        )
        self.shadow_rows = self._numbers(
            "counter",
            "edgeml_shadow_rows_total",
            "Rows of copies of requests for a candidate version, by outcome: agreed, disagreed, failed or dropped.",
            ["model", "version", "outcome"],
        )
        self.shadow_requests = self._numbers(
            "counter",
            "edgeml_shadow_requests_total",
            "Copies of requests that a candidate version answered, or failed at.",
            ["model", "version"],
        )
        self.shadow_distance = self._distributions(
            "summary",
            "edgeml_shadow_output_distance",
            "Largest absolute difference between the answers of the candidate and of the active version.",
            ["model", "version"],
        )
        self.shadow_duration = self._distributions(
            "summary",
            "edgeml_shadow_run_duration_seconds",
            "Processor time that the model took for the same requests: the candidate's and the active version's.",
            ["model", "version", "role"],
        )

        self._of_versions = (
            *(self.requests, self.duration, self.model_info, self.load_duration, self.batch_rows),
            *(self.labels, self.accuracy, self.label_error),
            *(self.drift_psi, self.drift_ks, self.drift_alarm, self.drift_windows),
            *(self.shadow_rows, self.shadow_requests, self.shadow_distance, self.shadow_duration),
            *(self._part_requests, self._part_duration),
        )
        self._versions: dict[str, set[str]] = {}

    def count_request(self, model: str, version: str, part: str, *, code: int) -> None:
        """Count an inference request; ``part`` is empty for a model that is no pipeline."""
        self.requests.labels(model, version, str(code)).inc()
        if part and model:
            self._part_requests.labels(model, version, part, str(code)).inc()

    def observe_duration(self, model: str, version: str, part: str, *, seconds: float) -> None:
        """Note how long an answered inference request took."""
        self.duration.labels(model, version).observe(seconds)
        if part:
            self._part_duration.labels(model, version, part).observe(seconds)

    def add_version(self, model: str, version: str) -> None:
        """Register a version that has series from now on."""
        self._versions.setdefault(model, set()).add(version)

    def versions(self, model: str) -> set[str]:
        """The versions of the model that have series."""
        return set(self._versions.get(model, ()))

    def forget_version(self, model: str, version: str) -> None:
        """Remove all series of a version that neither serves nor shadows."""
        self._versions.get(model, set()).discard(version)
        for metric in self._of_versions:
            metric.remove_all({"model": model, "version": version})

    def forget_drift(self, *labels: str) -> None:
        """Remove the drift series of a version whose rows are counted no more."""
        for metric in (self.drift_psi, self.drift_ks, self.drift_alarm, self.drift_windows):
            metric.remove(*labels)

    def exposition(self) -> bytes:
        """Return all series in Prometheus' text format."""
        written: bytes = importlib.import_module(EXPOSITION).write(self.families)
        return written

    def _numbers(self, kind: str, name: str, text: str, labels: Sequence[str] = ()) -> Family[Number]:
        family = Family(kind, name, text, Number, labels)
        self.families.append(family)
        return family

    def _distributions(
        self, kind: str, name: str, text: str, labels: Sequence[str] = (), buckets: Sequence[float] = ()
    ) -> Family[Distribution]:
        family = Family(kind, name, text, lambda: Distribution(buckets), labels)
        self.families.append(family)
        return family
