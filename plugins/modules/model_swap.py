#!/usr/bin/python
# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: model_swap
short_description: Make a version of a model serve on a device, or keep the old one serving
version_added: 0.1.0
description:
  - Takes a device from "this release is wanted" to "this release serves", in one call.
    Each byte is verified against the release's manifest before anything becomes visible. The switch is one atomic
    rename. The server loads the new version beside the old, and tests it with the release's golden inputs before it
    answers with it.
  - If any step fails, the old version keeps serving, the store names it as active again, and the task fails and
    tells in RV(live) which version serves.
  - The action plugin of the same name reads the release from O(repository) on the controller and sends the blobs
    that the device does not hold. Nothing is sent when the device has them.
options:
  model:
    description: Name of the model.
    type: str
    required: true
  version:
    description:
      - The version that O(state) is about.
      - For O(state=previous) it is the version to go back B(from). Where another version is active, nothing is done.
    type: str
    required: true
  state:
    description:
      - V(present) holds the release in the store, verified, without serving it.
      - V(active) makes it serve.
      - V(previous) goes back from O(version) to the version that was active before it, without any download.
        With none before it, the model is no longer served.
      - V(absent) removes the version from the store. The active and the previous version are never removed.
    type: str
    choices: [present, active, previous, absent]
    default: active
  repository:
    description:
      - Path of the model repository on the controller.
      - Needed where the device does not hold the release yet.
    type: path
  manifest:
    description:
      - The release's manifest, as RV(edgeml.fleet.release_info#module:manifest) returns it.
      - Read from O(repository) if not given; without either, the release must be in the device's store.
    type: dict
  staged_blobs:
    description:
      - Directory on the device that holds the release's blobs, each named by its SHA-256.
      - Set by the action plugin after it has sent them.
    type: path
  tell_server:
    description: Whether the inference server is told to load what became active.
    type: bool
    default: true
  health_seconds:
    description: How long the new version must stay ready before the swap counts as done, in seconds.
    type: float
    default: 2.0
  keep:
    description: How many versions the device keeps beside the active and the previous one.
    type: int
    default: 1
  rollout_id:
    description:
      - The rollout that this call is part of; recorded in the device's journal.
      - With O(state=previous), the version is left only where this rollout made it active.
    type: str
  reason:
    description: Why the call is made; recorded in the device's journal.
    type: str
    default: ""
extends_documentation_fragment:
  - edgeml.fleet.device
requirements:
  - Python 3.8 or later on the device; its standard library only
author:
  - The edgeml.fleet authors (@edgeml)
attributes:
  check_mode:
    support: full
    description: Tells exactly what would change, from the manifest, the store and the server; sends nothing.
  diff_mode:
    support: full
    description: Shows the active and previous version, the versions held, and which one serves.
  idempotent:
    support: full
    description:
      - A call that finds its goal reached changes nothing and reads no model file.
      - O(state=previous) names the version to leave, so that a second call does not go back further.
seealso:
  - module: edgeml.fleet.model_info
  - module: edgeml.fleet.release_info
"""

EXAMPLES = r"""
- name: Make digits 1.1.0 serve
  edgeml.fleet.model_swap:
    model: digits
    version: 1.1.0
    repository: /srv/models

- name: Send the next release ahead of its rollout
  edgeml.fleet.model_swap:
    model: digits
    version: 1.2.0
    state: present
    repository: /srv/models

- name: Go back from 1.1.0 to the version before it
  edgeml.fleet.model_swap:
    model: digits
    version: 1.1.0
    state: previous
    reason: wrong labels in the training set
"""

RETURN = r"""
model:
  description: Name of the model.
  returned: always
  type: str
  sample: digits
version:
  description: The version that was asked for.
  returned: always
  type: str
  sample: 1.1.0
live:
  description: The version that answers requests when the module ends, also when it fails; none if no version does.
  returned: always
  type: str
  sample: 1.1.0
before:
  description: The active and the previous version before the call.
  returned: success
  type: dict
  sample: {active: 1.0.0, previous: null}
after:
  description: The active and the previous version after the call; in check mode, as they would be.
  returned: success
  type: dict
  sample: {active: 1.1.0, previous: 1.0.0}
variant:
  description: The variant of the release that was chosen for this device.
  returned: when O(state) is V(present) or V(active)
  type: str
  sample: onnx-fp32
missing_blobs:
  description:
    - The blobs that the device does not hold and that O(staged_blobs) has to bring.
    - Outside check mode it is empty, unless the module was called without its action plugin.
  returned: when O(state) is V(present) or V(active)
  type: list
  elements: dict
  sample: [{path: model.onnx, size: 40518, sha256: 5f2c...}]
baseline:
  description:
    - How the replaced version answered the new release's probe set, just before the switch.
    - None where there was nothing to measure.
  returned: when O(state) is V(active) and something changed
  type: dict
  sample: {version: 1.0.0, samples: 360, correct: 331, accuracy: 0.919444, latency_seconds: 0.004}
refused:
  description: True when the task failed before anything on the device was changed.
  returned: failure
  type: bool
  sample: true
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.edgeml.fleet.plugins.module_utils._device import device_facts
from ansible_collections.edgeml.fleet.plugins.module_utils._errors import EdgemlError, ManifestError, SwapError
from ansible_collections.edgeml.fleet.plugins.module_utils._manifest import Release, check_name, parse_release
from ansible_collections.edgeml.fleet.plugins.module_utils._oip import Server
from ansible_collections.edgeml.fleet.plugins.module_utils._store import State, Store
from ansible_collections.edgeml.fleet.plugins.module_utils._swap import Context, Plan, Swap


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "model": {"type": "str", "required": True},
            "version": {"type": "str", "required": True},
            "state": {"type": "str", "choices": ["present", "active", "previous", "absent"], "default": "active"},
            "repository": {"type": "path"},
            "manifest": {"type": "dict"},
            "staged_blobs": {"type": "path"},
            "tell_server": {"type": "bool", "default": True},
            "health_seconds": {"type": "float", "default": 2.0},
            "keep": {"type": "int", "default": 1},
            "rollout_id": {"type": "str"},
            "reason": {"type": "str", "default": ""},
            "store": {"type": "path", "default": "/var/lib/edgeml/store"},
            "server_socket": {"type": "path", "default": "/run/edgeml/server.sock"},
        },
        supports_check_mode=True,
    )
    params = module.params
    server = Server(params["server_socket"]) if params["tell_server"] else None
    context = Context(rollout_id=params["rollout_id"], actor="ansible", why=params["reason"])
    swap = Swap(Store(params["store"]), server, params["model"], context)
    result: dict[str, Any] = {"changed": False, "model": params["model"], "version": params["version"]}
    try:
        check_name(params["model"], "model")
        check_name(params["version"], "version")
        if module.check_mode:
            _run(swap, params, result, act=False)
        else:
            with swap.store.lock():
                _run(swap, params, result, act=True)
        module.exit_json(**result)
    except SwapError as error:
        module.fail_json(msg=_failure(str(error), error.live), **{**result, "live": error.live, "refused": False})
    except (EdgemlError, OSError) as error:
        live = _live(swap)
        module.fail_json(msg=_failure(str(error), live), **{**result, "live": live, "refused": True})


def _run(swap: Swap, params: dict[str, Any], result: dict[str, Any], act: bool) -> None:
    """Plan what O(state) asks for, describe it in ``result``, and do it if ``act``."""
    state, version = params["state"], params["version"]
    if state in ("present", "active"):
        release = _release(swap, params)
        device = device_facts()
        make_plan = swap.plan_present if state == "present" else swap.plan_active
        plan = make_plan(release, device, params["keep"])
        result["variant"] = plan.variant.name if plan.variant else None
        result["missing_blobs"] = [vars(file) for file in plan.missing]
        if act and plan.missing and params["staged_blobs"] is None:
            _describe(swap, version, state, plan, result)
            result["changed"] = False
            return
        versions_before = swap.store.versions(params["model"])
        if act and plan.stages:
            swap.stage(release, plan, params["staged_blobs"])
            result["missing_blobs"] = []
        if act and state == "active" and (plan.tells_server or plan.before != plan.after):
            result["baseline"] = swap.activate(plan, params["health_seconds"])
            swap.make_room(plan)
    else:
        plan = swap.plan_leave(version) if state == "previous" else swap.plan_absent(version)
        versions_before = swap.store.versions(params["model"])
        if act and plan.changed:
            if state == "previous":
                swap.leave(plan)
            else:
                swap.remove(version, plan)
    _describe(swap, version, state, plan, result, versions_before)
    if act:
        result["live"] = swap.live()


def _release(swap: Swap, params: dict[str, Any]) -> Release:
    if params["manifest"] is None:
        return swap.store.version(params["model"], params["version"]).release
    release = parse_release(params["manifest"])
    if (release.model, release.version) != (params["model"], params["version"]):
        raise ManifestError(
            f"manifest: expected {params['model']} {params['version']}; found {release.model} {release.version}"
        )
    return release


def _describe(
    swap: Swap, version: str, state: str, plan: Plan, result: dict[str, Any], versions_before: list[str] | None = None
) -> None:
    """Fill in what the plan says of before and after, with the diff."""
    held = swap.store.versions(swap.model) if versions_before is None else versions_before
    gone = {version} if state == "absent" else set(plan.surplus)
    after = sorted({*held, *([version] if plan.stages else [])} - gone)
    serves = plan.after.active if plan.tells_server or swap.server is None else plan.live
    result.update(
        changed=plan.changed,
        before=vars(plan.before),
        after=vars(plan.after),
        live=plan.live,
        diff={
            "before": _picture(plan.before, held, plan.live),
            "after": _picture(plan.after, after, serves),
        },
    )


def _picture(state: State, versions: list[str], live: str | None) -> dict[str, Any]:
    return {"active": state.active, "previous": state.previous, "versions": versions, "live": live}


def _live(swap: Swap) -> str | None:
    try:
        return swap.live()
    except EdgemlError:
        return None


def _failure(message: str, live: str | None) -> str:
    return f"{message}. Live now: {live or 'no version'}"


if __name__ == "__main__":
    main()
