# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Small Debian packages."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path

SUITE = "bookworm"


def make_package(
    directory: Path,
    name: str,
    version: str,
    files: Mapping[str, str] | None = None,
    scripts: Mapping[str, str] | None = None,
    **fields: str,
) -> Path:
    """Build a package of text ``files`` by their paths. ``fields`` are further ones of its control file, and
    ``scripts`` its maintainer scripts. Returns its archive."""
    tree = directory / f"{name}_{version}"
    (tree / "DEBIAN").mkdir(parents=True)
    for path, text in (files or {f"usr/share/{name}/version": version}).items():
        (tree / path).parent.mkdir(parents=True, exist_ok=True)
        (tree / path).write_text(text)
    for script, text in (scripts or {}).items():
        (tree / "DEBIAN" / script).write_text(f"#!/bin/sh\nset -e\n{text}\n")
        (tree / "DEBIAN" / script).chmod(0o755)
    control = {
        "Package": name,
        "Version": version,
        "Architecture": fields.pop("Architecture", "all"),
        "Maintainer": "Fleet <fleet@example.org>",
        "Installed-Size": fields.pop("Installed_Size", "10"),
        **{field.replace("_", "-"): value for field, value in fields.items()},
        "Description": "a package of a test",
    }
    (tree / "DEBIAN/control").write_text("".join(f"{field}: {value}\n" for field, value in control.items()))
    target = directory / f"{name}_{version.replace(':', '.')}.deb"
    # Owned by whoever runs the tests, who can unpack it without being root.
    subprocess.run(["dpkg-deb", "-Znone", "--build", str(tree), str(target)], check=True, capture_output=True)
    return target
