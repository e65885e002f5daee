# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A rollout's report, as text; tests/integration/test_report_in_browser.py looks at what it shows."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ledgers
import pytest
from html_page import Page
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.report import view
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.report.charts import Scale
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.report.view import view_of
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.report.words import NONE, Quantity

LEDGERS: dict[str, Callable[[], dict[str, Any]]] = {
    "passed": ledgers.passed,
    "failed": ledgers.failed,
    "paused": ledgers.paused,
    "hostile": ledgers.hostile,
    "begun": lambda: ledgers.rollout({"canary": 1, "100%": 3}),
    "no devices": lambda: ledgers.rollout({}),
}


@pytest.mark.parametrize("name", LEDGERS)
def test_a_report_is_well_formed_and_needs_nothing_else(name: str) -> None:
    Page(view.render(LEDGERS[name]())).check_whole()


def test_every_letter_of_a_hostile_name_is_shown() -> None:
    page = Page(view.render(ledgers.hostile()))
    shown = ledgers.HOSTILE.replace("\x1b", "\N{REPLACEMENT CHARACTER}").replace("\x00", "\N{REPLACEMENT CHARACTER}")
    assert page.text.count(shown) > 20


@pytest.mark.parametrize(
    ("name", "told"),
    [("passed", "Passed"), ("failed", "Failed"), ("paused", "Paused"), ("begun", "Running"), ("no devices", "Running")],
)
def test_the_verdict_is_in_the_title(name: str, told: str) -> None:
    title = re.search("<title>(.*?)</title>", view.render(LEDGERS[name]()))
    assert title
    assert title[1] == f"{told}: digits 1.2.0, rollout digits-1.2.0-1"


@pytest.mark.parametrize("field", ["reason", "why", "settings", "devices", "ended", "began", "digest"])
def test_a_ledger_may_lack_what_only_people_read(field: str) -> None:
    ledger = ledgers.failed()
    del ledger[field]
    assert "Failed" in view.render(ledger)


def test_microcontrollers_are_beside_their_gateways() -> None:
    ledger = ledgers.rollout({"100%": 4})
    names = ledger["plan"]["waves"][0]["hosts"]
    ledger["plan"]["device_classes"] = {}
    # The last of them is a device that looks after two others.
    ledger["plan"]["gateways"] = {names[0]: names[3], names[1]: "a-gateway", names[2]: names[3]}
    (group,) = view_of(ledger)["groups"]
    assert [(row["device"], row["gateway"]) for row in group["rows"]] == [
        (names[1], "a-gateway"),
        (names[0], names[3]),
        (names[2], names[3]),
        (names[3], ""),
    ]
    page = Page(view.render(ledger))
    page.check_whole()
    assert "behind" in page.text
    assert page.text.count("a-gateway") == 1


def test_a_fleet_without_microcontrollers_has_no_column_for_their_gateways() -> None:
    assert '<th scope="col">behind</th>' not in view.render(ledgers.passed())


def test_a_wave_that_is_not_judged_yet_is_shown_too() -> None:
    ledger = ledgers.rollout({"canary": 1, "100%": 3})
    ledger["waves"] = [{"number": 1, "name": "canary", "began": "2026-11-22T02:30:05Z", "ended": None, "analyses": []}]
    assert "not judged" in Page(view.render(ledger)).text


def test_writing_replaces_the_report_or_leaves_it(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    view.write(ledgers.passed(), str(path))
    assert path.read_text() == view.render(ledgers.passed())
    assert path.stat().st_mode & 0o777 == 0o644
    with pytest.raises(KeyError):
        view.write({}, str(path))
    assert path.read_text() == view.render(ledgers.passed())
    assert os.listdir(tmp_path) == ["report.html"]


# ---- the numbers ----


def test_a_wave_s_bar_has_its_devices_by_outcome_and_is_full() -> None:
    second = view_of(ledgers.failed())["outcomes"]["bars"][1]
    assert {part["outcome"]: part["count"] for part in second["segments"]} == {
        "reverted": 11,
        "away": 2,
        "refused": 1,
        "failed": 1,
        "not reverted": 1,
    }
    assert second["total"] == 16
    at = 0.0
    for part in second["segments"]:
        assert part["x"] == pytest.approx(at, abs=0.001)
        assert part["width"] == pytest.approx(100 * part["count"] / 16, abs=0.001)
        at += part["width"]
    assert at == pytest.approx(100, abs=0.01)


def test_the_devices_that_are_not_well_come_first() -> None:
    groups = view_of(ledgers.failed())["groups"]
    assert [group["outcome"] for group in groups] == [
        "not reverted",
        "failed",
        "refused",
        "away",
        "reverted",
        "maintenance",
        "pinned",
        "not started",
    ]
    assert [group["open"] for group in groups] == [True] * 5 + [False] * 3
    assert sum(len(group["rows"]) for group in groups) == 42


def test_only_what_measures_something_is_a_chart_and_unmeasured_strata_are_named() -> None:
    (_first, second) = view_of(ledgers.failed())["judged"]
    charts = {chart["check"]: chart for chart in second["charts"]}
    assert set(charts) == {"accuracy drop", "error rate", "error rate rise", "latency p95"}
    unmeasured, measured = charts["accuracy drop"]["rows"]
    assert (unmeasured["device_class"], unmeasured["text"], unmeasured["value"]) == (
        "gateway-2gb",
        "not measured",
        None,
    )
    assert measured["before"] < measured["limit"] < measured["low"] < measured["value"] < measured["high"]
    assert charts["accuracy drop"]["verdict"] == "fail"
    assert [row["device_class"] for row in charts["latency p95"]["rows"]] == [*ledgers.STRATA, "all devices"]


def test_a_change_lies_beside_no_change_and_its_baseline_is_told_as_the_level_that_it_is() -> None:
    (_first, second) = view_of(ledgers.failed())["judged"]
    told = {(row["check"], row["device_class"]): row for row in second["rows"]}
    accuracy = told["accuracy drop", "pi4-1gb"]
    assert (accuracy["estimate"], accuracy["limit"], accuracy["baseline"]) == ("8.31 pp", "2 pp", "91.67 %")
    assert told["latency p95", "pi4-1gb"]["estimate"] == "1.03\N{MULTIPLICATION SIGN}"
    assert told["memory in bytes", "all"]["estimate"] == "41 MB"
    for chart in second["charts"]:
        for row in chart["rows"]:
            assert (row["before"] is None) == (chart["check"] == "error rate" or row["value"] is None)


def test_a_finding_that_is_not_one_is_shown_and_not_drawn() -> None:
    (wave,) = view_of(ledgers.hostile())["judged"]
    (chart,) = wave["charts"]
    (row,) = chart["rows"]
    assert (row["low"], row["high"]) == (None, None)
    assert row["value"] is not None
    shown = [(row["check"], row["verdict"], row["estimate"], row["tone"]) for row in wave["rows"]]
    assert shown == [
        ("accuracy drop", "fail", NONE, "waits"),
        (ledgers.HOSTILE, ledgers.HOSTILE, NONE, "waits"),
        (NONE, NONE, NONE, "waits"),
        ("accuracy drop", "fail", "50 pp", "bad"),
    ]


def test_numbers_come_with_the_right_plural() -> None:
    page = Page(view.render(ledgers.failed())).text
    assert "2 analyses;" in page
    assert "1 analysis;" in Page(view.render(ledgers.passed())).text
    assert not re.search(r"\b1 (devices|analyses|waves|samples)\b|analysiss", page)


def test_the_timeline_has_each_look_where_it_was() -> None:
    timeline = view_of(ledgers.paused())["timeline"]
    (row,) = timeline["rows"]
    places = [analysis["x"] for analysis in row["analyses"]]
    assert places[2] - places[1] == pytest.approx(places[1] - places[0], abs=0.01)
    assert [span["again"] for span in row["spans"]] == [False, True, True]
    assert row["text"] == "inconclusive after 30 min, 3 analyses"


@given(st.lists(st.floats(-1e12, 1e12), min_size=1, max_size=9))
def test_a_scale_has_every_value_and_a_few_ticks_on_it(values: list[float]) -> None:
    scale = Scale.around(values)
    assert all(0 <= scale.place(value) <= 100 for value in values)
    places = [scale.place(tick) for tick in scale.ticks]
    assert 2 <= len(places) <= 7
    assert places == sorted(set(places))
    assert all(-0.01 <= place <= 100.01 for place in places)


@pytest.mark.parametrize(
    ("value", "told"),
    [(None, "\N{EN DASH}"), (0.0831, "8.31 %"), (-0.06, "\N{MINUS SIGN}6 %"), (1.0, "100 %"), (0.00031, "0.031 %")],
)
def test_values_are_told_with_their_unit(value: float | None, told: str) -> None:
    assert Quantity("", " %", 100.0).text(value) == told
