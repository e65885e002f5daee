# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""What a model costs on this device: time, memory, temperature and power, by its golden inputs.

The device rests first, then it answers one burst of requests, then it answers without a pause. The requests are no
traffic, so no trial and no gate counts them.
"""

from __future__ import annotations

import json
import os
import statistics
import time
from typing import Any, Mapping, NamedTuple

from .._common.errors import ArgumentError, EdgemlError
from .._device.client import Server
from .._device.facts import device_facts, read_text
from .._device.metrics import parse_metrics, server_counts
from .._device.sensors import read_sensors
from .._device.store import Store
from .._device.version import Version

# What a sensor of power says is a mean over some milliseconds: this many windows make an interval.
WINDOWS = 10


class ProfileOptions(NamedTuple):
    """What is measured: a ``model`` of the ``store`` that ``server`` serves, by ``burst`` requests and then for
    ``seconds`` without a pause. ``power_sensor``: the one that has all of the board's power; empty: the only one."""

    store: str
    server: str
    model: str
    burst: int = 50
    seconds: float = 60.0
    power_sensor: str = ""
    root: str = "/"


class _Window(NamedTuple):
    """A part of the time: requests in a second, and watts (None without a sensor)."""

    rate: float
    watts: float | None


def measure_profile(options: ProfileOptions) -> dict[str, Any]:
    """Measure what a model costs here.

    Returns ``device`` (architecture, memory, runtimes, board, whether it is emulated), ``model``, ``version``,
    ``variant``, ``load_seconds``, ``resident_bytes``, ``burst`` and ``sustained`` (``p50_seconds``, ``p95_seconds``, of
    the second one also ``requests_per_second``), ``celsius_before``, ``celsius_max``, ``idle_watts``, ``watts``, and
    ``joules``: of each window what one request took beyond rest. What the board has no sensor of is None, or empty.
    Raises EdgemlError.
    """
    if options.burst < 2 or options.seconds <= 0:
        raise ArgumentError(f"expected burst >= 2 and seconds > 0; found {options.burst} and {options.seconds:g}")
    store, server = Store(options.store), Server(options.server)
    version = server.serving_version(options.model)
    if version is None:
        raise EdgemlError(f"{options.model}: nothing is served at {options.server}")
    found = store.version(options.model, version)
    request = _golden_request(found)
    window_seconds = options.seconds / WINDOWS
    celsius_before, idle = _celsius(options.root), _rest(options, window_seconds)
    burst = [_ask(server, options.model, request) for _number in range(options.burst)]
    windows, times = _sustain(server, options, request, window_seconds)
    metrics = server.metrics()
    known = [window.watts for window in windows if window.watts is not None]
    return {
        "device": {
            "emulated": is_emulated(options.root),
            **{name: device_facts()[name] for name in ("architecture", "memory_bytes", "runtimes", "board")},
        },
        "model": options.model,
        "version": version,
        "variant": found.variant,
        "load_seconds": _load_seconds(metrics, options.model, version),
        "resident_bytes": server_counts(metrics)["resident_bytes"],
        "burst": _times(burst),
        # The board is warm in the second half.
        "sustained": {**_times(times[len(times) // 2 :]), "requests_per_second": len(times) / options.seconds},
        "celsius_before": celsius_before,
        "celsius_max": max(
            (value for value in (celsius_before, _celsius(options.root)) if value is not None), default=None
        ),
        "idle_watts": idle,
        "watts": statistics.fmean(known) if known else None,
        "joules": [
            (window.watts - idle) / window.rate
            for window in windows
            if idle is not None and window.watts is not None and window.rate > 0
        ],
    }


def is_emulated(root: str = "/") -> bool:
    """Whether an emulator runs the programs here, or the machine is virtual: its times are none of a board."""
    try:
        # The kernel sees the emulator that runs the device's first process.
        if os.path.basename(os.readlink(os.path.join(root, "proc/1/exe"))).startswith("qemu-"):
            return True
    except OSError:
        pass
    paths = ("proc/device-tree/compatible", "sys/class/dmi/id/sys_vendor")
    texts = [read_text(os.path.join(root, path)) for path in paths]
    return any(word in text for text in texts for word in ("linux,dummy-virt", "QEMU"))


def _golden_request(version: Version) -> Mapping[str, Any]:
    """The request of the golden inputs. Raises EdgemlError for a release of several models, or without any."""
    parts = list(version.release.parts.values())
    golden = parts[0].golden if len(parts) == 1 else None
    if golden is None:
        raise EdgemlError(
            f"{version.model} {version.version}: expected one model with golden inputs, which are what is asked"
        )
    with open(os.path.join(version.directory, golden.path), encoding="utf-8") as file:
        return {"inputs": json.load(file)["inputs"]}


def _ask(server: Server, model: str, request: Mapping[str, Any]) -> float:
    began = time.monotonic()
    server.infer(model, request)
    return time.monotonic() - began


def _rest(options: ProfileOptions, seconds: float) -> float | None:
    """The power of a board that rests; no time is spent where nothing measures it."""
    if _watts(options) is None:
        return None
    values, end = [], time.monotonic() + seconds
    while time.monotonic() < end:
        values.append(_watts(options))
        time.sleep(min(0.1, seconds / 10))
    return statistics.fmean(value for value in values if value is not None)


def _sustain(
    server: Server, options: ProfileOptions, request: Mapping[str, Any], seconds: float
) -> tuple[list[_Window], list[float]]:
    """Ask without a pause. Returns each window, and the time of each request."""
    windows, times = [], []
    for _number in range(WINDOWS):
        count, watts, began = 0, [], time.monotonic()
        while time.monotonic() < began + seconds or not count:
            times.append(_ask(server, options.model, request))
            count += 1
            watts.append(_watts(options))
        known = [value for value in watts if value is not None]
        windows.append(_Window(count / (time.monotonic() - began), statistics.fmean(known) if known else None))
    return windows, times


def _watts(options: ProfileOptions) -> float | None:
    """The board's power; None without a sensor. Raises ArgumentError where there are several and none is named."""
    found = {
        labels["sensor"]: value for name, labels, value in read_sensors(options.root) if name == "edgeml_power_watts"
    }
    if options.power_sensor:
        if options.power_sensor not in found:
            raise ArgumentError(f"power_sensor: expected one of {', '.join(found)}; found {options.power_sensor}")
        return found[options.power_sensor]
    if len(found) > 1:
        raise ArgumentError(f"power_sensor: say which one has all of the board's power: {', '.join(found)}")
    return next(iter(found.values()), None)


def _celsius(root: str) -> float | None:
    return max(
        (value for name, _labels, value in read_sensors(root) if name == "edgeml_temperature_celsius"), default=None
    )


def _times(values: list[float]) -> dict[str, float]:
    ordered = sorted(values)
    return {
        "p50_seconds": statistics.median(ordered),
        "p95_seconds": ordered[min(len(ordered) - 1, len(ordered) * 95 // 100)],
    }


def _load_seconds(metrics: str, model: str, version: str) -> float | None:
    wanted = {"model": model, "version": version}
    return next(
        (
            value
            for name, labels, value in parse_metrics(metrics)
            if name == "edgeml_model_load_duration_seconds" and wanted.items() <= labels.items()
        ),
        None,
    )
