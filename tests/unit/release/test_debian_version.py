# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Debian's versions are ordered as dpkg orders them: dpkg itself is the judge."""

from __future__ import annotations

import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.edgeml.fleet.plugins.module_utils._release.debian_version import is_version, version_key

PARTS = st.lists(st.sampled_from([*"019.~+a-Zb", "10", "09", "rc"]), max_size=6).map("".join)
VERSIONS = st.tuples(st.sampled_from(["", "0:", "1:"]), st.sampled_from("0123"), PARTS).map("".join)
# Equal starts are where orders differ.
PAIRS = st.one_of(
    st.tuples(VERSIONS, VERSIONS),
    st.tuples(VERSIONS, PARTS, PARTS).map(lambda found: (found[0] + found[1], found[0] + found[2])),
)


@given(st.lists(PAIRS, min_size=12, max_size=12))
@settings(max_examples=8, deadline=None)
def test_versions_are_ordered_as_dpkg_orders_them(pairs: list[tuple[str, str]]) -> None:
    for first, second in pairs:
        if not (is_version(first) and is_version(second)):
            continue
        one, other = version_key(first), version_key(second)
        relation = "lt" if one < other else "gt" if one > other else "eq"
        judged = subprocess.run(["dpkg", "--compare-versions", first, relation, second], check=False)
        assert judged.returncode == 0, f"{first} {relation} {second}"


@pytest.mark.parametrize(
    ("lower", "higher"),
    [("1.0~rc1", "1.0"), ("1.0", "1.0a"), ("1.9", "1.10"), ("2", "1:1"), ("1.0-1~deb12u1", "1.0-1"), ("1.0", "1.0+b1")],
)
def test_what_people_get_wrong(lower: str, higher: str) -> None:
    assert version_key(lower) < version_key(higher)


def test_equal_versions_are_equal() -> None:
    assert version_key("1.0") == version_key("0:1.00-0")


@pytest.mark.parametrize("text", ["", "a", "1 0", "1:", "1.0-", "x:1", "1_0"])
def test_what_is_no_version(text: str) -> None:
    assert not is_version(text)
