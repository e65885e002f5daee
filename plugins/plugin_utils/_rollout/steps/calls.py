# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""The calls of a run to its devices: which module a device is asked by, and with which arguments.

What a run does comes from its steps, how a device is called from its own variables.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Callable, Mapping, Sequence

from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.gate.checks import Verdict
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.options import (
    DeviceOptions,
    RolloutOptions,
    absolute_path,
)
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.outcome import brought
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.plan import SHADOW_WAVE
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.rollout import Rollout, rollout_id
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.run import (
    LabelReading,
    Reconciliation,
    Rollback,
    Run,
)

from .pulling import PULL
from .scene import SWAP, WAVE, Scene, StepError, current_rollout, current_run, device_variables, noted_run

# Controls are read one after the other, so one that is away must not hold up a wave.
_CONTROL_RETRY_SECONDS = 15.0
# Beyond the longest soak: what the calls to the devices of wave 0 may take.
_SHADOW_MARGIN_SECONDS = 900.0

# The options of a call that brings no release.
_REACHING = ("device_silence_seconds", "server")
_BRINGING = ("swap", "reconcile")

Arguments = dict[str, Any]


@dataclass(frozen=True)
class DeviceCall:
    """A call of ``module`` (``model_swap`` or ``model_info``).

    ``mends``: a device whose server does not answer then gets its service back.
    """

    module: str
    arguments: Arguments
    mends: bool = False


def swap_call(run: Run, rollout: Rollout) -> Arguments:
    """Return the arguments of ``model_swap`` that all devices of a wave get: those that bring the release."""
    return {
        **_names(run.options),
        "manifest": dict(run.manifest),
        "withdrawn": dict(run.withdrawn),
        "repository": absolute_path(run.options.repository),
        "reason": rollout.reason,
        "retry": rollout.attempt > 1,
    }


def _names(options: RolloutOptions) -> Arguments:
    """The release, and the rollout, without a look into the ledger: one for each device would be many."""
    name = rollout_id(options.model, options.version, options.attempt)
    return {"model": options.model, "version": options.version, "rollout_id": name}


def shadow_call(run: Run, rollout: Rollout) -> Arguments:
    """Return the arguments of ``model_swap`` by which the devices of wave 0 answer copies of requests with the release.

    A shadow that nobody ends ends by itself.
    """
    seconds = run.options.soak_seconds_max + run.options.soak_seconds + _SHADOW_MARGIN_SECONDS
    call = {name: value for name, value in swap_call(run, rollout).items() if name != "retry"}
    return {**call, "state": "shadow", "shadow_seconds": seconds}


def device_calls(kind: str, scene: Scene, host: str, model: str | None = None) -> Sequence[DeviceCall]:
    """Return the calls of this kind to a device, none where it has nothing to do. ``model``: of a run for many models.

    Raises EdgemlError, which names the variable where one is wrong.
    """
    # A variable that is wrong keeps no device from what needs another one.
    names = DeviceOptions.names() if kind in _BRINGING else _REACHING
    return CALLS[kind](scene, host, DeviceOptions.from_variables(device_variables(scene, host, names)), model)


def _swap(scene: Scene, _host: str, options: DeviceOptions, _model: str | None) -> Sequence[DeviceCall]:
    if options.transport == PULL and not scene.check_mode:
        # It swaps by what is published; the step that collects reports has what came of it.
        return []
    call = scene.registered(scene.task_host, WAVE)["call"]
    found = {
        **call,
        "fetch": options.fetch,
        "keep": options.keep,
        "retry_seconds": options.device_silence_seconds,
        **options.server,
    }
    return [DeviceCall("model_swap", found if call.get("state") == "shadow" else {**found, **_trial(options)})]


def _trial(options: DeviceOptions) -> Arguments:
    """How a device tries a version, beside how it is reached."""
    return {
        "min_ready_seconds": options.min_ready_seconds,
        "trial_seconds": options.trial_seconds,
        "trial_limits": options.trial_limits,
        "accept_no_way_back": options.accept_no_way_back,
        "jitter_seconds": options.jitter_seconds,
    }


def _info(model: str, options: DeviceOptions, retry_seconds: float, **more: Any) -> Sequence[DeviceCall]:
    asked = {"model": model, "retry_seconds": retry_seconds, **more, **_reader(options)}
    return [DeviceCall("model_info", asked)]


def _reader(options: DeviceOptions) -> Arguments:
    """Where a device's models and its server are."""
    return {name: options.server[name] for name in ("store", "server") if name in options.server}


def _read(scene: Scene, _host: str, options: DeviceOptions, _model: str | None) -> Sequence[DeviceCall]:
    call = scene.registered(scene.task_host, WAVE)["call"]
    of_wave: Arguments = {"candidate": call["version"]} if call.get("state") == "shadow" else {"probe": True}
    return _info(call["model"], options, options.device_silence_seconds, **of_wave)


def _read_control(scene: Scene, _host: str, options: DeviceOptions, _model: str | None) -> Sequence[DeviceCall]:
    call = scene.registered(scene.task_host, WAVE)["call"]
    return _info(call["model"], options, min(options.device_silence_seconds, _CONTROL_RETRY_SECONDS))


def _read_counters(scene: Scene, _host: str, options: DeviceOptions, _model: str | None) -> Sequence[DeviceCall]:
    run = current_run(scene)
    if not isinstance(run, Run):
        raise StepError(f"this run is a {run.kind}, and plans no wave")
    return _info(run.options.model, options, 0)


def _read_labels(scene: Scene, _host: str, options: DeviceOptions, model: str | None) -> Sequence[DeviceCall]:
    run = current_run(scene)
    if not isinstance(run, LabelReading) or model is None:
        raise StepError(f"this run is a {run.kind}, and reads no labels of {model}")
    return _info(model, options, 0)


def _end_shadow(scene: Scene, host: str, options: DeviceOptions, _model: str | None) -> Sequence[DeviceCall]:
    """End a shadow, and remove a release that failed as one where this run brought it."""
    run, rollout = current_rollout(scene)
    release = {"model": rollout.model, "version": rollout.version, **_reader(options)}
    calls = [DeviceCall("model_swap", {**release, "state": "shadow", "shadow_seconds": 0})]
    wave = rollout.wave(SHADOW_WAVE)
    if wave and wave.verdict is Verdict.FAIL and brought(scene.registered(host, SWAP), rollout.version):
        calls.append(DeviceCall("model_swap", {**release, "state": "absent", "reason": "; ".join(run.problems)}))
    return calls


def _revert(scene: Scene, host: str, options: DeviceOptions, _model: str | None) -> Sequence[DeviceCall]:
    # As it is: to read the whole run, with its waves, for each of its devices would take the square of their number.
    run = noted_run(scene)
    if run["kind"] == Run.kind:
        what, why = _names(RolloutOptions(**run["options"])), "; ".join(run["problems"])
    elif run["kind"] == Rollback.kind:
        what = {name: run[name] for name in ("model", "version", "rollout_id") if run[name]}
        why = run["reason"]
    else:
        raise StepError(f"this run is a {run['kind']}, and nothing goes back")
    # Those that pull go back by what is published.
    if host not in run["revert"] or (host in run["pulled"] and not scene.check_mode):
        return []
    how = {"retry_seconds": options.device_silence_seconds, **options.server}
    return [DeviceCall("model_swap", {**what, "state": "previous", "reason": why, **how})]


def _reconcile(scene: Scene, host: str, options: DeviceOptions, model: str | None) -> Sequence[DeviceCall]:
    run = current_run(scene)
    if not isinstance(run, Reconciliation):
        raise StepError(f"this run is a {run.kind}, and brings no device to what the ledger says")
    call = next((call for call in run.calls.get(host, ()) if call["model"] == model), None)
    if call is None:
        return []
    # Verified once for all devices; a release that was refused is refused by the action, by its name.
    manifest = run.manifests.get(call["model"], {}).get(call["version"])
    withdrawn = run.withdrawn.get(call["model"])
    arguments = {
        **call,
        **({"manifest": manifest} if manifest is not None else {}),
        **({"withdrawn": withdrawn} if withdrawn is not None else {}),
        "repository": scene.variables.get("model_repository"),
        "keep": options.keep,
        "retry_seconds": options.device_silence_seconds,
        **_trial(options),
        **options.server,
    }
    # Nobody starts a microcontroller from here.
    return [DeviceCall("model_swap", arguments, mends=arguments.get("strategy") != "smp")]


CALLS: Mapping[str, Callable[[Scene, str, DeviceOptions, str | None], Sequence[DeviceCall]]] = {
    "swap": _swap,
    "read": _read,
    "read_control": _read_control,
    "read_counters": _read_counters,
    "read_labels": _read_labels,
    "end_shadow": _end_shadow,
    "revert": _revert,
    "reconcile": _reconcile,
}
