# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""How the devices of a rollout that pull swap: each by its own variables, said in few words. Pure."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any, Iterable, Mapping

from .options import DeviceOptions

Settings = dict[str, Any]


def swap_settings(variables: Mapping[str, Any]) -> Settings:
    """Return how a device with these variables swaps: options of ``model_swap``. Raises ArgumentError."""
    found = DeviceOptions.from_variables(variables)
    return {
        "min_ready_seconds": float(found.min_ready_seconds),
        "trial_seconds": float(found.trial_seconds),
        "trial_limits": dict(found.trial_limits),
        "keep": found.keep,
        "accept_no_way_back": found.accept_no_way_back,
    }


def shared_settings(settings: Mapping[str, Settings], device_classes: Mapping[str, str]) -> dict[str, Any]:
    """Return ``device``, the settings of most devices, ``device_classes``, those of the classes whose devices mostly
    have others, and ``devices``, those of the devices that differ from their class.

    ``settings`` has those of each device, at least one. A fleet whose classes differ is so said in a line for each
    class, and not for each device.
    """
    of_most = _most_common(settings.values())
    by_class: dict[str, list[Settings]] = {}
    for host, found in settings.items():
        by_class.setdefault(device_classes[host], []).append(found)
    of_class = {name: _most_common(found) for name, found in sorted(by_class.items())}
    return {
        "device": of_most,
        "device_classes": {name: found for name, found in of_class.items() if found != of_most},
        "devices": {host: found for host, found in sorted(settings.items()) if found != of_class[device_classes[host]]},
    }


def _most_common(settings: Iterable[Settings]) -> Settings:
    """The settings that most have; of equally many, always the same ones."""
    counts = Counter(json.dumps(found, sort_keys=True) for found in settings)
    most: Settings = json.loads(min(counts, key=lambda text: (-counts[text], text)))
    return most
