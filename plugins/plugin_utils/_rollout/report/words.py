# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""The texts of the gate and of the report, made from typed findings, outcomes and times. Pure."""

from __future__ import annotations

import datetime
import math
from dataclasses import dataclass
from typing import Any, Callable, Iterable, Mapping

from ansible_collections.edgeml.fleet.plugins.module_utils._common.records import is_number
from ansible_collections.edgeml.fleet.plugins.module_utils._common.words import counted
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.gate.checks import (
    Bounds,
    Cause,
    Check,
    ComparedWith,
    DeviceNote,
    Finding,
    Missing,
    Unit,
    Verdict,
)
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.gate.measurements import metric_words
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.gate.readings import (
    P50_REQUESTS_MIN,
    P95_REQUESTS_MIN,
)

# The order in which verdicts are read.
VERDICTS = (Verdict.FAIL, Verdict.INCONCLUSIVE, Verdict.PASS, Verdict.SKIPPED)

_CLASSES_MAX = 10

_UNDECIDED: Mapping[Cause, str] = {
    Cause.UNDECIDED: "a longer soak will tell",
    Cause.SUSPICIOUS: "suspicious, but not certain",
    Cause.TOO_LITTLE: "too little data",
}
_CAUSES: Mapping[Cause, str] = {
    Cause.NO_TRAFFIC: "no live traffic; the probe set alone judges",
    Cause.NOT_REPORTED: "the server does not report it",
    Cause.NO_LABELS: "no client sent labels",
    Cause.NO_SHADOW: "the release did not run as a shadow",
    Cause.NO_DRIFT_WINDOW: "no window of requests was compared with the release's reference",
    Cause.NO_COMPARISON: "neither the version before nor a control has enough to compare with",
    Cause.NO_PROBE_SET: "the release has no probe set",
    Cause.NO_SENSOR: "the boards have no such sensor",
    Cause.POWER_MODE: "the power mode of the boards is another than before",
    Cause.OTHER_METRIC: "the probe set has another metric, which another check judges",
    Cause.FIRST_INSTALLATION: "this is a first installation; there is no version before",
    Cause.NOT_COMPARABLE: "the version before could not be asked the probe set",
    Cause.NOTHING_ASKED: "no device was asked anything: there is no live traffic, and the release has no probe set",
}
_MISSING: Mapping[Missing, str] = {
    Missing.PROBE: "no answers to the probe set",
    Missing.BASELINE: "no answers of the version before to the probe set",
    Missing.REQUESTS: "no count of requests",
}
# What makes two versions comparable by a probe set.
COMPARABLE = (
    "Where only names differ, give the variant the names of the version before (tensors in its manifest), and publish "
    "it as another version. Where the change is meant, no answers can be compared: set accuracy_drop_max and "
    "probe_error_ratio_max to null in rollout_limits, and accuracy_min to what the new version has to reach"
)
# It is asked before the swap, and not again.
_UNANSWERED = (
    "Where a server only gave no answer, as the reason says, nothing is wrong with the release: roll back, and roll "
    "out again with the next rollout_attempt"
)
# How many digits a quantity of each device has, and what follows it.
_RATIO_WORDS: Mapping[Check, tuple[int, str]] = {
    Check.LATENCY_P95_SECONDS: (4, " s"),
    Check.TEMPERATURE: (1, " degrees Celsius more than it was"),
    Check.CLOCK: (3, " times as slow as it was"),
}
_EVENTS: Mapping[Check, tuple[str, str, str]] = {
    Check.ERROR_RATE: ("request", "requests", "failed"),
    Check.ERROR_RATE_RISE: ("request", "requests", "failed"),
    Check.LIVE_ACCURACY_DROP: ("prediction", "predictions", "wrong"),
    Check.SHADOW_DISAGREEMENT: ("row", "rows", "of copied requests answered differently from the active version"),
    Check.DRIFT: ("device", "devices", "with a drift alarm"),
}


def lines(findings: Iterable[Finding]) -> list[str]:
    """Return one line for each check that failed or is inconclusive, in each device class; and one for each check that
    passed, and for each cause for which a check was skipped."""
    ordered = sorted(findings, key=lambda item: (VERDICTS.index(item.verdict), item.device_class is not None))
    found: list[str] = []
    passed: set[Check] = set()
    skipped: dict[tuple[Check, Cause | None], list[Finding]] = {}
    for finding in ordered:
        if finding.verdict is Verdict.SKIPPED:
            skipped.setdefault((finding.check, finding.cause), []).append(finding)
        elif finding.verdict is not Verdict.PASS or finding.check not in passed:
            found.append(_line(finding, [finding.device_class]))
            passed |= {finding.check} if finding.verdict is Verdict.PASS else set()
    return found + [_line(same[0], [finding.device_class for finding in same]) for same in skipped.values()]


def _line(finding: Finding, device_classes: list[str | None]) -> str:
    named = [name for name in device_classes if name is not None]
    more = f" and {len(named) - _CLASSES_MAX} more" if len(named) > _CLASSES_MAX else ""
    place = f" in {', '.join(named[:_CLASSES_MAX])}{more}" if len(named) == len(device_classes) else ""
    return f"{finding.verdict.value}: {finding.check.value}{place}: {reason(finding)}"


def reason(finding: Finding) -> str:
    """Return why a check has its verdict, in one line."""
    if finding.check in _CHECKS:
        return _CHECKS[finding.check](finding)
    if finding.estimate is None:
        return _without_numbers(finding)
    undecided = f"{_UNDECIDED[finding.cause]}: " if finding.cause and finding.cause in _UNDECIDED else ""
    if finding.check in _EVENTS:
        return undecided + _proportion(finding)
    return undecided + _ratio(finding)


# ---- findings without numbers ----


def _without_numbers(finding: Finding) -> str:
    if finding.cause is Cause.TOO_FEW_REQUESTS:
        least = P50_REQUESTS_MIN if finding.check is Check.LATENCY_P50 else P95_REQUESTS_MIN
        return f"fewer than {least} requests on each device, before or now"
    if finding.cause is Cause.NO_TRAFFIC_BUT_CONTROLS and finding.compared_with:
        controls = counted(finding.compared_with.controls, "control")
        return f"no requests, while {controls} had {finding.compared_with.events}"
    return _cause(finding) or "not judged"


def _cause(finding: Finding) -> str:
    return cause_text(finding.cause)


def cause_text(cause: Cause | None) -> str:
    """Return why a check has no numbers; nothing where that is no reason of its own."""
    return _CAUSES.get(cause, "") if cause else ""


# ---- findings about devices ----


def _failed_devices(finding: Finding) -> str:
    number, allowed = int(finding.estimate or 0), int(finding.limit or 0)
    head = f"{number} of {counted(finding.samples, 'device')} so far refused, failed or fell silent"
    waits = "; the silent ones are asked again" if finding.cause is Cause.UNDECIDED else ""
    return f"{head} (at most {allowed}){_named(finding, lambda note: f'{note.name} {note.outcome}')}{waits}"


def _coverage(finding: Finding) -> str:
    if finding.cause is Cause.CLASS_SILENT:
        return f"none of {counted(finding.samples, 'device')} of this class reported, in this wave or before"
    devices = f"{finding.events} of {counted(finding.samples, 'device')} reported"
    return f"{devices} ({finding.estimate or 0:.0%}, at least {finding.limit or 0:.0%})"


def _measurements(finding: Finding) -> str:
    if finding.named:
        remedy = f". {COMPARABLE}. {_UNANSWERED}" if finding.cause is Cause.NOT_COMPARABLE else ""
        return f"missing or not valid{_named(finding, _measurement_problem)}{remedy}"
    if finding.cause:
        return _cause(finding)
    return f"{counted(finding.samples, 'device')} reported, all values are valid"


def _measurement_problem(note: DeviceNote) -> str:
    return f"{note.name} ({_MISSING[note.missing] if note.missing else '; '.join(note.problems)})"


def _restarts(finding: Finding) -> str:
    if finding.cause:
        return _cause(finding)
    number, most = int(finding.estimate or 0), int(finding.threshold or 0)
    text = f"the server restarted more than {counted(most, 'time')} on {number} of {counted(finding.samples, 'device')}"
    text += f" (at most {int(finding.limit or 0)})"
    text += _named(finding, lambda note: f"{note.name} {counted(note.count or 0, 'time')}")
    if finding.compared_with:
        text += f"; so did {finding.compared_with.events} of {counted(finding.compared_with.controls, 'control')}"
    return text


def _memory_bytes(finding: Finding) -> str:
    if finding.estimate is None:
        return _cause(finding)
    unknown = (finding.devices or 0) - finding.samples
    text = f"at most {int(finding.estimate or 0)} bytes on {counted(finding.samples, 'device')}"
    text += f" (at most {int(finding.limit or 0)})"
    text += _named(finding, lambda note: note.name)
    return text + (f"; {counted(unknown, 'device')} did not report it" if unknown else "")


def _shadow_memory(finding: Finding) -> str:
    if not finding.samples:
        return _cause(finding)
    what = f"the server grew by more than {int(finding.threshold or 0)} bytes with both versions"
    most = f"(at most {int(finding.limit or 0)})"
    text = f"on {counted(int(finding.estimate or 0), 'device')} of {finding.samples} {what} {most}"
    return text + _named(finding, lambda note: f"{note.name} {note.count}")


def _named(finding: Finding, text: Callable[[DeviceNote], str]) -> str:
    """Return the devices that a finding names, after a colon."""
    if not finding.named:
        return ""
    more = finding.named_total - len(finding.named)
    return ": " + ", ".join(text(note) for note in finding.named) + (f" and {more} more" if more > 0 else "")


# ---- findings about answers, proportions and ratios ----


def _accuracy(finding: Finding) -> str:
    if finding.cause:
        return _without_numbers(finding)
    metric = _metric(finding, "accuracy")
    value = "none" if finding.estimate is None else f"{finding.estimate:.4f}"
    return f"{metric} {value} on {counted(finding.samples, 'sample')} (at least {finding.limit or 0:.4f})"


def _accuracy_drop(finding: Finding) -> str:
    if finding.estimate is None:
        return _without_numbers(finding)
    metric, before = _metric(finding, "accuracy"), finding.baseline or 0.0
    text = f"{finding.estimate:.4f} of {metric} lost, from {before:.4f} to {before - finding.estimate:.4f}"
    text += f" (at most {finding.limit or 0:.4f}) on {counted(finding.samples, 'sample')}"
    if finding.events is not None:
        text += f", of which {finding.events} became wrong and {finding.improved or 0} right"
    return _probe_words(finding, text)


def _probe_error(finding: Finding) -> str:
    if finding.estimate is None:
        return _without_numbers(finding)
    text = _numbers(finding, lambda value: f"{value:.3f}")
    metric = _metric(finding, "error")
    return _probe_words(finding, f"{metric} {text} times what it was, on {counted(finding.samples, 'sample')}")


def _metric(finding: Finding, otherwise: str) -> str:
    return metric_words(finding.metric.value, finding.top) if finding.metric else otherwise


def _probe_words(finding: Finding, text: str) -> str:
    if finding.cause is Cause.SMALL_PROBE_SET:
        beyond = (finding.estimate or 0.0) > (finding.limit or 0.0)
        head = "beyond the limit, but so few samples may be chance" if beyond else "too few samples to rule out harm"
        text = f"{head}: {text}"
    elif finding.cause is Cause.TOO_LITTLE:
        text = f"the probe set is too small to tell: {text}"
    elif finding.cause is Cause.NOT_FINITE:
        text = f"some answers are no finite numbers, and were for the version before: {text}"
    if finding.named:
        answer = "answers" if finding.named_total == 1 else "answer"
        text += f"; {finding.named_total} of {counted(finding.devices or 0, 'device')} {answer} wrongly"
        text += _named(finding, lambda note: note.name)
    return text


def _proportion(finding: Finding) -> str:
    singular, plural, what = _EVENTS[finding.check]
    text = f"{finding.events} of {counted(finding.samples, singular, plural)} {what}"
    if finding.check.unit is Unit.SHARE:
        return f"{text}: {_numbers(finding, lambda value: f'{value:.2%}')}"
    text += f", {finding.baseline or 0:.2%} before"
    change = _numbers(finding, lambda value: f"{100 * value:+.2f}")
    return f"{text}; change in points: {change}{_compared(finding.compared_with)}"


def _ratio(finding: Finding) -> str:
    digits, what = _RATIO_WORDS.get(finding.check, (3, " times what it was"))
    numbers = _numbers(finding, lambda value: f"{value:.{digits}f}")
    return f"{numbers}{what}, on {counted(finding.devices or 0, 'device')}{_compared(finding.compared_with)}"


def _numbers(finding: Finding, form: Callable[[float], str]) -> str:
    """Return the estimate, its interval, and the limit."""
    text = form(finding.estimate or 0.0)
    if finding.bounds:
        text += f" [{form(finding.bounds.lower)}, {form(finding.bounds.upper)}]"
    return f"{text} (at most {form(finding.limit or 0.0)})"


def _compared(compared_with: ComparedWith | None) -> str:
    if compared_with is None:
        return ""
    if compared_with.profile:
        return "; the limit is by the profile of the device class"
    parts = ["the past"] if compared_with.past else []
    parts += [counted(compared_with.controls, "control")] if compared_with.controls else []
    return f", compared with {' and '.join(parts)}" if parts else ""


_CHECKS: Mapping[Check, Callable[[Finding], str]] = {
    Check.FAILED_DEVICES: _failed_devices,
    Check.COVERAGE: _coverage,
    Check.MEASUREMENTS: _measurements,
    Check.RESTARTS: _restarts,
    Check.MEMORY_BYTES: _memory_bytes,
    Check.SHADOW_MEMORY: _shadow_memory,
    Check.ACCURACY: _accuracy,
    Check.ACCURACY_DROP: _accuracy_drop,
    Check.PROBE_ERROR: _probe_error,
}


# ---- values ----

NONE = "\N{EN DASH}"


@dataclass(frozen=True)
class Quantity:
    """How the values of a check are shown: multiplied by ``factor``, with ``unit``.

    ``axis`` follows the name of the check. Values that are changes have the place of no change, ``unchanged``; their
    baselines are levels, shown with ``level_unit``. Other baselines are values.
    """

    axis: str = ""
    unit: str = ""
    factor: float = 1.0
    unchanged: float | None = None
    level_unit: str | None = None

    def text(self, value: float | None) -> str:
        """Return the value as people read it, with its unit; a dash for None."""
        return NONE if value is None else f"{number_text(value * self.factor)}{self.unit}"

    def interval(self, bounds: Bounds | None) -> str:
        """Return an interval as people read it; a dash for None."""
        if bounds is None:
            return NONE
        return f"{number_text(bounds.lower * self.factor)} to {number_text(bounds.upper * self.factor)}{self.unit}"

    def baseline(self, value: float | None) -> str:
        """Return what the version before had, as people read it; a dash for None."""
        if value is None or self.level_unit is None:
            return self.text(value)
        return f"{number_text(value * self.factor)}{self.level_unit}"


_QUANTITIES: Mapping[Unit, Quantity] = {
    Unit.COUNT: Quantity(),
    Unit.SHARE: Quantity(unit=" %", factor=100.0),
    Unit.POINTS: Quantity(", percentage points", " pp", 100.0, 0.0, " %"),
    Unit.RATIO: Quantity(", times what it was", "\N{MULTIPLICATION SIGN}", 1.0, 1.0, ""),
    Unit.SECONDS: Quantity(unit=" s"),
    Unit.CELSIUS: Quantity(", degrees", " °C", 1.0, 0.0, ""),
    Unit.BYTES: Quantity(unit=" MB", factor=1e-6),
}


def quantity_of(unit: Unit) -> Quantity:
    """Return how values of a unit are shown."""
    return _QUANTITIES[unit]


def number_text(value: float) -> str:
    """Return a number with four significant digits, as short as possible."""
    if value == int(value) and abs(value) < 1e6:
        return str(int(value)).replace("-", "\N{MINUS SIGN}")
    return f"{value:.4g}".replace("-", "\N{MINUS SIGN}")


# ---- outcomes, verdicts and states ----

# The outcomes of a device, worst first: the order of tables, and of the parts of a bar from its end.
OUTCOMES = (
    "not reverted",
    "failed",
    "failed before",
    "silent",
    "refused",
    "cut off",
    "away",
    "reverted",
    "maintenance",
    "pinned",
    "decommissioned",
    "not started",
    "shadowed",
    "planned",
    "already there",
    "updated",
)
FAILED_OUTCOMES = ("not reverted", "failed", "failed before", "silent", "refused")
_STATES = {
    "passed": ("good", "Passed"),
    "failed": ("bad", "Failed"),
    "paused": ("waits", "Paused"),
    "rolled back": ("bad", "Rolled back"),
    "running": ("waits", "Running"),
    "planned": ("waits", "Planned"),
}
_TONES = {
    Verdict.FAIL.value: "bad",
    Verdict.INCONCLUSIVE.value: "waits",
    Verdict.PASS.value: "good",
    Verdict.SKIPPED.value: "none",
}
_LABEL_MAX = 42


def state_words(state: str) -> tuple[str, str]:
    """Return the tone of a rollout's state, and the state as a heading."""
    return _STATES.get(state, ("waits", str(state)))


def tone_of(verdict: str | None, otherwise: str = "waits") -> str:
    """Return the tone of a verdict; ``otherwise`` for none."""
    return _TONES.get(verdict or "", otherwise)


def outcome_rank(outcome: str) -> int:
    """Return the place of an outcome in order; unknown ones come first."""
    return OUTCOMES.index(outcome) if outcome in OUTCOMES else 0


def css_class(outcome: str) -> str:
    """Return the class of an outcome in the style sheet."""
    return "o-" + outcome.replace(" ", "-") if outcome in OUTCOMES else "o-other"


def shortened(text: object) -> str:
    """Return a text that fits into a chart."""
    shown = str(text)
    return shown if len(shown) <= _LABEL_MAX else shown[: _LABEL_MAX - 1] + "…"


# ---- times ----


def time_of(text: Any) -> datetime.datetime | None:
    """Read a time of the ledger; None for what is none."""
    try:
        return datetime.datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=datetime.timezone.utc)
    except (TypeError, ValueError):
        return None


def when_text(began: datetime.datetime | None, ended: datetime.datetime | None) -> str:
    """Return when a rollout began and how long it took."""
    if began is None:
        return ""
    shown = f"{began:%Y-%m-%d %H:%M} UTC"
    return f"{shown}, {span_text(ended - began)}" if ended else f"since {shown}"


def span_text(span: datetime.timedelta) -> str:
    """Return a span of time, roughly."""
    seconds = round(span.total_seconds())
    if seconds < 120:
        return f"{seconds} s"
    if seconds < 2 * 3600:
        return f"{round(seconds / 60)} min"
    if seconds < 2 * 86400:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 86400:.1f} days"


def optional_span_text(seconds: Any) -> str | None:
    """Return a span in seconds as text; None for what is no number."""
    if not is_number(seconds) or not math.isfinite(seconds):
        return None
    return span_text(datetime.timedelta(seconds=seconds))
