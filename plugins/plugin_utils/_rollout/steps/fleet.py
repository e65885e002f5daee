# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""The last step of the playbook ``status``: it writes the state of the fleet down, for people and for programs."""

from __future__ import annotations

import json
import os
from typing import Any, Mapping

from ansible_collections.edgeml.fleet.plugins.module_utils._common.errors import ArgumentError
from ansible_collections.edgeml.fleet.plugins.module_utils._common.files import write_whole
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout import devices, ledger
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.fleet import (
    SCHEMA,
    Asked,
    fleet_document,
    fleet_samples,
    json_text,
)
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.options import LedgerOptions, absolute_path
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.report import fleet_page
from ansible_collections.edgeml.fleet.plugins.plugin_utils._watch.metrics import controller_exposition

from .scene import Result, Scene, StepError

# What the tasks of the playbook register, and the variable that says where the page is written.
STATUS = "status"
WITHDRAWN = "status_withdrawn"
PAGE = "status_page"
DEFAULT_PAGE = "~/.local/state/edgeml/fleet.html"


def fleet(scene: Scene) -> Result:
    """Write the page, its JSON and its metrics; nothing in check mode, or where ``status_page`` is empty.

    Raises OSError where they cannot be written, StepError where no device was asked.
    """
    if not any(scene.registered(host, STATUS) for host in scene.hosts):
        raise StepError(
            "no device was read, and the page would have all of them away: run the whole playbook; --start-at-task "
            "leaves out what the rest stands on"
        )
    chosen = scene.variables.get(PAGE, DEFAULT_PAGE)
    if scene.check_mode or not chosen:
        return {"page": ""}
    page = absolute_path(str(chosen))
    path = f"{os.path.splitext(page)[0]}.json"
    options = LedgerOptions.from_variables(scene.variables)
    notes: list[str] = []
    before = _earlier(path, notes)
    rollouts = _rollouts(absolute_path(options.ledger), notes)
    withdrawn: Mapping[str, Any] = next(filter(None, (scene.registered(host, WITHDRAWN) for host in scene.hosts)), {})
    # The task before has failed with it: no warning.
    unread = [f"Withdrawn releases could not be read: {withdrawn.get('msg')}"] if withdrawn.get("failed") else []
    wanted = ledger.wanted(rollouts, scene.hosts)
    asked = {
        host: Asked(
            scene.registered(host, STATUS),
            _device_class(scene, host, options, notes),
            wanted.get(host, ()),
            devices.gateway_of(scene.host_variables(host)),
        )
        for host in scene.hosts
    }
    document = fleet_document(asked, rollouts, withdrawn.get("withdrawn"), before, [*notes, *unread])
    known = set(scene.groups.get("all", ()))
    document["not_asked"] = [item for item in document["not_asked"] if item["device"] in known]
    os.makedirs(os.path.dirname(page), exist_ok=True)
    write_whole(path, json_text(document))
    write_whole(f"{os.path.splitext(page)[0]}.prom", controller_exposition(fleet_samples(document)))
    fleet_page.write(document, page)
    return {"page": page, "msg": f"The page is {page}", **({"warnings": notes} if notes else {})}


def _device_class(scene: Scene, host: str, options: LedgerOptions, notes: list[str]) -> str:
    """The class of a device; one whose variables cannot be templated has none, and is named."""
    try:
        return str(devices.describe(scene.host_variables(host), options.device_class_variables)["device_class"])
    except ArgumentError as error:
        notes.append(str(error))
        return ""


def _earlier(path: str, notes: list[str]) -> Mapping[str, Any] | None:
    """What an earlier run wrote; None where there is nothing to read."""
    try:
        with open(path, encoding="utf-8") as file:
            document = json.load(file)
        if not isinstance(document, dict) or document.get("schema") != SCHEMA:
            raise ValueError(f"expected a document with the schema {SCHEMA}")
        return document
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        notes.append(f"{path}: cannot be read, so that nobody knows when devices that are away were seen: {error}")
        return None


def _rollouts(directory: str, notes: list[str]) -> list[Any]:
    try:
        found = ledger.read_all(directory)
    except ledger.LedgerError as error:
        notes.append(str(error))
        return []
    notes += found.damaged.values()
    return list(found.rollouts)
