# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The import paths of a device and of a controller, as links into this clone.

Tests, mypy and the processes that tests start find ``ansible_collections.edgeml.fleet``, and the packages
``edgeml_device`` and ``edgeml_server`` under the names that they have on a device, below ``PYTHON_PATH``.
Run this file to make the links and nothing else.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
PYTHON_PATH = REPOSITORY / ".cache" / "python"
BYTE_COMPILED = {"PYTHONPYCACHEPREFIX": str(REPOSITORY / ".cache" / "bytecode"), "PYTHONDONTWRITEBYTECODE": ""}
"""The environment of a process whose start is measured: as on a device, where the role compiles what it installs, only
the first process compiles."""

_TARGETS = {
    "ansible_collections/edgeml/fleet": REPOSITORY,
    "edgeml_device": REPOSITORY / "plugins" / "module_utils",
    "edgeml_server": REPOSITORY / "roles" / "inference_service" / "files" / "edgeml_server",
}


def make_links() -> None:
    """Make the links that are not there yet. They are relative, so that a clone can be moved."""
    for name, target in _TARGETS.items():
        link = PYTHON_PATH / name
        link.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileExistsError):
            link.symlink_to(os.path.relpath(target, link.parent))


if __name__ == "__main__":
    make_links()
