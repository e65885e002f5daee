# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""Profiles of device classes are made of what devices measured, one signed file for each class and model."""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import statistics
from typing import TYPE_CHECKING, Any, Iterable, Mapping, Sequence

from ansible_collections.edgeml.fleet.plugins.module_utils._common.errors import ArgumentError
from ansible_collections.edgeml.fleet.plugins.module_utils._common.files import write_whole
from ansible_collections.edgeml.fleet.plugins.plugin_utils._profiles import (
    PREDICATE_TYPE,
    profile_name,
    verified_profile,
)
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.gate.numerics import t_quantile
from ansible_collections.edgeml.fleet.plugins.plugin_utils._trust.in_toto import signed_envelope, statement

if TYPE_CHECKING:
    from ansible_collections.edgeml.fleet.plugins.plugin_utils._trust.keys import PrivateKey

# Of the interval: two sides.
_ALPHA = 0.05


def class_profile(device_class: str, measured: Sequence[Mapping[str, Any]], measured_at: str) -> dict[str, Any]:
    """The profile of a class by what ``device_profile`` measured on its devices, one model and version on all of them.

    Times, memory and power are medians over the devices; ``memory_bytes`` of the class is the least, because each
    device of it has to do. ``joules`` is what ``energy`` returns.
    Raises ArgumentError.
    """
    subjects = {(found["model"], found["version"], found["variant"]) for found in measured}
    kinds = {found["device"]["architecture"] for found in measured}
    if len(subjects) != 1 or len(kinds) != 1:
        names = ", ".join(sorted(" ".join(subject) for subject in subjects)) + "; " + ", ".join(sorted(kinds))
        raise ArgumentError(f"{device_class}: expected one variant of one version on one architecture; found {names}")
    model, version, variant = subjects.pop()
    return {
        "device_class": device_class,
        "devices": len(measured),
        "emulated": any(found["device"]["emulated"] for found in measured),
        "architecture": kinds.pop(),
        "memory_bytes": min(found["device"]["memory_bytes"] for found in measured),
        "runtimes": _common_runtimes([found["device"]["runtimes"] for found in measured]),
        "boards": sorted({found["device"]["board"] for found in measured if found["device"]["board"]}),
        "model": model,
        "version": version,
        "variant": variant,
        "measured_at": measured_at,
        **{name: _median(measured, name) for name in ("load_seconds", "resident_bytes", "idle_watts", "watts")},
        **{name: _median(measured, name) for name in ("celsius_before", "celsius_max")},
        "burst": _times(measured, "burst", ("p50_seconds", "p95_seconds")),
        "sustained": _times(measured, "sustained", ("p50_seconds", "p95_seconds", "requests_per_second")),
        "joules": energy([found["joules"] for found in measured]),
    }


def energy(windows: Sequence[Sequence[float]]) -> dict[str, float] | None:
    """What one request takes, in joules: ``mean``, ``low`` and ``high`` of an interval of 95%.

    Of several devices the interval is over the devices' means; of one, over its windows, and so says nothing about
    others of its class. None where fewer than two values are known.
    """
    known = [found for found in windows if found]
    values = (
        [statistics.fmean(found) for found in known]
        if len(known) > 1
        else [value for found in known for value in found]
    )
    if len(values) < 2:
        return None
    mean = statistics.fmean(values)
    half = t_quantile(_ALPHA / 2, len(values) - 1) * statistics.stdev(values) / math.sqrt(len(values))
    return {"mean": mean, "low": mean - half, "high": mean + half}


def _common_runtimes(found: Sequence[Mapping[str, str]]) -> dict[str, str]:
    """The runtimes that all devices have, with the oldest version of each."""
    names = set.intersection(*(set(runtimes) for runtimes in found))
    return {name: min((runtimes[name] for runtimes in found), key=_version_key) for name in sorted(names)}


def _version_key(version: str) -> list[int]:
    return [int(number) for number in re.findall(r"[0-9]+", version)]


def _median(measured: Iterable[Mapping[str, Any]], name: str) -> float | None:
    known = [found[name] for found in measured if found[name] is not None]
    return statistics.median(known) if known else None


def _times(measured: Sequence[Mapping[str, Any]], part: str, names: Sequence[str]) -> dict[str, float | None]:
    return {name: _median([found[part] for found in measured], name) for name in names}


def profile_path(repository: str, device_class: str, model: str) -> str:
    """Where a profile is kept."""
    return os.path.join(repository, profile_name(device_class, model))


def write_profile(repository: str, profile: Mapping[str, Any], key: PrivateKey) -> str:
    """Sign a profile and put it in place of the one before. Returns its path."""
    path = profile_path(repository, profile["device_class"], profile["model"])
    subject = f"{profile['device_class']}/{profile['model']}/{profile['version']}"
    digest = hashlib.sha256(json.dumps(profile, sort_keys=True).encode()).hexdigest()
    payload = json.dumps(statement([(subject, digest)], PREDICATE_TYPE, profile), sort_keys=True).encode()
    os.makedirs(os.path.dirname(path), exist_ok=True)
    write_whole(path, json.dumps(signed_envelope(payload, key, key.id), indent=1) + "\n")
    return path


def read_profile(path: str, public_key: str) -> dict[str, Any]:
    """Read a profile that the key in the file ``public_key`` signed. Raises ArgumentError for any other."""
    try:
        with open(path, encoding="utf-8") as file:
            content = file.read()
    except (OSError, ValueError) as error:
        raise ArgumentError(f"{path}: expected a profile; {error}") from error
    return verified_profile(content, public_key, path)


def declared_devices(profiles: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Each class once, as a publication reads it: what has to be enough for each variant.

    Of several profiles of a class the least memory counts, and of its runtimes the oldest versions.
    """
    classes: dict[str, list[Mapping[str, Any]]] = {}
    for profile in profiles:
        classes.setdefault(profile["device_class"], []).append(profile)
    return [
        {
            "name": name,
            "architecture": found[0]["architecture"],
            "memory_bytes": min(profile["memory_bytes"] for profile in found),
            "runtimes": _common_runtimes([profile["runtimes"] for profile in found]),
        }
        for name, found in sorted(classes.items())
    ]


def profile_row(profile: Mapping[str, Any]) -> dict[str, str]:
    """A profile as a row of a table. Figures of an emulated device are marked, because they are none of a board."""
    joules = profile["joules"]
    return {
        "class": profile["device_class"] + (" (emulated)" if profile["emulated"] else ""),
        "devices": str(profile["devices"]),
        "model": f"{profile['model']} {profile['version']} {profile['variant']}",
        "load": _shown(profile["load_seconds"], "s"),
        "burst p50, p95": _pair(profile["burst"]),
        "sustained p50, p95": _pair(profile["sustained"]),
        "memory": _shown(profile["resident_bytes"] and profile["resident_bytes"] / 1e6, "MB"),
        "hottest": _shown(profile["celsius_max"], "°C"),
        "power": _shown(profile["watts"], "W"),
        "energy": f"{joules['mean']:.3g} J ({joules['low']:.3g} to {joules['high']:.3g})" if joules else "-",
    }


def _pair(times: Mapping[str, float]) -> str:
    return f"{times['p50_seconds'] * 1e3:.3g}, {times['p95_seconds'] * 1e3:.3g} ms"


def _shown(value: float | None, unit: str) -> str:
    return "-" if value is None else f"{value:.3g} {unit}"
