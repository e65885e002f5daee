# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The manifest of the runner k3s, held to the schemas of the newest minors of Kubernetes: `make kubernetes`."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
from kubernetes_manifest import filled, rendered
from links import REPOSITORY

VALIDATOR = REPOSITORY / ".cache" / "kubernetes" / "bin" / "kubernetes-validate"
MINORS = ("1.34", "1.35", "1.36", "1.37")
VALUES = {
    "EDGEML_IMAGE": f"localhost/edgeml-inference:{'a' * 64}",
    "EDGEML_USER": "997:996",
    "EDGEML_MEMORY_BYTES": "536870912",
}
CASES: dict[str, dict[str, Any]] = {
    "defaults": {},
    "open": {"inference_service_listen_address": "0.0.0.0", "inference_service_allow_unprotected": True},
    "smallest watchdog": {"inference_service_watchdog_seconds": 5},
}


@pytest.fixture(scope="module", params=CASES)
def manifest(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with the manifest of one device."""
    directory = tmp_path_factory.mktemp("manifest")
    filled(directory, *rendered(directory / "role", **CASES[request.param]), VALUES)
    return directory / "manifest.yaml"


def validate(minor: str, manifest: Path) -> subprocess.CompletedProcess[str]:
    command = [str(VALIDATOR), "--strict", "--kubernetes-version", minor, str(manifest)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("minor", MINORS)
def test_the_manifest_is_valid(manifest: Path, minor: str) -> None:
    run = validate(minor, manifest)
    assert run.returncode == 0, run.stdout + run.stderr


@pytest.mark.parametrize("minor", MINORS)
@pytest.mark.parametrize(
    ("right", "wrong"), [("imagePullPolicy:", "pullPolicy:"), ("periodSeconds: 10", 'periodSeconds: "ten"')]
)
def test_a_wrong_key_or_type_is_not(manifest: Path, tmp_path: Path, minor: str, right: str, wrong: str) -> None:
    text = manifest.read_text()
    assert right in text
    changed = tmp_path / "manifest.yaml"
    changed.write_text(text.replace(right, wrong, 1))
    assert validate(minor, changed).returncode != 0
