# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The commit that a source is of, by a real Git, and what the provenance says of it."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from ansible_collections.edgeml.fleet.plugins.plugin_utils._publish.commit import commit_of
from ansible_collections.edgeml.fleet.plugins.plugin_utils._publish.model import Model, file_of
from ansible_collections.edgeml.fleet.plugins.plugin_utils._publish.provenance import differences, statement
from ansible_collections.edgeml.fleet.plugins.plugin_utils._publish.source import Source


def git(directory: Path, *command: str) -> str:
    """Run Git as somebody."""
    who = ["-c", "user.name=ann", "-c", "user.email=ann@example.org"]
    return subprocess.run(["git", *who, *command], cwd=directory, check=True, capture_output=True, text=True).stdout


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    """A recipe that is committed, in a directory of its repository."""
    path = tmp_path / "clone" / "models" / "digits[1].py"
    path.parent.mkdir(parents=True)
    path.write_text("def export(directory): ...\n")
    git(path.parent, "init", "--quiet", "..")
    git(path.parent, "add", ".")
    git(path.parent, "commit", "--quiet", "--message", "A recipe")
    return path


def test_a_committed_file(recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_DIR", "/nowhere")
    head = Path(recipe.parent, "../.git/refs/heads").resolve()
    (branch,) = head.iterdir()
    found = commit_of(str(recipe))
    assert found is not None
    assert (found.revision, found.path, found.changed, found.origin) == (
        branch.read_text().strip(),
        "models/digits[1].py",
        False,
        None,
    )
    assert "uri" not in found.dependency()


def test_a_file_that_was_changed_since_is_told_apart(recipe: Path) -> None:
    recipe.write_text("def export(directory): return 1\n")
    found = commit_of(str(recipe))
    assert found is not None
    assert found.changed


@pytest.mark.parametrize("origin", ["https://ann:secret@example.org/models.git", "https://example.org/models.git"])
def test_no_password_gets_into_the_provenance(recipe: Path, origin: str) -> None:
    git(recipe.parent, "remote", "add", "origin", origin)
    found = commit_of(str(recipe))
    assert found is not None
    assert found.dependency()["uri"] == f"git+https://example.org/models.git@{found.revision}"


def test_files_that_git_does_not_keep(recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # As a pattern, this name is the recipe's.
    other = recipe.with_name("digits*.py")
    other.write_text("")
    assert commit_of(str(other)) is None
    alone = tmp_path / "alone.onnx"
    alone.write_bytes(b"model")
    assert commit_of(str(alone)) is None
    monkeypatch.setenv("PATH", str(tmp_path))
    assert commit_of(str(recipe)) is None


def test_the_provenance_names_the_commit_and_another_one_is_no_difference(recipe: Path) -> None:
    """What was released is the file, whichever commit it is of."""
    file = file_of(str(recipe))
    source = Source(Model("onnx-source", "onnx", (file,)), (file,))
    times = {"started": "2026-11-29T09:00:00Z", "finished": "2026-11-29T09:01:00Z"}
    commit = commit_of(str(recipe))
    assert commit is not None
    made = statement({"model": "digits"}, {"source": file}, source, [file], commit=commit, **times)
    dependencies = made["predicate"]["buildDefinition"]["resolvedDependencies"]
    assert dependencies[-1]["digest"] == {"gitCommit": commit.revision}
    assert differences(json.dumps(made).encode(), {"model": "digits"}, {}, {"source": file}) == []
