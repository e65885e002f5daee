# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The page of a fleet, as text; tests/integration/test_fleet_page_in_browser.py looks at what it shows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import fleets
import ledgers
import pytest
from fleets import NOW, model, status
from html_page import Page

from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.fleet import Asked, fleet_document
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.report import fleet_page

FLEETS: dict[str, Callable[[], dict[str, Any]]] = {
    "troubled": fleets.troubled,
    "well": fleets.well,
    "large": fleets.large,
    "empty": fleets.empty,
    "hostile": fleets.hostile,
}


def only(said: dict[str, Any]) -> dict[str, Any]:
    """The only row of a page."""
    (group,) = fleet_page.view_of(fleet_document({"edge": Asked(said)}, now=NOW))["groups"]
    (row,) = group["rows"]
    return dict(row)


@pytest.mark.parametrize("name", FLEETS)
def test_a_page_is_well_formed_and_needs_nothing_else(name: str) -> None:
    Page(fleet_page.render(FLEETS[name]())).check_whole()


def test_every_letter_of_a_hostile_name_is_shown() -> None:
    shown = ledgers.HOSTILE.replace("\x1b", "\N{REPLACEMENT CHARACTER}").replace("\x00", "\N{REPLACEMENT CHARACTER}")
    assert Page(fleet_page.render(fleets.hostile())).text.count(shown) > 8


def test_what_is_wrong_and_what_is_to_be_watched_is_in_the_title() -> None:
    titles = {name: fleet_page.view_of(document())["state"] for name, document in FLEETS.items()}
    assert titles == {
        "troubled": "4 devices of 14 need attention; 1 more was not asked",
        "well": "All is well on 6 devices",
        "large": "Nothing is wrong; 3 devices of 300 to watch",
        "empty": "No device was asked",
        "hostile": "2 devices of 2 need attention",
    }


@pytest.mark.parametrize(
    ("said", "back"),
    [
        ({"way_back": None}, "\N{EN DASH}"),
        ({}, "1.0.0, until the next release"),
        ({"way_back": {**fleets.WAY_BACK, "ends": "trial"}}, "1.0.0, by itself, until the trial ends"),
        (
            {"way_back": {**fleets.WAY_BACK, "tested": False}},
            "1.0.0, until the next release; not tested with this runtime",
        ),
        ({"way_back": {**fleets.WAY_BACK, "ready": False, "problem": "lost"}}, "not to 1.0.0: lost"),
    ],
)
def test_the_way_back_is_told_in_words(said: dict[str, Any], back: str) -> None:
    assert only(status(model(**said)))["models"][0]["back"] == back


@pytest.mark.parametrize(
    ("probe", "text"),
    [
        ({"error": "no answer"}, "error"),
        ({"metric": "rmse", "value": 2.5, "samples": 9}, "rmse 2.5"),
        ({"metric": "accuracy", "value": 1.0, "samples": 360}, "100.0% (99.0 to 100.0)"),
        ({"metric": "accuracy", "top": 3, "value": 1.0, "samples": 360}, "top-3 accuracy 100.0% (99.0 to 100.0)"),
        ({"metric": "mae", "value": float("nan"), "samples": 9}, "error"),
    ],
)
def test_an_accuracy_is_told_with_its_interval_if_it_has_one(probe: dict[str, Any], text: str) -> None:
    found = only(status(model(probe=probe)))["models"][0]["accuracy"]
    assert (found["text"], found["marks"] is None) == (text, probe.get("metric") != "accuracy")


@pytest.mark.parametrize(
    ("ends", "text"),
    [
        ("2026-11-30T05:00:00Z", "1 day"),
        ("2026-11-29T05:00:00Z", "less than a day"),
        ("2026-11-29T04:00:00Z", "expired"),
        ("soon", "\N{EN DASH}"),
    ],
)
def test_what_ends_is_told_in_days(ends: str, text: str) -> None:
    assert only(status(expires={"metadata": ends}))["ends"] == [f"metadata: {text}"]


def test_a_time_that_is_none_is_shown_as_it_is() -> None:
    assert only(status(reported_at="yesterday"))["seen"] == "yesterday"
