# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""The transport of devices that pull, below the actions that ask a device: nothing connects to one.

What was published asks them, and what they have reported answers: a step of the rollout has waited for it, and reads
itself what came of a swap.
"""

from __future__ import annotations

import contextlib
from typing import Any, Mapping

from ansible import constants
from ansible.errors import AnsibleActionFail

from ansible_collections.edgeml.fleet.plugins.module_utils._common.errors import ArgumentError, EdgemlError
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.options import LedgerOptions

from . import results
from .collect import Collector
from .mailbox import MailboxError
from .publication import question_of_run
from .reports import Book, DeviceReports
from .settings import PullSettings, read_settings

PULL = "pull"


def pulls(action: Any, task_vars: Mapping[str, Any] | None) -> bool:
    """Return whether the device that a task is for, or is delegated to, pulls for itself."""
    variables = task_vars or {}
    host = action._task.delegate_to
    if host and host != variables.get("inventory_hostname"):
        variables = (variables.get("hostvars") or {}).get(host) or {}
    value = variables.get("rollout_transport")
    return value is not None and str(action._templar.template(value)) == PULL


def ask(action: Any, module: str, args: Mapping[str, Any], task_vars: Mapping[str, Any]) -> dict[str, Any]:
    """Return what ``model_info``, or ``model_swap`` in check mode, returns of a device that pulls.

    Raises AnsibleActionFail.
    """
    device = str(action._task.delegate_to or task_vars["inventory_hostname"])
    try:
        settings = _settings(action, task_vars)
        reports = Book(settings.book).read(device)
        model = args.get("model")
        if module == "model_info":
            question = question_of_run(str(vars(constants)["DEFAULT_LOCAL_TMP"]), settings.fleet, str(model))
            if question is None:
                reports = _updated(settings, device, reports)
            number = question.number if question else None
            return {"changed": False, **results.info_result(reports, device, model, number)}
        if action._task.check_mode:
            return results.predicted_result(_updated(settings, device, reports), device, args)
        raise ArgumentError(
            f"{device} pulls (rollout_transport): what it runs is said by its fleet's desired state, which the "
            "playbooks rollout and rollback publish; a task of your own changes nothing there"
        )
    except (EdgemlError, OSError) as error:
        raise AnsibleActionFail(str(error), result={"refused": True, "live": None}) from None


def _settings(action: Any, task_vars: Mapping[str, Any]) -> PullSettings:
    template = action._templar.template
    names = [name for alternatives in LedgerOptions.names().values() for name in alternatives]
    variables = {name: template(task_vars[name]) for name in names if name in task_vars}
    options = LedgerOptions.from_variables(variables)
    repository = task_vars.get("model_repository")
    return read_settings(options.pull, str(template(repository)) if repository else "", options.ledger_directory)


def _updated(settings: PullSettings, device: str, known: DeviceReports) -> DeviceReports:
    """What a device has reported until now; what is known of it where the mailbox cannot be read."""
    try:
        with contextlib.closing(Collector(settings)) as collector:
            return collector.update(device)
    except MailboxError:
        return known
