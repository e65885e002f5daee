# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""The part of the plan that reads the signed profiles of device classes. It touches no device."""

from __future__ import annotations

import posixpath
from typing import Any, Mapping, Sequence

from ansible_collections.edgeml.fleet.plugins.module_utils._common.errors import ArgumentError
from ansible_collections.edgeml.fleet.plugins.module_utils._release.release import Release
from ansible_collections.edgeml.fleet.plugins.plugin_utils._profiles import Profile, profile_name, verified_profile
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.judging import read_limits
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.options import RolloutOptions, absolute_path
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.profiled import (
    Profiled,
    judge_profiles,
    of_gate_classes,
)
from ansible_collections.edgeml.fleet.plugins.plugin_utils._trust.repository import OpenRepository

from .scene import StepError

# The variable that profiles are kept by, whatever else tells devices of a rollout apart.
_CLASS = "device_class"


def read_profiles(
    options: RolloutOptions,
    repository: OpenRepository,
    release: Release,
    fleet: Mapping[str, Mapping[str, Any]],
    device_classes: Mapping[str, str],
) -> Profiled:
    """What the profiles say of a release for these devices; nothing where no key is named that signs profiles.

    Raises StepError where a class cannot take the release, and ArgumentError for a profile that is not to be believed.
    """
    if not options.profiles_key:
        return Profiled()
    measured = {host: str(fleet[host].get(_CLASS) or "") for host in device_classes}
    names = sorted({name for name in measured.values() if name})
    key = absolute_path(options.profiles_key)
    found = judge_profiles(
        release,
        {name: _of_class(repository, name, options.model, key) for name in names},
        {name: list(measured.values()).count(name) for name in names},
        read_limits(options.limits),
    )
    if found.reasons:
        raise StepError(
            f"{release.model} {release.version} does not fit, by the profiles of the model repository: "
            f"{'; '.join(found.reasons)}. No device was touched. Publish a variant that fits, or leave the class out"
        )
    return Profiled(notes=found.notes, latency=of_gate_classes(found.latency, _pairs(device_classes, measured)))


def _of_class(repository: OpenRepository, device_class: str, model: str, key: str) -> Sequence[Profile]:
    directory, name = posixpath.split(profile_name(device_class, model))
    found = []
    for origin, content in repository.hints(directory, name).items():
        try:
            profile = Profile.from_dict(verified_profile(content, key, origin))
            if profile.device_class != device_class:
                raise ArgumentError(f"device_class: expected {device_class}; found {profile.device_class}")
        except ArgumentError as error:
            text = str(error)
            raise ArgumentError(text if text.startswith(origin) else f"{origin}: {text}") from None
        found.append(profile)
    return found


def _pairs(device_classes: Mapping[str, str], measured: Mapping[str, str]) -> Sequence[tuple[str, str]]:
    return [(of_gate, measured[host]) for host, of_gate in device_classes.items()]
