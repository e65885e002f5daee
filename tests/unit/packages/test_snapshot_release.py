# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A distribution of an archive becomes a release, which never changes; what is damaged or taken is refused."""

from __future__ import annotations

import gzip
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from debian_packages import make_package
from debian_root import ARCHITECTURE, make_archive

from ansible_collections.edgeml.fleet.plugins.module_utils._release.repository import Repository
from ansible_collections.edgeml.fleet.plugins.plugin_utils._publish import cli

FROZEN = "bookworm/snapshots/1"
MACHINE = {"arm64": "aarch64", "amd64": "x86_64"}[ARCHITECTURE]


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    directory = tmp_path_factory.mktemp("packages")
    return [make_package(directory, "alpha", version) for version in ("1.9", "1.10")] + [
        make_package(directory, "beta", "1:2~rc1", Source="beta-source (2)")
    ]


@pytest.fixture
def archive(tmp_path: Path, packages: list[Path]) -> Path:
    return make_archive(tmp_path / "archive", FROZEN, packages)


def command(archive: Path, *more: str) -> list[str]:
    arguments = ["packages", "--archive", str(archive), "--distribution", FROZEN, "--architectures", MACHINE]
    return [*arguments, "--repository", str(archive.parent / "repository"), *more]


def publish(archive: Path, capsys: pytest.CaptureFixture[str], *more: str, version: str = "1") -> tuple[int, Any]:
    """Run the command. Returns its exit code, and what it printed as JSON, or its errors."""
    code = cli.main(command(archive, "--json", "--version", version, *more))
    printed = capsys.readouterr()
    return code, json.loads(printed.out) if code == 0 else printed.err


def test_a_distribution_becomes_a_release_with_each_package_in_its_newest_version(
    archive: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, found = publish(archive, capsys)
    assert (code, found["changed"]) == (0, True)
    repository = Repository(str(archive.parent / "repository"))
    release = repository.release("debian-bookworm", "1")
    assert (release.kind, release.variants[0].name) == ("packages", f"bookworm-{ARCHITECTURE}")
    repository.verify(release)
    files = {file.path.split("_")[0]: file for file in release.variants[0].files}
    index = repository.read_blob(files["Packages"]).decode()
    assert "Version: 1.10\n" in index
    assert "Version: 1.9\n" not in index
    assert found["snapshots"][0]["snapshot"] == hashlib.sha256(index.encode()).hexdigest() == files["Packages"].sha256


def test_the_same_again_is_nothing_to_do_and_other_content_under_a_taken_name_is_refused(
    archive: Path, packages: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    publish(archive, capsys)
    assert publish(archive, capsys)[1]["changed"] is False
    index = archive / "dists" / FROZEN / f"main/binary-{ARCHITECTURE}/Packages"
    index.write_text(index.read_text().split("\n\n")[0] + "\n")
    code, refused = publish(archive, capsys)
    assert code == 2
    assert "this version is published with other content" in refused


def test_a_signed_repository_has_to_be_signed_again(archive: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (archive.parent / "repository" / "metadata").mkdir(parents=True)
    for more, says in (["--check"], 0), ([], 1), ([], 0):
        assert cli.main(command(archive, "--version", "1", *more)) == 0
        assert capsys.readouterr().out.count("next: edgeml-publish sign") == says


def test_check_writes_nothing(archive: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, found = publish(archive, capsys, "--check")
    assert (code, found["changed"], found["snapshots"][0]["packages"]) == (0, False, 2)
    assert not (archive.parent / "repository").exists()


def test_only_the_packages_that_devices_have_are_taken(archive: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (archive / "names").write_text("beta:arm64\nabsent\n\n")
    _code, found = publish(archive, capsys, "--only", str(archive / "names"))
    assert found["snapshots"][0]["packages"] == 1
    (archive / "names").write_text("Beta\n")
    assert (
        "expected names of packages, one a line; found 'Beta'"
        in publish(archive, capsys, "--only", str(archive / "names"))[1]
    )


def test_an_index_may_be_compressed_and_is_held_to_its_release(
    archive: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = archive / "dists" / FROZEN
    index = root / f"main/binary-{ARCHITECTURE}/Packages"
    content = gzip.compress(index.read_bytes())
    index.unlink()
    index.with_suffix(".gz").write_bytes(content)
    listed = f"SHA256:\n {hashlib.sha256(content).hexdigest()} {len(content)} main/binary-{ARCHITECTURE}/Packages.gz\n"
    (root / "Release").write_text(f"Codename: bookworm\n{listed}")
    assert publish(archive, capsys)[0] == 0
    index.with_suffix(".gz").write_bytes(gzip.compress(b""))
    assert "which Release has" in publish(archive, capsys, version="2")[1]


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (lambda archive: next((archive / "pool").glob("beta*")).write_bytes(b"x"), "expected 1"),
        (lambda archive: next((archive / "pool").glob("beta*")).unlink(), "the file is missing"),
    ],
    ids=["changed", "missing"],
)
def test_a_package_that_is_not_what_the_index_says_is_refused(
    archive: Path, capsys: pytest.CaptureFixture[str], damage: Any, expected: str
) -> None:
    damage(archive)
    code, refused = publish(archive, capsys)
    assert code == 2
    assert "beta" in refused
    if expected != "expected 1":
        assert expected in refused


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        (["--distribution", "trixie"], "expected a distribution of a Debian archive"),
        (["--architectures", "sparc"], "expected aarch64 or x86_64; found sparc"),
        (["--downgrade", "gamma"], "found gamma"),
    ],
)
def test_what_is_not_there_is_named(
    archive: Path, capsys: pytest.CaptureFixture[str], more: list[str], expected: str
) -> None:
    assert expected in publish(archive, capsys, *more)[1]
