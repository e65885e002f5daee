# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""Which variant of a release a device runs. Pure."""

from __future__ import annotations

import re
from typing import Any, Callable, Mapping

from .._common.errors import IncompatibleError
from .release import Release, Variant


def choose_variant(
    release: Release,
    device: Mapping[str, Any],
    headroom_percent: int = 0,
    has_locale: Callable[[str], bool] = lambda _name: True,
) -> Variant:
    """Return the first variant, in the release's order of preference, that the device can run.

    ``device`` is what ``facts.device_facts()`` returns; ``headroom_percent`` the percentage of its memory that a
    model must leave; ``has_locale`` says whether it has a locale. A runtime that is not installed (yet) is no reason
    against a variant; one that is older than the variant's minimum is.
    Raises IncompatibleError with the reason against each variant.
    """
    reasons = []
    for variant in release.variants:
        reason = _reason_against(variant, device, headroom_percent, has_locale)
        if reason is None:
            return variant
        reasons.append(f"variant {variant.name}: {reason}")
    raise IncompatibleError(
        f"no variant of {release.model} {release.version} runs on this device: {'; '.join(reasons)}"
    )


def _reason_against(
    variant: Variant, device: Mapping[str, Any], headroom_percent: int, has_locale: Callable[[str], bool]
) -> str | None:
    architecture = device["architecture"]
    if architecture not in variant.architectures:
        return f"built for {', '.join(variant.architectures)}; the device is {architecture}"
    if variant.memory_bytes > device["memory_bytes"] * (100 - headroom_percent) // 100:
        spare = f", of which {headroom_percent}% are to stay free" if headroom_percent else ""
        return f"needs {variant.memory_bytes} bytes of memory; the device has {device['memory_bytes']}{spare}"
    installed = device.get("runtimes", {}).get(variant.runtime)
    if installed is not None and _version_key(installed) < _version_key(variant.runtime_minimum):
        return f"needs {variant.runtime} >= {variant.runtime_minimum}; the device has {installed}"
    missing = next((name for name in variant.locales if not has_locale(name)), None)
    if missing is not None:
        return f"needs the locale {missing}; the device does not have it (Debian: the package locales, and locale-gen)"
    return None


def _version_key(version: str) -> tuple[int, ...]:
    numbers = [int(number) for number in re.findall(r"[0-9]+", version)[:4]]
    return tuple(numbers + [0] * (4 - len(numbers)))
