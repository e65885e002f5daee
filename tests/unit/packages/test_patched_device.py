# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A device takes a snapshot by a real dpkg and apt, and returns to the one before; what it refuses touches nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from debian_packages import make_package
from edgeml_device._device import packages_strategy
from patched_device import NAME, PatchedDevice


@pytest.fixture
def device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PatchedDevice:
    """A device with two packages, on the snapshot that has just these."""
    device = PatchedDevice(tmp_path, monkeypatch)
    first = [make_package(tmp_path, "alpha", "1.0"), make_package(tmp_path, "beta", "2~rc1", Depends="alpha")]
    device.root.install(*first)
    result = device.swap("1", device.publish("1", *first, make_package(tmp_path, "unused", "1")))
    assert not result.get("failed"), result
    assert (result["live"], device.versions()) == ("1", {"alpha": "1.0", "beta": "2~rc1"})
    return device


def test_a_snapshot_is_installed_with_what_it_needs_and_left_again(device: PatchedDevice, tmp_path: Path) -> None:
    alpha = make_package(tmp_path, "alpha", "1.1", Depends="gamma")
    manifest = device.publish("2", alpha, make_package(tmp_path, "beta", "2"), make_package(tmp_path, "gamma", "3"))
    before = device.versions()

    planned = device.swap("2", manifest, check_mode=True)
    assert (planned["changed"], planned["live"], device.versions()) == (True, "1", before)
    result = device.swap("2", manifest)
    assert (result["changed"], result["live"], result["trial"]["returns_to"]) == (True, "2", "1")
    assert device.versions() == {"alpha": "1.1", "beta": "2", "gamma": "3"}
    again = device.swap("2", manifest)
    assert (again["changed"], again["live"]) == (False, "2")

    reverted = device.swap("2", state="previous")
    assert (reverted["changed"], reverted["live"]) == (True, "1")
    assert device.versions() == before, "the versions before, and without what had come with the snapshot"
    assert device.swap("2", state="previous")["changed"] is False


@pytest.mark.parametrize(
    ("script", "text"),
    [("postinst", "echo broken >&2; exit 1"), ("preinst", "kill -9 $PPID")],
    ids=["it fails", "dpkg is killed before it unpacks"],
)
def test_a_package_that_cannot_be_installed_leaves_the_snapshot_before(
    device: PatchedDevice, tmp_path: Path, script: str, text: str
) -> None:
    before = device.versions()
    bad = make_package(tmp_path, "alpha", "1.1", scripts={script: text})
    result = device.swap("2", device.publish("2", bad, make_package(tmp_path, "beta", "2")))
    assert (result["failed"], result["refused"], result["live"]) == (True, False, "1")
    assert "did not become healthy" in result["msg"]
    assert "alpha" in result["msg"]
    assert device.versions() == before
    assert not device.root.manager.was_interrupted()
    assert "failed on this device" in device.swap("2")["msg"]


@pytest.mark.parametrize(
    ("package", "fields", "expected"),
    [
        (("alpha", "0.9"), {}, "does not allow it: alpha 1.0 to 0.9"),
        (("alpha", "1.1"), {"Conflicts": "beta"}, "Packages need to be removed"),
        (("alpha", "1.1"), {"Installed_Size": str(1 << 40)}, "bytes of disk while they are unpacked"),
    ],
    ids=["downgrade", "removal", "disk"],
)
def test_what_cannot_be_is_refused_and_nothing_is_touched(
    device: PatchedDevice,
    tmp_path: Path,
    package: tuple[str, str],
    fields: dict[str, Any],
    expected: str,
) -> None:
    before = device.versions()
    manifest = device.publish("2", make_package(tmp_path, *package, **fields))
    result = device.swap("2", manifest)
    assert (result["failed"], result["refused"], result["live"]) == (True, True, "1")
    assert expected in result["msg"]
    assert device.versions() == before


def test_what_the_boot_after_a_power_cut_mends_is_waited_for(
    device: PatchedDevice, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = device.root.directory / "var/lib/dpkg/updates/0001"
    left.touch()
    new = make_package(tmp_path, "alpha", "1.1"), make_package(tmp_path, "beta", "2")
    manifest = device.publish("2", *new)
    assert "dpkg was interrupted on this device" in device.swap("2", manifest)["msg"]

    def unit_property(_unit: str, name: str) -> str:
        if name == "Job" or not left.exists():
            return ""
        left.unlink()
        return "activating"

    # Only what is asked before the swap: nothing else of it needs systemd.
    asked = iter([True])
    monkeypatch.setattr(packages_strategy, "has_unit", lambda: next(asked, False))
    monkeypatch.setattr(packages_strategy, "unit_property", unit_property)
    result = device.swap("2", manifest)
    assert (result["changed"], result["live"]) == (True, "2"), result


def test_what_no_snapshot_could_bring_back_is_not_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    device = PatchedDevice(tmp_path, monkeypatch)
    device.root.install(make_package(tmp_path, "alpha", "1.0"))
    new = make_package(tmp_path, "alpha", "1.1")
    refused = device.swap("1", device.publish("1", new))
    assert "no snapshot on this device could bring these packages back: alpha 1.0" in refused["msg"]
    assert device.versions() == {"alpha": "1.0"}


def test_a_snapshot_of_another_debian_is_refused(device: PatchedDevice, tmp_path: Path) -> None:
    (device.root.directory / "etc/os-release").write_text("VERSION_CODENAME=trixie\n")
    result = device.swap("2", device.publish("2", make_package(tmp_path, "alpha", "1.1")))
    assert "the snapshot is of Debian's bookworm; the device has trixie" in result["msg"]


def test_the_server_serves_no_snapshot(device: PatchedDevice) -> None:
    assert device.store.kind(NAME) == "packages"
