# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The desired state's JSON Schema, its reference page and its parser say the same."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any

import jsonschema
import pytest
from documents import places
from hypothesis import given, settings
from hypothesis import strategies as st
from links import REPOSITORY
from schema_tools import schema_tool

from ansible_collections.edgeml.fleet.plugins.module_utils._common.errors import ManifestError
from ansible_collections.edgeml.fleet.plugins.module_utils._release.cohort import PlanBoundaries, WaveBoundary
from ansible_collections.edgeml.fleet.plugins.module_utils._release.desired import (
    Ask,
    Desired,
    DesiredModel,
    DesiredRollout,
    SwapSettings,
    read_desired,
    write_desired,
)

desired_schema = schema_tool("desired_schema")
SCHEMA = json.loads((REPOSITORY / "docs" / "desired.schema.json").read_text())
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)

WAVES = [WaveBoundary("canary", "canaries", {"small": 0.5}), WaveBoundary("100%", None, {"small": 1.0, "large": 1.0})]
ROLLOUT = DesiredRollout(
    id="digits-1.0.0-1",
    version="1.0.0",
    digest="0" * 64,
    stopped=False,
    reached=1,
    boundaries=PlanBoundaries("salt", WAVES),
    groups={"canaries": ["edge-1"]},
    only=["edge-1", "edge-2"],
    left_out=["edge-3"],
    reason="a reason",
    window=["Mon-Fri 22:00-04:00"],
    settings=SwapSettings(trial_limits={"crashes_max": 1}),
    class_settings={"large": SwapSettings(keep=2)},
    device_settings={"edge-2": SwapSettings(trial_seconds=0)},
)
ASK = Ask(3, "revert", ROLLOUT.id, "1.0.0", "it was bad", [1, 2], ["edge-9"], True, True)
STATE = Desired("hall", 3, "ops", "now", {"digits": DesiredModel([ROLLOUT], ASK), "plain": DesiredModel()})
DOCUMENT: dict[str, Any] = json.loads(write_desired(STATE))
VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-2, 3),
    st.sampled_from([1 << 40, (1 << 40) + 1, 1e9, 0.5, -0.5, 1e300]),
    st.sampled_from(["", "a", "-a", "a/b", "a\n", "x" * 65, "x" * 4097, "0" * 64, "read", "swap", "hall", "100%"]),
    st.sampled_from([[], {}, ["a"], {"a": "b"}, {"a": ["b"]}, [1], {"a": 1}, {"small": 0.5}]),
)


@st.composite
def documents(draw: Callable[[st.SearchStrategy[Any]], Any]) -> Any:
    """A desired state with up to three changes, most of them wrong."""
    document = copy.deepcopy(DOCUMENT)
    for _change in range(draw(st.integers(0, 3))):
        # Another fleet's document is right for another fleet.
        place = draw(st.sampled_from([place for place in places(document)[1:] if place != ("fleet",)]))
        holder: Any = document
        for key in place[:-1]:
            holder = holder[key]
        action = draw(st.sampled_from(["replace", "delete", "add"]))
        if action == "replace":
            holder[place[-1]] = copy.deepcopy(draw(VALUES))
        elif action == "delete":
            del holder[place[-1]]
        elif isinstance(holder, dict):
            holder[draw(st.sampled_from(["ask", "unknown", "a b", "keep", "small"]))] = copy.deepcopy(draw(VALUES))
    return document


@settings(max_examples=60)
@given(documents())
def test_schema_and_parser_agree(document: Any) -> None:
    error = next(VALIDATOR.iter_errors(document), None)
    refusal = refusal_of(document)
    assert (error is None) == (refusal is None), f"the schema: {error}; the parser: {refusal}"


def refusal_of(document: Any) -> str | None:
    """What the parser says against a document."""
    try:
        read_desired(json.dumps(document).encode(), "hall")
    except ManifestError as error:
        return str(error)
    return None


def test_what_the_property_begins_with_is_right() -> None:
    VALIDATOR.validate(DOCUMENT)
    assert json.loads(write_desired(read_desired(json.dumps(DOCUMENT).encode(), "hall"))) == DOCUMENT


@pytest.mark.parametrize("fleet", ["hall", "a b", "", "x" * 65])
def test_the_name_of_a_fleet(fleet: str) -> None:
    assert VALIDATOR.is_valid({**DOCUMENT, "fleet": fleet}) is (fleet == "hall")


def test_schema_and_page_are_those_of_the_parser() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    assert desired_schema.schema() == SCHEMA, "run tools/desired_schema.py"
    assert desired_schema.page(SCHEMA) == (REPOSITORY / "docs" / "desired.md").read_text()
