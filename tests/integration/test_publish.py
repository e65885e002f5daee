# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The playbook edgeml.fleet.publish: in check mode, for real, and again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from controller import Ansible
from publications import Case

from ansible_collections.edgeml.fleet.plugins.module_utils._release.repository import Repository

TASK = "Convert, prove, measure and publish the model"


def variables(case: Case) -> dict[str, Any]:
    """The options of a case as the playbook's variables."""
    case.write()
    named = ("model", "version", "source", "samples", "repository")
    names = {name: f"model_{name}" for name in named} | {"model": "model_name"}
    return {names.get(name, f"publish_{name}"): value for name, value in case.options.items()}


@pytest.fixture
def ansible(tmp_path: Path) -> Ansible:
    return Ansible(tmp_path, [])


def test_check_run_check_again_run_again(ansible: Ansible, tmp_path: Path) -> None:
    case = Case(tmp_path)
    case.options["variants"] = "fp32,fp16"
    given = variables(case)
    manifest = Path(case.options["repository"]) / "digits" / "1.1.0" / "manifest.json"
    Path(case.options["repository"], "metadata").mkdir(parents=True)

    would = ansible.run("edgeml.fleet.publish", "--check", "--diff", **given)
    assert would.code == 0, would
    result = would.results(TASK)["localhost"]
    assert result["changed"]
    assert json.loads(result["diff"]["after"])["version"] == "1.1.0"
    assert result["diff"]["before"] == ""
    assert not manifest.exists()

    run = ansible.run("edgeml.fleet.publish", **given)
    assert run.code == 0, run
    assert run.results(TASK)["localhost"]["changed"]
    assert run.custom_stats["publish_variants_published"] == ["onnx-fp32", "onnx-fp16"]
    assert "smoke test of onnx-fp32, onnx-fp16" in run.stderr
    # Where this is, people sign.
    assert run.results("Say that people have to sign it")["localhost"]["msg"].startswith("next: edgeml-publish sign")
    assert any("onnx-fp16" in line for line in run.results("Show the variants")["localhost"]["msg"])
    release = Repository(case.options["repository"]).release("digits", "1.1.0")
    assert run.custom_stats["publish_digest"] == release.digest

    for options in (["--check", "--diff"], []):
        again = ansible.run("edgeml.fleet.publish", *options, **given)
        assert again.code == 0, again
        result = again.results(TASK)["localhost"]
        assert not result["changed"]
        assert (result["digest"], result["needs_signature"]) == (release.digest, True)
        assert "skipped" in again.results("Say that people have to sign it")["localhost"]
    case.options["description"] = "Another one"
    refused = ansible.run("edgeml.fleet.publish", **variables(case))
    assert refused.code != 0
    result = refused.results(TASK)["localhost"]
    assert result["reasons"][1] == "description: expected ''; found 'Another one'"


def test_a_python_without_the_packages_is_named(ansible: Ansible, tmp_path: Path) -> None:
    given = variables(Case(tmp_path))
    run = ansible.run("edgeml.fleet.publish", publish_tools_python=str(tmp_path / "none"), **given)
    assert run.code != 0
    assert "cannot be started" in run.results(TASK)["localhost"]["msg"]
