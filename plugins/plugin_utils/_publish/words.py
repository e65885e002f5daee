# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""The texts of a publication's table. Pure."""

from __future__ import annotations

from typing import Any, Mapping, Sequence

from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.gate.measurements import metric_words

NONE = "-"


def rows_of(table: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    """The table of variants for people."""
    return [
        {
            "variant": row["variant"],
            "verdict": row["verdict"] if row["published"] or row["verdict"] != "pass" else "refused",
            "size": bytes_text(row.get("size")),
            "metric": metric_text(row),
            "lost at most": loss_text(row),
            "latency": seconds_text(row.get("latency_seconds")),
            "memory": bytes_text(row.get("memory_measured")),
            "runtime": row.get("runtime_minimum") or NONE,
            "to fetch": bytes_text(row.get("fetched_bytes")),
        }
        for row in table
    ]


def metric_text(row: Mapping[str, Any]) -> str:
    """The metric with its interval (95%)."""
    if row.get("metric") is None:
        return NONE
    text = f"{row['metric']:.4f}"
    if row.get("interval"):
        low, high = row["interval"]
        text += f" ({low:.3f}-{high:.3f})"
    judgement = row.get("judgement")
    return f"{judged_metric(judgement)} {text}" if judgement else text


def judged_metric(judgement: Mapping[str, Any]) -> str:
    """The metric of a judgement, as JSON has it; one of an earlier publication may not say by how many classes."""
    return metric_words(judgement["metric"], judgement.get("top", 1))


def loss_text(row: Mapping[str, Any]) -> str:
    """The most that the variant may have lost against the source."""
    judgement = row.get("judgement")
    if not judgement:
        return NONE
    if judgement["worse"] is None:
        return f"{judgement['loss_upper']:+.1%}"
    return f"{100 * judgement['loss_upper']:.2f} points"


def bytes_text(value: Any) -> str:
    """A size for people."""
    if value is None:
        return NONE
    size = float(value)
    for unit in ("B", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" or size >= 100 else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} GiB"


def seconds_text(value: Any) -> str:
    """A time for people."""
    if value is None:
        return NONE
    seconds = float(value)
    return f"{seconds:.2f} s" if seconds >= 1 else f"{seconds * 1e3:.2f} ms"
