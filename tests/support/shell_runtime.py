# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Runtimes whose Python is a shell script: what a smoke test is told, at will."""

from __future__ import annotations

import os
from pathlib import Path

# The smoke test passed.
GOOD = """echo '{"latency_seconds": 0.25, "load_seconds": 0.1, "runtime": "shell 1"}'"""


def install(opt: Path, script: str, name: str = "1", age: int = 0) -> None:
    """Install a runtime whose Python is a shell script."""
    python = opt / f"venv-{name}" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f"#!/bin/sh\n{script}\n")
    python.chmod(0o755)
    app = opt / f"app-{name}"
    app.mkdir()
    for path in (python.parents[1], app):
        os.utime(path, (1_700_000_000 - age, 1_700_000_000 - age))
