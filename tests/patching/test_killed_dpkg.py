# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""dpkg is killed in each maintainer script of an upgrade: the device is on the snapshot before, and can go on."""

from __future__ import annotations

from pathlib import Path

import pytest
from debian_packages import make_package
from patched_device import PatchedDevice

KILL_ONCE = '[ -e "$DPKG_ROOT/killed" ] || { touch "$DPKG_ROOT/killed"; kill -9 $PPID; }'


@pytest.mark.parametrize(
    ("version", "script"), [("1.0", "prerm"), ("1.1", "preinst"), ("1.0", "postrm"), ("1.1", "postinst")]
)
def test_a_killed_dpkg_leaves_the_snapshot_before_and_the_next_one_is_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str, script: str
) -> None:
    scripts: dict[str, dict[str, str]] = {"1.0": {}, "1.1": {}, version: {script: KILL_ONCE}}
    device = PatchedDevice(tmp_path, monkeypatch)
    old = make_package(tmp_path, "alpha", "1.0", scripts=scripts["1.0"])
    beta = make_package(tmp_path, "beta", "1", Depends="alpha")
    device.root.install(old, beta)
    device.swap("1", device.publish("1", old, beta))
    before = device.versions()
    new = make_package(tmp_path, "alpha", "1.1", scripts=scripts["1.1"], Depends="gamma")
    others = make_package(tmp_path, "beta", "2"), make_package(tmp_path, "gamma", "3")

    failed = device.swap("2", device.publish("2", new, *others))
    assert (device.root.directory / "killed").exists()
    assert (failed["failed"], failed["live"]) == (True, "1")
    assert device.versions() == before
    assert not device.root.manager.was_interrupted()

    assert device.swap("2", retry=True)["live"] == "2"
    assert device.versions() == {"alpha": "1.1", "beta": "2", "gamma": "3"}
