# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The dashboards: what they ask for is in the table of metrics, and the files are what the code makes."""

from __future__ import annotations

import importlib.util
import sys
from typing import Any

import pytest
from links import REPOSITORY

from ansible_collections.edgeml.fleet.plugins.plugin_utils._watch.dashboards import (
    DASHBOARDS,
    asked_metrics,
    dashboard,
)
from ansible_collections.edgeml.fleet.plugins.plugin_utils._watch.metrics import METRICS

KNOWN = {metric.name for metric in METRICS}


def _tool() -> Any:
    spec = importlib.util.spec_from_file_location("watching", REPOSITORY / "tools" / "watching.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules["watching"] = module
    spec.loader.exec_module(module)
    return module


def test_the_files_are_what_the_code_makes() -> None:
    files = _tool().files()
    assert len(files) == len(DASHBOARDS) + 1
    for path, text in files.items():
        assert path.read_text() == text, "run tools/watching.py"


@pytest.mark.parametrize("name", DASHBOARDS)
def test_a_panel_asks_for_known_metrics_and_explains_them(name: str) -> None:
    document = dashboard(name)
    places = set()
    for panel in document["panels"]:
        (target,) = panel["targets"]
        asked = asked_metrics(target["expr"])
        assert asked <= KNOWN, panel["title"]
        assert len(panel["description"].splitlines()) == len(asked)
        places.add((panel["gridPos"]["x"], panel["gridPos"]["y"]))
    assert len(places) == len(document["panels"])


def test_a_name_that_is_in_no_table_is_found() -> None:
    assert asked_metrics("rate(edgeml_inference_duration_seconds_bucket[1m])") == {"edgeml_inference_duration_seconds"}
    assert not asked_metrics("edgeml_inference_duration") <= KNOWN


def test_each_metric_of_a_device_is_on_a_dashboard_or_in_an_alert() -> None:
    asked = {
        name
        for _title, panels, _chosen in DASHBOARDS.values()
        for panel in panels
        for name in asked_metrics(panel.expr)
    }
    asked |= asked_metrics((REPOSITORY / "docs" / "watching" / "alerts.yml").read_text())
    unseen = {metric.name for metric in METRICS if metric.source != "server"} - asked
    assert unseen == {"edgeml_store_reserve", "edgeml_pull_desired_version"}
