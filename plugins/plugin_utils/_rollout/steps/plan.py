# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""The first step of a rollout: plan it. It touches no device."""

from __future__ import annotations

import dataclasses
from typing import Any, Mapping, Sequence

from ansible_collections.edgeml.fleet.plugins.module_utils._common.errors import ArgumentError
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout import devices, judging, ledger, waves
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.decisions import Next
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.decommissioned import leave_out
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.evidence import read_key
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.options import (
    DeviceOptions,
    RolloutOptions,
    absolute_path,
)
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.plan import Plan, PlannedWave
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.rollout import Rollout
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.run import Run
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.swap_settings import shared_settings, swap_settings
from ansible_collections.edgeml.fleet.plugins.plugin_utils._trust.repository import Trust, open_repository

from . import pulling, shadow
from .names import refuse_unknown_names
from .profiles import read_profiles
from .scene import Result, Scene, StepError, common_variables, hold_lock, noted, whole_fleet, wrong_devices

_HOSTS_SHOWN = 200


def plan(scene: Scene) -> Result:
    """Verify the release, check every variable, split the fleet into waves and open the ledger. Touch no device."""
    refuse_unknown_names(scene, "rollout_")
    names = whole_fleet(scene)
    options = RolloutOptions.from_variables(scene.variables)
    judging.read_limits(options.limits)
    directory = absolute_path(options.ledger)
    repository = open_repository(options.repository, Trust.from_variables(scene.variables.get))
    # The rollout, its ledger and its devices know the version, and not the channel that had it at this moment.
    options = dataclasses.replace(options, version=repository.version_of(options.model, options.version))
    release = repository.release(options.model, options.version)
    repository.verify(release)
    # From here on the files of this run are those that were verified.
    options = dataclasses.replace(options, repository=repository.root)
    fleet = {host: scene.host_variables(host) for host in names}
    _check_devices(fleet, scene)
    described = {host: devices.describe(found, options.device_class_variables) for host, found in fleet.items()}
    described = leave_out(described, directory)
    planned = _waves(scene, options, described)
    _check_approvals(options, planned)
    shown = [PlannedWave(wave["number"], wave["name"], tuple(wave["hosts"])) for wave in planned.document()["waves"]]
    notes = devices.check_groups(options.waves, scene.groups)
    notes += [*_unclassed(fleet, options.device_class_variables), *devices.under_several_names(fleet)]
    if not shown:
        reasons = "; ".join(f"{host} {why}" for host, why in sorted(planned.left_out.items()))
        raise StepError(f"no device to roll out to: {reasons or 'the play has no hosts'}")
    pulled = pulling.pulled_hosts(scene, [host for wave in shown for host in wave.hosts])
    device_classes = {host: found["device_class"] for host, found in described.items()}
    profiled = read_profiles(
        options, repository, release, fleet, {host: device_classes[host] for wave in shown for host in wave.hosts}
    )
    notes += profiled.notes
    rollout = Rollout(
        model=options.model,
        version=options.version,
        attempt=options.attempt,
        digest=release.digest,
        reason=options.reason,
        settings={
            "soak_seconds": options.soak_seconds,
            "soak_seconds_max": options.soak_seconds_max,
            "limits": options.limits,
            "window": options.window,
            "concurrency": options.concurrency,
            **_swap_settings(scene, fleet, pulled, device_classes),
        },
        plan=Plan(
            waves=tuple(shown),
            device_classes=device_classes,
            left_out=planned.left_out,
            salt=options.salt or options.model,
            device_class=tuple(options.device_class_variables),
            limited=scene.limited,
            boundaries=planned.boundaries,
            gateways=devices.gateways(fleet),
        ),
    )
    if pulled:
        pulling.check(scene)
    if options.evidence_key:
        read_key(options.evidence_key_file)
    shadows = shadow.shadow_hosts(options.shadow_devices, device_classes, shown, pulled)
    act = not (scene.check_mode or options.plan_only)
    if act:
        hold_lock(directory, scene, rollout.id)
    before = ledger.read(ledger.path_of(directory, rollout.id))
    if before is None:
        rollout = dataclasses.replace(rollout, began=ledger.time_after_all(directory, rollout.began))
    rollout = rollout.resumed_from(before)
    if shadow.has_passed(rollout):
        shadows = ()
    path = ledger.path_of(directory if act else scene.scratch, rollout.id)
    ledger.write(path, rollout)
    run = Run(
        process=scene.process,
        path=path,
        waves=tuple(shown),
        controls=tuple(planned.controls),
        options=options,
        manifest=dict(release.document),
        pulled=pulled,
        # In check mode nobody answers copies of requests.
        shadow=() if scene.check_mode else shadows,
        withdrawn=repository.withdrawals(options.model).document(),
        profiled=profiled.latency,
        others=_others(scene, options, rollout, shown),
    )
    lines = [f"shadow: {len(shadows)}: {_shortened(', '.join(shadows))}"] if shadows else []
    lines += [f"{wave.name}: {len(wave.hosts)}: {_shortened(', '.join(wave.hosts))}" for wave in shown]
    lines += [f"{host} left out: {why}" for host, why in sorted(planned.left_out.items())]
    if run.others:
        lines.append(f"left to another run of this rollout: {len(run.others)}: {devices.named(run.others)}")
    return {
        "next": (Next.END if options.plan_only else Next.ROLL_OUT).value,
        "msg": [f"{options.model} {options.version}", *lines, *notes],
        "rollout": rollout.to_dict(),
        "waves": [wave.to_dict() for wave in shown],
        "boundaries": planned.boundaries,
        **({"stats": {"rollout_boundaries": planned.boundaries}} if options.plan_only else {}),
        **({"warnings": list(repository.warnings)} if repository.warnings else {}),
        **noted(run, scene),
    }


def _swap_settings(
    scene: Scene, fleet: Mapping[str, Mapping[str, Any]], pulled: Sequence[str], device_classes: Mapping[str, str]
) -> dict[str, Any]:
    """How the devices that pull swap; without one, how the device does that the plan runs for."""
    names = [name for alternatives in DeviceOptions.names().values() for name in alternatives]
    common = common_variables(scene, names)
    known: dict[str, dict[str, Any]] = {}
    found = {}
    for host in pulled:
        values = {**common, **{name: fleet[host][name] for name in names if name in fleet[host]}}
        key = repr(sorted(values.items(), key=lambda item: item[0]))
        if key not in known:
            known[key] = swap_settings(values)
        found[host] = known[key]
    return shared_settings(found, device_classes) if found else {"device": swap_settings(scene.variables)}


def _waves(scene: Scene, options: RolloutOptions, described: Mapping[str, Any]) -> waves.Plan:
    try:
        return waves.plan(
            waves.read_hosts(described),
            options.waves,
            options.salt or options.model,
            groups={name: scene.groups[name] for name in options.waves if name in scene.groups},
            max_unavailable=options.max_unavailable,
            only=scene.hosts,
            boundaries=options.boundaries or None,
        )
    except ArgumentError as error:
        raise ArgumentError(f"rollout_{error}") from None


def _check_approvals(options: RolloutOptions, planned: waves.Plan) -> None:
    """Raise ArgumentError for a wave that is none: nobody would be asked after it."""
    names = [wave["name"] for wave in planned.boundaries["waves"]]
    for number in options.approve_after:
        if number > len(names):
            known = ", ".join(f"{position} ({name})" for position, name in enumerate(names, 1))
            raise ArgumentError(f"rollout_approve_after: expected numbers of waves: {known}; found {number}")


def _check_devices(fleet: Mapping[str, Mapping[str, Any]], scene: Scene) -> None:
    """Raise ArgumentError where a device's own variables are wrong."""
    for host, problem in wrong_devices(scene, fleet).items():
        raise ArgumentError(f"{host}: {problem}")


def _unclassed(fleet: Mapping[str, Mapping[str, Any]], class_variables: Sequence[str]) -> list[str]:
    found = devices.without_class(fleet, class_variables)
    what = " or ".join(class_variables)
    return [f"without {what}, and so a class of their own: {len(found)}: {devices.named(found)}"] if found else []


def _others(scene: Scene, options: RolloutOptions, rollout: Rollout, shown: Sequence[PlannedWave]) -> tuple[str, ...]:
    """The devices that earlier runs of the rollout planned for, that take part in it, and that this run leaves out."""
    played, known = {host for wave in shown for host in wave.hosts}, set(scene.groups.get("all", ()))
    hosts = [host for host in rollout.not_passed if host in known and host not in played]
    described = {host: devices.describe(scene.host_variables(host), options.device_class_variables) for host in hosts}
    taking_part = waves.read_hosts(leave_out(described, absolute_path(options.ledger)))
    return tuple(host for host, found in taking_part.items() if found.left_out is None)


def _shortened(text: str) -> str:
    return text if len(text) <= _HOSTS_SHOWN else f"{text[: _HOSTS_SHOWN - 3].rpartition(' ')[0]} …"
