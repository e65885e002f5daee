# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""The report as one page: what can be updated first, then what cannot, then what was accepted."""

from __future__ import annotations

import os
from typing import Any

from ansible_collections.edgeml.fleet.plugins.module_utils._common.words import counted
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.report.page import render_page

from .databases import State
from .report import ORDER, Finding, Report

_TITLES = {
    State.FIXABLE: "Fixable by an update",
    State.UNFIXED: "No fixed version yet",
    State.UNDETERMINED: "Not examined by Debian yet",
    State.NEGLIGIBLE: "Without impact on security, by Debian's word",
    State.ACCEPTED: "Accepted by a statement",
}
_TONES = {State.FIXABLE: "bad", State.UNFIXED: "waits", State.ACCEPTED: "good"}
_ROOTS_SHOWN = 5


def render(report: Report, databases: list[dict[str, str]]) -> str:
    """Return the page. ``databases`` say what they are and how old."""
    return render_page(
        "vulnerabilities.html.j2", view_of(report, databases), os.path.dirname(os.path.abspath(__file__))
    )


def view_of(report: Report, databases: list[dict[str, str]]) -> dict[str, Any]:
    """Return what the template shows."""
    counts = report.counts()
    return {
        "tone": "bad" if counts["fixable"] else "waits" if counts["unfixed"] or report.unjudged else "good",
        "state": f"{counted(counts['fixable'], 'vulnerability', 'vulnerabilities')} fixable by an update, "
        f"{counts['unfixed']} without a fixed version, {counts['accepted']} accepted",
        "databases": databases,
        "unjudged": sorted(report.unjudged.items()),
        "groups": [
            {
                "state": state.value,
                "title": _TITLES[state],
                "tone": _TONES.get(state, "waits"),
                "open": state in (State.FIXABLE, State.UNFIXED),
                "rows": [_row(each) for each in report.findings if each.state is state],
            }
            for state in ORDER
            if counts[state.value]
        ],
        "roots": [
            {
                "name": root.name,
                "system": " ".join(filter(None, (root.distribution, root.suite))) or "unknown",
                "packages": len(root.components),
                "counts": report.counts(root.name),
            }
            for root in sorted(report.roots, key=lambda root: root.name)
        ],
        "columns": [state.value for state in ORDER],
        "unused": [
            {"id": each.vulnerability, "product": str(each.product), "origin": each.origin} for each in report.unused
        ],
    }


def _row(finding: Finding) -> dict[str, Any]:
    about, names = finding.vulnerability, finding.roots
    more = len(names) - _ROOTS_SHOWN
    return {
        "id": about.id,
        "package": about.source,
        "version": about.version,
        "fixed": about.fixed or "",
        "severity": about.severity,
        "roots": ", ".join(names[:_ROOTS_SHOWN]) + (f" and {more} more" if more > 0 else ""),
        "description": about.description,
        "note": "; ".join(filter(None, (finding.reason, about.note))),
        "origin": finding.origin,
    }
