# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""The databases of vulnerabilities, read from files: Debian's security tracker, and advisories in OSV's form. Pure."""

from __future__ import annotations

import enum
import json
import re
from dataclasses import dataclass
from typing import Any, Iterable, Iterator, Mapping

from ansible_collections.edgeml.fleet.plugins.module_utils._common.errors import EdgemlError
from ansible_collections.edgeml.fleet.plugins.module_utils._release.debian_version import is_version, version_key

from .inventory import DEB, PYPI, Component, Root

# What the tracker has for a release that was never affected.
_NEVER = "0"
_NO_IMPACT = "unimportant"
_SEPARATORS = re.compile(r"[-_.]+")


class DatabaseError(EdgemlError):
    """A database cannot be read; the text says which, what was expected and what was found."""


class State(str, enum.Enum):
    """What can be done about a vulnerability."""

    FIXABLE = "fixable"
    UNFIXED = "unfixed"
    UNDETERMINED = "undetermined"
    NEGLIGIBLE = "negligible"
    ACCEPTED = "accepted"


@dataclass(frozen=True)
class Vulnerability:
    """A vulnerability of a source package in one version. ``fixed`` is the version to update to, None without one;
    ``note`` what the database says of it beside that."""

    id: str
    source: str
    version: str
    state: State
    fixed: str | None = None
    severity: str = ""
    description: str = ""
    note: str = ""


class DebianTracker:
    """The tracker's whole file (security-tracker.debian.org/tracker/data/json), or a part of it."""

    def __init__(self, document: Any, origin: str) -> None:
        if not isinstance(document, Mapping) or not all(isinstance(found, Mapping) for found in document.values()):
            raise DatabaseError(
                f"{origin}: expected the security tracker's JSON: source packages, each with its issues"
            )
        self._sources = document
        self._origin = origin

    def knows(self, root: Root) -> bool:
        """Whether it speaks of a root's packages: it has Debian's own suites, and nobody else's."""
        return root.distribution == "debian" and bool(root.suite)

    def of(self, root: Root, component: Component) -> Iterator[Vulnerability]:
        """The vulnerabilities of a component. Raises DatabaseError."""
        if component.url.type != DEB or not self.knows(root):
            return
        for name, issue in self._sources.get(component.source, {}).items():
            try:
                release = issue["releases"].get(root.suite)
                found = self._judge(name, issue, release, component) if release is not None else None
            except (KeyError, TypeError, AttributeError, ValueError) as error:
                raise DatabaseError(f"{self._origin}: {component.source} {name}: {error!r:.200}") from error
            if found is not None:
                yield found

    @staticmethod
    def _judge(
        name: str, issue: Mapping[str, Any], release: Mapping[str, Any], component: Component
    ) -> Vulnerability | None:
        status, fixed = release["status"], release.get("fixed_version") or None
        urgency = str(release.get("urgency", ""))
        if status == "resolved":
            if fixed is None or fixed == _NEVER:
                return None
            if not is_version(fixed):
                raise ValueError(f"fixed_version: expected a version; found {fixed!r}")
            if version_key(component.source_version) >= version_key(fixed):
                return None
            state = State.FIXABLE
        elif status == "open":
            state, fixed = State.UNFIXED, None
        elif status == "undetermined":
            state, fixed = State.UNDETERMINED, None
        else:
            raise ValueError(f"status: expected resolved, open or undetermined; found {status!r}")
        if urgency == _NO_IMPACT:
            state = State.NEGLIGIBLE
        return Vulnerability(
            id=name,
            source=component.source,
            version=component.source_version,
            state=state,
            fixed=fixed,
            severity="" if urgency in ("not yet assigned", "end-of-life") else urgency,
            description=str(issue.get("description", "")),
            note="; ".join(filter(None, (str(release.get("nodsa", "")), urgency if urgency == "end-of-life" else ""))),
        )


class OsvAdvisories:
    """Advisories in OSV's form (ossf.github.io/osv-schema) of PyPI's packages."""

    def __init__(self, documents: Iterable[Any], origin: str) -> None:
        self._origin = origin
        self._by_name: dict[str, list[tuple[Mapping[str, Any], Mapping[str, Any]]]] = {}
        try:
            for advisory in documents:
                if advisory.get("withdrawn"):
                    continue
                for affected in advisory.get("affected", []):
                    package = affected.get("package", {})
                    if package.get("ecosystem") == "PyPI":
                        name = _SEPARATORS.sub("-", package["name"].lower())
                        self._by_name.setdefault(name, []).append((advisory, affected))
        except (KeyError, TypeError, AttributeError) as error:
            raise DatabaseError(f"{origin}: expected advisories in OSV's form; {error!r:.200}") from error

    def of(self, _root: Root, component: Component) -> Iterator[Vulnerability]:
        """The vulnerabilities of a component. Raises DatabaseError."""
        if component.url.type != PYPI:
            return
        for advisory, affected in self._by_name.get(component.source, []):
            try:
                hit, fixed = _affects(affected, component.source_version)
                if hit:
                    aliases = [name for name in advisory.get("aliases", []) if name.startswith("CVE-")]
                    yield Vulnerability(
                        id=aliases[0] if aliases else advisory["id"],
                        source=component.source,
                        version=component.source_version,
                        state=State.UNFIXED if fixed is None else State.FIXABLE,
                        fixed=fixed,
                        severity=str(advisory.get("database_specific", {}).get("severity", "")).lower(),
                        description=str(advisory.get("summary") or advisory.get("details", ""))[:500],
                        note=advisory["id"] if aliases else "",
                    )
            except (KeyError, TypeError, AttributeError, ValueError) as error:
                raise DatabaseError(f"{self._origin}: {advisory.get('id')}: {error!r:.200}") from error


def _affects(affected: Mapping[str, Any], installed: str) -> tuple[bool, str | None]:
    """Whether a version is affected, and the lowest that fixes it."""
    from packaging.version import InvalidVersion, Version

    try:
        version = Version(installed)
    except InvalidVersion:
        # What is no version of PyPI's can only be named.
        return installed in affected.get("versions", []), None
    hit, fixes = installed in affected.get("versions", []), []
    for ranged in affected.get("ranges", []):
        if ranged.get("type") != "ECOSYSTEM":
            continue
        inside = False
        for event in ranged["events"]:
            ((kind, at),) = event.items()
            bound = Version("0") if at == "0" else Version(at)
            if kind == "introduced":
                inside = inside or version >= bound
            elif kind == "fixed":
                inside = inside and version < bound
                if version < bound:
                    fixes.append(bound)
            elif kind == "last_affected":
                inside = inside and version <= bound
        hit = hit or inside
    return hit, str(min(fixes)) if hit and fixes else None


def read_tracker(path: str) -> DebianTracker:
    """Read the tracker's file. Raises DatabaseError, OSError."""
    return DebianTracker(_read_json(path), path)


def read_advisories(path: str) -> OsvAdvisories:
    """Read advisories: a JSON list of them, or one on each line. Raises DatabaseError, OSError."""
    with open(path, encoding="utf-8") as file:
        text = file.read()
    try:
        documents = (
            json.loads(text) if text.lstrip().startswith("[") else [json.loads(x) for x in text.splitlines() if x]
        )
    except ValueError as error:
        raise DatabaseError(f"{path}: expected advisories as JSON; {error}") from error
    return OsvAdvisories(documents, path)


def _read_json(path: str) -> Any:
    with open(path, encoding="utf-8") as file:
        try:
            return json.load(file)
        except ValueError as error:
            raise DatabaseError(f"{path}: expected JSON; {error}") from error
