# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""The report of a fleet's vulnerabilities: what was found where, and what can be done about it. Pure."""

from __future__ import annotations

import dataclasses
from collections import Counter
from dataclasses import dataclass
from typing import Any, Iterable, Mapping, Protocol, Sequence

from .databases import State, Vulnerability
from .inventory import DEB, Component, Root
from .statements import Statement, statement_about

# From what is to do to what is not.
ORDER = (State.FIXABLE, State.UNFIXED, State.UNDETERMINED, State.NEGLIGIBLE, State.ACCEPTED)
_SEVERITIES = ("critical", "high", "medium", "moderate", "low", "")


class Database(Protocol):
    """What says which vulnerabilities a component has."""

    def of(self, root: Root, component: Component) -> Iterable[Vulnerability]:
        """The vulnerabilities of a component of a root."""


@dataclass(frozen=True)
class Finding:
    """A vulnerability of one source package in one version, and the roots (devices, images) that have it, with the
    package URLs of what they have installed of it. ``reason`` is why it is accepted, or what a person says of it."""

    vulnerability: Vulnerability
    state: State
    roots: tuple[str, ...]
    purls: tuple[str, ...]
    reason: str = ""
    origin: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON's types."""
        about = dataclasses.asdict(self.vulnerability)
        return {
            **about,
            "state": self.state.value,
            "roots": list(self.roots),
            "purls": list(self.purls),
            "reason": self.reason,
            "origin": self.origin,
        }


@dataclass(frozen=True)
class Report:
    """The findings, those first about which something can be done. ``unjudged`` has, by root, why its packages were
    compared with nothing; ``unused`` the statements that were about nothing that was found."""

    roots: tuple[Root, ...]
    findings: tuple[Finding, ...]
    unjudged: Mapping[str, str]
    unused: tuple[Statement, ...]

    def counts(self, root: str | None = None) -> dict[str, int]:
        """How many findings there are of each state, in all or of one root."""
        counted = Counter(each.state for each in self.findings if root is None or root in each.roots)
        return {state.value: counted[state] for state in ORDER}


def make_report(roots: Sequence[Root], databases: Sequence[Database], statements: Sequence[Statement]) -> Report:
    """Judge what is installed by the databases, and by what people say of it. Raises DatabaseError."""
    found: dict[tuple[Any, ...], tuple[set[str], set[str]]] = {}
    used: set[Statement] = set()
    known: dict[tuple[str, str, Component], list[tuple[Vulnerability, Statement | None]]] = {}
    for root in roots:
        for component in root.components:
            key = (root.distribution, root.suite, component)
            if key not in known:
                known[key] = [
                    (each, statement_about(statements, each.id, component))
                    for database in databases
                    for each in database.of(root, component)
                ]
            for vulnerability, statement in known[key]:
                names, purls = found.setdefault((vulnerability, statement), (set(), set()))
                names.add(root.name)
                purls.add(str(component.url))
                if statement is not None:
                    used.add(statement)
    findings = [
        _finding(vulnerability, statement, names, purls) for (vulnerability, statement), (names, purls) in found.items()
    ]
    findings.sort(key=_urgency)
    unused = tuple(each for each in statements if each not in used)
    return Report(tuple(roots), tuple(findings), _unjudged(roots, databases), unused)


def _finding(vulnerability: Vulnerability, statement: Statement | None, names: set[str], purls: set[str]) -> Finding:
    accepted = statement is not None and statement.accepts
    return Finding(
        vulnerability,
        State.ACCEPTED if accepted else vulnerability.state,
        tuple(sorted(names)),
        tuple(sorted(purls)),
        "" if statement is None else f"{statement.status}: {statement.reason}".rstrip(": "),
        "" if statement is None else statement.origin,
    )


def _urgency(finding: Finding) -> tuple[Any, ...]:
    about = finding.vulnerability
    severity = _SEVERITIES.index(about.severity) if about.severity in _SEVERITIES else len(_SEVERITIES)
    return ORDER.index(finding.state), severity, -len(finding.roots), about.source, about.id


def _unjudged(roots: Sequence[Root], databases: Sequence[Database]) -> dict[str, str]:
    """Why a root's packages were compared with nothing: silence would look like health."""
    found = {}
    for root in roots:
        if not any(component.url.type == DEB for component in root.components):
            found[root.name] = "it named no package of its distribution"
        elif not any(getattr(database, "knows", lambda _root: False)(root) for database in databases):
            system = " ".join(filter(None, (root.distribution, root.suite))) or "unknown"
            found[root.name] = f"no database here speaks of its distribution: {system}"
    return found
