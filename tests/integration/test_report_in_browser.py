# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What people see in a rollout's report: the page in Chromium, without a display."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import ledgers
import pytest
from browser import WIDTHS, Browser, assert_shows_alone, chromium, writers
from selenium.webdriver.common.by import By

from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.report import view

LEDGERS: dict[str, Callable[[], dict[str, Any]]] = {
    "passed": ledgers.passed,
    "failed": ledgers.failed,
    "paused": ledgers.paused,
    "hostile": ledgers.hostile,
    "large": ledgers.large,
}


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with chromium(tmp_path_factory.mktemp("reports"), writers(LEDGERS, view.write)) as found:
        yield found


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", LEDGERS)
def test_a_page_shows_without_errors_requests_or_overflow(browser: Browser, name: str, width: int) -> None:
    assert_shows_alone(browser, name, width, "details:not([data-outcome=updated])")


@pytest.mark.parametrize(
    ("name", "state", "why"),
    [
        ("passed", "✓ Passed", "every wave passed"),
        ("failed", "✕ Failed", "wave 2 (50%): fail: accuracy drop in pi4-1gb: 0.0831 of accuracy lost"),
        ("paused", "‖ Paused", "wave 1 (canary): inconclusive: coverage: 1 of 4 devices reported"),
    ],
)
def test_the_verdict_and_its_reason_are_seen_first(browser: Browser, name: str, state: str, why: str) -> None:
    browser.show(name)
    (shown,) = browser.texts("#verdict")
    assert shown.startswith(f"{state}\n{why}")
    (box,) = browser.boxes("#verdict")
    assert box["bottom"] < 300


def test_key_figures_are_those_of_the_ledger(browser: Browser) -> None:
    browser.show("failed")
    shown = dict(zip(browser.texts(".figures dt"), browser.texts(".figures dd"), strict=True))
    assert shown == {
        "waves passed": "1 of 3",
        "devices on the new version": "0 of 40",
        "devices reverted": "15",
        "devices failed, silent or refused": "3",
        "devices away": "2",
        "devices not started": "20",
        "devices left out": "2",
    }


@pytest.mark.parametrize("width", WIDTHS)
def test_bars_are_as_long_as_the_numbers_say(browser: Browser, width: int) -> None:
    browser.show("failed", width)
    (chart,) = browser.boxes("#outcome-chart")
    for number in (1, 2, 3):
        selector = f"[data-wave='{number}'] rect.segment"
        counts = browser.run(f"[...document.querySelectorAll({selector!r})].map(e => Number(e.dataset.count))")
        boxes, at = browser.shapes(selector), chart["x"]
        for count, box in zip(counts, boxes, strict=True):
            assert box["x"] == pytest.approx(at, abs=0.1)
            assert box["width"] == pytest.approx(chart["width"] * count / sum(counts), abs=0.1)
            at += box["width"]
        assert at == pytest.approx(chart["x"] + chart["width"], abs=0.2)


def test_dots_whiskers_limits_and_baselines_are_where_their_axis_says(browser: Browser) -> None:
    browser.show("failed")
    chart = ".wave[open] .dots[data-check='accuracy drop']"

    def middle(selector: str) -> float:
        (box,) = browser.boxes(f"{chart} {selector}")
        return box["x"] + box["width"] / 2

    ticks = browser.run(f"[...document.querySelectorAll({chart + ' > text'!r})].map(e => parseFloat(e.textContent))")
    lines = [box["x"] + box["width"] / 2 for box in browser.boxes(f"{chart} .grid")]
    assert len(ticks) == len(lines) >= 3
    per_point = (lines[-1] - lines[0]) / (ticks[-1] - ticks[0])

    def value(place: float) -> float:
        return float(ticks[0] + (place - lines[0]) / per_point)

    row = "[data-device-class='pi4-1gb']"
    assert value(middle(f"{row} .dot")) == pytest.approx(8.31, abs=0.05)
    assert value(middle(f"{row} .limit")) == pytest.approx(2, abs=0.05)
    assert value(middle(f"{row} .before")) == pytest.approx(0, abs=0.05)
    (whisker,) = browser.shapes(f"{chart} {row} .whisker")
    ends = [whisker["x"], whisker["x"] + whisker["width"]]
    assert [value(end) for end in ends] == pytest.approx([6.1, 10.5], abs=0.05)
    assert browser.texts(f"{chart} [data-device-class='gateway-2gb'] text") == ["gateway-2gb", "not measured"]


def test_findings_are_a_table_with_the_deciding_ones_first(browser: Browser) -> None:
    browser.show("failed")
    verdicts = browser.texts(".wave[open] .findings tbody tr td:first-child")
    assert verdicts == ["✕ fail", "? inconclusive", *["✓ pass"] * 10, "\N{EN DASH} skipped"]
    assert "0.0831 of accuracy lost, from 0.9167" in browser.texts(".wave[open] .findings tbody tr")[0]
    assert browser.texts(".wave[open] > summary")[0].startswith("Wave 2, 50%: ✕ fail 2 analyses;")


def test_problem_devices_are_seen_and_healthy_ones_are_folded_with_their_number(browser: Browser) -> None:
    browser.show("failed")
    (refused,) = browser.texts("[data-outcome='refused'].devices")
    assert "plant-b-dev0011" in refused
    assert "no room: 11.6 MB needed" in refused
    browser.show("large")
    (folded,) = browser.texts("[data-outcome='updated'].devices > summary")
    updated = sum(row["outcome"] == "updated" for row in ledgers.large()["devices"])
    assert folded.startswith(f"updated: {updated} devices ")
    assert browser.run("document.querySelectorAll('.devices tbody tr').length") == 10_000
    failed = [row["device"] for row in ledgers.large()["devices"] if row["outcome"] == "failed"]
    assert sorted(browser.texts("[data-outcome='failed'].devices tbody th")) == sorted(failed)
    assert browser.texts("[data-outcome='updated'].devices tbody tr:first-child") == [""]
    browser.driver.find_element(By.CSS_SELECTOR, "[data-outcome='updated'].devices > summary").click()
    assert browser.texts("[data-outcome='updated'].devices tbody tr:first-child")[0].startswith("plant-")


def test_hostile_names_are_shown_and_not_run(browser: Browser) -> None:
    browser.show("hostile")
    shown = ledgers.HOSTILE.replace("\x1b", "�").replace("\x00", "�")
    assert browser.texts("h1") == [f"{shown} {shown}"]
    assert shown in browser.texts("#verdict")[0]
    assert browser.run("document.querySelectorAll('script, img, main [onerror]').length") == 0
    assert browser.run("document.scripts.length") == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_contrast_in_both_colour_schemes(browser: Browser, scheme: str) -> None:
    browser.scheme(scheme)
    try:
        browser.show("failed")
        number, low = browser.low_contrasts()
    finally:
        browser.scheme("")
    assert number > 8
    assert low == []
