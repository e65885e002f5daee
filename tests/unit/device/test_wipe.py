# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is removed from a device that is decommissioned, and what stays."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from ansible_collections.edgeml.fleet.plugins.module_utils._device.wipe import WipeError, wipe

FLEET = (
    "etc/edgeml/pull/device.key",
    "etc/edgeml/credentials.json",
    "etc/systemd/system/edgeml-inference.service",
    "etc/systemd/system/edgeml-inference.service.d/limits.conf",
    "var/lib/edgeml-inference/predictions.db",
    "var/lib/edgeml/store/blobs/sha256/0d3e",
    "opt/edgeml/app-1/edgeml",
    "etc/ansible/facts.d/edgeml.fact",
)
OTHERS = ("etc/hosts", "etc/systemd/system/ssh.service", "var/lib/other/file", "opt/other", "usr/local/bin/other")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The file tree of a device with all that roles put there, and with other software."""
    for name in (*FLEET, *OTHERS):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    (tmp_path / "usr/local/bin/edgeml").symlink_to("/opt/edgeml/app-1/edgeml")
    return tmp_path


def files(root: Path) -> set[str]:
    return {str(path.relative_to(root)) for path in root.rglob("*") if path.is_symlink() or path.is_file()}


def test_everything_of_the_fleet_goes_and_nothing_else(root: Path) -> None:
    before = files(root)
    would = wipe(str(root), check_mode=True)
    assert files(root) == before
    found = wipe(str(root))
    assert found == would
    assert found.changed
    assert found.units == [], "units of another machine than this one are not stopped"
    assert files(root) == set(OTHERS)
    assert [str(Path(path).relative_to(root)) for path in found.paths] == [
        "etc/edgeml",
        "etc/systemd/system/edgeml-inference.service",
        "etc/systemd/system/edgeml-inference.service.d",
        "var/lib/edgeml-inference",
        "var/lib/edgeml",
        "opt/edgeml",
        "usr/local/bin/edgeml",
        "etc/ansible/facts.d/edgeml.fact",
    ]
    assert not wipe(str(root)).changed


@pytest.mark.parametrize("number", range(6))
def test_after_an_interruption_the_next_call_goes_on(root: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    left = number
    whole = shutil.rmtree

    def interrupted(path: str) -> None:
        nonlocal left
        if left == 0:
            raise OSError(5, os.strerror(5), path)
        left -= 1
        whole(path)

    monkeypatch.setattr(shutil, "rmtree", interrupted)
    if number < 5:
        with pytest.raises(WipeError, match=r"cannot be removed: Input/output error\. Run it again"):
            wipe(str(root))
        # The secrets go first.
        assert number == 0 or not (root / "etc/edgeml").exists()
    monkeypatch.setattr(shutil, "rmtree", whole)
    wipe(str(root))
    assert files(root) == set(OTHERS)


def test_what_the_link_of_a_store_leads_to_stays(root: Path, tmp_path: Path) -> None:
    """Somebody has put the store onto a disk of its own by a link: the link goes."""
    shutil.rmtree(root / "var/lib/edgeml")
    (root / "var/lib/edgeml").symlink_to(root / "var/lib/other")
    wipe(str(root))
    assert (root / "var/lib/other/file").exists()
    assert not (root / "var/lib/edgeml").is_symlink()
