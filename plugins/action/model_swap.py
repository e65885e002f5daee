# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Controller's side of ``model_swap``: reads the release, and sends the blobs that the device says it lacks."""

from __future__ import annotations

import base64
import os
import re
import time
from typing import Any, Iterable

from ansible.errors import AnsibleActionFail, AnsibleConnectionFailure
from ansible.plugins.action import ActionBase

from ansible_collections.edgeml.fleet.plugins.module_utils._cohort import position
from ansible_collections.edgeml.fleet.plugins.module_utils._errors import EdgemlError
from ansible_collections.edgeml.fleet.plugins.module_utils._manifest import File, parse_release
from ansible_collections.edgeml.fleet.plugins.module_utils._repository import Repository

# What OpenSSH says before a connection stands (ssh.c, sshconnect.c, kex.c); one that broke later says other things.
_NEVER_CONNECTED = re.compile(
    r"ssh: connect to host|Could not resolve hostname|Permission denied|Host key verification failed|"
    r"kex_exchange_identification|banner exchange|Too many authentication failures|"
    r"REMOTE HOST IDENTIFICATION HAS CHANGED"
)

# What goes along with the call: the files beside a model, and the smallest models. A transfer is five commands more.
_INLINE_BYTES = 64 * 1024


class ActionModule(ActionBase):
    """One module call where the device has the blobs; with blobs to send, a second one after the transfer."""

    _supports_check_mode = True
    _supports_diff = True
    _reached = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Run the module on the device, with the manifest from the repository and the blobs that it asks for.

        The result of a device that could not be reached tells in ``started`` whether it may have begun.
        """
        super().run(tmp, task_vars)
        args = dict(self._task.args)
        self._wait(args, task_vars or {})
        try:
            return self._bring(args, task_vars)
        except AnsibleConnectionFailure as error:
            lost = self._connection.transport == "ssh" and not _NEVER_CONNECTED.search(str(error))
            return {"unreachable": True, "started": self._reached or lost, "msg": str(error)}

    def _wait(self, args: dict[str, Any], task_vars: dict[str, Any]) -> None:
        """Wait for this host's share of the jitter."""
        most = float(args.get("jitter_seconds") or 0)
        if most > 0 and not self._task.check_mode:
            time.sleep(most * position(str(args.get("rollout_id")), task_vars["inventory_hostname"]))

    def _bring(self, args: dict[str, Any], task_vars: dict[str, Any] | None) -> dict[str, Any]:
        repository = Repository(os.path.expanduser(args["repository"])) if args.get("repository") else None
        files: dict[str, File] = {}
        try:
            if repository and args.get("state", "active") in ("present", "active"):
                if args.get("manifest") is None:
                    release = repository.release(str(args.get("model")), str(args.get("version")))
                    args["manifest"] = dict(release.document)
                else:
                    release = parse_release(args["manifest"])
                files = {file.sha256: file for file in release.all_files()}
                paths = {sha: repository.blob_path(sha) for sha in files}
                args["unavailable_blobs"] = {sha: path for sha, path in paths.items() if not os.path.isfile(path)}
            result = self._call(args, task_vars)
            missing = result.get("missing_blobs") or []
            if missing and repository and not result.get("failed") and not self._task.check_mode:
                first = result
                # The release says what may be sent, whatever a device asks for.
                wanted = {blob["sha256"] for blob in missing}
                small, large = _by_size(file for sha, file in files.items() if sha in wanted)
                args["inline_blobs"] = {
                    file.sha256: base64.b64encode(repository.read_blob(file)).decode() for file in small
                }
                args["staged_blobs"] = self._send(repository, large) if large else None
                result = self._call(args, task_vars)
                _tell_from_the_beginning(result, first)
        except EdgemlError as error:
            live = self._live(args, task_vars)
            message = f"{error}. Live now: {live or 'no version'}"
            # Without its cause, which Ansible would put behind the message.
            asked = {name: args.get(name) for name in ("model", "version")}
            raise AnsibleActionFail(message, result={**asked, "refused": True, "live": live}) from None
        missing = result.get("missing_blobs") or []
        if missing and not (repository and self._task.check_mode) and not result.get("failed"):
            result.update(
                failed=True,
                changed=False,
                refused=True,
                msg=f"The device lacks {len(missing)} blobs of {args.get('model')} {args.get('version')}: "
                f"set 'repository'. Live now: {result.get('live') or 'no version'}",
            )
        return result

    def _call(self, args: dict[str, Any], task_vars: dict[str, Any] | None) -> dict[str, Any]:
        result = self._execute_module(
            module_name="edgeml.fleet.model_swap", module_args=args, task_vars=task_vars, wrap_async=False
        )
        self._reached = True
        # In every event of every device, in a log or in AWX, the model and the version say the same.
        result.get("invocation", {}).get("module_args", {}).pop("manifest", None)
        return result

    def _live(self, args: dict[str, Any], task_vars: dict[str, Any] | None) -> str | None:
        """Which version the device serves, asked for where the controller itself refused; None if it cannot tell."""
        names = {name: args[name] for name in ("model", "store", "server") if name in args}
        told = self._execute_module(
            module_name="edgeml.fleet.model_info", module_args=names, task_vars=task_vars, wrap_async=False
        )
        live: str | None = (told.get("model") or {}).get("live")
        return live

    def _send(self, repository: Repository, files: Iterable[File]) -> str:
        """Send the blobs to a temporary directory on the device and return its path."""
        shell = self._connection._shell
        directory = shell.tmpdir or self._make_tmp_path()
        paths = {file.sha256: shell.join_path(directory, file.sha256) for file in files}
        for sha, path in paths.items():
            self._transfer_file(repository.blob_path(sha), path)
        self._fixup_perms2((directory, *paths.values()), execute=False)
        return directory


def _by_size(files: Iterable[File]) -> tuple[list[File], list[File]]:
    """The smallest files, which together have at most ``_INLINE_BYTES``, and the others."""
    small: list[File] = []
    large: list[File] = []
    total = 0
    for file in sorted(files, key=lambda file: file.size):
        total += file.size
        (small if total <= _INLINE_BYTES else large).append(file)
    return small, large


def _tell_from_the_beginning(result: dict[str, Any], first: dict[str, Any]) -> None:
    """Have the last call's result speak of the time before the first one, which made room on the device."""
    if "diff" in result and "diff" in first:
        result.update(
            before=first["before"], diff={"before": first["diff"]["before"], "after": result["diff"]["after"]}
        )
