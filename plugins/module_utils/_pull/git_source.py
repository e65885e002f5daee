# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""A git repository as a source: fetched into a clone of its own, and used only from a commit that a trusted key signed.

A commit has to follow the one that was used last. Its files are laid out beside each other, one directory for each
commit, and then verified like those of any other source.
"""

from __future__ import annotations

import hashlib
import os
from typing import Sequence

from .._common.errors import EdgemlError, ServerError
from .._common.files import is_directory, remove_tree
from .._common.process import run_command
from .config import PullConfig
from .origin import LinkError

FETCH_SECONDS = 3600
_CANDIDATE, _VERIFIED = "refs/edgeml/candidate", "refs/edgeml/verified"


class GitError(EdgemlError):
    """A commit is not to be trusted; nothing of it was used."""


class GitSource:
    """The git repository at ``source``: ``git+https://host/path``, with ``#branch`` for one that is not its HEAD."""

    def __init__(self, source: str, config: PullConfig) -> None:
        address, _mark, self._branch = source.partition("#")
        self.url = address[len("git+") :]
        self._config = config
        name = hashlib.sha256(source.encode("utf-8")).hexdigest()[:16]
        self._directory = os.path.join(config.state, "git", name)
        self._clone = os.path.join(self._directory, "clone.git")

    def directory(self) -> str:
        """Return the directory with the files of the newest commit. Raises LinkError and GitError."""
        newest = self._newest()
        used = self._resolve(_VERIFIED)
        tree = os.path.join(self._directory, f"tree-{newest}")
        if newest == used and is_directory(tree):
            return tree
        self._fetch()
        commit = self._resolve(_CANDIDATE)
        if commit is None:
            raise LinkError(f"{self.url}: the branch has no commit")
        self._verify(commit, used)
        tree = os.path.join(self._directory, f"tree-{commit}")
        self._lay_out(commit, tree)
        self._git("update-ref", _VERIFIED, commit)
        for name in os.listdir(self._directory):
            if name.startswith("tree-") and os.path.join(self._directory, name) != tree:
                remove_tree(os.path.join(self._directory, name))
        return tree

    def _newest(self) -> str:
        """The commit that the branch has now."""
        found = self._remote("ls-remote", "--exit-code", self.url, self._ref()).split()
        if not found:
            raise LinkError(f"{self.url}: it has no {self._ref()}")
        return found[0]

    def _ref(self) -> str:
        return f"refs/heads/{self._branch}" if self._branch else "HEAD"

    def _fetch(self) -> None:
        if not is_directory(self._clone):
            os.makedirs(self._directory, exist_ok=True)
            self._git("init", "--quiet", "--bare", self._clone)
        self._remote("fetch", "--quiet", "--no-tags", "--force", self.url, f"{self._ref()}:{_CANDIDATE}")

    def _verify(self, commit: str, used: str | None) -> None:
        signers = str(self._config.allowed_signers)
        try:
            self._git("-c", "gpg.format=ssh", "-c", f"gpg.ssh.allowedSignersFile={signers}", "verify-commit", commit)
        except _GitFailedError as error:
            raise GitError(
                f"{self.url}: commit {commit} is not signed by a key of {signers}: {error}. Nothing of it was used; "
                "find out who pushed it"
            ) from error
        if used is None:
            return
        try:
            self._git("merge-base", "--is-ancestor", used, commit)
        except _GitFailedError as error:
            raise GitError(
                f"{self.url}: commit {commit} does not follow {used}, which was used before: the branch was rewound or "
                "rewritten. Nothing of it was used"
            ) from error

    def _lay_out(self, commit: str, tree: str) -> None:
        """Have the files of a commit in ``tree``, which appears whole. Links are files with their text."""
        part = f"{tree}.part"
        remove_tree(part)
        os.makedirs(part)
        self._git(
            "-c", "core.symlinks=false", f"--work-tree={part}", "checkout", "--quiet", "--force", commit, "--", "."
        )
        remove_tree(tree)
        os.rename(part, tree)

    def _resolve(self, ref: str) -> str | None:
        try:
            return self._git("rev-parse", "--quiet", "--verify", f"{ref}^{{commit}}").strip() or None
        except _GitFailedError:
            return None

    def _remote(self, *arguments: str) -> str:
        try:
            return self._git(*arguments)
        except _GitFailedError as error:
            raise LinkError(f"{self.url}: {error}") from error

    def _git(self, *arguments: str) -> str:
        """Run git without the configuration of anybody, and without questions."""
        scheme = self.url.partition("://")[0]
        options = ["core.hooksPath=/dev/null", "fetch.fsckObjects=true", "gc.auto=0", "protocol.allow=never"]
        options.append(f"protocol.{scheme}.allow=always")
        if self._config.ca_file is not None:
            options.append(f"http.sslCAInfo={self._config.ca_file}")
        command = ["git", f"--git-dir={self._clone}"]
        for option in options:
            command += ["-c", option]
        return _run([*command, *arguments])


class _GitFailedError(Exception):
    pass


def _run(command: Sequence[str]) -> str:
    environment = {
        name: os.environ[name] for name in ("PATH", "HOME", "GIT_SSH_COMMAND", "SSH_AUTH_SOCK") if name in os.environ
    }
    environment.update(
        GIT_CONFIG_NOSYSTEM="1", GIT_CONFIG_GLOBAL="/dev/null", GIT_TERMINAL_PROMPT="0", LC_ALL="C", GIT_ASKPASS="true"
    )
    try:
        ended = run_command(command, FETCH_SECONDS, shown=command[0], env=environment)
    except ServerError as error:
        raise _GitFailedError(str(error)) from error
    if ended.code:
        raise _GitFailedError(ended.reason)
    return ended.stdout
