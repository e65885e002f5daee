# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The callback plugin ``rollout``."""

from __future__ import annotations

DOCUMENTATION = r"""
name: rollout
type: aggregate
short_description: Show the progress of a rollout, and exit with its verdict
version_added: 0.1.0
author: The edgeml.fleet authors (@edgeml)
description:
  - Shows the rollout of C(edgeml.fleet.rollout) while it runs, beside any stdout callback. It shows the wave, how many
    devices are done, failed and away, how long the soak still takes, the verdict with its reasons, and the result.
  - It writes to standard error; standard output belongs to the stdout callback.
  - On a terminal it rewrites one line in place. Elsewhere it writes whole lines, at most one for each tenth of a wave's
    devices and one in ten seconds.
  - Colours follow Ansible's own settings.
  - C(ansible-playbook) ends with 0 if the rollout passed or had nothing to do, 2 if it failed, and 3 if it is paused or
    its verdict is inconclusive. Without this plugin, 2 instead of 3.
  - C(edgeml.fleet.reconcile) and C(edgeml.fleet.rollback) get one line at the end, unless they changed nothing.
  - Other playbooks get nothing.
requirements:
  - enable it in the configuration, as the last one in C(callbacks_enabled)
notes:
  - It can set the exit code only by ending the run when Ansible passes the statistics to its plugins. Callback plugins
    that are enabled after this one do not get the statistics of a rollout that failed or paused.
options:
  progress:
    description:
      - V(auto) rewrites one line on a terminal, and writes whole lines elsewhere and under AWX and ansible-runner.
      - V(line) and V(lines) choose one of them.
      - V(none) shows nothing, and still sets the exit code.
    type: str
    choices: [auto, line, lines, none]
    default: auto
    env:
      - name: EDGEML_ROLLOUT_PROGRESS
    ini:
      - section: callback_rollout
        key: progress
"""

EXAMPLES = r"""
# ansible.cfg
# [defaults]
# callbacks_enabled = edgeml.fleet.rollout
#
# $ ansible-playbook edgeml.fleet.rollout -i inventory.yml -e model_name=digits -e model_version=1.1.0
# $ echo $?
"""

import atexit
import functools
import os
import shutil
import sys
import threading
from collections import Counter
from pathlib import Path
from typing import Any, Callable, Mapping, TextIO

from ansible import constants
from ansible.plugins.callback import CallbackBase
from ansible.utils.color import stringc

from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.progress import (
    AWAY,
    BAD,
    DONE,
    FAILED,
    GOOD,
    SHOWS,
    SKIPPED,
    WARNING,
    Line,
    Progress,
    recap,
)

_STEP_ACTION = "edgeml.fleet.rollout_step"
_SWAP_ACTION = "edgeml.fleet.model_swap"
_CALL_ACTION = "edgeml.fleet.rollout_call"
# Its calls that change what a device serves.
_CHANGING_CALLS = ("reconcile", "revert")
_EXIT_CODES = {"failed": 2, "paused": 3}

_PLAYBOOKS = Path(__file__).resolve().parents[2] / "playbooks"
_COLORS = {GOOD: "COLOR_OK", BAD: "COLOR_ERROR", WARNING: "COLOR_WARN"}
_ERASE = "\r\x1b[K"
_SECONDS_BETWEEN_DRAWINGS = 0.25


class _EndOfScreen:
    """The line at the end of a terminal: drawn again and again by a thread, erased before anything else is written.

    All that is written goes through ``Display.display``, whose lock keeps Ansible from forking meanwhile.
    """

    def __init__(self, display: Any, line: Callable[[int], str]) -> None:
        self._display, self._line = display, line
        self._streams = (sys.stdout, sys.stderr)
        self._shown = ""
        self._at_start_of_line = True
        self._end = threading.Event()
        if sys.stdout.isatty():
            sys.stdout = _Stream(sys.stdout, self)
        sys.stderr = _Stream(sys.stderr, self)
        self._thread = threading.Thread(target=self._draw_until_the_end, name="rollout progress", daemon=True)
        self._thread.start()
        atexit.register(self.close)

    def close(self) -> None:
        """Take the line away and give the streams back."""
        if self._end.is_set():
            return
        self._end.set()
        if self._thread.is_alive():
            self._thread.join(1)
        self.before("\n")
        sys.stdout, sys.stderr = self._streams
        atexit.unregister(self.close)

    def before(self, text: str) -> None:
        """Make room for a text that is about to be written."""
        if text.startswith(_ERASE):
            self._shown = text
            return
        if self._shown:
            self._streams[1].write(_ERASE)
            self._shown = ""
        if text:
            self._at_start_of_line = text.endswith("\n")

    def _draw_until_the_end(self) -> None:
        try:
            while not self._end.wait(_SECONDS_BETWEEN_DRAWINGS):
                drawn = _ERASE + self._line(shutil.get_terminal_size().columns - 1)
                if drawn != self._shown and self._at_start_of_line:
                    self._display.display(drawn, stderr=True, screen_only=True, newline=False)
        except Exception as error:  # A terminal that is gone must not end the rollout.
            self._display.vvv(f"The rollout's progress is no longer shown: {error}")


class _Stream:
    """Standard output or standard error, with the end of the screen erased before each text."""

    def __init__(self, stream: TextIO, screen: _EndOfScreen) -> None:
        self._stream, self._screen = stream, screen

    def write(self, text: str) -> int:
        self._screen.before(text)
        return self._stream.write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _contained(method: Callable[..., None]) -> Callable[..., None]:
    """Have an error of ours end the display of the progress, and nothing else."""

    @functools.wraps(method)
    def call(self: CallbackModule, *args: Any, **kwargs: Any) -> None:
        try:
            method(self, *args, **kwargs)
        except Exception as error:
            self.give_up(error)

    return call


class CallbackModule(CallbackBase):
    """Follows the steps of a rollout by their results, and its tasks by what their variables say that they show."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "edgeml.fleet.rollout"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self) -> None:
        super().__init__()
        self._forget()

    def _forget(self) -> None:
        self._progress: Progress | None = None
        self._screen: _EndOfScreen | None = None
        self._closed: Mapping[str, Any] = {}
        self._playbook = ""
        self._swaps: dict[str, str] = {}
        self._broken = False

    def give_up(self, error: Exception) -> None:
        """Show no more of the progress; the exit code is set nevertheless."""
        broken, self._broken, self._progress = self._broken, True, None
        self._close_screen()
        if not broken:
            self._display.warning(f"The rollout's progress is no longer shown: {type(error).__name__}: {error}")

    @_contained
    def v2_playbook_on_start(self, playbook: Any) -> None:
        """Forget the playbook before."""
        self._forget()

    @_contained
    def v2_playbook_on_play_start(self, play: Any) -> None:
        """Note which of the collection's playbooks runs, if it is one."""
        path = Path(play.get_path().rpartition(":")[0]).resolve()
        if path.parent == _PLAYBOOKS:
            self._playbook = path.stem

    @_contained
    def v2_playbook_on_task_start(self, task: Any, is_conditional: bool) -> None:
        """Tell that a step of the rollout begins."""
        if self._progress:
            self._tell(self._progress.task(_shows(task)))

    @_contained
    def v2_runner_on_ok(self, result: Any) -> None:
        """Count a device that did it, and take what a step decided."""
        if _action(result._task) == _STEP_ACTION:
            self._take(result)
        else:
            self._count(result, DONE)

    @_contained
    def v2_runner_on_failed(self, result: Any, ignore_errors: bool = False) -> None:
        """Count a device that failed."""
        self._count(result, FAILED)

    @_contained
    def v2_runner_on_unreachable(self, result: Any) -> None:
        """Count a device that is away."""
        self._count(result, AWAY)

    @_contained
    def v2_runner_on_skipped(self, result: Any) -> None:
        """Count a device that had nothing to do."""
        self._count(result, SKIPPED)

    def v2_playbook_on_stats(self, stats: Any) -> None:
        """Tell how it ended, and end with the exit code that says so."""
        self._close()
        code = _EXIT_CODES.get(str(self._closed.get("state")), 0)
        if code:
            raise SystemExit(code)

    @_contained
    def _close(self) -> None:
        self._close_screen()
        if self._progress:
            closed = self._closed
            state, why = str(closed.get("state") or ""), str(closed.get("why") or "")
            stats = closed.get("stats") or {}
            outcomes, report = stats.get("rollout_outcomes") or {}, stats.get("rollout_report")
            self._tell(self._progress.closing(state, why, outcomes, report))
        elif self._playbook and not self._broken:
            self._tell(recap(self._playbook, Counter(self._swaps.values())))

    def _take(self, result: Any) -> None:
        reported = result._result
        step = reported.get("step")
        if step == "close" and "state" in reported:
            self._closed = reported
        if self._broken:
            return
        if step == "plan" and not self._progress:
            progress = Progress(reported["rollout"])
            only_looks = bool(result._task_fields.get("check_mode")) or reported.get("next") == "end"
            self._tell(progress.opening(only_looks))
            self._playbook = ""  # The rollout has lines of its own.
            if not only_looks:
                self._progress = progress
                if self._rewrites():
                    self._screen = _EndOfScreen(self._display, self._drawing)
        elif step == "begin_wave" and self._progress:
            self._progress.begun(reported.get("wave"))
        elif step in ("collect_swaps", "collect_reverts") and self._progress:
            for host, report in (reported.get("reports") or {}).items():
                kind = AWAY if report.get("unreachable") else FAILED if report.get("failed") else DONE
                self._tell(self._progress.count(host, kind, report.get("msg"), report.get("fetched")))
        elif step == "judge" and self._progress and "verdict" in reported:
            self._tell(self._progress.judged(reported["verdict"], int(reported["checks"]), reported["problems"]))
            self._progress.stopped(reported.get("next") == "revert")

    def _count(self, result: Any, kind: str) -> None:
        task, reported, host = result._task, result._result, result._host.get_name()
        if self._progress:
            # Between two steps one device does what is done once for all of them.
            if _shows(task) and _shows(task) == self._progress.step:
                fetched = reported.get("fetched")
                self._tell(self._progress.count(host, kind, reported.get("msg"), fetched))
        elif _swaps(task) and kind != SKIPPED:
            self._swaps[host] = kind if kind != DONE else "changed" if reported.get("changed") else "unchanged"

    def _tell(self, lines: list[Line]) -> None:
        if self.get_option("progress") == "none":
            return
        for line in lines:
            if not (line.passing and self._screen):
                self._display.display(line.text, color=_color(line.tone), stderr=True)

    def _rewrites(self) -> bool:
        chosen = self.get_option("progress")
        if chosen != "auto":
            return bool(chosen == "line")
        # ansible-runner, and so AWX, gives Ansible a terminal of which it keeps every byte.
        recorded = "AWX_ISOLATED_DATA_DIR" in os.environ
        return sys.stderr.isatty() and os.environ.get("TERM", "dumb") != "dumb" and not recorded

    def _drawing(self, columns: int) -> str:
        drawn = ""
        for text, tone in self._progress.status() if self._progress else []:
            text, columns = text[: max(columns, 0)], columns - len(text)
            color = _color(tone)
            drawn += stringc(text, color) if color and text else text
        return drawn

    def _close_screen(self) -> None:
        screen, self._screen = self._screen, None
        if screen:
            screen.close()


def _action(task: Any) -> str:
    return str(getattr(task, "resolved_action", None) or task.action)


def _swaps(task: Any) -> bool:
    called = task.args.get("call") if _action(task) == _CALL_ACTION else None
    return _action(task) == _SWAP_ACTION or called in _CHANGING_CALLS


def _shows(task: Any) -> str:
    return str(task.vars.get(SHOWS) or "")


def _color(tone: str) -> str | None:
    return getattr(constants, _COLORS[tone]) if tone in _COLORS else None
