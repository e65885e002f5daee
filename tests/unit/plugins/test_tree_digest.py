# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The digest that names what is installed on devices."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from ansible.errors import AnsibleFilterError

from ansible_collections.edgeml.fleet.plugins.filter.tree_digest import tree_digest


def test_it_tells_names_and_contents_and_nothing_else(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "inner").mkdir(parents=True)
    (tree / "a").write_text("1")
    (tree / "inner" / "b").write_text("2")
    digest = tree_digest([str(tree)])
    assert len(digest) == 64

    copy = shutil.copytree(tree, tmp_path / "copy")
    (copy / "__pycache__").mkdir()
    (copy / "__pycache__" / "a.pyc").write_text("bytecode")
    assert tree_digest([str(copy)]) == digest

    changed = {digest}
    (copy / "a").write_text("3")
    changed.add(tree_digest([str(copy)]))
    (copy / "a").write_text("1")
    (copy / "a").rename(copy / "inner" / "a")
    changed.add(tree_digest([str(copy)]))
    (copy / "inner" / "a").rename(copy / "a")
    (copy / "inner" / "c").write_text("")
    changed.add(tree_digest([str(copy)]))
    changed.add(tree_digest([str(tree), str(tree)]))
    assert len(changed) == 5


def test_a_directory_that_is_missing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(AnsibleFilterError, match="missing is no directory"):
        tree_digest([str(tmp_path / "missing")])
