# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The collection's tarball holds what an installed collection needs, and nothing else; its links lead somewhere."""

from __future__ import annotations

import posixpath
import re
import subprocess
import sys
import tarfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]


FENCED = re.compile(r"^( *)(```|~~~).*?^\1\2\s*$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r'\]\(\s*([^)\s]+)[^)]*\)|<(?:a|img|source)\b[^>]*?\b(?:href|src|srcset)="([^"]+)"')
HEADING = re.compile(r"^#+ +(.+?) *#*$", re.MULTILINE)
ANCHOR = re.compile(r'<a (?:id|name)="([^"]+)"')
IN_THE_REPOSITORY = re.compile(r"https://github\.com/edgeml/fleet/(?:blob|tree)/main/([^#]+)")


@pytest.fixture(scope="module")
def tarball(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tarball that `ansible-galaxy collection build` makes."""
    target = tmp_path_factory.mktemp("collection")
    galaxy = Path(sys.executable).with_name("ansible-galaxy")
    command = [str(galaxy), "collection", "build", "--output-path", str(target), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True)
    (path,) = target.glob("*.tar.gz")
    return path


@pytest.fixture(scope="module")
def members(tarball: Path) -> set[str]:
    """Paths of the files in the tarball."""
    with tarfile.open(tarball) as archive:
        return {member.name for member in archive if member.isfile()}


@pytest.fixture(scope="module")
def pages(tarball: Path, members: set[str]) -> dict[str, str]:
    """The Markdown pages in the tarball, each by its path, without what is shown as code."""
    with tarfile.open(tarball) as archive:
        files = {path: archive.extractfile(path) for path in members if path.endswith(".md")}
        return {path: FENCED.sub("", file.read().decode()) for path, file in files.items() if file is not None}


def links(page: str) -> Iterator[str]:
    """The targets of a page's links and images."""
    for match in LINK.finditer(re.sub(r"`[^`\n]*`", "", page)):
        yield match.group(1) or match.group(2)


def anchors(page: str) -> set[str]:
    """The fragments that a page answers to: its headings, as GitHub and Galaxy name them, and its explicit anchors."""
    titles = [re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", title) for title in HEADING.findall(page)]
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles} | set(ANCHOR.findall(page))


def test_it_holds_nothing_else(members: set[str]) -> None:
    top = {path.split("/", 1)[0] for path in members}
    texts = {"README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "LICENSE"}
    texts |= {
        "MANIFEST.json",
        "FILES.json",
        "requirements.txt",
        "requirements-publish.txt",
        "requirements-mcu.txt",
        "bindep.txt",
    }
    assert top == {"bin", "meta", "plugins", "roles", "playbooks", "docs", "changelogs"} | texts
    assert not [path for path in members if path.endswith(".pyc")]


def test_it_holds_every_file_that_git_tracks_there(members: set[str]) -> None:
    command = ["git", "-C", str(ROOT), "ls-files", "meta", "plugins", "roles", "playbooks", "docs", "changelogs"]
    tracked = set(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines())
    assert {path for path in tracked if (ROOT / path).exists()} - members == set()


def test_every_relative_link_leads_into_the_tarball(members: set[str], pages: dict[str, str]) -> None:
    assert "README.md" in pages
    dead = []
    for path, page in pages.items():
        for link in links(page):
            if re.match(r"[a-z]+:", link):
                continue
            name, _, fragment = link.partition("#")
            target = posixpath.normpath(posixpath.join(posixpath.dirname(path), name)) if name else path
            there = target in members or any(member.startswith(f"{target}/") for member in members)
            if not there or (fragment and fragment not in anchors(pages.get(target, ""))):
                dead.append(f"{path}: {link}")
    assert dead == []


def test_every_link_into_the_repository_names_a_tracked_path(pages: dict[str, str]) -> None:
    output = subprocess.run(["git", "-C", str(ROOT), "ls-files"], check=True, capture_output=True, text=True).stdout
    tracked = output.splitlines()
    found = [(path, IN_THE_REPOSITORY.match(link)) for path, page in pages.items() for link in links(page)]
    named = {(path, match.group(1)) for path, match in found if match}
    assert named
    assert [
        f"{path}: {name}"
        for path, name in sorted(named)
        if name not in tracked and not any(file.startswith(f"{name}/") for file in tracked)
    ] == []


def test_every_module_is_in_the_action_group() -> None:
    group = yaml.safe_load((ROOT / "meta/runtime.yml").read_text())["action_groups"]["all"]
    modules = sorted(path.stem for path in (ROOT / "plugins/modules").glob("*.py"))
    assert sorted(group) == modules


def test_pytest_and_make_can_tell_all_files_and_targets_apart() -> None:
    """Of two test files with one name pytest collects one; of two targets with one name make keeps the last recipe."""
    names = [path.name for path in (ROOT / "tests").rglob("test_*.py")]
    targets = re.findall(r"^([a-z-]+):(?!.*:=)", (ROOT / "Makefile").read_text(), re.MULTILINE)
    for found in (names, targets):
        assert [name for name, count in Counter(found).items() if count > 1] == []
