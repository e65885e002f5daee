# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What of a snapshot differs from a device, and which of it may be changed."""

from __future__ import annotations

import pytest

from ansible_collections.edgeml.fleet.plugins.module_utils._common.errors import (
    EdgemlError,
    IncompatibleError,
    ManifestError,
    StoreError,
)
from ansible_collections.edgeml.fleet.plugins.module_utils._device.package_manager import (
    Change,
    Installed,
    changes,
    check_changes,
)
from ansible_collections.edgeml.fleet.plugins.module_utils._release.packages import (
    Snapshot,
    parse_snapshot,
    snapshot_document,
    source_of,
    stanzas,
)

DIGEST = "0" * 64
PLENTY = 1 << 40


def snapshot(*packages: tuple[str, str], downgrades: frozenset[str] = frozenset(), way_back: bool = True) -> Snapshot:
    index = "\n".join(
        f"Package: {name}\nVersion: {version}\nArchitecture: arm64\nFilename: ./{name}.deb\nSHA256: {DIGEST}\n"
        "Installed-Size: 100\n"
        for name, version in packages
    )
    empty = Snapshot("bookworm", "arm64", {}, downgrades, way_back)
    return parse_snapshot(snapshot_document(empty), index.encode(), "a test")


def installed(version: str, complete: bool = True) -> Installed:
    return Installed(version, complete, 40 * 1024)


def test_only_what_both_have_differs_and_what_is_incomplete_is_done_again() -> None:
    device = {
        "same": installed("1"),
        "older": installed("1"),
        "broken": installed("1", complete=False),
        "own": installed("1"),
    }
    found = changes(snapshot(("same", "1"), ("older", "2"), ("broken", "1"), ("absent", "1")), device)
    assert [(each.name, each.before, each.after) for each in found] == [("broken", "1", "1"), ("older", "1", "2")]
    assert (found[1].size_bytes, found[1].growth_bytes) == (100 * 1024, 60 * 1024)


def change(before: str, after: str, size: int = 0, growth: int = 0) -> Change:
    return Change("alpha", before, after, size, growth)


@pytest.mark.parametrize(
    ("wanted", "new", "before", "free", "error", "expected"),
    [
        (change("2", "1"), snapshot(("alpha", "1")), snapshot(("alpha", "2")), PLENTY, IncompatibleError, "lower"),
        (change("1", "2"), snapshot(("alpha", "2")), snapshot(("alpha", "0")), PLENTY, IncompatibleError, "back"),
        (change("1", "2"), snapshot(("alpha", "2")), None, PLENTY, IncompatibleError, "back: alpha 1"),
        (change("1", "2", 80, 21), snapshot(("alpha", "2")), snapshot(("alpha", "1")), 126, StoreError, "need 101"),
    ],
)
def test_what_is_refused(
    wanted: Change, new: Snapshot, before: Snapshot | None, free: int, error: type[EdgemlError], expected: str
) -> None:
    with pytest.raises(error, match=expected):
        check_changes(new, [wanted], before, free, 20)


@pytest.mark.parametrize(
    ("wanted", "new", "before", "free"),
    [
        (change("2", "1"), snapshot(("alpha", "1"), downgrades=frozenset({"alpha"})), snapshot(("alpha", "2")), PLENTY),
        (change("1", "2"), snapshot(("alpha", "2"), way_back=False), None, PLENTY),
        (change("1~rc1", "1"), snapshot(("alpha", "1")), snapshot(("alpha", "1~rc1")), PLENTY),
        (change("1", "2", 80, 21), snapshot(("alpha", "2")), snapshot(("alpha", "1")), 127, ),
    ],
)  # fmt: skip
def test_what_is_allowed(wanted: Change, new: Snapshot, before: Snapshot | None, free: int) -> None:
    check_changes(new, [wanted], before, free, 20)


def test_a_device_may_return_to_the_snapshot_that_it_had() -> None:
    old, new = snapshot(("alpha", "1")), snapshot(("alpha", "2"))
    check_changes(old, [change("2", "1")], new, PLENTY, 20, returns=True)
    with pytest.raises(IncompatibleError, match=r"lower versions than the device.*alpha 3 to 1"):
        check_changes(old, [change("3", "1")], new, PLENTY, 20, returns=True)


def test_the_source_package_has_its_own_version_where_it_says_so() -> None:
    assert source_of({"Package": "a", "Version": "1+b1"}) == ("a", "1+b1")
    assert source_of({"Package": "a", "Version": "1", "Source": "b"}) == ("b", "1")
    assert source_of({"Package": "a", "Version": "1+b1", "Source": "b (1)"}) == ("b", "1")


def test_paragraphs_are_read_with_what_goes_on_in_further_lines() -> None:
    text = "Package: a\nDescription: one\n two\n .\n\n\nPackage: b\n"
    assert list(stanzas(text)) == [{"Package": "a", "Description": "one\ntwo\n."}, {"Package": "b"}]


@pytest.mark.parametrize(
    ("document", "index", "expected"),
    [
        (b"{}", b"", "expected schema 1"),
        (b"[", b"", "packages.json"),
        (snapshot_document(Snapshot("book worm", "arm64", {})), b"", "suite, architecture"),
        (snapshot_document(Snapshot("bookworm", "arm64", {}, frozenset({"x"}))), b"", "found x"),
        (snapshot_document(Snapshot("bookworm", "arm64", {})), b"Package: a;b\nVersion: 1\n", "found 'a;b'"),
        (snapshot_document(Snapshot("bookworm", "arm64", {})), b"Package: ab\nVersion: 1\n", "Filename"),
    ],
)
def test_what_is_no_snapshot_is_refused(document: bytes, index: bytes, expected: str) -> None:
    with pytest.raises(ManifestError, match=expected):
        parse_snapshot(document, index, "a test")


def test_a_package_comes_once_and_for_the_snapshots_architecture() -> None:
    with pytest.raises(ManifestError, match="expected each package once"):
        snapshot(("alpha", "1"), ("alpha", "2"))
    document = snapshot_document(Snapshot("bookworm", "arm64", {}))
    index = f"Package: ab\nVersion: 1\nArchitecture: amd64\nFilename: a\nSHA256: {DIGEST}\n"
    with pytest.raises(ManifestError, match="for arm64 and all; found amd64"):
        parse_snapshot(document, index.encode(), "a test")
