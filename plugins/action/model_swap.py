# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Controller's side of ``model_swap``: reads the release, and sends the blobs that the device says it lacks."""

from __future__ import annotations

import os
import time
from typing import Any, NoReturn, Sequence

from ansible.errors import AnsibleActionFail, AnsibleConnectionFailure, AnsibleError

from ansible_collections.edgeml.fleet.plugins.module_utils._common.errors import EdgemlError
from ansible_collections.edgeml.fleet.plugins.module_utils._device.request import tell_from_the_beginning
from ansible_collections.edgeml.fleet.plugins.module_utils._release.cohort import position
from ansible_collections.edgeml.fleet.plugins.module_utils._release.manifest import parse_release
from ansible_collections.edgeml.fleet.plugins.module_utils._release.release import File
from ansible_collections.edgeml.fleet.plugins.plugin_utils._call import DeviceAction, without_answer
from ansible_collections.edgeml.fleet.plugins.plugin_utils._links import never_connected
from ansible_collections.edgeml.fleet.plugins.plugin_utils._pull import transport
from ansible_collections.edgeml.fleet.plugins.plugin_utils._sending import (
    DeviceAnswer,
    Form,
    PartSize,
    inline_arguments,
    smallest_forms,
    told,
    whole_forms,
)
from ansible_collections.edgeml.fleet.plugins.plugin_utils._trust.repository import (
    OpenRepository,
    Trust,
    open_repository,
    read_from,
)

# The states that need the release.
_BRINGING = ("present", "staged", "shadow", "active")
# How often a part is sent of which the device keeps nothing.
_PART_ATTEMPTS = 3


class ActionModule(DeviceAction):
    """One call where the device lacks nothing; else a second one, with what is small, after a transfer of the rest."""

    _supports_check_mode = True
    _supports_diff = True
    _reached = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # What was sent, and how many bytes of it were not, because an earlier sending that broke had brought them.
        self._sent: list[Form] = []
        self._resumed = 0

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Ask the device, with the manifest from the repository and then the blobs that it asks for.

        The result of a device that could not be reached tells in ``started`` whether it may have begun.
        """
        super().run(tmp, task_vars)
        args = dict(self._task.args)
        if transport.pulls(self, task_vars):
            return transport.ask(self, "model_swap", args, task_vars or {})
        self._wait(args, task_vars or {})
        try:
            return self._bring(args, task_vars)
        except AnsibleConnectionFailure as error:
            self.connection_failed(str(error))
            return {"unreachable": True, "started": self._reached, "msg": str(error)}
        except AnsibleActionFail:
            raise
        except Exception as error:
            # A result without `refused` is one that Ansible gave before this action began.
            result = {"model": args.get("model"), "version": args.get("version"), "refused": not self._reached}
            message = f"the controller could not do its part: {type(error).__name__}: {error}"
            raise AnsibleActionFail(message, result=result) from None

    def connection_failed(self, message: str) -> None:
        """Note whether the device may have begun; a later attempt that does not reach it says nothing of that."""
        if self._connection.transport == "ssh" and not never_connected(message):
            self._reached = True

    def _wait(self, args: dict[str, Any], task_vars: dict[str, Any]) -> None:
        """Wait for this host's share of the jitter."""
        most = float(args.get("jitter_seconds") or 0)
        if most > 0 and not self._task.check_mode:
            time.sleep(most * position(str(args.get("rollout_id")), task_vars["inventory_hostname"]))

    def _bring(self, args: dict[str, Any], task_vars: dict[str, Any] | None) -> dict[str, Any]:
        repository: OpenRepository | None = None
        files: dict[str, File] = {}
        try:
            repository = self._repository(args, task_vars or {})
            if repository and args.get("state", "active") in _BRINGING:
                files = _files(args, repository)
                args["unavailable_blobs"] = repository.unavailable(files.values())
                args["controller_sends"] = True
            result = self._call(args, task_vars)
            # The release says what may be sent, whatever a device asks for.
            wanted = DeviceAnswer(result).lacking.intersection(files)
            if wanted and repository and not result.get("failed") and not self._task.check_mode:
                first = result
                warnings: list[str] = []
                lacking = [files[sha] for sha in sorted(wanted)]
                forms = smallest_forms(repository, lacking, DeviceAnswer(result), warnings.append)
                args = self._with_forms(args, repository, forms, first, warnings, task_vars)
                result = self._call(args, task_vars)
                refused = DeviceAnswer(result).refused_deltas
                if refused and not result.get("failed"):
                    # Whole, and without any delta: so this ends here.
                    forms = whole_forms(repository, [files[sha] for sha in sorted(refused) if sha in wanted])
                    args = self._with_forms(args, repository, forms, result, warnings, task_vars)
                    result = self._call(args, task_vars)
                    warnings += refused.values()
                _add_warnings(result, warnings)
                result["sent"] = told(self._sent, self._resumed)
                tell_from_the_beginning(result, first)
                if "fetched" in first:
                    result["fetched"] = first["fetched"]
                    _add_warnings(result, first.get("warnings", []))
        except EdgemlError as error:
            self._refuse(args, str(error), task_vars)
        except _PartRefusedError as error:
            result = error.result
        except _TransferError as error:
            # A connection that is lost fails once more here, and the device is unreachable.
            self._refuse(args, f"the blobs could not be sent: {error}", task_vars)
        missing = result.get("missing_blobs") or []
        if missing and not (repository and self._task.check_mode) and not result.get("failed"):
            result.update(
                failed=True,
                changed=False,
                refused=True,
                msg=f"The device lacks {len(missing)} blobs of {args.get('model')} {args.get('version')}: "
                f"set 'repository'.{_why_not_fetched(result)} Live now: {result.get('live') or 'no version'}",
            )
        return result

    def _repository(self, args: dict[str, Any], task_vars: dict[str, Any]) -> OpenRepository | None:
        """Where files come from. What a manifest says that is given was verified by who gives it."""
        location = args.get("repository")
        if not location:
            return None
        verified = args.get("manifest") is not None or args.get("state", "active") not in _BRINGING
        # What is on a web server is fetched by its digest, where a device lacks it.
        if verified and not location.startswith(("http://", "https://")):
            return OpenRepository(os.path.expanduser(location))
        return open_repository(location, Trust.from_variables(read_from(task_vars, self._templar.template)))

    def _call(self, args: dict[str, Any], task_vars: dict[str, Any] | None) -> dict[str, Any]:
        try:
            result = self.ask("model_swap", args, task_vars)
        except AnsibleConnectionFailure:
            raise
        except AnsibleError as error:
            result = {"failed": True, "changed": False, "module_stdout": "", "msg": str(error)}
        if "module_stdout" in result:
            self._ask_instead(result, args, task_vars)
        self._reached = True
        # In every event of every device, in a log or in AWX, the model and the version say the same.
        shown = result.get("invocation", {}).get("module_args", {})
        # An address may have a password in it.
        for name in ("manifest", "withdrawn", "inline_blobs", "inline_deltas", "fetch"):
            shown.pop(name, None)
        if result.get("withdrawn"):
            version = (result.get("after") or {}).get("active")
            result.setdefault("warnings", []).append(
                f"{args.get('model')} {version} is active on a device, and withdrawn: {result['withdrawn']}"
            )
        return result

    def _ask_instead(self, result: dict[str, Any], args: dict[str, Any], task_vars: dict[str, Any] | None) -> None:
        """Complete the ``result`` of a call that ended without an answer.

        A device that cannot be asked what it serves either was never begun: its Python, its shell or become fails, and
        what it printed says why. One whose command took the request was begun, whatever it says.
        """
        names: dict[str, Any] = {name: args[name] for name in ("model", "version") if name in args}
        result.update(names, refused=not self.began, live=None)
        if not self.began:
            result["msg"] = without_answer(result)
        asked: dict[str, Any] = {name: args[name] for name in ("model", "store", "server") if name in args}
        try:
            told = self.ask("model_info", asked, task_vars)
        except AnsibleConnectionFailure:
            raise
        except AnsibleError:
            return
        if "module_stdout" not in told:
            result.update(refused=False, live=(told.get("model") or {}).get("live"))

    def _refuse(self, args: dict[str, Any], message: str, task_vars: dict[str, Any] | None) -> NoReturn:
        """End the task where the controller itself refused, with the version that the device serves."""
        names: dict[str, Any] = {name: args[name] for name in ("model", "store", "server") if name in args}
        reported = self.ask("model_info", names, task_vars)
        live: str | None = (reported.get("model") or {}).get("live")
        asked = {name: args.get(name) for name in ("model", "version")}
        # Without its cause, which Ansible would put behind the message.
        raise AnsibleActionFail(
            f"{message}. Live now: {live or 'no version'}", result={**asked, "refused": True, "live": live}
        ) from None

    def _with_forms(
        self,
        args: dict[str, Any],
        repository: OpenRepository,
        forms: Sequence[Form],
        asked: dict[str, Any],
        warnings: list[str],
        task_vars: dict[str, Any] | None,
    ) -> dict[str, Any]:
        """The arguments with what is sent in them, after a transfer of the rest, for which the device ``asked``.

        A delta that is refused becomes a warning, and its file is sent whole. Raises _TransferError, and
        _PartRefusedError.
        """
        repository.bring(form.file for form in forms if form.delta is None)
        at_once, left = [], list(forms)
        while left:
            form = left.pop(0)
            self._sent.append(form)
            if not form.in_parts:
                at_once.append(form)
                continue
            asked = self._send_parts(args, form, asked, task_vars)
            refused = DeviceAnswer(asked).refused_deltas.get(form.file.sha256)
            if form.delta is not None and refused is not None:
                warnings.append(refused)
                repository.bring([form.file])
                left += whole_forms(repository, [form.file])
        inline, rest = inline_arguments(at_once)
        staged = {"staged_blobs": self._send(rest)} if rest else {}
        blobs = {**args.get("inline_blobs", {}), **inline["inline_blobs"]}
        return {**args, **staged, "inline_blobs": blobs, "inline_deltas": inline["inline_deltas"]}

    def _send_parts(
        self, args: dict[str, Any], form: Form, asked: dict[str, Any], task_vars: dict[str, Any] | None
    ) -> dict[str, Any]:
        """Send a file or a delta part by part, from where the device has it when it ``asked``. It verifies and keeps
        each part before the next is sent, and a sending that breaks goes on. Return the result of the last call.

        Raises _TransferError where nothing comes of it, and _PartRefusedError.
        """
        answer, result = DeviceAnswer(asked), asked
        held = most = answer.held_bytes(form)
        self._resumed += held
        size, fruitless = PartSize(), 0
        while form.file.sha256 in answer.lacking:
            began, why = time.monotonic(), "the device kept nothing of it"
            part: dict[str, Any] = {"sha256": form.file.sha256}
            if form.delta is not None:
                part.update(delta=form.delta.sha256, delta_size=form.delta.size)
            try:
                # A delta that is whole has yet to make its file.
                if held < form.size:
                    part.update(offset=held, path=self._send_content(form.read(held, size.bytes)))
            except AnsibleError as error:
                # The call says how much is there; one that does not reach the device either ends this.
                why = str(error)
            called = time.monotonic()
            result = self._call({**args, "sent_part": part}, task_vars)
            if result.get("failed"):
                raise _PartRefusedError(result)
            size.note(called - began, time.monotonic() - called)
            answer = DeviceAnswer(result)
            if form.delta is not None and form.file.sha256 in answer.refused_deltas:
                break
            held = answer.held_bytes(form)
            fruitless = 0 if held > most else fruitless + 1
            most = max(most, held)
            if fruitless == _PART_ATTEMPTS:
                raise _TransferError(f"{form.path}: the part from byte {held} on, {fruitless} times: {why}")
        return result

    def _send_content(self, content: bytes) -> str:
        """Send bytes to the temporary directory on the device, in place of the ones before, and return their path."""
        shell = self._connection._shell
        directory: str = shell.tmpdir or self._make_tmp_path()
        path: str = shell.join_path(directory, "part")
        self._transfer_data(path, content)
        self._fixup_perms2((directory, path), execute=False)
        return path

    def _send(self, forms: Sequence[Form]) -> str:
        """Send files to a temporary directory on the device and return its path. Raises _TransferError."""
        shell = self._connection._shell
        try:
            directory: str = shell.tmpdir or self._make_tmp_path()
            paths = [shell.join_path(directory, form.name) for form in forms]
            for form, path in zip(forms, paths):
                self._transfer_file(form.path, path)
            self._fixup_perms2((directory, *paths), execute=False)
        except AnsibleError as error:
            raise _TransferError(str(error)) from error
        return directory


class _PartRefusedError(Exception):
    """The device did not take a part; ``result`` is that of the call."""

    def __init__(self, result: dict[str, Any]) -> None:
        super().__init__(result.get("msg"))
        self.result = result


class _TransferError(Exception):
    """Files did not reach the device's temporary directory."""


def _files(args: dict[str, Any], repository: OpenRepository) -> dict[str, File]:
    """The release's files by their digest. The manifest is put among the arguments, if it is not there, with what the
    device has to know of withdrawn releases; of one that is withdrawn there are no files, and the device refuses it."""
    if args.get("manifest") is None:
        model = str(args.get("model"))
        args["version"] = repository.version_of(model, str(args.get("version")))
        withdrawals = repository.withdrawals(model)
        args["withdrawn"] = withdrawals.document()
        if args["version"] in withdrawals.releases:
            return {}
        release = repository.release(model, args["version"])
        args["manifest"] = dict(release.document)
    else:
        release = parse_release(args["manifest"])
    return {file.sha256: file for file in release.all_files()}


def _add_warnings(result: dict[str, Any], warnings: Sequence[str]) -> None:
    """Have a result warn of these, if there are any."""
    if warnings:
        result["warnings"] = [*warnings, *result.get("warnings", [])]


def _why_not_fetched(result: dict[str, Any]) -> str:
    """Why the device could not fetch by itself, where it tried to."""
    failure = (result.get("fetched") or {}).get("failure")
    return f" It could not fetch them: {failure['message']}." if failure else ""
