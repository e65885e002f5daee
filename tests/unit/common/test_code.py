# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The digest that says whether a device runs the code that the controller has."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

from ansible_collections.edgeml.fleet.plugins.module_utils._common import code


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package that takes the place of the collection's own."""
    directory = tmp_path / "edgeml_device"
    (directory / "inner").mkdir(parents=True)
    (directory / "first.py").write_text("first = 1\n")
    (directory / "inner" / "second.py").write_text("second = 2\n")
    monkeypatch.setattr(code, "PACKAGE", str(directory))
    return directory


def test_the_digest_is_of_the_python_files_wherever_the_package_is(package: Path, tmp_path: Path) -> None:
    digest = code.code_digest(str(package))
    (package / "__pycache__").mkdir()
    (package / "__pycache__" / "first.pyc").write_bytes(b"compiled")
    (package / "notes.txt").write_text("no code")
    assert code.code_digest(str(package)) == digest
    moved = tmp_path / "elsewhere"
    shutil.copytree(package, moved)
    assert code.code_digest(str(moved)) == digest


def test_a_changed_a_renamed_and_a_new_file_change_the_digest(package: Path) -> None:
    digests = [code.code_digest(str(package))]
    (package / "first.py").write_text("first = 2\n")
    digests.append(code.code_digest(str(package)))
    (package / "first.py").rename(package / "inner" / "first.py")
    digests.append(code.code_digest(str(package)))
    (package / "empty.py").write_text("")
    digests.append(code.code_digest(str(package)))
    assert len(set(digests)) == 4


def test_what_was_written_beside_the_package_is_found_again(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert code.installed_digest() is None
    monkeypatch.setattr(sys, "argv", ["code.py", str(package)])
    code.main()
    assert code.installed_digest() == code.code_digest(str(package))
    # It stays what it was when the app was made.
    (package / "first.py").write_text("changed = True\n")
    assert code.installed_digest() != code.code_digest(str(package))


@pytest.mark.parametrize("content", [b"", b"\n", b"\xff\xfe"])
def test_a_damaged_digest_is_none(package: Path, content: bytes) -> None:
    Path(f"{package}.sha256").write_bytes(content)
    assert code.installed_digest() is None
