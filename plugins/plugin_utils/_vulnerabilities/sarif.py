# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""The report in SARIF 2.1.0, which code hosts and other tools show. Pure."""

from __future__ import annotations

from typing import Any

from .databases import State
from .report import Finding, Report

SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
_LEVELS = {State.FIXABLE: "error", State.UNFIXED: "warning", State.UNDETERMINED: "note", State.NEGLIGIBLE: "note"}


def sarif(report: Report) -> dict[str, Any]:
    """The report as a SARIF log. What is accepted is suppressed, with the reason."""
    rules = sorted({each.vulnerability.id for each in report.findings})
    numbers = {name: number for number, name in enumerate(rules)}
    return {
        "$schema": SCHEMA,
        "version": "2.1.0",
        "runs": [
            {
                "tool": {
                    "driver": {
                        "name": "edgeml.fleet.vulnerabilities",
                        "informationUri": "https://github.com/edgeml/fleet",
                        "rules": [_rule(report, name) for name in rules],
                    }
                },
                "results": [_result(each, numbers[each.vulnerability.id]) for each in report.findings],
            }
        ],
    }


def _rule(report: Report, name: str) -> dict[str, Any]:
    about = next(each.vulnerability for each in report.findings if each.vulnerability.id == name)
    return {
        "id": name,
        "shortDescription": {"text": f"{name} in {about.source}"},
        "fullDescription": {"text": about.description or name},
        "helpUri": f"https://security-tracker.debian.org/tracker/{name}",
    }


def _result(finding: Finding, rule: int) -> dict[str, Any]:
    about = finding.vulnerability
    remedy = f"update to {about.fixed}" if about.fixed else "there is no fixed version"
    devices = ", ".join(finding.roots[:10]) + (" …" if len(finding.roots) > 10 else "")
    result: dict[str, Any] = {
        "ruleId": about.id,
        "ruleIndex": rule,
        "level": _LEVELS.get(finding.state, "note"),
        "message": {"text": f"{about.source} {about.version}: {about.id}: {remedy}. On {devices}"},
        # It is in no file of a repository; code hosts want one all the same.
        "locations": [
            {
                "physicalLocation": {"artifactLocation": {"uri": "var/lib/dpkg/status"}},
                "logicalLocations": [{"fullyQualifiedName": name, "kind": "package"} for name in finding.purls],
            }
        ],
        "partialFingerprints": {"vulnerability/v1": f"{about.id} {about.source} {about.version}"},
    }
    if finding.state is State.ACCEPTED:
        result["suppressions"] = [{"kind": "external", "status": "accepted", "justification": finding.reason}]
    return result
