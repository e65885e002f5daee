# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What people see on the page of a fleet: in Chromium, without a display."""

from __future__ import annotations

import base64
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import fleets
import ledgers
import pytest
from browser import WIDTHS, Browser, assert_shows_alone, chromium, writers
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.report import fleet_page

FLEETS: dict[str, Callable[[], dict[str, Any]]] = {
    "troubled": fleets.troubled,
    "well": fleets.well,
    "large": fleets.large,
    "empty": fleets.empty,
    "hostile": fleets.hostile,
}


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with chromium(tmp_path_factory.mktemp("fleets"), writers(FLEETS, fleet_page.write)) as found:
        yield found


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", FLEETS)
def test_a_page_shows_without_errors_requests_or_overflow(browser: Browser, name: str, width: int) -> None:
    assert_shows_alone(browser, name, width, "details")


@pytest.mark.parametrize(
    ("name", "state"),
    [
        ("troubled", "✕ 4 devices of 14 need attention; 1 more was not asked\n/ledger/x.json: cannot be read"),
        ("well", "✓ All is well on 6 devices"),
        ("large", "‖ Nothing is wrong; 3 devices of 300 to watch"),
        ("empty", "‖ No device was asked"),
    ],
)
def test_the_state_of_the_fleet_is_seen_first(browser: Browser, name: str, state: str) -> None:
    browser.show(name)
    assert browser.texts("#verdict") == [state]
    (box,) = browser.boxes("#verdict")
    assert box["bottom"] < 300


def test_what_needs_attention_is_above_what_is_well_and_says_why(browser: Browser) -> None:
    browser.show("troubled")
    assert browser.texts("details > summary") == [
        "✕ Needs attention: 4 devices",
        "‖ To watch: 8 devices",
        "✓ Well: 2 devices",
    ]
    first = browser.texts("[data-level=bad] tbody tr:first-child")[0]
    assert first.startswith("edge-dead\nthe inference server does not answer\nthe server's certificate has expired")
    (good,) = browser.texts("[data-device=edge-good]")
    assert "95.0% (92.2 to 97.0)\n360 samples, probe set" in good.replace(" 360", "\n360")
    assert "1.0.0, until the next release" in good
    assert "152 days" in good


def test_an_interval_is_drawn_where_its_numbers_are(browser: Browser) -> None:
    browser.show("troubled")
    (whisker,) = browser.shapes("[data-device=edge-good] .whisker")
    (dot,) = browser.boxes("[data-device=edge-good] .dot")
    assert whisker["width"] > 20
    assert whisker["x"] < dot["x"] + dot["width"] / 2 < whisker["x"] + whisker["width"]


def test_devices_that_are_well_are_folded_where_they_are_many(browser: Browser) -> None:
    browser.show("large")
    assert browser.run("document.querySelectorAll('[data-level=good] tbody tr').length") == 297
    assert browser.texts("[data-level=good] tbody tr:first-child") == [""]
    assert browser.texts("[data-level=waits] tbody th") == ["edge-0007", "edge-0107", "edge-0207"]


def test_a_page_without_devices_and_rollouts_says_what_to_do(browser: Browser) -> None:
    browser.show("empty")
    (devices, rollouts) = browser.texts("section")
    assert "The playbook reads the hosts of status_hosts." in devices
    assert "The ledger has no rollout." in rollouts


def test_groups_and_wide_tables_are_reached_and_opened_by_keyboard(browser: Browser) -> None:
    browser.show("large")
    seen = []
    for _press in range(5):
        browser.driver.switch_to.active_element.send_keys(Keys.TAB)
        seen.append(browser.run("document.activeElement.tagName + ' ' + document.activeElement.className"))
    assert seen == ["SUMMARY ", "DIV scroll", "SUMMARY ", "DIV scroll", "BODY "]
    summary = browser.driver.find_element(By.CSS_SELECTOR, "[data-level=good] > summary")
    assert not browser.run("document.querySelector('[data-level=good]').open")
    summary.send_keys(Keys.ENTER)
    assert browser.run("document.querySelector('[data-level=good]').open")


def test_each_row_is_a_card_on_a_phone_and_names_its_values(browser: Browser) -> None:
    browser.show("troubled", 390)
    (row,) = browser.boxes("[data-device=edge-good]")
    cells = browser.boxes("[data-device=edge-good] td:not(.blank)")
    assert all(cell["x"] >= row["x"] and cell["right"] <= 390 for cell in cells)
    assert all(above["bottom"] <= below["top"] + 0.5 for above, below in itertools.pairwise(cells))
    label = "getComputedStyle(document.querySelector('[data-device=edge-good] td:not(.blank)'), '::before').content"
    assert browser.run(label) == '"class"'


def test_a_page_is_printed_in_black_on_white(browser: Browser) -> None:
    browser.scheme("dark")
    try:
        browser.show("troubled")
        browser.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
        assert browser.run("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
        printed = browser.driver.execute_cdp_cmd("Page.printToPDF", {"printBackground": False})
    finally:
        browser.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
        browser.scheme("")
    assert base64.b64decode(printed["data"]).startswith(b"%PDF")


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_contrast_in_both_colour_schemes(browser: Browser, scheme: str, width: int) -> None:
    browser.scheme(scheme)
    try:
        browser.show("troubled", width)
        number, low = browser.low_contrasts()
    finally:
        browser.scheme("")
    assert number > 6
    assert low == []


def test_hostile_names_are_shown_and_not_run(browser: Browser) -> None:
    browser.show("hostile")
    shown = ledgers.HOSTILE.replace("\x1b", "�").replace("\x00", "�")
    assert shown in browser.texts("#verdict")[0]
    assert browser.run("document.querySelectorAll('script, img, main [onerror]').length") == 0
    assert browser.run("document.scripts.length") == 0
