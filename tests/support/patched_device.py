# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A device whose packages are those of a directory, with a real dpkg and apt, and a server that answers."""

from __future__ import annotations

from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from debian_packages import SUITE
from debian_root import DebianRoot, make_archive, publish_archive
from edgeml_device._device import package_manager
from edgeml_device._device.perform import answer_swap
from edgeml_device._device.request import SwapRequest
from edgeml_device._device.store import Store
from fake_server import FakeServer

NAME = f"debian-{SUITE}"


class PatchedDevice:
    """The device, and the snapshots that it can get."""

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.directory = directory
        self.root = DebianRoot(directory / "root")
        self.repository = directory / "repository"
        (directory / "store").mkdir()
        self.store = Store(str(directory / "store"))
        self.server = FakeServer(str(directory / "server.sock"))
        Thread(target=self.server.serve_forever, daemon=True).start()
        monkeypatch.setattr(package_manager, "PackageManager", lambda: self.root.manager)
        for name in ("packages_strategy", "restarts", "systemd"):
            monkeypatch.setattr(f"edgeml_device._device.{name}.systemd_runs", lambda: False)

    def publish(self, version: str, *packages: Path, **options: Any) -> dict[str, Any]:
        """Publish a snapshot. Returns the manifest."""
        archive = make_archive(self.directory / "archive", f"{SUITE}/snapshots/{version}", packages)
        return publish_archive(archive, f"{SUITE}/snapshots/{version}", version, self.repository, **options)

    def swap(
        self, version: str, manifest: dict[str, Any] | None = None, *, check_mode: bool = False, **options: Any
    ) -> dict[str, Any]:
        """Have the device swap, with the repository's blobs at hand."""
        request = SwapRequest(
            **{
                "model": NAME,
                "version": version,
                "manifest": manifest,
                "staged_blobs": str(self.repository / "blobs" / "sha256"),
                "store": self.store.root,
                "server": self.server.path,
                "min_ready_seconds": 0.0,
                **options,
            }
        )
        return answer_swap(request, check_mode)

    def versions(self) -> dict[str, str]:
        """The packages that are installed."""
        return self.root.versions()
