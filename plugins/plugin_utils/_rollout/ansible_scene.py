# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""What Ansible knows where a step of a rollout, or a call to one of its devices, runs."""

from __future__ import annotations

import json
import os
import pwd
import re
from pathlib import Path
from typing import Any, Iterator, Mapping, Sequence

from ansible import constants
from ansible.errors import AnsibleError, AnsiblePromptInterrupt, AnsiblePromptNoninteractive
from ansible.plugins.action import ActionBase
from ansible.plugins.loader import become_loader, connection_loader, shell_loader

from ansible_collections.edgeml.fleet.plugins.module_utils._common.errors import ArgumentError
from ansible_collections.edgeml.fleet.plugins.plugin_utils._hosts import matching_hosts

# The roles of this collection.
_ROLES = Path(__file__).parents[3] / "roles"
# An option of an entry point in a role's argument spec.
_OPTION = re.compile(r"^      (\w+):$", re.MULTILINE)
_LOADERS = {"become": become_loader, "connection": connection_loader, "shell": shell_loader}


class AnsibleScene:
    """What Ansible knows where the step runs."""

    def __init__(self, action: ActionBase, task_vars: dict[str, Any]) -> None:
        self._action = action
        self._vars = task_vars
        self._raw: dict[str, Mapping[str, Any]] = {}
        self.check_mode = bool(action._task.check_mode)
        # Each task runs in a fork of ansible-playbook.
        self.process = os.getppid()
        self.task_host = str(task_vars["inventory_hostname"])
        self.scratch = str(vars(constants)["DEFAULT_LOCAL_TMP"])
        self.hosts: Sequence[str] = list(task_vars["ansible_play_hosts_all"])
        self.batch: Sequence[str] = list(task_vars["ansible_play_batch"])
        self.groups: Mapping[str, Sequence[str]] = task_vars["groups"]
        self.limited = "ansible_limit" in task_vars
        # AWX cannot answer: there a workflow's approval node does, and the next job has rollout_approved.
        self.can_ask = not self.check_mode and "awx_job_id" not in task_vars
        self.operator = str(task_vars.get("awx_user_name") or task_vars.get("tower_user_name") or _login())
        self.variables: Mapping[str, Any] = _Templated(action, task_vars)
        self.given: Sequence[str] = list(action._task.get_variable_manager().extra_vars)

    def ask(self, prompt: str) -> str:
        """Return what the person at the terminal types; nothing where nobody is there, or who is there ends it."""
        try:
            typed = self._action._display.prompt_until(f"{prompt}: ", complete_input=(b"\r", b"\n"))
        except (AnsiblePromptInterrupt, AnsiblePromptNoninteractive):
            return ""
        return str(typed.decode(errors="replace"))

    def say(self, line: str) -> None:
        """Show a line at once, while the step goes on. Standard output belongs to the stdout callback."""
        self._action._display.display(line, stderr=True)

    def matching(self, pattern: str) -> list[str]:
        """Return the hosts of the inventory that match, also those that --limit leaves out."""
        return matching_hosts(self._action._loader, self._vars, pattern)

    def left(self, hosts: Sequence[str]) -> list[str]:
        """Return those of the hosts that --limit leaves. The play may be another one's, such as localhost's."""
        if not self.limited:
            return list(hosts)
        known = set(matching_hosts(self._action._loader, self._vars, "all", limited=True))
        return [host for host in hosts if host in known]

    def has_plugin(self, kind: str, name: str) -> bool:
        """Return whether Ansible finds the plugin, under its own name or one that it had before."""
        try:
            return bool(_LOADERS[kind].find_plugin(name, check_aliases=True))
        except AnsibleError:
            return False

    def role_variables(self) -> list[str]:
        """Return the names of the variables of this collection's roles."""
        specs = [path.read_text(encoding="utf-8") for path in _ROLES.glob("*/meta/argument_specs.yml")]
        return [name for text in specs for name in _OPTION.findall(text)]

    def users_roles(self) -> list[str]:
        """Return the names of the roles that are the user's own."""
        places = [*vars(constants)["DEFAULT_ROLES_PATH"], os.path.join(self._vars["playbook_dir"], "roles")]
        own = {role for place in places if os.path.isdir(place) for role in os.listdir(place)}
        return sorted(own - {path.name for path in _ROLES.iterdir()})

    def host_variables(self, host: str) -> Mapping[str, Any]:
        """Return the variables of a host, templated where they are read."""
        return _HostVariables(host, self._vars["hostvars"][host])

    def registered(self, host: str, name: str) -> Mapping[str, Any]:
        """Return what a task registered for a host."""
        # This host's are at hand; those of another one cost the controller a look through the inventory.
        return (self._vars if host == self.task_host else self._raw_variables(host)).get(name) or {}

    def fact(self, name: str) -> Mapping[str, Any]:
        """Return a fact of localhost that an earlier step set."""
        return (self._raw_variables("localhost").get("ansible_facts") or {}).get(name) or {}

    def _raw_variables(self, host: str) -> Mapping[str, Any]:
        """A host's variables as they are: results of tasks and facts are never templates."""
        if host not in self._raw:
            self._raw[host] = self._vars["hostvars"].raw_get(host)
        return self._raw[host]


def _login() -> str:
    """The user who runs ansible-playbook; with sudo, the one who called it."""
    user = os.getuid()
    try:
        name = pwd.getpwuid(user).pw_name
    except KeyError:  # A container's user need not be listed.
        name = str(user)
    return os.environ.get("SUDO_USER") or name if user == 0 else name


class _Variables(Mapping[str, Any]):
    """Variables by name. How one is read is a subclass's."""

    def __init__(self, variables: Mapping[str, Any]) -> None:
        self._variables = variables

    def __contains__(self, name: object) -> bool:
        return name in self._variables

    def __iter__(self) -> Iterator[str]:
        return iter(self._variables)

    def __len__(self) -> int:
        return len(self._variables)


class _HostVariables(_Variables):
    """The variables of a host. One that cannot be templated is an error that names it, and the host."""

    def __init__(self, host: str, variables: Mapping[str, Any]) -> None:
        super().__init__(variables)
        self._host = host

    def __getitem__(self, name: str) -> Any:
        try:
            return self._variables[name]
        except AnsibleError as error:
            raise ArgumentError(f"{self._host}: {name}: {error}") from None


class _Templated(_Variables):
    """The variables of the host that the step runs for, templated where they are read. An error names the variable."""

    def __init__(self, action: ActionBase, variables: Mapping[str, Any]) -> None:
        super().__init__(variables)
        self._action = action

    def __getitem__(self, name: str) -> Any:
        try:
            value = self._action._templar.template(self._variables[name])
        except AnsibleError as error:
            raise ArgumentError(f"{name}: {error}") from None
        # Ansible's own kinds of texts, lists and mappings carry where they come from, and bear no copying.
        return json.loads(json.dumps(value, default=str))
