# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The alert rules, run by promtool: each fires, is silent where nothing is wrong, and where there is nothing at all."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from alert_cases import CASES
from links import REPOSITORY

from ansible_collections.edgeml.fleet.plugins.plugin_utils._watch.metrics import METRICS

RULES = REPOSITORY / "docs" / "watching" / "alerts.yml"
RUNBOOK = REPOSITORY / "docs" / "alerts.md"
ALERTS: dict[str, Any] = {
    rule["alert"]: rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]
}
# What Prometheus and node_exporter have of their own.
FOREIGN = ("up", "node_textfile_mtime_seconds")
SUFFIXES = {"histogram": ("_bucket", "_sum", "_count"), "summary": ("_sum", "_count")}


def test_each_alert_has_its_test_and_its_line_in_the_runbook() -> None:
    lines = re.findall(r"^\| `(Edgeml\w+)` \| (\w+) \| ([^|]+) \| ([^|]+) \|$", RUNBOOK.read_text(), re.MULTILINE)
    assert [name for name, *_rest in lines] == list(ALERTS)
    assert [severity for _name, severity, *_rest in lines] == [rule["labels"]["severity"] for rule in ALERTS.values()]
    assert set(CASES) == set(ALERTS)


def test_a_device_that_is_away_pages_nobody() -> None:
    assert ALERTS["EdgemlDeviceAway"]["labels"]["severity"] == "info"


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_asks_for_metrics_of_the_table_only(name: str) -> None:
    known = {metric.name + suffix: metric for metric in METRICS for suffix in SUFFIXES.get(metric.type, ("",))}
    asked = re.findall(r"\b((?:edgeml|node)_\w+|up)\b(?:\{([^}]*)\})?", re.sub(r'"[^"]*"', '""', ALERTS[name]["expr"]))
    assert asked
    for metric, matchers in asked:
        assert metric in known or metric in FOREIGN, metric
        if metric in known:
            labels = re.findall(r"(\w+)[=!]", matchers)
            assert set(labels) <= {*known[metric].labels, "device"}, (metric, labels)


def _tests(name: str) -> list[dict[str, Any]]:
    """What promtool is to find of an alert: with its series, with those that are well, and with none."""
    case = CASES[name]
    fires = [{"exp_labels": {**case.labels, "severity": ALERTS[name]["labels"]["severity"]}}]
    return [
        {
            "name": f"{name} {title}",
            "interval": "1m",
            "input_series": [{"series": key, "values": values} for key, values in series.items()],
            "alert_rule_test": [{"alertname": name, "eval_time": case.at, "exp_alerts": expected}],
        }
        for title, series, expected in (("fires", case.fires, fires), ("silent", case.silent, []), ("absent", {}, []))
    ]


def run_promtool(directory: Path, rules: dict[str, Any]) -> subprocess.CompletedProcess[str]:
    """Have promtool test each rule by itself, without what a person reads."""
    files = []
    for name, rule in rules.items():
        alone = {field: value for field, value in rule.items() if field != "annotations"}
        document = {"groups": [{"name": name, "rules": [alone]}]}
        (directory / f"{name}.json").write_text(json.dumps(document))
        files.append(directory / f"{name}-tests.json")
        tests = {"rule_files": [f"{name}.json"], "evaluation_interval": "5m", "tests": _tests(name)}
        files[-1].write_text(json.dumps(tests))
    command = ["promtool", "test", "rules", *map(str, files)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_each_alert_fires_and_is_silent_and_absent(tmp_path: Path) -> None:
    done = run_promtool(tmp_path, ALERTS)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("change", [{"expr": "edgeml_store_free_bytes / edgeml_store_size_bytes < 0.2"}, {"for": "9h"}])
def test_a_rule_that_is_too_eager_or_too_slow_is_found(tmp_path: Path, change: dict[str, str]) -> None:
    rules = {"EdgemlStoreFull": {**ALERTS["EdgemlStoreFull"], **change}}
    assert run_promtool(tmp_path, rules).returncode == 1


def test_what_a_person_reads_of_an_alert_is_filled_in(tmp_path: Path) -> None:
    checked = subprocess.run(["promtool", "check", "rules", str(RULES)], capture_output=True, text=True, check=False)
    assert (checked.returncode, f"SUCCESS: {len(ALERTS)} rules found" in checked.stdout) == (0, True)
    for name, rule in ALERTS.items():
        assert rule["annotations"]["summary"].startswith("{{ $labels.device }}"), name
