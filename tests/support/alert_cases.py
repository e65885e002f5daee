# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""For each alert the series that make it fire, and those that must not: in promtool's notation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple


class Case(NamedTuple):
    """``fires`` and ``silent`` are series with a value each ``interval``; at the time ``at`` the alert fires for
    ``labels``."""

    at: str
    labels: Mapping[str, str]
    fires: Mapping[str, str]
    silent: Mapping[str, str]
    interval: str = "1m"


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
_RIGHT = f'edgeml_feedback_labels_total{{{_OF_VERSION}, outcome="right"}}'
_WRONG = f'edgeml_feedback_labels_total{{{_OF_VERSION}, outcome="wrong"}}'
_ON_RELEASE = f"edgeml_fleet_on_release{{{_OF_VERSION}}}"
_ON_CONTROLLER = 'job="edgeml-controller", instance="controller:9100"'
_MADE = f"edgeml_fleet_made_timestamp_seconds{{{_ON_CONTROLLER}}}"
_SEEN = f"edgeml_fleet_seen_timestamp_seconds{{{_ON_CONTROLLER}, {_OF}}}"
_REVERTED = f"edgeml:reverted_timestamp_seconds:max{{{_OF_MODEL}}}"
_STARTED = f'process_start_time_seconds{{job="edgeml-server", {_OF}}}'
_CLOCK = f'node_time_seconds{{job="edgeml-device", {_OF}}}'
_TEXTFILE = f'node_textfile_mtime_seconds{{job="edgeml-device", {_OF}, file="/x/edgeml.prom"}}'


def _gauge(name: str, labels: Mapping[str, str], fires: str, silent: str, at: str = "90m") -> Case:
    """An alert on one series that stays at a value."""
    series = f"{name}{{{', '.join(f'{label}={value!r}' for label, value in labels.items())}}}".replace("'", '"')
    return Case(at, labels, {series: f"{fires}x1500"}, {series: f"{silent}x1500"})


CASES: Mapping[str, Case] = {
    "EdgemlDeviceAway": Case("20m", {**_EDGE, "job": "edgeml-device"}, {_DEVICE_UP: "0x60"}, {_DEVICE_UP: "0x10 1x50"}),
    "EdgemlDeviceNeverSeen": _gauge("edgeml_fleet_seen_timestamp_seconds", _EDGE, "0", "1", "1460m"),
    "EdgemlDeviceLost": Case(
        "170h",
        {**_EDGE, "job": "edgeml-controller", "instance": "controller:9100"},
        {_MADE: "0+300x2050", _SEEN: "1x2050"},
        {_MADE: "0+300x2050", _SEEN: "0x2050"},
        "5m",
    ),
    "EdgemlStatusOld": Case(
        "50h",
        {"job": "edgeml-controller", "instance": "controller:9100"},
        {_MADE: "0x700"},
        {_MADE: "0x300 86400x400"},
        "5m",
    ),
    "EdgemlMetricsOld": Case(
        "30m",
        {**_EDGE, "job": "edgeml-device", "file": "/x/edgeml.prom"},
        {_CLOCK: "0+60x60", _TEXTFILE: "0x60", _DEVICE_UP: "1x60"},
        {_CLOCK: "0+60x60", _TEXTFILE: "0+60x60", _DEVICE_UP: "1x60"},
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
    "EdgemlServiceRestarts": Case(
        "70m", {**_EDGE, "job": "edgeml-server"}, {_STARTED: "0+60x90"}, {_STARTED: "0x30 1800x30 3600x30"}
    ),
    "EdgemlTrialReverted": Case("25h", _MODEL, {_REVERTED: "0x200 60000x300"}, {_REVERTED: "60x500"}, "5m"),
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
    # Of 20 labels an hour one is wrong, then four, or two.
    "EdgemlAccuracyDrop": Case(
        "168h",
        _VERSION,
        {_RIGHT: "0+19x148 2828+16x24", _WRONG: "0+1x148 152+4x24"},
        {_RIGHT: "0+19x148 2830+18x24", _WRONG: "0+1x148 150+2x24"},
        "1h",
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
            _ON_RELEASE: "0x120",
            f'edgeml_version_info{{{_OF_MODEL}, version="1.0.0", role="active"}}': "1x120",
            f'edgeml_version_info{{{_OF_VERSION}, role="previous"}}': "1x120",
            _DEVICE_UP: "1x120",
        },
        # It has come to the release since the playbook status ran.
        {_ON_RELEASE: "0x120", f'edgeml_version_info{{{_OF_VERSION}, role="active"}}': "1x120", _DEVICE_UP: "1x120"},
    ),
}


class OddCase(NamedTuple):
    """What a fleet shows that is no textbook's: whether ``alert`` fires then, at the time ``at``."""

    title: str
    alert: str
    at: str
    fires: bool
    series: Mapping[str, str]
    interval: str = "1m"


ODD_CASES: Sequence[OddCase] = (
    OddCase("a file that was never written", "EdgemlMetricsOld", "30m", True, {_DEVICE_UP: "1x60"}),
    OddCase(
        "a device that forwards and has no file",
        "EdgemlMetricsOld",
        "30m",
        False,
        {_DEVICE_UP: "1x60", f"edgeml_forward_queued_batches{{{_OF}}}": "0x60"},
    ),
    OddCase("a device that sleeps and has no file", "EdgemlMetricsOld", "30m", False, {_DEVICE_UP: "0x60"}),
    OddCase(
        "a clock an hour behind, and a file of this minute",
        "EdgemlMetricsOld",
        "90m",
        False,
        {_CLOCK: "-3600+60x120", _TEXTFILE: "-3600+60x120", _DEVICE_UP: "1x120"},
    ),
    OddCase(
        "a clock an hour ahead, and a file that is old",
        "EdgemlMetricsOld",
        "40m",
        True,
        {_CLOCK: "3600+60x120", _TEXTFILE: "3600x120", _DEVICE_UP: "1x120"},
    ),
    OddCase(
        "six requests an hour, each of which fails",
        "EdgemlErrorRate",
        "240m",
        True,
        {f'{_REQUESTS}500"}}': " ".join(f"{number}x9" for number in range(40))},
    ),
    OddCase(
        "one request of six an hour fails",
        "EdgemlErrorRate",
        "600m",
        False,
        {
            f'{_REQUESTS}500"}}': " ".join(f"{number}x59" for number in range(12)),
            f'{_REQUESTS}200"}}': " ".join(f"{number}x11" for number in range(60)),
        },
    ),
    OddCase(
        "all of few requests failed, and nothing fails any more",
        "EdgemlErrorRate",
        "240m",
        False,
        {f'{_REQUESTS}500"}}': " ".join(f"{number}x9" for number in range(9)) + " 8x240"},
    ),
    OddCase("no traffic at night", "EdgemlErrorRate", "240m", False, {f'{_REQUESTS}500"}}': "6x600"}),
    OddCase(
        "no traffic at night, after a slow evening",
        "EdgemlLatencyRise",
        "700m",
        False,
        {_SUM: "0+1x120 122+2x20 162x700", _COUNT: "0+100x140 14000x700"},
    ),
    OddCase(
        "the first label was right, and the second is wrong",
        "EdgemlAccuracyDrop",
        "52h",
        False,
        {
            f"edgeml_feedback_accuracy_ratio{{{_OF_VERSION}}}": "1x49 0.5x10",
            _RIGHT: "1x59",
            _WRONG: "0x49 1x10",
        },
        "1h",
    ),
    OddCase(
        "a server that started anew, and the first of its labels were wrong",
        "EdgemlAccuracyDrop",
        "168h",
        False,
        {
            f"edgeml_feedback_accuracy_ratio{{{_OF_VERSION}}}": "0.95x140 0.4x30",
            _RIGHT: "0+19x140 2x30",
            _WRONG: "0+1x140 3x30",
        },
        "1h",
    ),
    OddCase(
        "a server that starts anew while the labels become wrong",
        "EdgemlAccuracyDrop",
        "168h",
        True,
        {_RIGHT: "0+19x148 0+16x24", _WRONG: "0+1x148 0+4x24"},
        "1h",
    ),
    OddCase(
        "two labels an hour, of which one is wrong today",
        "EdgemlAccuracyDrop",
        "168h",
        True,
        {_RIGHT: "0+1.9x148 282+1x24", _WRONG: "0+0.1x148 15.8+1x24"},
        "1h",
    ),
    OddCase(
        "one label an hour, all of which are wrong today: too few to call a person",
        "EdgemlAccuracyDrop",
        "168h",
        False,
        {_RIGHT: "0+1x148 148x24", _WRONG: "0x148 1+1x24"},
        "1h",
    ),
    OddCase(
        "another version, which is less accurate from its first label on",
        "EdgemlAccuracyDrop",
        "24h",
        False,
        {_RIGHT: "0+12x30", _WRONG: "0+8x30"},
        "1h",
    ),
    OddCase(
        "on the release when status ran, and rolled out to another since",
        "EdgemlNotOnRelease",
        "90m",
        False,
        {
            _ON_RELEASE: "1x120",
            f'edgeml_version_info{{{_OF_MODEL}, version="1.2.0", role="active"}}': "1x120",
            _DEVICE_UP: "1x120",
        },
    ),
    OddCase(
        "replaced under its name: nothing is installed",
        "EdgemlNotOnRelease",
        "90m",
        True,
        {_ON_RELEASE: "0x120", _DEVICE_UP: "1x120"},
    ),
    OddCase(
        "asleep, and not on the release",
        "EdgemlNotOnRelease",
        "90m",
        False,
        {_ON_RELEASE: "0x120", _DEVICE_UP: "0x120"},
    ),
    OddCase("asleep", "EdgemlServiceDown", "60m", False, {_SERVER_UP: "0x120", _DEVICE_UP: "0x120"}),
    OddCase(
        "nobody has run status for a week",
        "EdgemlDeviceLost",
        "192h",
        False,
        {_MADE: "86400x2400", _SEEN: "86400x2400"},
        "5m",
    ),
    OddCase(
        "the controllers of two sites have a device of the same name",
        "EdgemlDeviceLost",
        "170h",
        True,
        {
            _MADE: "0+300x2050",
            _SEEN: "1x2050",
            _MADE.replace("controller:", "other:"): "0+300x2050",
            _SEEN.replace("controller:", "other:"): "0+300x2050",
        },
        "5m",
    ),
    OddCase(
        "upgraded five times in an hour", "EdgemlServiceRestarts", "70m", False, {_STARTED: "0x9 1x9 2x9 3x9 4x9 5x90"}
    ),
    OddCase("a first day of being watched", "EdgemlTrialReverted", "2h", True, {_REVERTED: "60x100"}, "5m"),
    OddCase("long ago, when nobody watched", "EdgemlTrialReverted", "30h", False, {_REVERTED: "_x312 60x100"}, "5m"),
    OddCase(
        "went back while it was away for two days",
        "EdgemlTrialReverted",
        "80h",
        True,
        {_REVERTED: "0x300 _x600 100000x300"},
        "5m",
    ),
    OddCase(
        "went back while it was away, and came back more than a day ago",
        "EdgemlTrialReverted",
        "100h",
        False,
        {_REVERTED: "0x300 _x600 100000x400"},
        "5m",
    ),
    OddCase(
        "was away for two days, and had gone back before",
        "EdgemlTrialReverted",
        "80h",
        False,
        {_REVERTED: "60x300 _x600 60x300"},
        "5m",
    ),
    OddCase(
        "went back a minute after its start, with a clock in 1970",
        "EdgemlTrialReverted",
        "30h",
        True,
        {_REVERTED: "50000x300 60x300"},
        "5m",
    ),
    OddCase("a clock in 2100, long ago", "EdgemlTrialReverted", "30h", False, {_REVERTED: "4e9x500"}, "5m"),
)
