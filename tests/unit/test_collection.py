# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The collection's tarball holds what an installed collection needs, and nothing else."""

from __future__ import annotations

import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def members(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """Paths of the files in the tarball that `ansible-galaxy collection build` makes."""
    target = tmp_path_factory.mktemp("collection")
    galaxy = Path(sys.executable).with_name("ansible-galaxy")
    command = [str(galaxy), "collection", "build", "--output-path", str(target), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True)
    (tarball,) = target.glob("*.tar.gz")
    with tarfile.open(tarball) as archive:
        return {member.name for member in archive if member.isfile()}


def test_it_holds_nothing_else(members: set[str]) -> None:
    top = {path.split("/", 1)[0] for path in members}
    texts = {"README.md", "LICENSE", "CHANGELOG.md", "MANIFEST.json", "FILES.json", "requirements.txt", "bindep.txt"}
    assert top == {"meta", "plugins", "roles", "playbooks"} | texts
    assert not [path for path in members if path.endswith(".pyc")]


def test_it_holds_every_file_that_git_tracks_there(members: set[str]) -> None:
    command = ["git", "-C", str(ROOT), "ls-files", "meta", "plugins", "roles", "playbooks"]
    tracked = set(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines())
    assert {path for path in tracked if (ROOT / path).exists()} - members == set()


def test_every_module_is_in_the_action_group() -> None:
    group = yaml.safe_load((ROOT / "meta/runtime.yml").read_text())["action_groups"]["all"]
    modules = sorted(path.stem for path in (ROOT / "plugins/modules").glob("*.py"))
    assert sorted(group) == modules
