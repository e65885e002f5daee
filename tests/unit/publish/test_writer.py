# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A release is in the repository whole, or not at all, whatever happens to who writes it."""

from __future__ import annotations

import os
import shutil
import threading
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from kills import killed_before_line
from releases import Made, make_release

from ansible_collections.edgeml.fleet.plugins.module_utils._common.errors import IntegrityError, ManifestError
from ansible_collections.edgeml.fleet.plugins.module_utils._release.repository import Repository
from ansible_collections.edgeml.fleet.plugins.plugin_utils._publish import writer
from ansible_collections.edgeml.fleet.plugins.plugin_utils._publish.model import PublishError


def locations(made: Made, directory: Path) -> dict[str, str]:
    """The blobs of a release as files."""
    directory.mkdir(exist_ok=True)
    for digest, content in made.blobs.items():
        (directory / digest).write_bytes(content)
    return {digest: str(directory / digest) for digest in made.blobs}


def test_killed_before_any_line_the_repository_is_the_old_one_or_the_new_one(tmp_path: Path) -> None:
    old, new = make_release("1.0.0", golden=b"{}"), make_release("1.1.0", probe=None)
    new_files = locations(new, tmp_path / "new")
    seen = set()
    line = 0
    while True:
        line += 1
        root = tmp_path / "repository"
        shutil.rmtree(root, ignore_errors=True)
        old_repository = root / "blobs" / "sha256"
        old_repository.mkdir(parents=True)
        for digest, content in old.blobs.items():
            (old_repository / digest).write_bytes(content)
        (root / "digits" / "1.0.0").mkdir(parents=True)
        (root / "digits" / "1.0.0" / "manifest.json").write_bytes(writer.manifest_bytes(old.document))
        killed = killed_before_line(line, writer.__file__, partial(writer.publish, str(root), new.document, new_files))
        repository = Repository(str(root))
        assert repository.release("digits", "1.0.0").digest == old.release.digest
        try:
            found = repository.release("digits", "1.1.0")
        except ManifestError:
            seen.add("old")
        else:
            # What is seen is whole.
            assert repository_digest(repository, found) == new.release.digest
            seen.add("new")
        if not killed:
            break
        # The same command goes on from there.
        writer.publish(str(root), new.document, new_files)
        assert repository_digest(repository, repository.release("digits", "1.1.0")) == new.release.digest
    assert seen == {"old", "new"}
    assert line > 40


def repository_digest(repository: Repository, found: Any) -> str:
    """The digest of a release all of whose files are whole."""
    for file in found.all_files():
        assert Path(repository.blob_path(file.sha256)).stat().st_size == file.size
    digest: str = found.digest
    return digest


def test_a_version_is_never_replaced(tmp_path: Path) -> None:
    first, other = make_release("1.0.0"), make_release("1.0.0", files={"model.onnx": b"other"})
    root = str(tmp_path / "repository")
    assert writer.publish(root, first.document, locations(first, tmp_path / "first"))
    assert not writer.publish(root, first.document, locations(first, tmp_path / "first"))
    with pytest.raises(PublishError, match="a release never changes"):
        writer.publish(root, other.document, locations(other, tmp_path / "other"))
    assert Repository(root).release("digits", "1.0.0").digest == first.release.digest


def test_of_two_at_once_one_publishes(tmp_path: Path) -> None:
    made = [make_release("1.0.0", files={"model.onnx": bytes([number]) * 1000}) for number in range(8)]
    files = [locations(item, tmp_path / str(number)) for number, item in enumerate(made)]
    root = str(tmp_path / "repository")
    won: list[int] = []
    lost: list[int] = []
    start = threading.Barrier(len(made))

    def publish(number: int) -> None:
        start.wait()
        try:
            writer.publish(root, made[number].document, files[number])
            won.append(number)
        except PublishError:
            lost.append(number)

    threads = [threading.Thread(target=publish, args=(number,)) for number in range(len(made))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(won), len(lost)) == (1, 7)
    repository = Repository(root)
    found = repository.release("digits", "1.0.0")
    assert found.digest == made[won[0]].release.digest
    assert repository.verify(found) == 1000
    assert os.listdir(tmp_path / "repository" / "digits" / "1.0.0") == ["manifest.json"]


def test_a_file_that_is_another_than_the_manifest_says(tmp_path: Path) -> None:
    made = make_release("1.0.0")
    files = locations(made, tmp_path / "files")
    (digest,) = files
    Path(files[digest]).write_bytes(b"x" * len(made.blobs[digest]))
    with pytest.raises(IntegrityError, match="expected SHA-256"):
        writer.publish(str(tmp_path / "repository"), made.document, files)
    with pytest.raises(ManifestError):
        Repository(str(tmp_path / "repository")).release("digits", "1.0.0")
