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
from alert_cases import CASES, ODD_CASES, OddCase
from links import REPOSITORY

from ansible_collections.edgeml.fleet.plugins.plugin_utils._watch.metrics import METRICS

RULES = REPOSITORY / "docs" / "watching" / "alerts.yml"
RUNBOOK = REPOSITORY / "docs" / "alerts.md"
_RULES = [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]
ALERTS: dict[str, Any] = {rule["alert"]: rule for rule in _RULES if "alert" in rule}
RECORDED: dict[str, str] = {rule["record"]: rule["expr"] for rule in _RULES if "record" in rule}
# What Prometheus and node_exporter have of their own.
FOREIGN = ("up", "node_textfile_mtime_seconds", "node_time_seconds", "process_start_time_seconds")
# Their alerts are of the host that runs the playbook status.
OF_CONTROLLER = {"EdgemlStatusOld"}
_LABELS = 'device="edge-1", model="digits"'
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
    expr = ALERTS[name]["expr"]
    for record, recorded in RECORDED.items():
        expr = expr.replace(record, recorded)
    asked = re.findall(r"\b((?:edgeml|node|process)_\w+|up)\b(?:\{([^}]*)\})?", re.sub(r'"[^"]*"', '""', expr))
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
            "interval": case.interval,
            "input_series": [{"series": key, "values": values} for key, values in series.items()],
            "alert_rule_test": [{"alertname": name, "eval_time": case.at, "exp_alerts": expected}],
        }
        for title, series, expected in (("fires", case.fires, fires), ("silent", case.silent, []), ("absent", {}, []))
    ]


def run_promtool(directory: Path, rules: dict[str, Any]) -> subprocess.CompletedProcess[str]:
    """Have promtool test each rule by itself, without what a person reads."""
    return _run(directory, {name: (rule, _tests(name)) for name, rule in rules.items()})


def _often(tests: list[dict[str, Any]]) -> str:
    """How often a rule is evaluated: what takes a week needs no more than once an hour."""
    return "5m" if tests[0]["interval"] == "1m" else "1h"


def _run(
    directory: Path, tested: dict[str, tuple[dict[str, Any], list[dict[str, Any]]]]
) -> subprocess.CompletedProcess[str]:
    files = []
    for name, (rule, tests) in tested.items():
        alone = {field: value for field, value in rule.items() if field != "annotations"}
        document = {"groups": [{"name": name, "rules": [alone]}]}
        (directory / f"{name}.json").write_text(json.dumps(document))
        files.append(directory / f"{name}-tests.json")
        files[-1].write_text(
            json.dumps({"rule_files": [f"{name}.json"], "evaluation_interval": _often(tests), "tests": tests})
        )
    command = ["promtool", "test", "rules", *map(str, files)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_each_alert_fires_and_is_silent_and_absent(tmp_path: Path) -> None:
    done = run_promtool(tmp_path, ALERTS)
    assert done.returncode == 0, done.stdout + done.stderr


def _odd_test(case: OddCase) -> dict[str, Any]:
    expr = f'count(ALERTS{{alertname="{case.alert}", alertstate="firing"}})'
    return {
        "name": f"{case.alert}: {case.title}",
        "interval": case.interval,
        "input_series": [{"series": key, "values": values} for key, values in case.series.items()],
        "promql_expr_test": [
            {"expr": expr, "eval_time": case.at, "exp_samples": [{"labels": "{}", "value": 1}] if case.fires else []}
        ],
    }


def test_an_alert_says_what_is_true_of_an_odd_fleet(tmp_path: Path) -> None:
    names = {case.alert for case in ODD_CASES}
    tests = {name: [_odd_test(case) for case in ODD_CASES if case.alert == name] for name in names}
    done = _run(tmp_path, {name: (ALERTS[name], found) for name, found in tests.items()})
    assert done.returncode == 0, done.stdout + done.stderr


def test_what_is_recorded_is_there_for_the_alerts_of_its_group(tmp_path: Path) -> None:
    """A device that has two addresses, or is scraped and forwards, has one time at which it went back."""
    series = 'edgeml_reverted_timestamp_seconds{device="edge-1", model="digits", instance="'
    labels = {"device": "edge-1", "model": "digits", "severity": "ticket"}
    summary = {"summary": "edge-1 went back from a version of digits by itself"}
    test = {
        "interval": "5m",
        "input_series": [
            {"series": f'{series}a"}}', "values": "0x600"},
            {"series": f'{series}b"}}', "values": "_x300 0x60 100000x200"},
        ],
        "promql_expr_test": [
            {"expr": name, "eval_time": "35h", "exp_samples": [{"labels": f"{name}{{{_LABELS}}}", "value": 100000}]}
            for name in RECORDED
        ],
        "alert_rule_test": [
            {"alertname": "EdgemlTrialReverted", "eval_time": at, "exp_alerts": found}
            for at, found in (("29h", []), ("35h", [{"exp_labels": labels, "exp_annotations": summary}]))
        ],
    }
    (tmp_path / "tests.json").write_text(
        json.dumps({"rule_files": [str(RULES)], "evaluation_interval": "5m", "tests": [test]})
    )
    command = ["promtool", "test", "rules", str(tmp_path / "tests.json")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("change", [{"expr": "edgeml_store_free_bytes / edgeml_store_size_bytes < 0.2"}, {"for": "9h"}])
def test_a_rule_that_is_too_eager_or_too_slow_is_found(tmp_path: Path, change: dict[str, str]) -> None:
    rules = {"EdgemlStoreFull": {**ALERTS["EdgemlStoreFull"], **change}}
    assert run_promtool(tmp_path, rules).returncode == 1


def test_what_a_person_reads_of_an_alert_is_filled_in(tmp_path: Path) -> None:
    checked = subprocess.run(["promtool", "check", "rules", str(RULES)], capture_output=True, text=True, check=False)
    assert (checked.returncode, f"SUCCESS: {len(_RULES)} rules found" in checked.stdout) == (0, True)
    for name, rule in ALERTS.items():
        assert rule["annotations"]["summary"].startswith("{{ $labels.device }}") or name in OF_CONTROLLER, name


@pytest.mark.parametrize(
    ("alert", "at", "series", "labels", "summary"),
    [
        (
            "EdgemlExpires",
            "40m",
            {'edgeml_expiry_timestamp_seconds{device="Edge-1.Site-B", of="metadata"}': "0x60"},
            {"of": "metadata"},
            "Edge-1.Site-B: metadata has expired, or cannot be read",
        ),
        (
            "EdgemlExpires",
            "40m",
            {'edgeml_expiry_timestamp_seconds{device="Edge-1.Site-B", of="metadata"}': "6000x60"},
            {"of": "metadata"},
            "Edge-1.Site-B: metadata ends in 1h 0m 0s",
        ),
        (
            "EdgemlMetricsOld",
            "30m",
            {'up{job="edgeml-device", device="Edge-1.Site-B"}': "1x60"},
            {"job": "edgeml-device"},
            "Edge-1.Site-B answers, and its edgeml.prom is not there",
        ),
    ],
)
def test_a_summary_is_what_a_person_would_say(
    alert: str, at: str, series: dict[str, str], labels: dict[str, str], summary: str, tmp_path: Path
) -> None:
    labels = {**labels, "device": "Edge-1.Site-B", "severity": ALERTS[alert]["labels"]["severity"]}
    expected = [{"exp_labels": labels, "exp_annotations": {"summary": summary}}]
    test = {
        "interval": "1m",
        "input_series": [{"series": key, "values": values} for key, values in series.items()],
        "alert_rule_test": [{"alertname": alert, "eval_time": at, "exp_alerts": expected}],
    }
    (tmp_path / "rules.json").write_text(json.dumps({"groups": [{"name": "alone", "rules": [ALERTS[alert]]}]}))
    (tmp_path / "tests.json").write_text(json.dumps({"rule_files": ["rules.json"], "tests": [test]}))
    command = ["promtool", "test", "rules", str(tmp_path / "tests.json")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
