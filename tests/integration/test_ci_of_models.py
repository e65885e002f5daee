# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A stranger's model repository: from a commit to its release on devices, by the steps of the GitHub workflow."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from ci_templates import ModelProject, build_collection
from device import Device

pytestmark = pytest.mark.end_to_end
TAG = "digits/1.2.0"
ROLL_OUT = 'ci/roll-out "$GITHUB_REF_NAME"'


def test_from_a_commit_to_the_devices(tmp_path: Path, fleet: dict[str, Device]) -> None:
    project = ModelProject(
        tmp_path, build_collection(tmp_path), {name: device.inventory() for name, device in fleet.items()}
    )
    project.roll_out_at_once()
    project.make_keys()
    project.git.commit("Our models")

    # A merge request: nothing is published, and the report is there.
    checked = project.run_job("check", "main")
    assert checked.code == 0, checked
    assert "onnx-int8" in (checked.tree / "reports/digits.html").read_text()
    assert not (project.models / "digits").exists()

    # A tag: the release is there, and nobody is given it before it is signed.
    project.git("tag", TAG)
    published = project.run_job("publish", TAG, GITHUB_REF_NAME=TAG)
    assert published.code == 0, published
    assert (project.models / "digits/1.2.0/manifest.json").exists()
    early = project.run_step(published.tree, ROLL_OUT, GITHUB_REF_NAME=TAG)
    assert early.code != 0, early
    assert "not signed" in early.output, early
    assert {device.live for device in fleet.values()} == {None}

    # People sign the request and merge it, and somebody approves the rollout.
    request = project.git.path / f"signing/{TAG}.json"
    request.parent.mkdir(parents=True)
    shutil.copyfile(published.tree / f"requests/{TAG}.json", request)
    project.sign(request)
    project.git.commit("Ann and Bob have signed digits 1.2.0")
    rolled_out = project.run_job("roll-out", "main", GITHUB_REF_NAME=TAG)
    assert rolled_out.code == 0, rolled_out
    assert {device.live for device in fleet.values()} == {"1.2.0"}
    (ledger,) = project.ledger.glob("digits-1.2.0-*.json")
    assert {wave["verdict"] for wave in json.loads(ledger.read_text())["waves"]} == {"pass"}

    renewed = project.run_job("renew", "main")
    assert renewed.code == 0, renewed
