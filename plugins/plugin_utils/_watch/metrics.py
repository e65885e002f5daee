# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""All metrics of a fleet, in one table: those of the inference server, of its device, and of the controller. Pure."""

from __future__ import annotations

from typing import Iterable

from ansible_collections.edgeml.fleet.plugins.module_utils._watch.metrics import (
    DEVICE_METRICS,
    Metric,
    Sample,
    exposition,
    gauge,
)


def _server(name: str, kind: str, unit: str, text: str, *labels: str) -> Metric:
    return Metric(name, kind, unit, text, labels, "server")


SERVER_METRICS: tuple[Metric, ...] = (
    _server(
        "edgeml_inference_requests_total",
        "counter",
        "requests",
        "Inference requests answered, by HTTP status code; model and version are empty when unknown.",
        "model",
        "version",
        "code",
    ),
    _server(
        "edgeml_inference_duration_seconds",
        "histogram",
        "seconds",
        "Time from the arrival of an inference request's last byte to its reply, waiting included; successes only.",
        "model",
        "version",
    ),
    _server(
        "edgeml_part_requests_total",
        "counter",
        "requests",
        "Inference requests to one part of a pipeline answered, by HTTP status code.",
        "model",
        "version",
        "part",
        "code",
    ),
    _server(
        "edgeml_part_duration_seconds",
        "histogram",
        "seconds",
        "As edgeml_inference_duration_seconds, for one part of a pipeline.",
        "model",
        "version",
        "part",
    ),
    _server("edgeml_inference_in_flight_requests", "gauge", "requests", "Inferences that wait or run."),
    _server("edgeml_inference_waiting_requests", "gauge", "requests", "Inferences that wait for one of the threads."),
    _server("edgeml_server_info", "gauge", "1", "1; the server's version.", "version"),
    _server("edgeml_http_unauthorized_total", "counter", "requests", "Requests over TCP without a good credential."),
    _server(
        "edgeml_tls_handshakes_refused_total",
        "counter",
        "handshakes",
        "TLS handshakes that failed, such as those of clients without a good certificate.",
    ),
    _server(
        "edgeml_reloads_total",
        "counter",
        "reloads",
        "Reloads of certificates and credentials that came to their end, failed ones too.",
    ),
    _server(
        "edgeml_reload_successful",
        "gauge",
        "0 or 1",
        "1 if the last reload of certificates and credentials succeeded, or none was asked for; else 0.",
    ),
    _server("edgeml_http_connections", "gauge", "connections", "Open connections."),
    _server(
        "edgeml_http_connections_dropped_total",
        "counter",
        "connections",
        "Connections closed: of slow clients, or because there were too many (crowded).",
        "reason",
    ),
    _server(
        "edgeml_model_info",
        "gauge",
        "1",
        "1 for the version of each model that serves now; digest is that of the release's manifest.",
        "model",
        "version",
        "variant",
        "digest",
    ),
    _server(
        "edgeml_model_load_duration_seconds",
        "gauge",
        "seconds",
        "Time that loading, warming up and testing the version that serves now took.",
        "model",
        "version",
    ),
    _server(
        "edgeml_model_swaps_total",
        "counter",
        "swaps",
        "Attempts to serve another version of a model, by outcome: succeeded or failed.",
        "model",
        "outcome",
    ),
    _server("edgeml_prediction_log_rows_total", "counter", "rows", "Rows written to the prediction log."),
    _server(
        "edgeml_prediction_log_dropped_total",
        "counter",
        "requests",
        "Requests that were not noted because the queue was full or the log could not be written.",
    ),
    _server("edgeml_prediction_log_bytes", "gauge", "bytes", "Bytes of the prediction log's file that hold rows."),
    _server(
        "edgeml_collected_inputs_total",
        "counter",
        "inputs",
        "Inputs that were kept for retraining, by the first reason.",
        "model",
        "reason",
    ),
    _server(
        "edgeml_collected_inputs_dropped_total",
        "counter",
        "inputs",
        "Inputs for retraining that were not kept, or gave way: no room (full), too large, no rows (shape), "
        "too many at once (queue), or the disk.",
        "model",
        "reason",
    ),
    _server(
        "edgeml_collected_inputs_waiting",
        "gauge",
        "inputs",
        "Inputs that are kept until the controller takes them.",
        "model",
    ),
    _server(
        "edgeml_collected_inputs_waiting_bytes",
        "gauge",
        "bytes",
        "Bytes of the inputs that are kept until the controller takes them.",
        "model",
    ),
    _server(
        "edgeml_feedback_labels_total",
        "counter",
        "labels",
        "True labels that came back for predictions of classes, by whether the prediction was right or wrong.",
        "model",
        "version",
        "outcome",
    ),
    _server(
        "edgeml_feedback_accuracy_ratio",
        "gauge",
        "0 to 1",
        "Share of right predictions among the last 500 that a true label came back for.",
        "model",
        "version",
    ),
    _server(
        "edgeml_feedback_absolute_error",
        "summary",
        "of the predictions",
        "Absolute errors of predictions of numbers that a true value came back for.",
        "model",
        "version",
    ),
    _server(
        "edgeml_drift_psi",
        "gauge",
        "1",
        "Population stability index of the last full window against the release's reference, without its bias.",
        "model",
        "version",
        "series",
    ),
    _server(
        "edgeml_drift_ks",
        "gauge",
        "0 to 1",
        "Kolmogorov-Smirnov distance of the last full window from the release's reference.",
        "model",
        "version",
        "series",
    ),
    _server(
        "edgeml_drift_alarm",
        "gauge",
        "0 or 1",
        "1 if the last full window differed from the release's reference by much, and significantly.",
        "model",
        "version",
        "series",
    ),
    _server(
        "edgeml_drift_windows_total",
        "counter",
        "windows",
        "Windows that were compared with the release's reference.",
        "model",
        "version",
        "series",
    ),
    _server(
        "edgeml_memory_available_bytes",
        "gauge",
        "bytes",
        "Memory that the server may still take: the machine's, or what its control group's limit leaves.",
    ),
    _server(
        "edgeml_inference_batch_rows",
        "histogram",
        "rows",
        "Rows that ran together, of models whose requests are batched.",
        "model",
        "version",
    ),
    _server(
        "edgeml_shadow_rows_total",
        "counter",
        "rows",
        "Rows of copies of requests for a candidate version, by outcome: agreed, disagreed, failed or dropped.",
        "model",
        "version",
        "outcome",
    ),
    _server(
        "edgeml_shadow_requests_total",
        "counter",
        "requests",
        "Copies of requests that a candidate version answered, or failed at.",
        "model",
        "version",
    ),
    _server(
        "edgeml_shadow_output_distance",
        "summary",
        "of the outputs",
        "Largest absolute difference between the answers of the candidate and of the active version.",
        "model",
        "version",
    ),
    _server(
        "edgeml_shadow_run_duration_seconds",
        "summary",
        "seconds",
        "Processor time that the model took for the same requests: the candidate's and the active version's.",
        "model",
        "version",
        "role",
    ),
)

# What the playbook status writes beside its page.
CONTROLLER_METRICS: tuple[Metric, ...] = tuple(
    metric._replace(source="controller")
    for metric in (
        gauge(
            "edgeml_fleet_made_timestamp_seconds",
            "seconds since 1970",
            "When the playbook status wrote these metrics.",
        ),
        gauge(
            "edgeml_fleet_seen_timestamp_seconds",
            "seconds since 1970",
            "When the device answered last; 0 if it never did.",
            *("device", "device_class"),
        ),
        gauge(
            "edgeml_fleet_on_release",
            "0 or 1",
            "1 if the device was on this release, which the ledger has for it, when it was seen last; else 0.",
            *("device", "model", "version"),
        ),
        gauge("edgeml_fleet_devices", "devices", "Devices by what they need: bad, waits or good.", "attention"),
    )
)

METRICS: tuple[Metric, ...] = (*SERVER_METRICS, *DEVICE_METRICS, *CONTROLLER_METRICS)


def controller_exposition(samples: Iterable[Sample]) -> str:
    """Write the controller's samples in Prometheus' text format."""
    return exposition(samples, CONTROLLER_METRICS)


def markdown_table(source: str) -> str:
    """Return the metrics of a source as a table of the documentation."""
    lines = ["| metric | type | unit | labels | meaning |", "|---|---|---|---|---|"]
    for metric in METRICS:
        if metric.source == source:
            labels = ", ".join(f"`{label}`" for label in metric.labels) or "\N{EN DASH}"
            lines.append(f"| `{metric.name}` | {metric.type} | {metric.unit} | {labels} | {metric.help} |")
    return "".join(f"{line}\n" for line in lines)
