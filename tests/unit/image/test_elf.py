# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Programs, read and shortened: shown on this machine's own."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from ansible_collections.edgeml.fleet.plugins.plugin_utils._image.elf import needed_libraries, without_debugging


def program() -> bytes:
    found = shutil.which("true")
    assert found is not None
    return Path(found).read_bytes()


def test_the_libraries_that_a_program_is_linked_to() -> None:
    assert needed_libraries(program()) == ["libc.so.6"]
    assert needed_libraries(b"#!/bin/sh\n") == []


def test_a_program_runs_without_what_debuggers_read(tmp_path: Path) -> None:
    whole = program()
    shortened = without_debugging(whole)
    assert len(shortened) < len(whole)
    assert needed_libraries(shortened) == ["libc.so.6"]
    path = tmp_path / "true"
    path.write_bytes(shortened)
    path.chmod(0o755)
    assert subprocess.run([path, "x"], check=False).returncode == 0
    assert without_debugging(shortened) == shortened
    assert without_debugging(b"text") == b"text"
