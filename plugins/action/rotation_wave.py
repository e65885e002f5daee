# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The action ``rotation_wave``: one wave of a rotation on one machine."""

from __future__ import annotations

from typing import Any, Mapping, Sequence

from ansible.errors import AnsibleActionFail
from ansible.module_utils.parsing.convert_bool import boolean
from ansible.plugins.action import ActionBase

from ansible_collections.edgeml.fleet.plugins.module_utils._common.errors import EdgemlError
from ansible_collections.edgeml.fleet.plugins.module_utils._enrolment.request import EnrolmentError
from ansible_collections.edgeml.fleet.plugins.plugin_utils._enrolment.rotation import (
    Authorities,
    Change,
    PlaceState,
    Wave,
)
from ansible_collections.edgeml.fleet.plugins.plugin_utils._enrolment.succession import Succession

ARGUMENTS: dict[str, Any] = {
    "wave": {"type": "str", "required": True, "choices": ["read", *(wave.value for wave in Wave)]},
    "authority": {"type": "path", "required": True},
    "certificate": {"type": "bool", "default": True},
    "places": {"type": "list", "elements": "dict"},
}
# The variables by which each role writes what a rotation replaces.
_SERVER = ("tls_certificate", "tls_client_ca")
_GIVEN = {
    "inference_service": _SERVER,
    "model_repository": _SERVER,
    "report_mailbox": _SERVER,
    "site_cache": _SERVER,
    "mqtt_broker": _SERVER,
    "pull_agent": ("ca", "authority"),
}


class _ModuleFailedError(Exception):
    """The module on the machine failed, or nobody answered; ``result`` says which."""

    def __init__(self, result: dict[str, Any]) -> None:
        super().__init__(result.get("msg"))
        self.result = result


class ActionModule(ActionBase):
    """Reads what a machine has, and changes what the wave asks for. Keys stay where they are."""

    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return what the machine has afterwards."""
        super().run(tmp, task_vars)
        args = self.validate_argument_spec(argument_spec=ARGUMENTS)[1]
        variables = task_vars or {}
        try:
            return {"changed": False, **self._wave(args, variables)}
        except _ModuleFailedError as error:
            return error.result
        except (EdgemlError, OSError) as error:
            raise AnsibleActionFail(f"{variables.get('inventory_hostname')}: {error}") from None

    def _wave(self, args: Mapping[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        places = {} if args["places"] is None else {"places": args["places"]}
        said = self._module(places, task_vars)
        succession = Succession(args["authority"])
        states = [PlaceState(place) for place in said["places"]]
        if args["wave"] == "read":
            self._refuse_roles(states, succession, task_vars)
            return {"places": said["places"]}
        wave = Wave(args["wave"])
        authorities = Authorities(succession.old, succession.new, succession.authority.crl())
        changes = {state.name: state.change(wave, authorities) for state in states}
        wanted = {
            name: change
            for name, change in changes.items()
            if change is not None and (args["certificate"] or not change.leaf)
        }
        result = {"changed": bool(wanted), "diff": _diff(wanted), "places": said["places"]}
        if not wanted or self._task.check_mode:
            return result
        leaves = [name for name, change in wanted.items() if change.leaf]
        if leaves and not succession.switched:
            raise EnrolmentError(f"{args['authority']}: the old authority still signs; call rotation_gate first")
        requests = self._module({**places, "request": leaves}, task_vars)["requests"] if leaves else {}
        made = []
        for state in states:
            if state.name in wanted:
                certificate = ""
                if state.name in leaves and state.certificate is not None:
                    certificate = succession.authority.reissue(state.certificate, requests[state.name].encode())
                made.append({"name": state.name, "files": wanted[state.name].files, "certificate": certificate})
        return {**result, "places": self._module({**places, "changes": made}, task_vars)["places"]}

    def _refuse_roles(self, states: Sequence[PlaceState], succession: Succession, task_vars: Mapping[str, Any]) -> None:
        """Refuse a machine on which a role would bring back what is replaced. Raises EnrolmentError."""
        found = []
        for state in states:
            given = [f"{state.name}_{name}" for name in _GIVEN.get(state.name, ())]
            given = [name for name in given if self._value(name, task_vars)]
            kept = f"{state.name}_tls_keep"
            if given and state.concerns(succession.old) and not boolean(self._value(kept, task_vars), strict=False):
                found.append(f"{kept}: expected true, or the role would bring back what {given[0]} says")
        if found:
            raise EnrolmentError("; ".join(found))

    def _value(self, name: str, task_vars: Mapping[str, Any]) -> Any:
        return self._templar.template(task_vars[name]) if name in task_vars else ""

    def _module(self, arguments: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        result: dict[str, Any] = self._execute_module(
            module_name="edgeml.fleet.device_credentials", module_args=arguments, task_vars=task_vars
        )
        if result.get("failed") or result.get("unreachable"):
            raise _ModuleFailedError(result)
        return result


def _diff(changes: Mapping[str, Change]) -> list[dict[str, str]]:
    """The changes as Ansible shows them, each place by its name."""
    return [
        {
            "before_header": name,
            "after_header": name,
            "before": "".join(f"{before}\n" for before, _after in change.notes),
            "after": "".join(f"{after}\n" for _before, after in change.notes),
        }
        for name, change in changes.items()
    ]
