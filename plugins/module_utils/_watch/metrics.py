# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""The metrics of a device beside those of its server, and how they are written in Prometheus' text format. Pure.

What collects them, the documentation, the alert rules and the dashboards are held to this table.
"""

from __future__ import annotations

from typing import Dict, Iterable, Mapping, NamedTuple, Sequence, Tuple

Sample = Tuple[str, Dict[str, str], float]


class Metric(NamedTuple):
    """A metric: its name, its type in Prometheus, the unit of its values, what it says, and its labels.

    ``source`` is where it is from: ``server`` for the inference server's ``/metrics``, ``device`` for ``edgeml
    metrics``, ``controller`` for the playbook ``status``.
    """

    name: str
    type: str
    unit: str
    help: str
    labels: tuple[str, ...] = ()
    source: str = "device"


def gauge(name: str, unit: str, text: str, *labels: str) -> Metric:
    """A metric of the type gauge."""
    return Metric(name, "gauge", unit, text, labels)


DEVICE_METRICS: tuple[Metric, ...] = (
    gauge("edgeml_store_free_bytes", "bytes", "Bytes that are free on the disk of the store."),
    gauge("edgeml_store_size_bytes", "bytes", "Size of the disk of the store."),
    gauge("edgeml_store_reserve", "0 or 1", "1 if what a way back needs on a full disk is set aside."),
    gauge("edgeml_store_damaged_models", "models", "Models whose state or versions cannot be read."),
    gauge(
        "edgeml_version_info",
        "1",
        "1 for the active version of each model, and for the previous one.",
        *("model", "version", "role"),
    ),
    gauge("edgeml_trial_active", "0 or 1", "1 while the active version is on trial.", "model"),
    gauge(
        "edgeml_reverted_timestamp_seconds",
        "seconds since 1970",
        "When the device went back by itself last; 0 if it never did.",
        "model",
    ),
    gauge("edgeml_failed_versions", "versions", "Versions that failed here and are not tried again.", "model"),
    gauge("edgeml_withdrawn_active", "0 or 1", "1 if the active version is withdrawn, as the device knows.", "model"),
    gauge(
        "edgeml_way_back_ready",
        "0 or 1",
        "1 if the device can return to this version without a network; empty: there is none.",
        *("model", "version"),
    ),
    gauge("edgeml_fetch_bytes", "bytes", "Bytes of a release that is fetched ahead.", "model", "version"),
    gauge("edgeml_fetch_held_bytes", "bytes", "Bytes of it that the device holds.", "model", "version"),
    gauge(
        "edgeml_pull_problem",
        "0 or 1",
        "1 if something keeps a device that pulls from following its desired state.",
    ),
    gauge("edgeml_pull_desired_version", "number", "The version of the desired state that was followed last."),
    gauge("edgeml_pull_queued_reports", "reports", "Reports that wait to be delivered."),
    gauge(
        "edgeml_expiry_timestamp_seconds",
        "seconds since 1970",
        "When the server's certificate, the device's certificate or the signed metadata ends.",
        "of",
    ),
    gauge("edgeml_temperature_celsius", "degrees Celsius", "Temperature of a sensor of the board.", "sensor"),
    gauge("edgeml_throttled", "0 or 1", "1 while the board slows itself down, by cause.", "cause"),
    gauge("edgeml_power_watts", "watts", "Power that a sensor of the board measures.", "sensor"),
    gauge("edgeml_forward_queued_batches", "batches", "Minutes that are recorded and not known to be stored."),
    gauge(
        "edgeml_forward_aside_batches",
        "batches",
        "Recorded minutes that are kept and not sent: of a time that nobody knows, or not stored by the receiver.",
    ),
    Metric(
        "edgeml_forward_lost_batches_total",
        "counter",
        "batches",
        "Recorded minutes that had to make room for newer ones, or were damaged, since the device started.",
    ),
    gauge(
        "edgeml_forward_clock_error_seconds",
        "seconds",
        "By how much the device's clock is ahead of the receiver's.",
    ),
)
_ESCAPES = str.maketrans({"\\": "\\\\", '"': '\\"', "\n": "\\n"})


def exposition(samples: Iterable[Sample], table: Sequence[Metric] = DEVICE_METRICS) -> str:
    """Write samples in Prometheus' text format, in the order of the table. Raises KeyError for a metric that is not in
    the table, and ValueError for other labels than it has there."""
    labels_of = {metric.name: metric.labels for metric in table}
    found: dict[str, list[str]] = {}
    for name, labels, value in samples:
        if tuple(labels) != labels_of[name]:
            raise ValueError(f"{name}: expected the labels {labels_of[name]}; found {tuple(labels)}")
        found.setdefault(name, []).append(f"{name}{_labels_text(labels)} {_number(value)}")
    lines = []
    for metric in table:
        if metric.name in found:
            lines += [f"# HELP {metric.name} {metric.help}", f"# TYPE {metric.name} {metric.type}", *found[metric.name]]
    return "".join(f"{line}\n" for line in lines)


def _labels_text(labels: Mapping[str, str]) -> str:
    texts = (f'{name}="{value.translate(_ESCAPES)}"' for name, value in labels.items())
    return f"{{{','.join(texts)}}}" if labels else ""


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(float(value))
