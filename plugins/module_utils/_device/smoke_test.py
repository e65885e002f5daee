# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""The smoke test: a candidate in the real runtime, in a process of its own, with its release's golden inputs.

A model that crashes, hangs or runs out of memory meets neither the server nor the switch.
"""

from __future__ import annotations

import contextlib
import glob
import json
import os
import pwd
import signal
import subprocess
from typing import Any

from .._common.errors import CandidateError
from .process import ProcessGroup
from .store import Version

SECONDS = 180
ROOT = "/opt/edgeml"
USER = "edgeml"


def runtime_id() -> str | None:
    """Which runtime this device would test with: the names of the service's newest environment and code; None without.

    A test's result holds for the runtime that it was made with.
    """
    venv, app = _newest("venv-*"), _newest("app-*")
    return f"{venv} {app}" if venv and app else None


class SmokeTest:
    """A running test of ``version``. Used as a context manager: it never outlives its block."""

    def __init__(self, version: Version) -> None:
        self._version = version
        self._runtime = runtime_id()
        self._process: ProcessGroup | None = None

    def __enter__(self) -> SmokeTest:
        if self._runtime is not None:
            venv, app = self._runtime.split(" ")
            self._process = ProcessGroup(
                [os.path.join(ROOT, venv, "bin", "python"), "-m", "edgeml_server.tools.smoke", self._version.directory],
                env={"PATH": "/usr/bin:/bin", "PYTHONPATH": os.path.join(ROOT, app), "LC_ALL": "C.UTF-8"},
                cwd="/",
                preexec_fn=_become_expendable,
            )
        return self

    def __exit__(self, *_exception: object) -> None:
        if self._process is not None:
            self._process.__exit__()

    def result(self) -> dict[str, Any] | None:
        """What the runtime said of the candidate, with the runtime's id; None without a runtime to ask.

        Raises CandidateError when the candidate fails: with the runtime's reason, or how the process ended.
        """
        if self._process is None:
            return None
        name = f"{self._version.model} {self._version.version}: smoke test"
        try:
            stdout, stderr = self._process.communicate(timeout=SECONDS)
        except subprocess.TimeoutExpired as error:
            raise CandidateError(f"{name}: no result after {SECONDS} s") from error
        code = self._process.returncode
        if code < 0:
            hint = ", as the kernel does when memory runs out" if code == -signal.SIGKILL else ""
            raise CandidateError(f"{name}: the runtime was ended by signal {-code}{hint}")
        try:
            told = json.loads(stdout.decode("utf-8"))
            if not isinstance(told, dict) or (code != 0 and "error" not in told):
                raise ValueError("no result of a test")
        except (ValueError, RecursionError) as error:
            last = stderr.decode("utf-8", "replace").strip().splitlines()[-1:] or ["nothing"]
            raise CandidateError(f"{name}: the runtime ended with code {code} and said: {last[0][:300]}") from error
        if "error" in told:
            raise CandidateError(f"{name}: {told['error']}")
        self._check_latency(name, told)
        return {**told, "runtime_id": self._runtime}

    def _check_latency(self, name: str, told: dict[str, Any]) -> None:
        budget, measured = self._version.chosen.latency_seconds_max, told.get("latency_seconds")
        if budget is None:
            return
        if not isinstance(measured, (int, float)):
            raise CandidateError(f"{name}: the release allows {budget:g} s for an inference; none could be measured")
        if not measured <= budget:
            raise CandidateError(f"{name}: an inference takes {measured:.4f} s; the release allows {budget:g} s")


def _newest(pattern: str) -> str | None:
    complete = [path for path in glob.glob(os.path.join(ROOT, pattern)) if not path.endswith(".part")]
    newest = max(complete, key=lambda path: os.stat(path).st_mtime, default=None)
    return os.path.basename(newest) if newest else None


def _become_expendable() -> None:
    """Give up root's rights for the service's, and be the first to go when memory runs out."""
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:
        file.write("1000")
    if os.geteuid() == 0:
        with contextlib.suppress(KeyError):
            user = pwd.getpwnam(USER)
            os.setgroups([])
            os.setgid(user.pw_gid)
            os.setuid(user.pw_uid)
