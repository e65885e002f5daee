# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""What the actions have in common that work in Ansible's own process, on the controller, and connect to no device."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar, Iterable, Mapping, Sequence

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase

from ansible_collections.edgeml.fleet.plugins.module_utils._common.errors import EdgemlError, message_of


class ControllerAction(ActionBase):
    """Checks the arguments, lets ``answer`` work, and fails the task for the errors that it raises on purpose."""

    _requires_connection = False
    _supports_check_mode = True
    # The arguments, as Ansible checks them.
    arguments: ClassVar[Mapping[str, Any]]
    required_if: ClassVar[Sequence[Sequence[Any]]] = ()
    required_one_of: ClassVar[Sequence[Sequence[str]]] = ()

    @abstractmethod
    def answer(self, args: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        """Return what the task returns beside ``changed``. Raises EdgemlError, OSError or AnsibleActionFail."""

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return the answer to the arguments; nothing is changed if it does not say so."""
        super().run(tmp, task_vars)
        args = self.validate_argument_spec(
            argument_spec=self.arguments, required_if=self.required_if, required_one_of=self.required_one_of
        )[1]
        try:
            return {"changed": False, **self.answer(args, task_vars or {})}
        except (EdgemlError, OSError) as error:
            raise AnsibleActionFail(message_of(error)) from None

    def warn(self, warnings: Iterable[str]) -> None:
        """Show each of the warnings."""
        for warning in warnings:
            self._display.warning(warning)
