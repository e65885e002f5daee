# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The step that says what each wave will see, by what the devices have counted; and the page of a plan."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from rollout_stage import Stage

from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.steps.power import COUNTED

AWAY = {"unreachable": True, "msg": "ssh: connect to host"}
FIRST = {"model": {"name": "digits", "active": None}}


def counted(requests: int) -> dict[str, Any]:
    """What ``model_info`` says of a device that has served for a day."""
    buckets = [[0.0025, requests // 2], [0.005, requests]]
    found = {"requests": requests, "errors": 0, "timed": requests, "latency_buckets": buckets}
    return {"model": {"active": "1.0.0", "active_seconds": 86400.0, "requests": found, "resident_bytes": 100 << 20}}


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    (tmp_path / "scratch").mkdir()
    stage = Stage(tmp_path, rollout_plan_only=True, rollout_soak_seconds=60, rollout_limits={})
    stage.step("plan")
    return stage


def test_the_plan_says_what_each_wave_will_see_by_what_devices_counted(stage: Stage) -> None:
    first, second = stage.waves
    stage.register(COUNTED, {host: counted(5_000_000) for host in first} | {second[0]: AWAY, second[1]: FIRST})
    result = stage.step("power")
    assert [(wave["answered"], wave["devices"], wave["controls"], wave["first"]) for wave in result["power"]] == [
        (2, 2, 0, 0),
        (1, 2, 0, 1),
    ]
    checks = {item["check"]: item for item in result["power"][0]["checks"] if item["device_class"] is None}
    # The probe set of the release, which has 360 samples.
    assert checks["accuracy drop"]["needed"]["samples"] > 360
    assert checks["live accuracy drop"]["cause"] == "no labels"
    assert checks["error rate rise"]["smallest"] > 0
    assert result["power"][1]["checks"] == []
    text = "\n".join(result["msg"])
    assert "Wave 1 (25%): 2 of 2 devices answered; 0 controls" in text
    assert "Wave 2 (100%): 1 of 2 devices answered, 1 without a version to compare with; 0 controls" in text
    assert "cannot be seen: no client sent labels" in text
    assert not stage.ledger.exists()


def test_the_controls_of_a_wave_are_those_of_the_rollout(stage: Stage) -> None:
    stage.register(COUNTED, dict.fromkeys(stage.hosts, counted(5_000_000)))
    first, last = stage.step("power")["power"]
    assert (first["controls"], last["controls"]) == (2, 0)
    found = [
        next(item for item in wave["checks"] if (item["check"], item["device_class"]) == ("latency p50", None))
        for wave in (first, last)
    ]
    assert found[0]["smallest"] < found[1]["smallest"]


def test_a_server_that_started_yesterday_is_asked_as_often_as_it_counted_in_a_day(stage: Stage) -> None:
    said = []
    for seconds in ({"counted_seconds": 86400.0}, {}):
        model = {**counted(5_000_000)["model"], "active_seconds": 30 * 86400.0, **seconds}
        stage.register(COUNTED, {host: {"model": model} for host in stage.hosts})
        said.append(stage.step("power")["power"])
    stage.register(COUNTED, dict.fromkeys(stage.hosts, counted(5_000_000)))
    assert stage.step("power")["power"] == said[0] != said[1]


@pytest.mark.parametrize("check_mode", [False, True])
def test_the_plan_is_written_as_a_page_where_that_is_asked_for(tmp_path: Path, check_mode: bool) -> None:
    (tmp_path / "scratch").mkdir()
    page = tmp_path / "plans" / "next.html"
    stage = Stage(tmp_path, rollout_plan_only=True, rollout_plan_page=str(page), rollout_limits={})
    stage.check_mode = check_mode
    stage.step("plan")
    stage.register(COUNTED, dict.fromkeys(stage.hosts, counted(5_000_000)))
    result = stage.step("power")
    assert page.exists() is not check_mode
    assert result["page"] == ("" if check_mode else str(page))
    if not check_mode:
        html = page.read_text()
        assert "What the gate will see" in html
        assert "Planned" in html
        document = json.loads(page.with_suffix(".json").read_text())
        assert (document["state"], document["power"]) == ("planned", result["power"])
