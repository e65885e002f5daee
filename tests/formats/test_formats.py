# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What edgeml-publish writes for other tools, judged by those tools: `make formats`."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from links import REPOSITORY
from publications import DIGITS

from ansible_collections.edgeml.fleet.plugins.module_utils._release.repository import Repository
from ansible_collections.edgeml.fleet.plugins.plugin_utils._publish.cli import main
from ansible_collections.edgeml.fleet.plugins.plugin_utils._trust import keys

TOOLS = REPOSITORY / ".cache" / "formats" / "bin"
VALIDATE = """
import sys
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
error = JsonStrictValidator(SchemaVersion.V1_6).validate_str(sys.stdin.read())
if error is not None:
    sys.exit(str(error))
"""


@pytest.fixture
def exported(tmp_path: Path) -> Path:
    """A release of the digits, exported and signed by ann, whose keys are beside it."""
    key = keys.generate("ann")
    keys.write(key, str(tmp_path), None)
    keys.write(keys.generate("bob"), str(tmp_path), None)
    release = ["--repository", str(DIGITS), "--model", "digits", "--version", "1.1.0"]
    assert main(["export", *release, "--oms", str(tmp_path / "digits"), "--key", str(tmp_path / "ann.pem")]) == 0
    return tmp_path / "digits"


def verify(directory: Path, name: str = "ann") -> subprocess.CompletedProcess[str]:
    """Have model-signing verify a directory."""
    tool = TOOLS / "model_signing"
    assert tool.exists(), f"{tool} is missing: run `make formats`"
    signature, key = directory / "model.sig", directory.parent / f"{name}.pub"
    command: list[str | Path] = [tool, "verify", "key", directory, "--signature", signature, "--public_key", key]
    return subprocess.run(command, capture_output=True, text=True)


def test_an_exported_release_is_verified(exported: Path) -> None:
    done = verify(exported)
    assert (done.returncode, "succeeded" in done.stdout) == (0, True), done.stdout + done.stderr
    manifest = json.loads((exported / "manifest.json").read_text())
    for variant in manifest["variants"]:
        for file in variant["files"]:
            assert (exported / "variants" / variant["name"] / file["path"]).stat().st_size == file["size"]
    assert {path.name for path in (exported / "documents").iterdir()} == {
        document["path"] for document in manifest["documents"].values()
    }


@pytest.mark.parametrize("change", ["a byte", "a file more", "a file less"])
def test_a_changed_directory_is_refused(exported: Path, change: str) -> None:
    golden = exported / "golden.json"
    if change == "a byte":
        golden.write_bytes(golden.read_bytes().replace(b"0", b"1", 1))
    elif change == "a file more":
        (exported / "more.bin").write_bytes(b"more")
    else:
        golden.unlink()
    done = verify(exported)
    assert done.returncode != 0
    assert "mismatch" in (done.stdout + done.stderr).lower(), done.stdout + done.stderr


def test_the_key_of_somebody_else_is_refused(exported: Path) -> None:
    done = verify(exported, "bob")
    assert done.returncode != 0
    assert "key mismatch" in (done.stdout + done.stderr).lower()


def validate(document: object) -> subprocess.CompletedProcess[str]:
    """Have CycloneDX's strict validator judge a bill of materials."""
    command: list[str | Path] = [TOOLS / "python", "-c", VALIDATE]
    return subprocess.run(command, input=json.dumps(document), capture_output=True, text=True)


@pytest.mark.parametrize("version", ["1.0.0", "1.1.0", "1.2.0"])
def test_a_bill_of_materials_is_valid(version: str) -> None:
    repository = Repository(str(DIGITS))
    bom = json.loads(repository.read_blob(repository.release("digits", version).documents["bom"]))
    done = validate(bom)
    assert done.returncode == 0, done.stderr
    bom["components"][0]["type"] = "weights"
    assert "weights" in validate(bom).stderr
