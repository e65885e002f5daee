# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""The step that says what the gate will see of each wave, by what the devices have counted until now."""

from __future__ import annotations

import contextlib
import json
import os
from typing import Any, Mapping, Sequence

from ansible_collections.edgeml.fleet.plugins.module_utils._common.errors import EdgemlError, IncompatibleError
from ansible_collections.edgeml.fleet.plugins.module_utils._common.files import write_whole
from ansible_collections.edgeml.fleet.plugins.module_utils._release.manifest import parse_release
from ansible_collections.edgeml.fleet.plugins.module_utils._release.probe_set import Metric
from ansible_collections.edgeml.fleet.plugins.module_utils._release.probe_set_file import read_outputs, read_probe_set
from ansible_collections.edgeml.fleet.plugins.module_utils._release.repository import Repository
from ansible_collections.edgeml.fleet.plugins.module_utils._release.variant_choice import choose_variant
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout import comparable, judging
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.gate.power import detectable
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.gate.prospect import Counted, Prospect
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.gate.reader import Reader
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.options import RolloutOptions, absolute_path
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.profiled import HEADROOM_PERCENT
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.report import power as texts
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.report import view
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.run import Run

from .scene import Result, Scene, current_rollout

COUNTED = "__rollout_counted"


def power(scene: Scene) -> Result:
    """Say for each wave the smallest regressions that it will catch. Changes nothing.

    With ``rollout_plan_page`` the plan is written there as a page, with its JSON beside it, but not in check mode.
    Raises OSError where they cannot be written.
    """
    run, rollout = current_rollout(scene)
    classes = rollout.plan.device_classes
    reads = {host: scene.registered(host, COUNTED) for host in run.hosts}
    unasked = _unasked(run, reads)
    waves = _sights(run, reads, classes, unasked)
    document = [wave.to_dict() for wave in waves]
    unfit = _unfit(run, reads)
    result: Result = {
        "msg": texts.lines(waves),
        "power": document,
        "unfit": unfit,
        "unasked": unasked,
        "page": "",
        "stats": {"rollout_power": document},
    }
    name = f"{rollout.model} {rollout.version}"
    if unasked:
        hosts = {version: sorted(host for host in reads if _active(reads[host]) == version) for version in unasked}
        result["msg"] = [texts.unasked_versions(name, unasked, hosts), "", *result["msg"]]
    if unfit:
        result["msg"] = [texts.unfit_devices(name, unfit, len(reads), classes), "", *result["msg"]]
    if run.options.plan_page and not scene.check_mode:
        page = absolute_path(run.options.plan_page)
        planned = {**rollout.to_dict(), "state": "planned", "power": document, "unfit": unfit, "unasked": unasked}
        os.makedirs(os.path.dirname(page), exist_ok=True)
        write_whole(f"{os.path.splitext(page)[0]}.json", json.dumps(planned, indent=1) + "\n")
        view.write(planned, page)
        result["page"] = page
    return result


def _unfit(run: Run, reads: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """The devices that would refuse the release, by what they say of themselves, and why."""
    release, found = parse_release(run.manifest), {}
    for host, read in reads.items():
        device = read.get("device")
        if isinstance(device, Mapping) and {"architecture", "memory_bytes"} <= set(device):
            try:
                choose_variant(release, device, HEADROOM_PERCENT)
            except IncompatibleError as error:
                found[host] = str(error)
    return found


def _unasked(run: Run, reads: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """The versions that serve, are in the repository, and cannot be asked the release's probe set; and why."""
    if not judging.read_limits(run.options.limits).compares_answers:
        return {}
    release, repository = parse_release(run.manifest), Repository(run.options.repository)
    found = {}
    for version in sorted({version for read in reads.values() if (version := _active(read))} - {release.version}):
        with contextlib.suppress(EdgemlError):
            # The repository may lack it.
            before = repository.release(release.model, version)
            if reason := comparable.why_unasked(before, release, lambda file: repository.blob_path(file.sha256)):
                found[version] = reason
    return found


def _sights(
    run: Run, reads: Mapping[str, Mapping[str, Any]], classes: Mapping[str, str], unasked: Mapping[str, str]
) -> list[texts.WaveSight]:
    limits, probe = judging.read_limits(run.options.limits), _probe(run.options, run.manifest)
    known = {host: found for host, read in reads.items() if (found := _counted(read, classes.get(host, "all")))}
    answered = {host for host, read in reads.items() if _model(read) is not None}
    waves = []
    for wave in run.waves:
        controls = run.controls_of(wave)
        prospect = Prospect(
            devices=_chosen(known, wave.hosts),
            controls=_chosen(known, controls),
            soak_seconds=run.options.soak_seconds,
            analyses_max=run.options.analyses_max,
            limits=limits,
            probe=probe,
            comparable=not any(_active(reads[host]) in unasked for host in wave.hosts if host in reads),
        )
        there = answered.intersection(wave.hosts)
        waves.append(
            texts.WaveSight(
                number=wave.number,
                name=wave.name,
                devices=len(wave.hosts),
                answered=len(there),
                controls=len(prospect.controls),
                first=len(there) - len(prospect.devices),
                found=tuple(detectable(prospect)) if prospect.devices else (),
            )
        )
    return waves


def _chosen(known: Mapping[str, Counted], hosts: Sequence[str]) -> tuple[Counted, ...]:
    return tuple(known[host] for host in hosts if host in known)


def _model(read: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """What a device said of the model; None where it did not answer."""
    model = read.get("model")
    return None if read.get("failed") or read.get("unreachable") or not isinstance(model, Mapping) else model


def _active(read: Mapping[str, Any]) -> str | None:
    """The version that a device serves; None where that is not known."""
    model = _model(read) or {}
    version = model.get("live") or model.get("active")
    return version if isinstance(version, str) else None


def _counted(read: Mapping[str, Any], device_class: str) -> Counted | None:
    """What a device has counted of the version that it serves; None where there is none."""
    model = _model(read)
    seconds = model.get("counted_seconds", model.get("active_seconds")) if model else None
    if model is None or not seconds:
        return None
    return Counted(device_class, float(seconds), Reader().observation(model))


def _probe(options: RolloutOptions, manifest: Mapping[str, Any]) -> tuple[Metric, int] | None:
    """The metric of the release's probe set, and how many samples it has."""
    release, repository = parse_release(manifest), Repository(options.repository)
    part = next((part for part in release.parts.values() if part.probe is not None), None)
    if part is None or part.probe is None:
        return None
    probe = read_probe_set(repository.blob_path(part.probe.sha256))
    outputs = read_outputs(repository.blob_path(part.golden.sha256) if part.golden else None)
    return probe.resolved(outputs.get(probe.output))[1], probe.samples
