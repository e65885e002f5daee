# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Real issues of Debian 12, as its security tracker had them in autumn 2024, against what its packages' changelogs say.

``bookworm.json`` says where its facts are from. For each version that Debian 12 had of a package, the answers are known
by the changelog: an issue is fixed from the first version on that names it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

import pytest

from ansible_collections.edgeml.fleet.plugins.plugin_utils._vulnerabilities.databases import DebianTracker, State
from ansible_collections.edgeml.fleet.plugins.plugin_utils._vulnerabilities.inventory import device_root
from ansible_collections.edgeml.fleet.plugins.plugin_utils._vulnerabilities.report import make_report

PATH = Path(__file__).with_name("bookworm.json")
RECORDED = json.loads(PATH.read_text())
TRACKER, CHANGELOGS = RECORDED["tracker"], RECORDED["changelogs"]
PACKAGES = {
    "openssl": "libssl3",
    "glibc": "libc6",
    "curl": "libcurl4",
    "openssh": "openssh-client",
    "expat": "libexpat1",
}
# Its fix in 1:9.2p1-2+deb12u3 (DSA-5724) is not named in the changelog by its number.
NOT_NAMED = {"CVE-2024-6387"}


class Case(NamedTuple):
    """A version of a source package, and an issue that its tracker knows."""

    source: str
    version: str
    issue: str


def reported(source: str, version: str) -> dict[str, State]:
    """What the report says of a device that has this version."""
    package = PACKAGES.get(source, source)
    printed = f"system\tdebian\tbookworm\npackage\t{package}\t{version}\tarm64\t{source}\t{version}"
    report = make_report([device_root("edge-1", printed)], [DebianTracker(TRACKER, PATH.name)], [])
    return {each.vulnerability.id: each.vulnerability.state for each in report.findings}


def affected_by_changelog(source: str, place: int) -> set[str]:
    """The issues that no changelog up to this version names."""
    named = {issue for _version, issues in CHANGELOGS[source][: place + 1] for issue in issues}
    return set(TRACKER[source]) - named - NOT_NAMED


def counted() -> tuple[int, list[Case], list[Case]]:
    """How many answers are known, the false positives, and the misses."""
    known, false_positives, missed = 0, [], []
    for source, history in CHANGELOGS.items():
        for place, (version, _issues) in enumerate(history):
            found, affected = set(reported(source, version)) - NOT_NAMED, affected_by_changelog(source, place)
            known += len(set(TRACKER[source]) - NOT_NAMED)
            false_positives += [Case(source, version, issue) for issue in sorted(found - affected)]
            missed += [Case(source, version, issue) for issue in sorted(affected - found)]
    return known, false_positives, missed


def test_nothing_is_missed_and_what_is_false_comes_of_the_age_of_the_file() -> None:
    known, false_positives, missed = counted()
    assert known == 343
    assert missed == []
    # Open when they were recorded, and fixed since: the page and a warning have the age of the file for that.
    since = {
        "CVE-2024-5535": "3.0.15-1~deb12u1",
        "CVE-2024-7264": "7.88.1-10+deb12u7",
        "CVE-2024-8096": "7.88.1-10+deb12u8",
    }
    assert {case.issue for case in false_positives} == set(since)
    assert len(false_positives) == 24
    for issue, first in since.items():
        assert next(case.version for case in false_positives if case.issue == issue) == first


def test_a_newer_file_has_no_false_positive(monkeypatch: pytest.MonkeyPatch) -> None:
    for source, issues in TRACKER.items():
        for issue, entry in issues.items():
            fixed = next((version for version, named in CHANGELOGS.get(source, []) if issue in named), None)
            if entry["releases"]["bookworm"]["status"] == "open" and fixed is not None:
                newer = {"status": "resolved", "fixed_version": fixed, "urgency": "not yet assigned"}
                monkeypatch.setitem(entry["releases"], "bookworm", newer)
    assert counted() == (343, [], [])


@pytest.mark.parametrize(
    ("source", "version", "found"),
    [
        ("openssh", "1:9.2p1-2+deb12u2", {"CVE-2024-6387": State.FIXABLE}),
        ("openssh", "1:9.2p1-2+deb12u3", {}),
        # Never in Debian 12; without impact, by Debian's word.
        ("xz-utils", "5.4.1-0.2", {}),
        ("tar", "1.34+dfsg-1.2+deb12u1", {"CVE-2005-2541": State.NEGLIGIBLE}),
        ("gnupg2", "2.2.40-1.1", {"CVE-2022-3219": State.NEGLIGIBLE}),
    ],
)
def test_what_no_changelog_says(source: str, version: str, found: dict[str, State]) -> None:
    assert reported(source, version) == found
