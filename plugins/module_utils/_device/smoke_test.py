# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""The smoke test: a candidate in the real runtime, in a process of its own, with its release's golden inputs.

A model that crashes, hangs or runs out of memory meets neither the server nor the switch.
"""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import signal
from typing import Any, Sequence, TypeVar

from .._common.errors import CandidateError, ServerError
from .._common.process import ProcessGroup, TookTooLongError, run_command
from .runner import container_user, engine_program
from .runtime import USER, Runtime, installed_runtime, runtime_identity
from .service_config import CONFIG, LOAD_SECONDS, load_seconds
from .version import Version

# For a server that loads as long as it does by default; what it may take longer is added.
SECONDS = 180

# A third of a processor that others want, too: less, and on a busy device it would not end in time.
_GENTLENESS = 5
# That third, of the 1024 that a container has otherwise.
_CONTAINER_SHARES = 340
_REMOVE_SECONDS = 300
Tool = TypeVar("Tool", bound="RuntimeTool")


def config_arguments() -> Sequence[str]:
    """What tells a program of the server how it is configured; nothing where it is not yet."""
    return ("--config", CONFIG) if os.path.exists(CONFIG) else ()


class RuntimeTool:
    """A program of the server that is asked about ``version``, in the runtime that the device would serve it with, or
    in ``runtime``.

    It runs in a process of its own, with the service's rights. Used as a context manager: it never outlives its block.
    ``title`` is what errors call it; a ``gentle`` one lets others go first. ``writes`` are the directories that it
    writes to.
    """

    def __init__(
        self,
        title: str,
        program: str,
        version: Version,
        *arguments: str,
        runtime: Runtime | None = None,
        gentle: bool = False,
        writes: Sequence[str] = (),
    ) -> None:
        self._name = f"{version.model} {version.version}: {title}"
        self._writes = writes
        self._container = ""
        self._command = ["-m", f"edgeml_server.tools.{program}", version.directory, *arguments]
        self._gentle = gentle
        self.runtime = runtime or installed_runtime()
        self._process: ProcessGroup | None = None

    def __enter__(self: Tool) -> Tool:
        if self.runtime is not None and self.runtime.engine:
            self._container = f"edgeml-test-{os.getpid()}"
            self._process = ProcessGroup(self._container_command(self.runtime))
        elif self.runtime is not None:
            self._process = ProcessGroup(
                [self.runtime.python, *self._command],
                env={"PATH": "/usr/bin:/bin", "PYTHONPATH": self.runtime.app, "LC_ALL": "C.UTF-8"},
                cwd="/",
                preexec_fn=_become_gentle_and_expendable if self._gentle else _become_expendable,
            )
        return self

    def __exit__(self, *_exception: object) -> None:
        if self._process is not None:
            # The engine's command is a client: without it the container goes on.
            if self._process.poll() is None and self.runtime is not None and self._container:
                remove_container(self.runtime.engine, self._container)
            self._process.__exit__()

    def _container_command(self, runtime: Runtime) -> list[str]:
        """The engine's command that runs the program in a container of its own, without a network."""
        mounts = [f"type=bind,source={path},target={path},readonly" for path in runtime.mounts if os.path.isdir(path)]
        mounts += [f"type=bind,source={path},target={path}" for path in self._writes]
        options = [
            *("--name", self._container, "--rm", "--pull", "never", "--network", "none", "--read-only"),
            *("--user", container_user(runtime.user), "--cap-drop", "ALL", "--security-opt", "no-new-privileges"),
            *("--tmpfs", "/tmp", "--workdir", "/", "--oom-score-adj", "1000"),
            *("--env", f"PYTHONPATH={runtime.app}", "--env", "LC_ALL=C.UTF-8"),
            *(("--cpu-shares", str(_CONTAINER_SHARES)) if self._gentle else ()),
        ]
        for mount in mounts:
            options += ["--mount", mount]
        return [*engine_program(runtime.engine), "run", *options, runtime.image, runtime.python, *self._command]

    def answer(self, seconds: float) -> dict[str, Any] | None:
        """What the program says within ``seconds``; None without a runtime to ask.

        Raises CandidateError: with the reason that the program gives, or how the process ended.
        """
        if self._process is None:
            return None
        try:
            code, stdout, stderr = self._process.outcome(seconds)
        except TookTooLongError as error:
            raise CandidateError(f"{self._name}: {error}") from error
        if code < 0:
            hint = ", as the kernel does when memory runs out" if code == -signal.SIGKILL else ""
            raise CandidateError(f"{self._name}: the runtime was ended by signal {-code}{hint}")
        try:
            told = json.loads(stdout)
            if not isinstance(told, dict) or (code != 0 and "error" not in told):
                raise ValueError("no result of a test")
        except (ValueError, RecursionError) as error:
            last = stderr.strip().splitlines()[-1:] or ["nothing"]
            raise CandidateError(
                f"{self._name}: the runtime ended with code {code} and said: {last[0][:300]}"
            ) from error
        if "error" in told:
            raise CandidateError(f"{self._name}: {told['error']}")
        return told


class SmokeTest(RuntimeTool):
    """A running test of ``version``."""

    def __init__(self, version: Version, runtime: Runtime | None = None) -> None:
        super().__init__("smoke test", "smoke", version, *config_arguments(), runtime=runtime)
        self._version = version

    def result(self) -> dict[str, Any] | None:
        """What the runtime said of the candidate, with the runtime's id; None without a runtime to ask.

        Raises CandidateError when the candidate fails.
        """
        told = self.answer(SECONDS + max(0, load_seconds() - LOAD_SECONDS))
        if told is None or self.runtime is None:
            return None
        self._check_latency(told)
        return {**told, "runtime_id": runtime_identity(self.runtime)}

    def _check_latency(self, told: dict[str, Any]) -> None:
        budget, measured = self._version.chosen.latency_seconds_max, told.get("latency_seconds")
        if budget is None:
            return
        if not isinstance(measured, (int, float)):
            raise CandidateError(
                f"{self._name}: the release allows {budget:g} s for an inference; none could be measured"
            )
        if not measured <= budget:
            raise CandidateError(f"{self._name}: an inference takes {measured:.4f} s; the release allows {budget:g} s")


def remove_container(engine: str, name: str) -> None:
    """End a container at once, whatever it does; nothing to do where there is none of this name."""
    with contextlib.suppress(ServerError):
        run_command([*engine_program(engine), "rm", "--force", name], _REMOVE_SECONDS)


def _become_gentle_and_expendable() -> None:
    """Also let whoever serves go first; where the kernel groups processes by their sessions, as a group."""
    os.nice(_GENTLENESS)
    with contextlib.suppress(OSError), open("/proc/self/autogroup", "w", encoding="ascii") as file:
        file.write(str(_GENTLENESS))
    _become_expendable()


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
