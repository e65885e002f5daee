# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""A running rollout in words: what its tasks tell, as lines for a log and as one line for a terminal. Pure.

Runs on the controller only.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from dataclasses import dataclass
from typing import Any, Callable, Iterable, Mapping

GOOD = "good"
BAD = "bad"
WARNING = "warning"
PLAIN = "plain"

DONE = "done"
FAILED = "failed"
AWAY = "away"
SKIPPED = "skipped"

# What a task of the role edgeml.fleet.rollout does, as its variable __rollout_shows says.
SHOWS = "__rollout_shows"
SWAP = "swap"
SOAK = "soak"
READ = "read"
REVERT = "revert"
JUDGE = "judge"

_DEVICE_TASKS = {SWAP: "swap", READ: "read", REVERT: "revert"}
_TONES = {"pass": GOOD, "fail": BAD, "inconclusive": WARNING, "passed": GOOD, "failed": BAD, "paused": WARNING}
_KINDS = ((DONE, GOOD), (FAILED, BAD), (AWAY, WARNING))
# A log gets at most one line about the same step in this time, and one for each tenth of the step's devices.
_SECONDS_BETWEEN_LINES = 10.0
_LINES_A_STEP = 10
_NAMED_MAX = 5
_REASON_MAX = 200
_BAR = 20


@dataclass(frozen=True)
class Line:
    """A line of a log. ``passing``: only interim, of no use where a terminal's one line shows the same."""

    text: str
    tone: str = PLAIN
    passing: bool = False


def printable(text: object) -> str:
    """Return the text in one line and without anything that a terminal would take as a command."""
    return "".join(letter if letter.isprintable() else " " for letter in str(text)).strip()


def duration(seconds: float) -> str:
    """Return a time as people say it: ``45 s``, ``10 min``, ``1 h 30 min``."""
    whole = max(0, round(seconds))
    if whole < 120:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest} s" if rest and minutes < 10 else f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if minutes else f"{hours} h"


class Progress:
    """One rollout, from its plan on: ``ledger`` is what the ledger has of it.

    ``clock`` counts seconds, ``now`` seconds since 1970.
    """

    def __init__(
        self,
        ledger: Mapping[str, Any],
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._clock, self._now = clock, now
        self._id = printable(ledger["id"])
        self._ledger = ledger
        self._waves = [(printable(wave["name"]), list(wave["hosts"])) for wave in ledger["plan"]["waves"]]
        self._wave_of = {host: number for number, (_name, hosts) in enumerate(self._waves, 1) for host in hosts}
        passed = [wave for wave in ledger.get("waves") or [] if wave.get("verdict") == "pass"]
        self._wave = min(len(passed) + 1, len(self._waves))
        self._passed = len(passed)
        self._analyses = 0
        self._verdict = ""
        self._step = ""
        self._kinds: dict[str, dict[str, str]] = {}
        self._reasons: dict[str, str] = {}
        self._fetched: dict[str, Mapping[str, Any]] = {}
        self._swapped: set[str] = set()
        self._reverts = False
        self._shadows = False
        self._soak_ends = 0.0
        self._last_line = (self._clock(), 0)

    def opening(self, only_looks: bool = False) -> list[Line]:
        """Tell what begins, or goes on; ``only_looks``: would begin, in check mode."""
        devices, waves = len(self._wave_of), len(self._waves)
        what = f"{printable(self._ledger['model'])} {printable(self._ledger['version'])}"
        text = f"{'would bring ' if only_looks else ''}{what} to {_count(devices, 'device')} in {_count(waves, 'wave')}"
        if self._ledger.get("waves"):
            text += f"; resumed, {self._passed} of {_count(waves, 'wave')} passed before"
        left_out = len(self._ledger["plan"].get("left_out") or {})
        if left_out:
            text += f"; {_count(left_out, 'device')} left out"
        return [self._line(text)]

    def task(self, name: str) -> list[Line]:
        """Report that a task that is SWAP, SOAK, READ, JUDGE or REVERT begins, and what the step before it came to.

        Other tasks say nothing.
        """
        if name not in (SWAP, SOAK, READ, JUDGE, REVERT) or (name == REVERT and not self._reverts) or self._shadows:
            return []
        if name == self._step and name in _DEVICE_TASKS:  # The next batch of hosts.
            return []
        lines = self.step_ends()
        self._step = name
        self._last_line = (self._clock(), len(self._reported))
        if name == SOAK:
            seconds = float(self._ledger["settings"]["soak_seconds"])
            self._soak_ends = self._clock() + seconds
            until = time.strftime("%H:%M:%S", time.gmtime(self._now() + seconds))
            again = f", analysis {self._analyses + 1}" if self._analyses else ""
            lines.append(self._wave_line(f"soaks {duration(seconds)}, until {until} UTC{again}"))
        if name == REVERT:
            lines.append(self._line("goes back to the version before", WARNING))
        return lines

    @property
    def step(self) -> str:
        """What the task is that began last; empty between two."""
        return self._step

    def count(self, host: str, kind: str, why: object = "", fetched: Mapping[str, Any] | None = None) -> list[Line]:
        """Count what became of a device in the step; a device that reports twice counts by its last report.

        ``fetched`` is what the device fetched by itself, as ``model_swap`` returns it. A task that calls devices skips
        those that pull; they are counted when they have reported.
        """
        if self._step not in _DEVICE_TASKS or host not in self._wave_of:
            return []
        if kind == SKIPPED and self._step != READ:
            return []
        if self._step == SWAP:
            self._wave_is(self._wave_of[host])
            if kind == DONE:
                self._swapped.add(host)
        self._reported[host] = kind
        if fetched:
            self._fetched[host] = fetched
        if kind == FAILED:
            self._reasons[host] = printable(why or "failed")[:_REASON_MAX]
        reported, total, (then, before) = len(self._reported), self._total(), self._last_line
        soon = self._clock() - then < _SECONDS_BETWEEN_LINES or reported - before < total / _LINES_A_STEP
        if soon or reported >= total:  # With all of them, the step's last line is near.
            return []
        self._last_line = (self._clock(), reported)
        return [self._wave_line(f"{_DEVICE_TASKS[self._step]}, {self._counts()}", passing=True)]

    def step_ends(self) -> list[Line]:
        """Tell what the step came to, with the first devices of those that are not well."""
        lines = self._step_came_to() if self._step in _DEVICE_TASKS and self._reported else []
        self._step = ""
        return lines

    def _step_came_to(self) -> list[Line]:
        kinds = Counter(self._reported.values())
        failed = [host for host, kind in self._reported.items() if kind == FAILED]
        if self._step == READ and not failed and not kinds[AWAY]:
            return []
        tone = BAD if failed else WARNING if kinds[AWAY] else PLAIN
        fetches = self._fetches() if self._step == SWAP else ""
        lines = [self._wave_line(f"{_DEVICE_TASKS[self._step]}, {self._counts()}{fetches}", tone)]
        lines += [Line(f"    {printable(host)}: {self._reasons[host]}", BAD) for host in failed[:_NAMED_MAX]]
        if len(failed) > _NAMED_MAX:
            lines.append(Line(f"    and {len(failed) - _NAMED_MAX} more failed", BAD))
        return lines

    def judged(self, verdict: str, checks: int, problems: Iterable[object]) -> list[Line]:
        """Report the gate's verdict on the wave by a number of checks, with the problems that led to it."""
        if self._shadows:
            return self._shadow_judged(verdict, checks, problems)
        lines = self.step_ends()
        self._kinds.pop(READ, None)
        self._analyses += 1
        self._verdict = printable(verdict).upper()
        tone = _TONES.get(verdict, WARNING)
        lines.append(self._wave_line(f"{self._verdict}, {_count(checks, 'check')}", tone))
        if verdict != "pass":
            lines += [Line(f"    {printable(problem)}", tone) for problem in problems]
        else:
            self._wave_is(min(self._wave + 1, len(self._waves)))
        return lines

    def begun(self, number: int | None) -> None:
        """Note which wave begins. Of wave 0 only the verdict is reported: its devices go on with the version before."""
        self._shadows = number == 0

    def stopped(self, reverts: bool) -> None:
        """Note that no wave follows, and whether devices go back."""
        self._reverts = reverts

    def closing(self, state: str, why: str, outcomes: Mapping[str, int], report: object = None) -> list[Line]:
        """Report how the run ended: the state with its reason, the devices of each outcome, where the report is.

        ``state`` is empty if the run broke off.
        """
        lines = self.step_ends()
        why = printable(why).rstrip(".")
        text = printable(state).upper() if state else "did not come to its end"
        text += f": {why}" if why else ""
        counts = ((printable(name), number) for name, number in Counter(outcomes).most_common())
        text += ". " + (", ".join(f"{number} {name}" for name, number in counts) or "No device touched")
        lines.append(self._line(text, _TONES.get(state, WARNING)))
        if report:
            lines.append(Line(f"    report: {printable(report)}"))
        return lines

    def status(self) -> list[tuple[str, str]]:
        """Return the terminal's line as texts with their tones."""
        head = [(f"{self._id}  wave {self._wave} of {len(self._waves)} ({self._waves[self._wave - 1][0]})  ", PLAIN)]
        if self._step == SOAK:
            left = self._soak_ends - self._clock()
            return [*head, (f"soaks, {_clock_text(left)} left" if left > 0 else "soak ends", PLAIN)]
        if self._step in _DEVICE_TASKS:
            total, reported = self._total(), len(self._reported)
            filled = _BAR * reported // max(total, 1)
            kinds = Counter(self._reported.values())
            line = f"{_DEVICE_TASKS[self._step]} [{'#' * filled}{'.' * (_BAR - filled)}] {reported} of {total}"
            counts = [(f"  {kind} {kinds[kind]}", tone if kinds[kind] else PLAIN) for kind, tone in _KINDS]
            return [*head, (line, PLAIN), *counts]
        return [*head, ("is judged" if self._step == JUDGE else self._verdict, PLAIN)]

    def _shadow_judged(self, verdict: str, checks: int, problems: Iterable[object]) -> list[Line]:
        tone = _TONES.get(verdict, WARNING)
        head = self._line(f"wave 0 (shadow): {printable(verdict).upper()}, {_count(checks, 'check')}", tone)
        return [head, *(Line(f"    {printable(problem)}", tone) for problem in problems if verdict != "pass")]

    def _wave_is(self, number: int) -> None:
        if number != self._wave:
            self._wave, self._analyses, self._verdict = number, 0, ""
            self._kinds.clear()
            self._reasons.clear()
            self._swapped.clear()

    @property
    def _reported(self) -> dict[str, str]:
        """What became of each device in the step, in all batches of the wave."""
        return self._kinds.setdefault(self._step, {})

    def _total(self) -> int:
        """How many devices the step is about."""
        if self._step == REVERT:
            return max(len(self._reported), sum(len(hosts) for _name, hosts in self._waves[: self._wave]))
        if self._step == READ and self._swapped:
            return max(len(self._reported), len(self._swapped))
        return len(self._waves[self._wave - 1][1])

    def _counts(self) -> str:
        kinds = Counter(self._reported.values())
        text = ", ".join(f"{kinds[kind]} {kind}" for kind, _tone in _KINDS)
        return f"{len(self._reported)} of {_count(self._total(), 'device')}: {text}"

    def _fetches(self) -> str:
        """What the devices of the step fetched by themselves, and how many of them had to be sent something."""
        found = [self._fetched[host] for host in self._reported if host in self._fetched]
        if not found:
            return ""
        came = _megabytes(found, "bytes")
        failed = sum(bool(item.get("failure")) for item in found)
        text = f"; {len(found)} fetched {came:.1f} MB"
        whole = came - _megabytes(found, "delta_bytes") + _megabytes(found, "made_bytes", "copied_bytes")
        if whole > came:
            text += f" in place of {whole:.1f}"
        return f"{text}, {failed} could not fetch everything" if failed else text

    def _wave_line(self, text: str, tone: str = PLAIN, passing: bool = False) -> Line:
        name = self._waves[self._wave - 1][0]
        return self._line(f"wave {self._wave} of {len(self._waves)} ({name}): {text}", tone, passing)

    def _line(self, text: str, tone: str = PLAIN, passing: bool = False) -> Line:
        return Line(f"{self._id}: {text}", tone, passing)


def recap(what: str, kinds: Mapping[str, int]) -> list[Line]:
    """Sum up a run that is no rollout in one line; in none if it changed nothing and nothing failed."""
    if not kinds.get("changed") and not kinds.get(FAILED):
        return []
    order = ("changed", "unchanged", FAILED, AWAY)
    text = ", ".join(f"{kinds[kind]} {kind}" for kind in order if kinds.get(kind))
    return [Line(f"{printable(what)}: {text}", BAD if kinds.get(FAILED) else GOOD)]


def _megabytes(fetched: Iterable[Mapping[str, Any]], *names: str) -> float:
    return sum(float(item.get(name) or 0) for item in fetched for name in names) / 1e6


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _clock_text(seconds: float) -> str:
    minutes, rest = divmod(max(0, math.ceil(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
