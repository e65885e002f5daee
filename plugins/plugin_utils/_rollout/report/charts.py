# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""The geometry of the report's charts, in per cent of a chart's width, so that text keeps its size on a narrow screen.
Pure."""

from __future__ import annotations

import datetime
import math
from collections import Counter
from dataclasses import dataclass
from typing import Any, Callable, Iterable, Mapping, Sequence

from ansible_collections.edgeml.fleet.plugins.module_utils._common.words import counted
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.gate.checks import Check, Finding

from .words import (
    VERDICTS,
    Quantity,
    css_class,
    number_text,
    outcome_rank,
    quantity_of,
    shortened,
    span_text,
    time_of,
    tone_of,
)

# Outcomes on whose colour a bar's numbers are readable in white and in black; the others take the page's own ink.
_WHITE_ON = ("updated", "silent", "not reverted")
_BLACK_ON = ("failed", "failed before", "refused", "cut off", "away", "reverted")
_TICKS = 5
# The least width of a span of time, so that a short one is seen.
_LEAST_WIDTH = 0.4


# ---- scales ----


class Scale:
    """A linear scale from values to per cent of a chart's width, with round ticks."""

    def __init__(self, low: float, high: float, padding: float = 0.06) -> None:
        alike = math.isclose(low, high, rel_tol=1e-9, abs_tol=1e-12)
        room = (abs(high) * 0.1 if abs(high) > 1e-9 else 1.0) if alike else (high - low) * padding
        self.low, self.high = low - room, high + room
        self.ticks = _round_ticks(self.low, self.high)

    @classmethod
    def around(cls, values: Iterable[float]) -> Scale:
        """Return a scale that holds all values."""
        known = list(values)
        return cls(min(known), max(known))

    def place(self, value: float) -> float:
        """Return where a value is, from 0 to 100."""
        return _percent(100.0 * (value - self.low) / (self.high - self.low))


def _round_ticks(low: float, high: float) -> list[float]:
    """Three to six values in steps of 1, 2 or 5 times a power of ten."""
    rough = (high - low) / _TICKS
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1.0, 2.0, 5.0, 10.0) if factor * power >= rough)
    first = math.ceil(low / step)
    return [round(number * step, 12) for number in range(first, math.floor(high / step) + 1)]


def _percent(value: float) -> float:
    return round(value, 3)


# ---- outcomes ----


def outcome_chart(
    planned: Sequence[Mapping[str, Any]], known: Mapping[int, Mapping[str, Any]], devices: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """Return one bar for each wave, in shares of its devices, because waves are of very different sizes."""
    by_wave: dict[int, Counter[str]] = {number: Counter() for number in range(1, len(planned) + 1)}
    for row in devices:
        if row["wave"] in by_wave:
            by_wave[row["wave"]][row["outcome"]] += 1
    bars = []
    for number, counts in by_wave.items():
        total, segments, x = sum(counts.values()), [], 0.0
        for outcome in sorted(counts, key=outcome_rank, reverse=True):
            width = 100.0 * counts[outcome] / total
            segments.append(
                {
                    "outcome": outcome,
                    "class": css_class(outcome),
                    "ink": "white" if outcome in _WHITE_ON else "black" if outcome in _BLACK_ON else "",
                    "x": _percent(x),
                    "width": _percent(width),
                    "middle": _percent(x + width / 2),
                    "count": counts[outcome],
                    "labelled": width >= 1.5 + 2.5 * len(str(counts[outcome])),
                }
            )
            x += width
        verdict = known.get(number, {}).get("verdict")
        bars.append(
            {
                "number": number,
                "name": shortened(planned[number - 1]["name"]),
                "devices": counted(total, "device"),
                "total": total,
                "segments": segments,
                "verdict": verdict or ("not judged" if number in known else "not begun"),
                "tone": tone_of(verdict, "none"),
            }
        )
    used = sorted({outcome for counts in by_wave.values() for outcome in counts}, key=outcome_rank, reverse=True)
    return {"bars": bars, "legend": [{"outcome": outcome, "class": css_class(outcome)} for outcome in used]}


# ---- measurements ----


def dot_charts(findings: Sequence[Finding]) -> list[dict[str, Any]]:
    """Return one chart for each check that measured something: a row for each device class, on one scale.

    Checks that only count devices are in the chart of outcomes.
    """
    checks: dict[Check, list[Finding]] = {}
    for finding in findings:
        checks.setdefault(finding.check, []).append(finding)
    return [_dot_chart(check, rows) for check, rows in checks.items() if any(map(_is_a_measurement, rows))]


def _is_a_measurement(finding: Finding) -> bool:
    compared = finding.device_class or finding.bounds or finding.baseline is not None
    return bool(compared) and finding.estimate is not None


def _dot_chart(check: Check, findings: Sequence[Finding]) -> dict[str, Any]:
    quantity = quantity_of(check.unit)
    ordered = sorted(findings, key=lambda finding: (finding.device_class is None, finding.device_class or ""))
    numbers = [_numbers(finding, quantity) for finding in ordered]
    scale = Scale.around(value for row in numbers for value in row.values() if value is not None)
    rows = []
    for finding, shown in zip(ordered, numbers):
        text = "not measured" if finding.estimate is None else quantity.text(finding.estimate)
        if finding.estimate is not None and finding.bounds is not None:
            text += f" ({quantity.interval(finding.bounds)})"
        rows.append(
            {
                **{mark: None if number is None else scale.place(number) for mark, number in shown.items()},
                "device_class": shortened(finding.device_class or "all devices"),
                "text": text,
                "verdict": finding.verdict.value,
                "tone": tone_of(finding.verdict.value),
            }
        )
    worst = min((finding.verdict for finding in findings), key=VERDICTS.index).value
    return {
        "check": check.value,
        "axis": f"{check.value}{quantity.axis}",
        "rows": rows,
        "ticks": [{"x": scale.place(tick), "text": f"{number_text(tick)}{quantity.unit}"} for tick in scale.ticks],
        "verdict": worst,
        "tone": tone_of(worst),
        "text": "; ".join(f"{row['device_class']}: {row['text']}, {row['verdict']}" for row in rows),
    }


def _numbers(finding: Finding, quantity: Quantity) -> dict[str, float | None]:
    """What of a finding is drawn, on its chart's scale; ``before`` is the version before."""
    before = finding.baseline if quantity.unchanged is None else quantity.unchanged
    drawn = {
        "low": finding.bounds.lower if finding.bounds else None,
        "high": finding.bounds.upper if finding.bounds else None,
        "value": finding.estimate,
        "limit": finding.limit,
        "before": None if finding.estimate is None else before,
    }
    return {mark: None if number is None else number * quantity.factor for mark, number in drawn.items()}


# ---- time ----


@dataclass(frozen=True)
class _Course:
    """When a wave began and ended, and the gate's analyses of it with their verdicts."""

    wave: Mapping[str, Any]
    began: datetime.datetime
    analyses: Sequence[tuple[datetime.datetime, str]]
    ended: datetime.datetime


def _courses(ledger: Mapping[str, Any]) -> list[_Course]:
    found = []
    for wave in ledger["waves"]:
        began = time_of(wave.get("began"))
        if began is None:
            continue
        noted = [(time_of(analysis.get("time")), analysis.get("verdict")) for analysis in wave.get("analyses") or []]
        analyses = [(time, str(verdict)) for time, verdict in noted if time is not None]
        ended = time_of(wave.get("ended")) or (analyses[-1][0] if analyses else time_of(ledger.get("ended")) or began)
        found.append(_Course(wave, began, analyses, ended))
    return found


def timeline(ledger: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return a row for each wave that began, from its beginning to its last analysis; None if there is none."""
    courses = _courses(ledger)
    ends = (time_of(ledger.get("began")), time_of(ledger.get("ended")))
    times = [time for course in courses for time in (course.began, course.ended, *dict(course.analyses))]
    times += [time for time in ends if time is not None]
    if not courses or max(times) <= min(times):
        return None
    first, last = min(times), max(times)
    scale = Scale(0.0, (last - first).total_seconds(), padding=0.02)

    def place(time: datetime.datetime) -> float:
        return scale.place((time - first).total_seconds())

    rows = [{**_course_row(course), **_course_marks(course, place)} for course in courses]
    return {"rows": rows, "ticks": _time_ticks(first, last, place), "zone": f"{first:%Y-%m-%d}, UTC"}


def _course_row(course: _Course) -> dict[str, Any]:
    verdict = course.wave.get("verdict")
    text = f"{verdict} after {span_text(course.ended - course.began)}" if verdict else "not judged"
    if len(course.analyses) > 1:
        text += f", {counted(len(course.analyses), 'analysis', 'analyses')}"
    return {"number": course.wave["number"], "name": shortened(course.wave.get("name", "")), "text": text}


def _course_marks(course: _Course, place: Callable[[datetime.datetime], float]) -> dict[str, Any]:
    """The spans up to each analysis (or to the end, without one), and the analyses."""
    spans: list[dict[str, Any]] = []
    begins = course.began
    for ends in [time for time, _verdict in course.analyses] or [course.ended]:
        width = max(place(ends) - place(begins), _LEAST_WIDTH)
        spans.append({"x": place(begins), "width": _percent(width), "again": bool(spans)})
        begins = ends
    analyses = [{"x": place(time), "verdict": verdict, "tone": tone_of(verdict)} for time, verdict in course.analyses]
    return {"spans": spans, "analyses": analyses}


_TIME_STEPS = (1, 5, 10, 30, 60, 300, 600, 1800, 3600, 10800, 21600, 43200, 86400, 604800)


def _time_ticks(
    first: datetime.datetime, last: datetime.datetime, place: Callable[[datetime.datetime], float]
) -> list[dict[str, Any]]:
    span = (last - first).total_seconds()
    step = next((step for step in _TIME_STEPS if span / step <= _TICKS), _TIME_STEPS[-1])
    at = math.ceil(first.timestamp() / step) * step
    ticks: list[dict[str, Any]] = []
    while at <= last.timestamp() and len(ticks) < 3 * _TICKS:
        time = datetime.datetime.fromtimestamp(at, datetime.timezone.utc)
        text = f"{time:%m-%d}" if step >= 86400 else f"{time:%H:%M:%S}" if step < 60 else f"{time:%H:%M}"
        ticks.append({"x": place(time), "text": text})
        at += step
    return ticks
