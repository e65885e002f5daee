# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The modules that look after a model repository: in check mode and for real, and both again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from controller import Ansible
from releases import make_release, publish

WHY = "labels were permuted"
RELEASE = {"model": "digits", "version": "1.1.0"}
CALLS: tuple[tuple[str, dict[str, Any], dict[str, Any]], ...] = (
    ("model_channel", {"model": "digits", "channel": "staging", "version": "1.2.0"}, {"version": "1.2.0"}),
    (
        "model_channel",
        {"model": "digits", "channel": "production", "from_channel": "staging"},
        {"version": "1.2.0"},
    ),
    ("model_withdrawal", {**RELEASE, "reason": WHY}, {"reason": WHY, "channels": []}),
    ("model_withdrawal", {**RELEASE, "state": "absent"}, {"reason": None}),
    ("model_withdrawal", {**RELEASE, "reason": WHY}, {"reason": WHY}),
    ("model_repository_prune", {"keep_last": 1, "blob_hours": 0}, {}),
)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    path = tmp_path / "models"
    for number in range(3):
        publish(make_release(f"1.{number}.0", created=f"2026-11-0{number + 1}T00:00:00Z"), path)
    return path


def run(directory: Path, repository: Path, *calls: tuple[str, dict[str, Any], bool]) -> list[dict[str, Any]]:
    """Run tasks on the controller, each in check mode or not, and return their results."""
    tasks = [
        {
            "name": str(number),
            f"edgeml.fleet.{module}": {"repository": str(repository), **options},
            "check_mode": check,
            "diff": True,
            "ignore_errors": True,
        }
        for number, (module, options, check) in enumerate(calls)
    ]
    ansible = Ansible(directory, [])
    play = [{"hosts": "localhost", "gather_facts": False, "tasks": tasks}]
    (ansible.directory / "play.yml").write_text(json.dumps(play))
    done = ansible.run("play.yml")
    assert done.code == 0, done
    return [done.results(str(number))["localhost"] for number in range(len(tasks))]


def test_each_is_exact_in_check_mode_and_changes_nothing_twice(tmp_path: Path, repository: Path) -> None:
    ways = [(module, options, check) for module, options, _ in CALLS for check in (True, False, True, False)]
    results = run(tmp_path, repository, *ways, ("model_repository_info", {}, False))
    for number, (module, options, expected) in enumerate(CALLS):
        would, did, again, nothing = results[4 * number : 4 * number + 4]
        assert (would["changed"], did["changed"]) == (True, True), (module, options)
        assert (again["changed"], nothing["changed"]) == (False, False), (module, options)
        assert would["diff"] == did["diff"]
        assert did["diff"]["before"] != did["diff"]["after"]
        assert nothing["diff"]["before"] == nothing["diff"]["after"]
        assert {name: did[name] for name in expected} == expected
        assert did["needs_signature"] is False
    pruned = results[4 * 5 + 1]
    assert pruned["releases"] == ["digits 1.1.0", "digits 1.0.0"]
    assert len(pruned["blobs"]) == 2
    (kept,) = results[-1]["releases"]
    assert (kept["version"], kept["channels"], kept["withdrawn"]) == ("1.2.0", ["production", "staging"], None)


def test_what_is_refused_is_told(tmp_path: Path, repository: Path) -> None:
    results = run(
        tmp_path,
        repository,
        ("model_withdrawal", {**RELEASE, "reason": WHY}, False),
        ("model_channel", {"channel": "production", **RELEASE}, False),
        ("model_channel", {"channel": "production", "model": "digits"}, False),
        ("model_withdrawal", RELEASE, False),
        ("model_repository_prune", {"ledger": str(tmp_path / "nowhere")}, False),
        ("model_repository_info", {"repository": str(tmp_path / "nowhere")}, False),
    )
    assert [bool(result.get("failed")) for result in results] == [False, True, True, True, True, True]
    expected = (
        f"digits 1.1.0 is withdrawn: {WHY}",
        "expected a version, or the channel whose version is taken",
        "reason",
        "expected the directory of a ledger; there is none",
        "expected a model repository",
    )
    for result, message in zip(results[1:], expected, strict=True):
        assert message in result["msg"]
