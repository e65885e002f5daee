# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""For each alert the series that make it fire, and those that must not: in promtool's notation, a value a minute."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class Case(NamedTuple):
    """``fires`` and ``silent`` are series with their values; at the minute ``at`` the alert fires for ``labels``."""

    at: str
    labels: Mapping[str, str]
    fires: Mapping[str, str]
    silent: Mapping[str, str]


# 100 days after 1970 is later than any test lasts.
_LATER = str(100 * 86400)
_EDGE = {"device": "edge-1"}
_MODEL = {**_EDGE, "model": "digits"}
_VERSION = {**_MODEL, "version": "1.1.0"}
_OF = 'device="edge-1"'
_OF_MODEL = f'{_OF}, model="digits"'
_OF_VERSION = f'{_OF_MODEL}, version="1.1.0"'
_DEVICE_UP = f'up{{job="edgeml-device", {_OF}}}'
_SERVER_UP = f'up{{job="edgeml-server", {_OF}}}'
_REQUESTS = f'edgeml_inference_requests_total{{{_OF_VERSION}, code="'
_SUM = f"edgeml_inference_duration_seconds_sum{{{_OF_VERSION}}}"
_COUNT = f"edgeml_inference_duration_seconds_count{{{_OF_VERSION}}}"
_WANTED = f"edgeml_fleet_wanted_info{{{_OF_VERSION}}}"
_TEXTFILE = f'node_textfile_mtime_seconds{{job="edgeml-device", {_OF}, file="/x/edgeml.prom"}}'


def _gauge(name: str, labels: Mapping[str, str], fires: str, silent: str, at: str = "90m") -> Case:
    """An alert on one series that stays at a value."""
    series = f"{name}{{{', '.join(f'{label}={value!r}' for label, value in labels.items())}}}".replace("'", '"')
    return Case(at, labels, {series: f"{fires}x1500"}, {series: f"{silent}x1500"})


CASES: Mapping[str, Case] = {
    "EdgemlDeviceAway": Case("20m", {**_EDGE, "job": "edgeml-device"}, {_DEVICE_UP: "0x60"}, {_DEVICE_UP: "0x10 1x50"}),
    "EdgemlDeviceNeverSeen": _gauge("edgeml_fleet_seen_timestamp_seconds", _EDGE, "0", "1", "1460m"),
    "EdgemlMetricsOld": Case(
        "30m",
        {**_EDGE, "job": "edgeml-device", "file": "/x/edgeml.prom"},
        {_TEXTFILE: "0x60"},
        {_TEXTFILE: "0+60x60"},
    ),
    "EdgemlThrottled": _gauge("edgeml_throttled", {**_EDGE, "cause": "undervoltage"}, "1", "0"),
    "EdgemlStoreFull": Case(
        "40m",
        _EDGE,
        {f"edgeml_store_free_bytes{{{_OF}}}": "9x60", f"edgeml_store_size_bytes{{{_OF}}}": "100x60"},
        {f"edgeml_store_free_bytes{{{_OF}}}": "11x60", f"edgeml_store_size_bytes{{{_OF}}}": "100x60"},
    ),
    "EdgemlStoreDamaged": _gauge("edgeml_store_damaged_models", _EDGE, "1", "0"),
    "EdgemlExpires": _gauge(
        "edgeml_expiry_timestamp_seconds", {**_EDGE, "of": "server_certificate"}, str(13 * 86400), _LATER
    ),
    "EdgemlPullProblem": _gauge("edgeml_pull_problem", _EDGE, "1", "0"),
    "EdgemlForwardSilent": Case(
        "40m",
        _EDGE,
        {f"edgeml_forward_queued_batches{{{_OF}}}": "0x10 _x60"},
        {f"edgeml_forward_queued_batches{{{_OF}}}": "0x10 _x10 0x60"},
    ),
    "EdgemlForwardLoses": _gauge("edgeml_forward_aside_batches", _EDGE, "1", "0"),
    "EdgemlClockWrong": _gauge("edgeml_forward_clock_error_seconds", _EDGE, "-61", "59"),
    "EdgemlServiceDown": Case(
        "10m",
        {**_EDGE, "job": "edgeml-server"},
        {_SERVER_UP: "0x60", _DEVICE_UP: "1x60"},
        {_SERVER_UP: "0x60", _DEVICE_UP: "0x60"},
    ),
    "EdgemlTrialReverted": _gauge("edgeml_reverted_timestamp_seconds", _MODEL, "60", "-100000"),
    "EdgemlErrorRate": Case(
        "40m",
        _VERSION,
        {f'{_REQUESTS}200"}}': "0+9x60", f'{_REQUESTS}500"}}': "0+1x60"},
        # A client's mistakes are none of the model's.
        {f'{_REQUESTS}200"}}': "0+99x60", f'{_REQUESTS}500"}}': "0+1x60", f'{_REQUESTS}400"}}': "0+900x60"},
    ),
    "EdgemlLatencyRise": Case(
        "180m",
        _MODEL,
        {_SUM: "0+1x120 122+2x80", _COUNT: "0+100x200"},
        {_SUM: "0+1x120 121+1.3x80", _COUNT: "0+100x200"},
    ),
    "EdgemlDrift": _gauge("edgeml_drift_alarm", {**_VERSION, "series": "pixel mean"}, "1", "0"),
    "EdgemlAccuracyDrop": Case(
        "190m",
        _VERSION,
        {f"edgeml_feedback_accuracy_ratio{{{_OF_VERSION}}}": "0.95x150 0.85x60"},
        {f"edgeml_feedback_accuracy_ratio{{{_OF_VERSION}}}": "0.95x150 0.91x60"},
    ),
    "EdgemlMemoryHeadroom": _gauge("edgeml_memory_available_bytes", _EDGE, str(60 << 20), str(70 << 20)),
    "EdgemlLogDrops": Case(
        "90m",
        _EDGE,
        {f"edgeml_prediction_log_dropped_total{{{_OF}}}": "0+1x120"},
        {f"edgeml_prediction_log_dropped_total{{{_OF}}}": "7x120"},
    ),
    "EdgemlWithdrawnActive": _gauge("edgeml_withdrawn_active", _MODEL, "1", "0"),
    "EdgemlNoWayBack": Case(
        "60m",
        {**_MODEL, "version": "1.0.0"},
        {f'edgeml_way_back_ready{{{_OF_MODEL}, version="1.0.0"}}': "0x90"},
        # After a first installation there is none, which is no news.
        {
            f'edgeml_way_back_ready{{{_OF_MODEL}, version="1.0.0"}}': "1x90",
            f'edgeml_way_back_ready{{{_OF_MODEL}, version=""}}': "0x90",
        },
    ),
    "EdgemlNotOnRelease": Case(
        "90m",
        _VERSION,
        {
            _WANTED: "1x120",
            f'edgeml_version_info{{{_OF_MODEL}, version="1.0.0", role="active"}}': "1x120",
            f'edgeml_version_info{{{_OF_VERSION}, role="previous"}}': "1x120",
            _DEVICE_UP: "1x120",
        },
        {_WANTED: "1x120", f'edgeml_version_info{{{_OF_VERSION}, role="active"}}': "1x120", _DEVICE_UP: "1x120"},
    ),
}
