# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""The dashboards for Grafana: fleet, rollout, device. Each panel explains itself by the table of metrics. Pure."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from .metrics import METRICS

SCHEMA_VERSION = 39
_COLUMNS, _WIDTH, _HEIGHT = 24, 8, 8
# What a metric's name may end with beside the table's.
_SUFFIX = re.compile(r"_(bucket|sum|count)$")
_NAME = re.compile(r"\bedgeml_\w+")


class Panel(NamedTuple):
    """A panel: its title, its expression in PromQL, the unit in Grafana's words, and how its series are called."""

    title: str
    expr: str
    unit: str = "short"
    legend: str = ""
    kind: str = "timeseries"


# What the expressions of one dashboard choose by; Grafana's variables.
_MODEL = 'model=~"$model"'
_DEVICE = 'device=~"$device"'
_RATE = "[$__rate_interval]"
_VERSION = "{{model}} {{version}}"


def _quantile(share: float, by: str, where: str) -> str:
    buckets = f"rate(edgeml_inference_duration_seconds_bucket{{{where}}}{_RATE})"
    return f"histogram_quantile({share}, sum by ({by}, le) ({buckets}))"


def _error_share(by: str, where: str) -> str:
    def requests(code: str) -> str:
        return f"sum by ({by}) (rate(edgeml_inference_requests_total{{{where}, {code}}}{_RATE}))"

    # A client's mistake is not the model's. Where nothing has failed there is no series to divide, and the share is 0.
    failed, answered = requests('code=~"5.."'), requests('code!~"4.."')
    return f"({failed} or 0 * {answered}) / {answered}"


FLEET = (
    Panel("Devices by what they need", "edgeml_fleet_devices", legend="{{attention}}", kind="stat"),
    Panel("Devices that answer", 'sum(up{job="edgeml-device"})', kind="stat"),
    Panel(
        "Devices not on the ledger's release",
        "count(edgeml_fleet_on_release == 0 unless on (device, model, version) "
        'edgeml_version_info{role="active"}) or vector(0)',
        kind="stat",
    ),
    Panel(
        "Devices by active version",
        'count by (model, version) (edgeml_version_info{role="active"})',
        legend=_VERSION,
    ),
    Panel("Models on trial", "sum by (model) (edgeml_trial_active)", legend="{{model}}"),
    Panel(
        "Devices that went back by themselves in the last day",
        "sum by (model) (edgeml_reverted_timestamp_seconds > bool time() - 86400)",
        legend="{{model}}",
    ),
    Panel("Devices without a way back", "sum by (model) (1 - edgeml_way_back_ready)", legend="{{model}}"),
    Panel("Share of failed requests", _error_share("model, version", 'model!=""'), "percentunit", _VERSION),
    Panel("95th percentile of the latency", _quantile(0.95, "model, version", 'model!=""'), "s", _VERSION),
    Panel("Series with a drift alarm", "sum by (model, version) (edgeml_drift_alarm)", legend=_VERSION),
    Panel(
        "Least accurate device, by labels",
        "min by (model, version) (edgeml_feedback_accuracy_ratio)",
        "percentunit",
        _VERSION,
    ),
    Panel("What ends first", "min by (of) (edgeml_expiry_timestamp_seconds) - time()", "s", "{{of}}"),
    Panel(
        "Fullest stores", "bottomk(10, edgeml_store_free_bytes / edgeml_store_size_bytes)", "percentunit", "{{device}}"
    ),
    Panel("Hottest devices", "topk(10, max by (device) (edgeml_temperature_celsius))", "celsius", "{{device}}"),
    Panel("Throttled devices", "sum by (cause) (edgeml_throttled)", legend="{{cause}}"),
)
ROLLOUT = (
    Panel(
        "Devices by active version",
        f'count by (version) (edgeml_version_info{{{_MODEL}, role="active"}})',
        legend="{{version}}",
    ),
    Panel("Devices on trial", f"sum(edgeml_trial_active{{{_MODEL}}})", kind="stat"),
    Panel(
        "Versions that failed on devices", f"sum by (model) (edgeml_failed_versions{{{_MODEL}}})", legend="{{model}}"
    ),
    Panel(
        "Requests",
        f"sum by (version) (rate(edgeml_inference_requests_total{{{_MODEL}}}{_RATE}))",
        "reqps",
        "{{version}}",
    ),
    Panel("Share of failed requests", _error_share("version", _MODEL), "percentunit", "{{version}}"),
    Panel("Median of the latency", _quantile(0.5, "version", _MODEL), "s", "{{version}}"),
    Panel("95th percentile of the latency", _quantile(0.95, "version", _MODEL), "s", "{{version}}"),
    Panel(
        "Labels",
        f"sum by (version, outcome) (increase(edgeml_feedback_labels_total{{{_MODEL}}}[1h]))",
        legend="{{version}} {{outcome}}",
    ),
    Panel(
        "Accuracy by labels",
        f"avg by (version) (edgeml_feedback_accuracy_ratio{{{_MODEL}}})",
        "percentunit",
        "{{version}}",
    ),
    Panel("Drift", f"max by (version, series) (edgeml_drift_psi{{{_MODEL}}})", legend="{{version}} {{series}}"),
    Panel(
        "Shadow",
        f"sum by (version, outcome) (increase(edgeml_shadow_rows_total{{{_MODEL}}}[1h]))",
        legend="{{version}} {{outcome}}",
    ),
    Panel(
        "Swaps",
        f"sum by (outcome) (increase(edgeml_model_swaps_total{{{_MODEL}}}[1h]))",
        legend="{{outcome}}",
    ),
    Panel(
        "Fetched ahead",
        f"sum(edgeml_fetch_held_bytes{{{_MODEL}}}) / sum(edgeml_fetch_bytes{{{_MODEL}}})",
        "percentunit",
    ),
    Panel("Least memory left", "min(edgeml_memory_available_bytes)", "bytes"),
)
DEVICE = (
    Panel("Serves", f"edgeml_model_info{{{_DEVICE}}}", legend=f"{_VERSION} {{{{variant}}}}", kind="table"),
    Panel("Can return to", f"edgeml_way_back_ready{{{_DEVICE}}}", legend=_VERSION, kind="table"),
    Panel("Ends in", f"edgeml_expiry_timestamp_seconds{{{_DEVICE}}} - time()", "s", "{{of}}", "stat"),
    Panel(
        "Requests",
        f"sum by (model, code) (rate(edgeml_inference_requests_total{{{_DEVICE}}}{_RATE}))",
        "reqps",
        "{{model}} {{code}}",
    ),
    Panel("Median of the latency", _quantile(0.5, "model", _DEVICE), "s", "{{model}}"),
    Panel("95th percentile of the latency", _quantile(0.95, "model", _DEVICE), "s", "{{model}}"),
    Panel("Inferences that wait or run", f"edgeml_inference_in_flight_requests{{{_DEVICE}}}"),
    Panel("Memory left to the server", f"edgeml_memory_available_bytes{{{_DEVICE}}}", "bytes"),
    Panel("Memory of the server", f'process_resident_memory_bytes{{job="edgeml-server", {_DEVICE}}}', "bytes"),
    Panel("Store: bytes free", f"edgeml_store_free_bytes{{{_DEVICE}}}", "bytes"),
    Panel("Drift", f"edgeml_drift_psi{{{_DEVICE}}}", legend="{{model}} {{version}} {{series}}"),
    Panel("Accuracy by labels", f"edgeml_feedback_accuracy_ratio{{{_DEVICE}}}", "percentunit", _VERSION),
    Panel("Temperature", f"edgeml_temperature_celsius{{{_DEVICE}}}", "celsius", "{{sensor}}"),
    Panel("Throttled", f"edgeml_throttled{{{_DEVICE}}}", legend="{{cause}}"),
    Panel("Power", f"edgeml_power_watts{{{_DEVICE}}}", "watt", "{{sensor}}"),
    Panel("Requests that were not logged", f"increase(edgeml_prediction_log_dropped_total{{{_DEVICE}}}[1h])"),
    Panel("Reports that wait", f"edgeml_pull_queued_reports{{{_DEVICE}}}"),
    Panel("Cannot follow its desired state", f"edgeml_pull_problem{{{_DEVICE}}}"),
)
# Of each: its title, its panels, and the label that a reader chooses by.
DASHBOARDS: dict[str, tuple[str, tuple[Panel, ...], str]] = {
    "fleet": ("Fleet", FLEET, ""),
    "rollout": ("Rollout", ROLLOUT, "model"),
    "device": ("Device", DEVICE, "device"),
}


def dashboard(name: str) -> dict[str, Any]:
    """Return a dashboard as Grafana imports it; it asks for the data source then."""
    title, panels, chosen = DASHBOARDS[name]
    return {
        "__inputs": [{"name": "DS", "label": "Prometheus", "type": "datasource", "pluginId": "prometheus"}],
        "uid": f"edgeml-{name}",
        "title": f"edgeml: {title}",
        "tags": ["edgeml"],
        "schemaVersion": SCHEMA_VERSION,
        "editable": True,
        "refresh": "1m",
        "time": {"from": "now-24h", "to": "now"},
        "templating": {"list": [_variable(chosen)] if chosen else []},
        "panels": [_panel(number, panel) for number, panel in enumerate(panels)],
    }


def asked_metrics(expr: str) -> set[str]:
    """Return the names of this collection's metrics in an expression, as the table has them."""
    known = {metric.name for metric in METRICS}
    return {name if name in known else _SUFFIX.sub("", name) for name in _NAME.findall(expr)}


def _variable(label: str) -> dict[str, Any]:
    asked = "edgeml_version_info" if label == "model" else "edgeml_model_info"
    return {
        "name": label,
        "label": label,
        "type": "query",
        "datasource": {"type": "prometheus", "uid": "${DS}"},
        "query": f"label_values({asked}, {label})",
        "refresh": 2,
        "includeAll": True,
        "multi": True,
        "current": {},
    }


def _panel(number: int, panel: Panel) -> dict[str, Any]:
    helps = {metric.name: metric.help for metric in METRICS}
    in_row = _COLUMNS // _WIDTH
    return {
        "id": number + 1,
        "title": panel.title,
        "description": "\n".join(f"{name}: {helps[name]}" for name in sorted(asked_metrics(panel.expr))),
        "type": panel.kind,
        "datasource": {"type": "prometheus", "uid": "${DS}"},
        "gridPos": {"x": number % in_row * _WIDTH, "y": number // in_row * _HEIGHT, "w": _WIDTH, "h": _HEIGHT},
        "fieldConfig": {"defaults": {"unit": panel.unit}, "overrides": []},
        "options": {},
        "targets": [
            {
                "refId": "A",
                "expr": panel.expr,
                "legendFormat": panel.legend or "__auto",
                **({"instant": True, "format": "table"} if panel.kind == "table" else {}),
            }
        ],
    }
