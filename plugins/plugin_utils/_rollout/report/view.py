# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""A rollout's ledger as one HTML file that needs nothing else: no script, no style sheet, no font, no server.

``charts.py`` computes the geometry, ``words.py`` the texts; ``report.html.j2`` beside this file puts them in place.
"""

from __future__ import annotations

import math
from collections import Counter
from typing import Any, Iterable, Mapping, Sequence

from ansible_collections.edgeml.fleet.plugins.module_utils._common.files import write_whole
from ansible_collections.edgeml.fleet.plugins.module_utils._common.words import counted
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.gate.checks import Finding, Verdict

from . import power
from .charts import dot_charts, outcome_chart, timeline
from .page import render_page
from .words import (
    FAILED_OUTCOMES,
    NONE,
    VERDICTS,
    css_class,
    number_text,
    optional_span_text,
    outcome_rank,
    quantity_of,
    reason,
    state_words,
    time_of,
    tone_of,
    when_text,
)

_HEALTHY = ("updated", "already there")
_LEFT_OUT = ("pinned", "maintenance", "decommissioned")
# A longer group of devices stays folded until a reader opens it.
_ROWS_OPEN_MAX = 100


def render(ledger: Mapping[str, Any]) -> str:
    """Return the report on a rollout, from its ledger in any state."""
    return render_page("report.html.j2", view_of(ledger))


def write(ledger: Mapping[str, Any], path: str) -> None:
    """Put the report in place, whole or not at all. Raises OSError."""
    write_whole(path, render(ledger))


def view_of(ledger: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the template shows of a ledger."""
    tone, state = state_words(ledger["state"])
    planned = ledger["plan"]["waves"]
    known = {wave["number"]: wave for wave in ledger["waves"]}
    devices = _devices(ledger)
    with_findings = [wave for wave in ledger["waves"] if wave.get("findings")]
    # A later wave may have passed before, in a run for a part of the fleet.
    not_passed = [wave for wave in with_findings if wave.get("verdict") not in (None, Verdict.PASS.value)]
    return {
        "ledger": ledger,
        "tone": tone,
        "state": state,
        "when": when_text(time_of(ledger.get("began")), time_of(ledger.get("ended"))),
        "figures": _figures(planned, known, devices),
        "outcomes": outcome_chart(planned, known, devices),
        "timeline": timeline(ledger),
        "judged": [_judged(wave) for wave in with_findings],
        "deciding": next((wave["number"] for wave in (*not_passed, *reversed(with_findings))), None),
        "groups": _groups(devices),
        "settings": _settings(ledger),
        "sights": _sights(ledger),
        "labels": _label_rows(ledger),
    }


def _devices(ledger: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The rows of the devices; while the rollout runs, what its waves noted of them."""
    rows = [dict(row) for row in ledger.get("devices") or []]
    if not rows:
        outcomes = {host: outcome for wave in ledger["waves"] for host, outcome in (wave.get("outcomes") or {}).items()}
        numbers = {host: number for number, wave in enumerate(ledger["plan"]["waves"], 1) for host in wave["hosts"]}
        for host, number in numbers.items():
            rows.append({"device": host, "wave": number, "outcome": outcomes.get(host, "not started")})
    named = {row["device"] for row in rows}
    for host, why in (ledger["plan"].get("left_out") or {}).items():
        if host not in named:
            rows.append({"device": host, "wave": None, "outcome": why.split(":")[0], "detail": why})
    device_classes, gateways = (ledger["plan"].get(name) or {} for name in ("device_classes", "gateways"))
    blank = {"class": "", "before": NONE, "after": NONE, "detail": ""}
    return [
        {
            **blank,
            "class": device_classes.get(row["device"], ""),
            **row,
            "gateway": gateways.get(row["device"], ""),
        }
        for row in rows
    ]


def _figures(
    planned: Sequence[Mapping[str, Any]], known: Mapping[int, Mapping[str, Any]], devices: Sequence[Mapping[str, Any]]
) -> list[dict[str, str]]:
    counts = Counter(row["outcome"] for row in devices)
    passed = sum(wave.get("verdict") == Verdict.PASS.value for number, wave in known.items() if number)
    healthy, failed = (sum(counts[name] for name in names) for names in (_HEALTHY, FAILED_OUTCOMES))
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


def _judged(wave: Mapping[str, Any]) -> dict[str, Any]:
    documents = [(document, _finding(document)) for document in wave["findings"]]
    findings = sorted(
        (finding for _document, finding in documents if finding), key=lambda item: VERDICTS.index(item.verdict)
    )
    rows = [_unknown_row(document) for document, finding in documents if finding is None]
    rows += [_row(finding) for finding in findings]
    return {
        "number": wave["number"],
        "name": wave.get("name", ""),
        "verdict": wave.get("verdict") or "not judged",
        "tone": tone_of(wave.get("verdict")),
        "analyses": counted(len(wave.get("analyses") or []), "analysis", "analyses"),
        "rows": rows,
        "counts": Counter(row["verdict"] for row in rows),
        "charts": dot_charts(findings),
    }


def _finding(document: Any) -> Finding | None:
    """Read a finding; None for one of another release of this collection, or one that somebody edited."""
    try:
        return Finding.from_dict(document)
    except (ValueError, TypeError, KeyError, AttributeError):
        return None


def _row(finding: Finding) -> dict[str, Any]:
    quantity = quantity_of(finding.check.unit)
    return {
        "verdict": finding.verdict.value,
        "tone": tone_of(finding.verdict.value),
        "check": finding.check.value,
        "device_class": finding.device_class or "all",
        "estimate": quantity.text(finding.estimate),
        "interval": quantity.interval(finding.bounds),
        "limit": quantity.text(finding.limit),
        "baseline": quantity.baseline(finding.baseline),
        "samples": number_text(finding.samples),
        "reason": reason(finding),
    }


def _unknown_row(document: Any) -> dict[str, Any]:
    """What can be shown of a finding that cannot be read."""
    found = document if isinstance(document, Mapping) else {}
    texts = {name: str(found.get(name) or NONE) for name in ("verdict", "check", "device_class", "reason")}
    return {**dict.fromkeys(("estimate", "interval", "limit", "baseline", "samples"), NONE), **texts, "tone": "waits"}


def _groups(devices: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The devices by outcome, worst first; those that are well are folded."""
    by_outcome: dict[str, list[Mapping[str, Any]]] = {}
    for row in devices:
        by_outcome.setdefault(row["outcome"], []).append(row)
    groups = []
    for outcome in sorted(by_outcome, key=outcome_rank):
        rows = sorted(
            by_outcome[outcome],
            key=lambda row: (row["wave"] or math.inf, row["class"], row["gateway"] or row["device"], row["device"]),
        )
        classes = Counter(row["class"] or NONE for row in rows).most_common(6)
        groups.append(
            {
                "outcome": outcome,
                "class": css_class(outcome),
                "devices": counted(len(rows), "device"),
                "rows": rows,
                "classes": ", ".join(f"{count} {name}" for name, count in classes) if len(classes) < 6 else "",
                "open": outcome in (*FAILED_OUTCOMES, "away", "reverted") and len(rows) <= _ROWS_OPEN_MAX,
                "detailed": any(row["detail"] for row in rows),
                "behind": any(row["gateway"] for row in rows),
            }
        )
    return groups


def _sights(ledger: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What the gate will see of each wave, where a plan says so."""
    return [
        {"heading": power.heading(wave), "rows": power.rows(wave.found)}
        for wave in map(power.WaveSight.from_dict, ledger.get("power") or ())
    ]


def _label_rows(ledger: Mapping[str, Any]) -> list[dict[str, str]]:
    """What labels said that came after the rollout had passed."""
    return [
        {
            "time": str(analysis.get("time")),
            "verdict": str(analysis.get("verdict")),
            "tone": tone_of(analysis.get("verdict")),
            "labels": number_text(analysis.get("labels") or 0),
            "reason": "; ".join(str(finding.get("reason")) for finding in analysis.get("findings") or ()),
        }
        for analysis in ledger.get("labels") or ()
    ]


def _settings(ledger: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The settings of the rollout, and what identifies it."""
    settings, plan = ledger.get("settings") or {}, ledger["plan"]
    rows = [
        ("rollout", ledger["id"]),
        ("manifest digest (SHA-256)", ledger.get("digest")),
        ("reason", ledger.get("reason")),
        ("classes by", " / ".join(plan.get("device_class") or [])),
        ("soak", optional_span_text(settings.get("soak_seconds"))),
        ("longest soak", optional_span_text(settings.get("soak_seconds_max"))),
        ("maintenance window", "; ".join(settings.get("window") or []) or "always open"),
        ("devices at a time", settings.get("concurrency")),
        *((f"wave {wave['number']} agreed to by", _agreed(wave)) for wave in ledger["waves"] if wave.get("agreed")),
        *((f"limit: {name}", value) for name, value in (settings.get("limits") or {}).items()),
    ]
    return [(name, str(value)) for name, value in rows if value not in (None, "")]


def _agreed(wave: Mapping[str, Any]) -> str:
    """Who agreed to a wave, how and when."""
    agreed = wave["agreed"]
    when = time_of(agreed["time"])
    return f"{agreed['by']} ({agreed['how']})" + (f", {when:%Y-%m-%d %H:%M} UTC" if when else "")
