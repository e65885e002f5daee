# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""A publication as one HTML file that needs nothing else, in the style of the rollout's report."""

from __future__ import annotations

import os
from typing import Any, Mapping, Sequence

from ansible_collections.edgeml.fleet.plugins.module_utils._common.files import write_whole
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.gate.measurements import metric_words
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.report.charts import Scale
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.report.page import render_page

from .words import bytes_text, judged_metric, loss_text, metric_text, rows_of, seconds_text

_TONES = {"pass": "good", "fail": "bad", "holdout too small": "waits", "not made": "none"}


def render(result: Mapping[str, Any]) -> str:
    """Return the report on a publication: its table, notes and reasons, and what was published."""
    return render_page("publication.html.j2", view_of(result), os.path.dirname(os.path.abspath(__file__)))


def write(result: Mapping[str, Any], path: str) -> None:
    """Put the report in place, whole or not at all. Raises OSError."""
    write_whole(path, render(result))


def view_of(result: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the template shows."""
    table, reasons = result["table"], result["reasons"]
    facts = result["facts"]
    state = "Refused" if reasons else "Would be published" if result.get("check") else "Published"
    return {
        "title": f"{result['model']} {result['version']}",
        "state": state,
        "tone": "bad" if reasons else "good",
        "reasons": reasons,
        "notes": result["notes"],
        "figures": _figures(table, facts),
        "headings": list(rows_of(table)[0]) if table else [],
        "rows": [_row(row, texts) for row, texts in zip(table, rows_of(table), strict=True)],
        "chart": _chart(table),
        "settings": _settings(result),
    }


def _row(row: Mapping[str, Any], texts: Mapping[str, str]) -> dict[str, Any]:
    return {
        "tone": _TONES.get(row["verdict"], "bad") if row["published"] else "bad",
        "cells": list(texts.values()),
        "notes": row["notes"],
    }


def _figures(table: Sequence[Mapping[str, Any]], facts: Mapping[str, Any]) -> list[tuple[str, str]]:
    published = [row for row in table if row["published"]]
    figures = [("variants published", f"{len(published)} of {len(table)}")]
    if facts:
        figures.append(("samples in the holdout", str(facts["samples"])))
        if facts["source_metric"] is not None:
            metric = metric_words(facts["metric"], facts.get("top", 1))
            figures.append((f"{metric} of the source", f"{facts['source_metric']:.4f}"))
    sizes = [row["size"] for row in published if row["size"]]
    if sizes:
        figures.append(("smallest variant", bytes_text(min(sizes))))
    times = [row["latency_seconds"] for row in published if row.get("latency_seconds")]
    if times:
        figures.append(("fastest variant, at the desk", seconds_text(min(times))))
    return figures


def _chart(table: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """The metric of each variant with its interval, on one axis; None without intervals."""
    known = [row for row in table if row.get("interval")]
    if not known:
        return None
    scale = Scale.around([value for row in known for value in (*row["interval"], row["metric"])])
    source = known[0]["judgement"]["before"]
    return {
        "metric": judged_metric(known[0]["judgement"]),
        "ticks": [{"x": scale.place(value), "text": f"{value:g}"} for value in scale.ticks],
        "source": scale.place(source),
        "rows": [
            {
                "name": row["variant"],
                "low": scale.place(row["interval"][0]),
                "high": scale.place(row["interval"][1]),
                "value": scale.place(row["metric"]),
                "told": f"{metric_text(row)}, {loss_text(row)} lost at most",
                "tone": _TONES.get(row["verdict"], "bad"),
            }
            for row in known
        ],
    }


def _settings(result: Mapping[str, Any]) -> list[tuple[str, str]]:
    facts = result["facts"]
    rows = [
        ("manifest digest (SHA-256)", result.get("digest")),
        ("created", facts.get("created")),
        ("task", facts.get("task")),
        ("output", facts.get("output")),
        *((f"made of: {item['path']}", item["sha256"]) for item in facts.get("materials", [])),
    ]
    for row in result["table"]:
        if row.get("runtime"):
            rows.append((f"{row['variant']} ran on", f"{row['runtime']}, {row['architecture']}"))
        for output, spread in row.get("aarch64_spread", {}).items():
            rows.append((f"{row['variant']} as aarch64, {output}", f"differs by up to {spread:.3g}"))
    return [(name, str(value)) for name, value in rows if value]
