# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The same files are the same layer, byte for byte."""

from __future__ import annotations

import hashlib
import io
import tarfile
from pathlib import Path

import pytest

from ansible_collections.edgeml.fleet.plugins.plugin_utils._image.layer import Entry, read_tar, write_layer

FILES = {
    "usr/lib/b": Entry(0o644, b"b"),
    "usr/bin/a": Entry(0o755, b"aa"),
    "usr/bin/link": Entry(0o777, target="a"),
}


def test_a_layer_is_its_files_whatever_their_order_and_whenever_it_is_written(tmp_path: Path) -> None:
    first = write_layer("one", FILES, str(tmp_path / "1"))
    second = write_layer("two", dict(reversed(FILES.items())), str(tmp_path / "2"))
    assert first.sha256 == second.sha256 == hashlib.sha256((tmp_path / "1").read_bytes()).hexdigest()
    assert first.size == (tmp_path / "1").stat().st_size
    changed = write_layer("one", {**FILES, "usr/lib/b": Entry(0o600, b"b")}, str(tmp_path / "3"))
    assert changed.sha256 != first.sha256


def test_a_layer_has_root_as_owner_directories_first_and_no_extended_headers(tmp_path: Path) -> None:
    write_layer("one", FILES, str(tmp_path / "1"), {"tmp": 0o1777})
    with tarfile.open(tmp_path / "1") as archive:
        members = archive.getmembers()
        assert archive.pax_headers == {}
    assert [member.name for member in members] == [
        *("tmp", "usr", "usr/bin", "usr/bin/a", "usr/bin/link", "usr/lib", "usr/lib/b"),
    ]
    assert {(member.uid, member.gid, member.uname, member.gname) for member in members} == {(0, 0, "", "")}
    assert len({member.mtime for member in members}) == 1
    assert [oct(member.mode) for member in members] == [
        *("0o1777", "0o755", "0o755", "0o755", "0o777", "0o755", "0o644"),
    ]
    assert b"ustar\x0000" in (tmp_path / "1").read_bytes()


def test_what_is_written_is_read_again_and_a_hard_link_has_the_content(tmp_path: Path) -> None:
    write_layer("one", FILES, str(tmp_path / "1"))
    with open(tmp_path / "1", "rb") as source:
        assert dict(read_tar(source)) == FILES
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as archive:
        entry = tarfile.TarInfo("./first")
        entry.size = 2
        archive.addfile(entry, io.BytesIO(b"xy"))
        link = tarfile.TarInfo("./second")
        link.type, link.linkname = tarfile.LNKTYPE, "./first"
        archive.addfile(link)
    target.seek(0)
    assert {name: entry.content for name, entry in read_tar(target)} == {"first": b"xy", "second": b"xy"}


def test_a_path_that_the_form_cannot_say_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="name is too long"):
        write_layer("one", {"x" * 256: Entry(0o644)}, str(tmp_path / "1"))
