# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""How an action asks a device: by a small request to the command that is installed there, or by a whole module."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, get_args, get_origin, get_type_hints, is_typeddict

from ansible.errors import AnsibleConnectionFailure, AnsibleError
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

from ansible_collections.edgeml.fleet.plugins.module_utils._common.code import code_digest
from ansible_collections.edgeml.fleet.plugins.module_utils._device.request import (
    MODULES,
    RESULTS,
    argument_spec,
    read_answer,
    write_call,
)

from ._links import patiently

# By its path: sudo's secure_path has /usr/local/bin on some distributions only.
COMMAND = "/usr/local/bin/edgeml call"
# More than the description of a device with hundreds of models.
RESULT_BYTES_MAX = 16 << 20
# How long a swap is tried again where nobody answers, or nobody is let in: such a device is away, and others wait.
AWAY_SECONDS = 15.0
_LATE_BECOME = "waiting for privilege escalation prompt"
# Read once: Ansible loads an action in its main process, and its workers inherit it.
CODE = code_digest()
# A path is one on the device: nothing of it is expanded here.
_SPECS = {
    module: {
        name: {**option, "type": "str" if option["type"] == "path" else option["type"]}
        for name, option in argument_spec(module).items()
    }
    for module in MODULES
}
_VALIDATORS = {module: ArgumentSpecValidator(spec) for module, spec in _SPECS.items()}


class DeviceAction(ActionBase):
    """An action that asks a device.

    Where the device has the command ``edgeml`` with the code that the controller has, it gets a request of some KB.
    Elsewhere Ansible sends the module, which does the same. An answer tells before anything is done whether the
    command does it, so nothing is done twice.
    """

    # False once the device was seen not to take requests.
    _takes_requests = True
    # True once the device's command has taken a request.
    began = False

    def ask(self, module: str, arguments: Mapping[str, Any], task_vars: dict[str, Any] | None) -> dict[str, Any]:
        """Return what ``module`` (``model_swap`` or ``model_info``) returns for ``arguments``.

        While the connection fails it is tried again, for the argument ``retry_seconds``: each call finds what an
        earlier one did. Raises AnsibleConnectionFailure, the last one.
        """
        seconds = _seconds(arguments.get("retry_seconds"))

        def attempt() -> dict[str, Any]:
            try:
                return self._ask(module, arguments, task_vars)
            except AnsibleError as error:
                # ansible-core 2.16 to 2.18 have no error of its own for become that is late.
                if not isinstance(error, AnsibleConnectionFailure) and _LATE_BECOME not in str(error):
                    raise
                self.connection_failed(str(error))
                raise AnsibleConnectionFailure(str(error)) from error

        return patiently(
            attempt,
            seconds,
            str((task_vars or {}).get("inventory_hostname")),
            away_seconds=away_seconds(module, seconds),
            was_there=lambda: self.began,
        )

    def connection_failed(self, message: str) -> None:
        """Note that an attempt ended with the connection."""

    def _ask(self, module: str, arguments: Mapping[str, Any], task_vars: dict[str, Any] | None) -> dict[str, Any]:
        """One attempt."""
        result = self._request(module, arguments) if self._takes_requests else None
        if result is None:
            self._takes_requests = False
            result = self._execute_module(
                module_name=f"edgeml.fleet.{module}",
                module_args=dict(arguments),
                task_vars=task_vars,
                wrap_async=bool(self._task.async_val and not self._connection.has_native_async),
            )
        return result

    def _request(self, module: str, arguments: Mapping[str, Any]) -> dict[str, Any] | None:
        """The command's result; None where the device, the connection or the arguments need the module."""
        if self._task.async_val or not self._input_reaches_commands():
            return None
        checked = _VALIDATORS[module].validate(arguments)
        if checked.error_messages:
            # The module says it.
            return None
        try:
            request = write_call(CODE, module, bool(self._task.check_mode), checked.validated_parameters)
        except (TypeError, ValueError):
            return None
        command = f"{self._compute_environment_string()} {COMMAND}".strip()
        done = self._low_level_execute_command(command, in_data=request)
        answer = read_answer(done["stdout"])
        if answer.code != CODE:
            Display().vvv(f"the module is sent: {COMMAND} ended with {done['rc']}, its code is {answer.code}")
            return None
        self.began = True
        result = _parse_result(module, answer.result) if answer.result is not None else "no result"
        if isinstance(result, str):
            return _no_result(done, result)
        return {**result, "invocation": {"module_args": checked.validated_parameters}}

    def _input_reaches_commands(self) -> bool:
        """Whether a command's standard input is what it is given. Without pipelining, a password for become may need a
        terminal there."""
        become = self._connection.become
        return self._is_pipelining_enabled("new") or (
            self._connection.has_pipelining and not (become and become.get_option("become_pass"))
        )


def without_answer(result: Mapping[str, Any]) -> str:
    """Return in one line why a module ended without an answer, by what was printed in its place.

    Of a traceback the last line has it, of a shell or of sudo every line may.
    """
    printed = (str(result.get(stream) or "").strip() for stream in ("module_stderr", "module_stdout", "msg"))
    lines = [line.strip() for line in next(filter(None, printed), "nothing says why").splitlines() if line.strip()]
    traced = any(line.startswith("Traceback ") for line in lines)
    return f"nothing was begun: {lines[-1] if traced else '; '.join(lines)}"


def away_seconds(module: str, seconds: float) -> float:
    """Return for how many of the ``seconds`` a call is tried again where nobody answers, or nobody is let in.

    Who reads a device knows that it was there; a swap goes first to those that are.
    """
    return seconds if module == "model_info" else min(seconds, AWAY_SECONDS)


def _seconds(value: Any) -> float:
    """A number of seconds, also one that is written as text; none for what the module will refuse."""
    try:
        return float(value or 0)
    except (TypeError, ValueError):
        return 0.0


def _parse_result(module: str, text: str) -> dict[str, Any] | str:
    """A result with the fields, each of its type, that the module documents; else what is wrong with it."""
    if len(text) > RESULT_BYTES_MAX:
        return f"a result of {len(text)} bytes (at most {RESULT_BYTES_MAX})"
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        return "a result that is no JSON"
    wrong = _misfit(document, RESULTS[module], "")
    if wrong is None and "changed" not in document:
        wrong = "changed is missing"
    return document if wrong is None else f"a result of another form: {wrong}"


def _misfit(value: Any, hint: Any, where: str) -> str | None:
    """Where in ``value`` the first thing is that its type hint does not allow, and what; None where all is allowed."""
    origin, arguments = get_origin(hint), get_args(hint)
    wrong = f"{where or 'the result'} is {_kind(value)}"
    if hint is Any:
        return None
    if is_typeddict(hint):
        hints = get_type_hints(hint)
        if not isinstance(value, dict):
            return wrong
        for name in sorted(hint.__required_keys__ - value.keys()):
            return f"{_within(where, name)} is missing"
        for name in sorted(value.keys() - hints.keys()):
            return f"{_within(where, name)} is not known"
        return _first(_misfit(item, hints[name], _within(where, name)) for name, item in value.items())
    if origin is dict:
        if not isinstance(value, dict):
            return wrong
        return _first(_misfit(item, arguments[1], _within(where, name)) for name, item in value.items())
    if origin is list:
        if not isinstance(value, list):
            return wrong
        return _first(_misfit(item, arguments[0], f"{where}[{index}]") for index, item in enumerate(value))
    if arguments:
        found = [_misfit(value, choice, where) for choice in arguments]
        return None if None in found else found[0]
    kinds = (int, float) if hint is float else hint
    return None if isinstance(value, kinds) and (hint is bool or not isinstance(value, bool)) else wrong


def _first(found: Iterable[str | None]) -> str | None:
    return next((item for item in found if item is not None), None)


def _within(where: str, name: str) -> str:
    """A field's path. The name is the device's."""
    return f"{where}.{name[:80]}" if where else name[:80]


def _kind(value: Any) -> str:
    """What JSON calls it."""
    kinds = {bool: "a boolean", str: "a text", dict: "an object", list: "a list", type(None): "null"}
    return kinds.get(type(value), "a number")


def _no_result(done: Mapping[str, Any], what: str) -> dict[str, Any]:
    """The result of a command that began and said something else, as Ansible tells it of a module."""
    return {
        "failed": True,
        "changed": False,
        "msg": f"{COMMAND} ended with code {done['rc']} and {what}; see module_stderr and module_stdout",
        "module_stdout": done["stdout"][:2000],
        "module_stderr": done["stderr"][:2000],
        "rc": done["rc"],
    }
