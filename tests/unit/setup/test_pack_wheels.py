# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The archive of a device's wheels, made on a controller that has another Python."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

from links import REPOSITORY

PACK = REPOSITORY / "roles" / "inference_service" / "files" / "pack-wheels"
NEWER = f"3.{sys.version_info.minor + 1}"


def wheel(directory: Path, name: str, requires_python: str) -> str:
    """Make a wheel with one module. Returns its SHA-256."""
    directory.mkdir(exist_ok=True)
    path = directory / f"{name}-1.0-py3-none-any.whl"
    info = f"{name}-1.0.dist-info"
    metadata = ["Metadata-Version: 2.1", f"Name: {name}", "Version: 1.0", f"Requires-Python: {requires_python}", ""]
    kind = ["Wheel-Version: 1.0", "Generator: tests", "Root-Is-Purelib: true", "Tag: py3-none-any", ""]
    with zipfile.ZipFile(path, "w") as file:
        file.writestr(f"{name}.py", "")
        file.writestr(f"{info}/METADATA", "\n".join(metadata))
        file.writestr(f"{info}/WHEEL", "\n".join(kind))
        file.writestr(f"{info}/RECORD", "")
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_package_for_a_newer_python_than_the_controllers_is_packed(tmp_path: Path) -> None:
    lock = tmp_path / "lock.txt"
    digests = {name: wheel(tmp_path / "wheels", name, f">={NEWER}") for name in ("wanted", "other")}
    lock.write_text("".join(f"{name}==1.0 \\\n    --hash=sha256:{digest}\n" for name, digest in digests.items()))
    archive = tmp_path / "cache" / "venv.tar.gz"
    subprocess.run(
        [str(PACK), str(archive), "aarch64", NEWER, str(lock), "wanted"],
        check=True,
        env={
            **os.environ,
            "PYTHON": sys.executable,
            "PIP_NO_INDEX": "1",
            "PIP_FIND_LINKS": str(tmp_path / "wheels"),
        },
    )
    with tarfile.open(archive) as tar:
        packed = tar.getnames()
    assert "./site-packages/wanted.py" in packed
    assert "./site-packages/other.py" not in packed
