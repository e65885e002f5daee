# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""`tools/check`: a check fails by itself or by its budget. A slow machine and a long wait are no errors."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from links import REPOSITORY

WORK = "import time\nwhile time.process_time() < 2: pass"
MAKEFILE = f"""
export WORK
work:
\t@{sys.executable} -c "$$WORK"
wait:
\t@sleep 2
broken:
\t@echo what went wrong; false
"""
# As quick as a machine can be, and slower than any.
QUICK, SLOW = "1000", "0.0001"


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A clone with nothing but the tools and a Makefile."""
    shutil.copytree(REPOSITORY / "tools", tmp_path / "tools")
    (tmp_path / "Makefile").write_text(MAKEFILE)
    return tmp_path


def check(clone: Path, *names: str, machine: str = QUICK, budget: int = 100) -> tuple[int, str, dict[str, list[str]]]:
    """Run checks; return the exit code, the output, and what was written down of each."""
    lines = [f"machine {machine}", *(f"{name} {budget}" for name in names)]
    (clone / "tools" / "budgets").write_text("\n".join(lines))
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    command = ["tools/check", *names]
    done = subprocess.run(
        command, cwd=clone, env={**os.environ, "PATH": path, "WORK": WORK}, capture_output=True, text=True
    )
    assert not done.stderr, done.stderr
    written = {name: (clone / ".cache" / "checks" / name).read_text().split() for name in names}
    return done.returncode, done.stdout, written


def test_a_check_within_its_budget_passes(clone: Path) -> None:
    code, output, written = check(clone, "work")
    assert (code, written["work"][0]) == (0, "passed")
    assert re.fullmatch(r"==> work passed: \d+ s, processor \d+ s of 100 s\n", output)


def test_one_that_uses_half_as_much_again_fails(clone: Path) -> None:
    code, output, written = check(clone, "work", "wait", budget=1)
    assert (code, written["work"][0], written["wait"][0]) == (1, "failed", "passed")
    assert "work used 2 s of processor time; its budget, for this machine's speed now, is 1 s" in output


def test_a_slow_machine_is_allowed_more(clone: Path) -> None:
    code, _output, written = check(clone, "work", machine=SLOW, budget=1)
    assert (code, written["work"][0]) == (0, "passed")
    assert int(written["work"][3]) > 2


def test_one_that_fails_shows_its_output_and_the_next_one_runs(clone: Path) -> None:
    code, output, written = check(clone, "broken", "wait")
    assert (code, written["broken"][0], written["wait"][0]) == (1, "failed", "passed")
    assert "    | what went wrong\n" in output
