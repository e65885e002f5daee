# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Archives of Debian packages, and a directory that dpkg and apt take for a system."""

from __future__ import annotations

import hashlib
import platform
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from debian_packages import SUITE
from edgeml_device._device.package_manager import PackageManager

from ansible_collections.edgeml.fleet.plugins.module_utils._release.image import ARCHITECTURES
from ansible_collections.edgeml.fleet.plugins.plugin_utils._packages.release import freeze, publish_snapshots

ARCHITECTURE = ARCHITECTURES[platform.machine()]


def make_archive(directory: Path, distribution: str, packages: Sequence[Path]) -> Path:
    """An archive with a distribution of these packages, as reprepro lays it out. Returns its directory."""
    pool = directory / "pool"
    pool.mkdir(parents=True, exist_ok=True)
    stanzas = []
    for package in packages:
        content = package.read_bytes()
        (pool / package.name).write_bytes(content)
        control = subprocess.run(["dpkg-deb", "--field", str(package)], check=True, capture_output=True, text=True)
        digest = hashlib.sha256(content).hexdigest()
        about = f"Filename: pool/{package.name}\nSize: {len(content)}\nSHA256: {digest}\n"
        stanzas.append(f"{control.stdout.strip()}\n{about}")
    index = directory / "dists" / distribution / "main" / f"binary-{ARCHITECTURE}" / "Packages"
    index.parent.mkdir(parents=True)
    index.write_text("\n".join(stanzas))
    return directory


def publish_archive(archive: Path, distribution: str, version: str, repository: Path, **options: Any) -> dict[str, Any]:
    """Publish a distribution as a snapshot for this machine. Returns the manifest."""
    options.setdefault("downgrades", frozenset())
    frozen = freeze(
        str(archive), distribution=distribution, component="main", suite=SUITE, machine=platform.machine(), **options
    )
    repository.mkdir(exist_ok=True)
    _changed, manifest = publish_snapshots(
        [frozen],
        name=f"debian-{SUITE}",
        version=version,
        repository=str(repository),
        directory=str(repository.parent),
        description="",
    )
    return manifest


class DebianRoot:
    """A directory that dpkg and apt take for a system. ``manager`` is what a device would use in it."""

    def __init__(self, directory: Path, suite: str = SUITE) -> None:
        self.directory = directory
        for path in ("etc", "usr", "var/lib/dpkg/info", "var/lib/dpkg/updates", "var/lib/dpkg/triggers"):
            (directory / path).mkdir(parents=True)
        for path in ("var/lib/apt/lists/partial", "var/cache/apt/archives/partial", "var/log/apt"):
            (directory / path).mkdir(parents=True)
        (directory / "var/lib/dpkg/status").touch()
        (directory / "etc/os-release").write_text(f'ID=debian\nVERSION_CODENAME="{suite}"\n')
        self._options = ["--force-not-root", "--force-script-chrootless", "--force-bad-path", "--log=/dev/null"]
        self.manager = PackageManager(str(directory), self._options)

    def install(self, *packages: Path) -> None:
        """Install packages by dpkg alone."""
        command = ["dpkg", f"--root={self.directory}", *self._options, "--install", *map(str, packages)]
        subprocess.run(command, check=True, capture_output=True)

    def versions(self) -> dict[str, str]:
        """The packages that are installed, by name."""
        return {name: package.version for name, package in self.manager.installed(ARCHITECTURE).items()}
