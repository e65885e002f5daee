# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""A rollout's ledger as one HTML file that needs nothing else: no script, no style sheet, no font, no server.

Runs on the controller only. All geometry is computed here, in per cent of a chart's width, so that text keeps its size
on a narrow screen; ``report.html.j2`` beside this file puts it in place.
"""

from __future__ import annotations

import datetime
import fnmatch
import math
import os
from collections import Counter
from dataclasses import dataclass
from typing import Any, Callable, Iterable, Mapping, Sequence

from ansible_collections.edgeml.fleet.plugins.module_utils._common.files import write_whole

# What can become of a device, worst first: the order of tables, and of a bar's parts from its end.
OUTCOMES = (
    "not reverted",
    "failed",
    "failed before",
    "silent",
    "refused",
    "away",
    "reverted",
    "maintenance",
    "pinned",
    "not started",
    "planned",
    "already there",
    "updated",
)
# On which of the two inks a bar's numbers are readable, where it isn't the page's own.
_WHITE_ON = ("updated", "silent", "not reverted")
_BLACK_ON = ("failed", "failed before", "refused", "away", "reverted")
_HEALTHY = ("updated", "already there")
_LEFT_OUT = ("pinned", "maintenance")
_FAILED = ("not reverted", "failed", "failed before", "silent", "refused")
_STATES = {
    "passed": ("good", "Passed"),
    "failed": ("bad", "Failed"),
    "paused": ("waits", "Paused"),
    "rolled back": ("bad", "Rolled back"),
    "running": ("waits", "Running"),
}
_VERDICTS = {"fail": "bad", "inconclusive": "waits", "pass": "good", "skipped": "none"}
# A group of devices that is longer stays folded until somebody wants it.
_ROWS_OPEN_MAX = 100
_LABEL_MAX = 42
_NONE = "\N{EN DASH}"
_TICKS = 5
# Of a span of time, in per cent of the chart's width: a short one shall be seen.
_LEAST_WIDTH = 0.4


@dataclass(frozen=True)
class Quantity:
    """How the values of a check are shown: times ``factor``, with ``unit``.

    ``axis`` says what they are. Values that are changes have the place of no change, ``unchanged``, and their baselines
    are levels, shown with ``level_unit``; other baselines are values.
    """

    axis: str = ""
    unit: str = ""
    factor: float = 1.0
    unchanged: float | None = None
    level_unit: str | None = None

    def text(self, value: float | None) -> str:
        """Return the value as people read it, with its unit; a dash for none."""
        return _NONE if value is None else f"{_number(value * self.factor)}{self.unit}"

    def interval(self, low: float | None, high: float | None) -> str:
        """Return an interval as people read it; a dash for none."""
        if low is None or high is None:
            return _NONE
        return f"{_number(low * self.factor)} to {_number(high * self.factor)}{self.unit}"

    def baseline(self, value: float | None) -> str:
        """Return what the version before had, as people read it; a dash for none."""
        if value is None or self.level_unit is None:
            return self.text(value)
        return f"{_number(value * self.factor)}{self.level_unit}"


def render(ledger: Mapping[str, Any]) -> str:
    """Return the report on a rollout, from its ledger in whatever state."""
    import jinja2  # Ansible brings it to the controller, and to nobody else who may import this file.

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(os.path.dirname(os.path.abspath(__file__))),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html.j2").render(_view(_clean(ledger)))


def write(ledger: Mapping[str, Any], path: str) -> None:
    """Put the report in place, whole or not at all. Raises OSError."""
    write_whole(path, render(ledger))


def _clean(value: Any) -> Any:
    """Return a copy without letters that HTML forbids, as devices may send them; other than texts stay as they are."""
    if isinstance(value, Mapping):
        return {_clean(name): _clean(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_clean(item) for item in value]
    if isinstance(value, str) and not value.isprintable():
        return "".join(
            letter if letter.isprintable() or letter in "\n\t" else "\N{REPLACEMENT CHARACTER}" for letter in value
        )
    return value


# ---- what the template shows ----


def _view(ledger: Mapping[str, Any]) -> dict[str, Any]:
    tone, state = _STATES.get(ledger["state"], ("waits", str(ledger["state"])))
    planned = ledger["plan"]["waves"]
    known = {wave["number"]: wave for wave in ledger["waves"]}
    devices = _devices(ledger)
    judged = [_judged(wave) for wave in ledger["waves"] if wave.get("findings")]
    began, ended = _time(ledger.get("began")), _time(ledger.get("ended"))
    return {
        "ledger": ledger,
        "tone": tone,
        "state": state,
        "when": _when(began, ended),
        "figures": _figures(planned, known, devices),
        "outcomes": _outcome_chart(planned, known, devices),
        "timeline": _timeline(ledger),
        "judged": judged,
        "deciding": judged[-1]["number"] if judged else None,
        "groups": _groups(devices),
        "settings": _settings(ledger),
    }


def _devices(ledger: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The rows of the devices; while the rollout runs, what its waves told of them."""
    rows = [dict(row) for row in ledger.get("devices") or []]
    if not rows:
        outcomes = {host: told for wave in ledger["waves"] for host, told in (wave.get("outcomes") or {}).items()}
        numbers = {host: number for number, wave in enumerate(ledger["plan"]["waves"], 1) for host in wave["hosts"]}
        for host, number in numbers.items():
            rows.append({"device": host, "wave": number, "outcome": outcomes.get(host, "not started")})
    named = {row["device"] for row in rows}
    for host, why in (ledger["plan"].get("left_out") or {}).items():
        if host not in named:
            rows.append({"device": host, "wave": None, "outcome": why.split(":")[0], "detail": why})
    device_classes = ledger["plan"].get("device_classes") or {}
    blank = {"class": "", "before": _NONE, "after": _NONE, "detail": ""}
    return [{**blank, "class": device_classes.get(row["device"], ""), **row} for row in rows]


def _figures(
    planned: Sequence[Mapping[str, Any]], known: Mapping[int, Mapping[str, Any]], devices: Sequence[Mapping[str, Any]]
) -> list[dict[str, str]]:
    counts = Counter(row["outcome"] for row in devices)
    passed = sum(wave.get("verdict") == "pass" for wave in known.values())
    healthy, failed = (sum(counts[name] for name in names) for names in (_HEALTHY, _FAILED))
    left_out = sum(counts[name] for name in _LEFT_OUT)
    figures = [
        ("waves passed", f"{passed} of {len(planned)}", ""),
        ("devices on the new version", f"{healthy:,} of {len(devices) - left_out:,}", "good" if healthy else ""),
        ("devices reverted", f"{counts['reverted']:,}", "waits" if counts["reverted"] else ""),
        ("devices failed, silent or refused", f"{failed:,}", "bad" if failed else ""),
        ("devices away", f"{counts['away']:,}", "waits" if counts["away"] else ""),
        ("devices not started", f"{counts['not started']:,}", ""),
        ("devices left out", f"{left_out:,}", ""),
    ]
    always = ("waves passed", "devices on the new version", "devices failed, silent or refused", "devices away")
    shown = [item for item in figures if item[0] in always or item[1] != "0"]
    return [
        {"what": what, "value": value.replace(",", "\N{NARROW NO-BREAK SPACE}"), "tone": tone}
        for what, value, tone in shown
    ]


def _outcome_chart(
    planned: Sequence[Mapping[str, Any]], known: Mapping[int, Mapping[str, Any]], devices: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """One bar for each wave, in shares of its devices: the waves are of very different sizes."""
    by_wave: dict[int, Counter[str]] = {number: Counter() for number in range(1, len(planned) + 1)}
    for row in devices:
        if row["wave"] in by_wave:
            by_wave[row["wave"]][row["outcome"]] += 1
    bars = []
    for number, counts in by_wave.items():
        total, segments, x = sum(counts.values()), [], 0.0
        for outcome in sorted(counts, key=_place, reverse=True):
            width = 100.0 * counts[outcome] / total
            segments.append(
                {
                    "outcome": outcome,
                    "class": _css(outcome),
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
                "name": _short(planned[number - 1]["name"]),
                "total": total,
                "segments": segments,
                "verdict": verdict or ("not judged" if number in known else "not begun"),
                "tone": _VERDICTS.get(verdict or "", "none"),
            }
        )
    used = sorted({outcome for counts in by_wave.values() for outcome in counts}, key=_place, reverse=True)
    return {"bars": bars, "legend": [{"outcome": outcome, "class": _css(outcome)} for outcome in used]}


def _judged(wave: Mapping[str, Any]) -> dict[str, Any]:
    order = list(_VERDICTS)
    findings = sorted(
        wave["findings"], key=lambda item: order.index(item["verdict"]) if item["verdict"] in order else 0
    )
    rows = []
    for finding in findings:
        quantity = _quantity(finding["check"])
        low, high = _interval(finding)
        rows.append(
            {
                **finding,
                "tone": _VERDICTS.get(finding["verdict"], "waits"),
                "device_class": finding.get("device_class") or "all",
                "value": quantity.text(_finite(finding.get("value"))),
                "interval": quantity.interval(low, high),
                "limit": quantity.text(_finite(finding.get("limit"))),
                "baseline": quantity.baseline(_finite(finding.get("baseline"))),
                "samples": _NONE if finding.get("samples") is None else _number(float(finding["samples"])),
            }
        )
    return {
        "number": wave["number"],
        "name": wave.get("name", ""),
        "verdict": wave.get("verdict") or "not judged",
        "tone": _VERDICTS.get(wave.get("verdict") or "", "waits"),
        "analyses": len(wave.get("analyses") or []),
        "rows": rows,
        "counts": Counter(row["verdict"] for row in rows),
        "charts": _dot_charts(findings),
    }


def _dot_charts(findings: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One chart for each check that measured something: a row for each device class, all on one scale.

    What only counts devices (failures, coverage) is in the chart of outcomes.
    """
    checks: dict[str, list[Mapping[str, Any]]] = {}
    for finding in findings:
        checks.setdefault(finding["check"], []).append(finding)
    return [_dot_chart(check, rows) for check, rows in checks.items() if any(map(_is_a_measurement, rows))]


def _is_a_measurement(finding: Mapping[str, Any]) -> bool:
    compared = finding.get("device_class") or finding.get("interval") or finding.get("baseline") is not None
    return bool(compared) and _finite(finding.get("value")) is not None


def _dot_chart(check: str, findings: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    quantity = _quantity(check)
    ordered = sorted(
        findings, key=lambda finding: (finding.get("device_class") is None, str(finding.get("device_class")))
    )
    numbers = [_numbers(finding, quantity) for finding in ordered]
    scale = Scale.around(value for row in numbers for value in row.values() if value is not None)
    rows = []
    for finding, shown in zip(ordered, numbers):
        low, high = _interval(finding)
        value = _finite(finding.get("value"))
        told = "not measured" if value is None else quantity.text(value)
        if value is not None and low is not None:
            told += f" ({quantity.interval(low, high)})"
        rows.append(
            {
                **{mark: None if number is None else scale.place(number) for mark, number in shown.items()},
                "device_class": _short(finding.get("device_class") or "all devices"),
                "told": told,
                "verdict": finding["verdict"],
                "tone": _VERDICTS.get(finding["verdict"], "waits"),
            }
        )
    worst = min((row["verdict"] for row in rows), key=lambda verdict: [*_VERDICTS, verdict].index(verdict))
    return {
        "check": check,
        "axis": f"{check}{quantity.axis}",
        "rows": rows,
        "ticks": [{"x": scale.place(tick), "text": f"{_number(tick)}{quantity.unit}"} for tick in scale.ticks],
        "verdict": worst,
        "tone": _VERDICTS.get(worst, "waits"),
        "told": "; ".join(f"{row['device_class']}: {row['told']}, {row['verdict']}" for row in rows),
    }


def _numbers(finding: Mapping[str, Any], quantity: Quantity) -> dict[str, float | None]:
    """What of a finding is drawn, on its chart's scale; ``before`` is the version before."""
    low, high = _interval(finding)
    value, limit, baseline = (_finite(finding.get(name)) for name in ("value", "limit", "baseline"))
    before = baseline if quantity.unchanged is None else quantity.unchanged
    drawn = {"low": low, "high": high, "value": value, "limit": limit, "before": None if value is None else before}
    return {mark: None if number is None else number * quantity.factor for mark, number in drawn.items()}


@dataclass(frozen=True)
class _Course:
    """When a wave began and ended, and the gate's looks at it with their verdicts."""

    wave: Mapping[str, Any]
    began: datetime.datetime
    analyses: Sequence[tuple[datetime.datetime, str]]
    ended: datetime.datetime


def _courses(ledger: Mapping[str, Any]) -> list[_Course]:
    found = []
    for wave in ledger["waves"]:
        began = _time(wave.get("began"))
        if began is None:
            continue
        noted = [(_time(analysis.get("time")), analysis.get("verdict")) for analysis in wave.get("analyses") or []]
        analyses = [(time, str(verdict)) for time, verdict in noted if time is not None]
        ended = _time(wave.get("ended")) or (analyses[-1][0] if analyses else _time(ledger.get("ended")) or began)
        found.append(_Course(wave, began, analyses, ended))
    return found


def _timeline(ledger: Mapping[str, Any]) -> dict[str, Any] | None:
    """A row for each wave that began: from its beginning to its last analysis, with every analysis on it."""
    courses = _courses(ledger)
    ends = (_time(ledger.get("began")), _time(ledger.get("ended")))
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
    told = f"{verdict} after {_span(course.ended - course.began)}" if verdict else "not judged"
    if len(course.analyses) > 1:
        told += f", {len(course.analyses)} analyses"
    return {"number": course.wave["number"], "name": _short(course.wave.get("name", "")), "told": told}


def _course_marks(course: _Course, place: Callable[[datetime.datetime], float]) -> dict[str, Any]:
    """The spans up to each analysis (or to the end, without one), and the analyses."""
    spans: list[dict[str, Any]] = []
    begins = course.began
    for ends in [time for time, _verdict in course.analyses] or [course.ended]:
        width = max(place(ends) - place(begins), _LEAST_WIDTH)
        spans.append({"x": place(begins), "width": _percent(width), "again": bool(spans)})
        begins = ends
    analyses = [
        {"x": place(time), "verdict": verdict, "tone": _VERDICTS.get(verdict, "waits")}
        for time, verdict in course.analyses
    ]
    return {"spans": spans, "analyses": analyses}


def _groups(devices: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The devices by outcome, worst first; those that are well folded."""
    by_outcome: dict[str, list[Mapping[str, Any]]] = {}
    for row in devices:
        by_outcome.setdefault(row["outcome"], []).append(row)
    groups = []
    for outcome in sorted(by_outcome, key=_place):
        rows = sorted(by_outcome[outcome], key=lambda row: (row["wave"] or math.inf, row["class"], row["device"]))
        classes = Counter(row["class"] or _NONE for row in rows).most_common(6)
        groups.append(
            {
                "outcome": outcome,
                "class": _css(outcome),
                "rows": rows,
                "classes": ", ".join(f"{count} {name}" for name, count in classes) if len(classes) < 6 else "",
                "open": outcome in (*_FAILED, "away", "reverted") and len(rows) <= _ROWS_OPEN_MAX,
                "detailed": any(row["detail"] for row in rows),
            }
        )
    return groups


def _settings(ledger: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What the rollout was told, and what names it."""
    settings, plan = ledger.get("settings") or {}, ledger["plan"]
    rows = [
        ("rollout", ledger["id"]),
        ("manifest digest (SHA-256)", ledger.get("digest")),
        ("reason", ledger.get("reason")),
        ("classes by", " / ".join(plan.get("device_class") or [])),
        ("soak", _optional_span(settings.get("soak_seconds"))),
        ("longest soak", _optional_span(settings.get("soak_seconds_max"))),
        ("maintenance window", "; ".join(settings.get("window") or []) or "always open"),
        ("devices at a time", settings.get("concurrency")),
        *((f"limit: {name}", value) for name, value in (settings.get("limits") or {}).items()),
    ]
    return [(name, str(value)) for name, value in rows if value not in (None, "")]


# ---- words and numbers ----


_SHARE = Quantity("", " %", 100.0)
_POINTS = Quantity(", percentage points", " pp", 100.0, 0.0, " %")
_RATIO = Quantity(", times what it was", "\N{MULTIPLICATION SIGN}", 1.0, 1.0, "")
_SECONDS = Quantity("", " s")
_MEGABYTES = Quantity("", " MB", 1e-6)
# By how the names of the gate's checks end or begin, the first that fits.
_QUANTITIES = (
    ("* in seconds", _SECONDS),
    ("* in bytes", _MEGABYTES),
    ("* drop", _POINTS),
    ("* rise", _POINTS),
    ("drift", _POINTS),
    ("latency *", _RATIO),
    ("* latency", _RATIO),
    ("memory", _RATIO),
    ("accuracy", _SHARE),
    ("coverage", _SHARE),
    ("error rate", _SHARE),
    ("shadow *", _SHARE),
)


def _quantity(check: str) -> Quantity:
    """How a check's values are shown: by its name, or as plain numbers."""
    return next((quantity for name, quantity in _QUANTITIES if fnmatch.fnmatchcase(check, name)), Quantity())


def _finite(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return None
    return float(value)


def _interval(finding: Mapping[str, Any]) -> tuple[float | None, float | None]:
    """The ends of a finding's interval; both None unless both are known."""
    low, high = (_finite(end) for end in finding.get("interval") or (None, None))
    return (None, None) if low is None or high is None else (low, high)


def _number(value: float) -> str:
    """Return a number with four significant digits, as short as that can be."""
    if value == int(value) and abs(value) < 1e6:
        return str(int(value)).replace("-", "\N{MINUS SIGN}")
    return f"{value:.4g}".replace("-", "\N{MINUS SIGN}")


def _percent(value: float) -> float:
    return round(value, 3)


def _place(outcome: str) -> int:
    return OUTCOMES.index(outcome) if outcome in OUTCOMES else 0


def _css(outcome: str) -> str:
    return "o-" + outcome.replace(" ", "-") if outcome in OUTCOMES else "o-other"


def _short(text: object) -> str:
    told = str(text)
    return told if len(told) <= _LABEL_MAX else told[: _LABEL_MAX - 1] + "…"


def _time(text: Any) -> datetime.datetime | None:
    try:
        return datetime.datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=datetime.timezone.utc)
    except (TypeError, ValueError):
        return None


def _when(began: datetime.datetime | None, ended: datetime.datetime | None) -> str:
    if began is None:
        return ""
    told = f"{began:%Y-%m-%d %H:%M} UTC"
    return f"{told}, {_span(ended - began)}" if ended else f"since {told}"


def _span(time: datetime.timedelta) -> str:
    seconds = round(time.total_seconds())
    if seconds < 120:
        return f"{seconds} s"
    if seconds < 2 * 3600:
        return f"{round(seconds / 60)} min"
    if seconds < 2 * 86400:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 86400:.1f} days"


def _optional_span(seconds: Any) -> str | None:
    return None if _finite(seconds) is None else _span(datetime.timedelta(seconds=seconds))


# ---- scales ----


class Scale:
    """A linear scale from values to per cent of a chart's width, and round ticks on it."""

    def __init__(self, low: float, high: float, padding: float = 0.06) -> None:
        alike = math.isclose(low, high, rel_tol=1e-9, abs_tol=1e-12)
        room = (abs(high) * 0.1 if abs(high) > 1e-9 else 1.0) if alike else (high - low) * padding
        self.low, self.high = low - room, high + room
        self.ticks = _round_ticks(self.low, self.high)

    @classmethod
    def around(cls, values: Iterable[float]) -> Scale:
        """Return a scale on which all values are."""
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
