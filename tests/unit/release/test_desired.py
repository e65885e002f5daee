# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The desired state of a fleet: what is written is read, anything else is refused, and devices find their place."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from releases import NO_DOCUMENTS

from ansible_collections.edgeml.fleet.plugins.module_utils._common.errors import ArgumentError, ManifestError
from ansible_collections.edgeml.fleet.plugins.module_utils._release import desired
from ansible_collections.edgeml.fleet.plugins.module_utils._release.cohort import read_boundaries
from ansible_collections.edgeml.fleet.plugins.module_utils._release.desired import (
    Ask,
    Desired,
    DesiredModel,
    DesiredRollout,
    SwapSettings,
    check_fleet_name,
    choose_rollout,
    read_desired,
    write_desired,
)
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.waves import plan, read_hosts

NAMES = st.text("abcdefghijklmnopqrstuvwxyz0123456789-._", min_size=1, max_size=10).filter(
    lambda name: name[0].isalnum()
)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
NUMBERS = st.integers(0, 1 << 40)
HOSTS = st.lists(TEXTS, max_size=4)
SECONDS = st.floats(0, 1e8)
BOUNDARIES = st.builds(
    lambda salt, waves: read_boundaries({"salt": salt, "waves": waves}),
    TEXTS,
    st.lists(
        st.fixed_dictionaries(
            {
                "name": TEXTS,
                "group": st.none() | TEXTS,
                "below": st.dictionaries(TEXTS, st.floats(0, 1), max_size=3),
            }
        ),
        min_size=1,
        max_size=3,
    ),
)
SETTINGS = st.builds(
    SwapSettings, SECONDS, SECONDS, st.dictionaries(TEXTS, NUMBERS, max_size=2), NUMBERS, st.booleans()
)
ROLLOUTS = st.builds(
    DesiredRollout,
    id=TEXTS,
    version=NAMES,
    digest=st.text("0123456789abcdef", min_size=64, max_size=64),
    stopped=st.booleans(),
    reached=NUMBERS,
    boundaries=BOUNDARIES,
    groups=st.dictionaries(TEXTS, HOSTS, max_size=2),
    only=st.none() | HOSTS,
    left_out=HOSTS,
    retry=st.booleans(),
    reason=TEXTS,
    window=HOSTS,
    settings=SETTINGS,
    class_settings=st.dictionaries(TEXTS, SETTINGS, max_size=2),
    device_settings=st.dictionaries(TEXTS, SETTINGS, max_size=2),
)
ASKS = st.builds(
    Ask,
    NUMBERS,
    st.sampled_from(desired.PURPOSES),
    TEXTS,
    TEXTS,
    TEXTS,
    st.lists(NUMBERS, max_size=3),
    HOSTS,
    st.booleans(),
    st.booleans(),
)
MODELS = st.dictionaries(NAMES, st.builds(DesiredModel, st.lists(ROLLOUTS, max_size=3), ASKS), max_size=3)
STATES = st.builds(Desired, st.just("hall"), NUMBERS, TEXTS, TEXTS, MODELS)


def a_document(**changes: Any) -> dict[str, Any]:
    boundaries = read_boundaries({"salt": "s", "waves": [{"name": "100%", "group": None, "below": {"small": 1.0}}]})
    rollout = DesiredRollout("digits-1.0.0-1", "1.0.0", "0" * 64, False, 1, boundaries)
    document = json.loads(write_desired(Desired("hall", 3, "ops", "now", {"digits": DesiredModel([rollout])})))
    return {**document, **changes}


@settings(max_examples=40)
@given(STATES)
def test_what_is_written_is_read_again(state: Desired) -> None:
    content = write_desired(state)
    found = read_desired(content, "hall")
    assert found == state
    assert write_desired(found) == content


@pytest.mark.parametrize("text", NO_DOCUMENTS)
def test_what_is_no_desired_state_is_refused(text: str) -> None:
    with pytest.raises(ManifestError, match=r"fleet/hall/desired\.json: "):
        read_desired(text.encode(), "hall")


@given(st.binary(max_size=60))
def test_no_bytes_do_anything_but_be_refused(content: bytes) -> None:
    with pytest.raises(ManifestError):
        read_desired(content, "hall")


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("fleet",), "other", "fleet: expected hall; found 'other'"),
        (("schema",), 2, "schema: expected 1; found 2"),
        (("more",), 1, "unknown 'more'"),
        (("version",), -1, "version: expected a whole number"),
        (("version",), True, "version: expected a whole number"),
        (("models",), [], "models: expected an object"),
        (("models", "digits", "rollouts"), {}, "rollouts: expected a list"),
        (("models", "digits", "rollouts", 0, "digest"), "1234", "digest: expected a SHA-256"),
        (("models", "digits", "rollouts", 0, "version"), "../1", "version: expected 1 to 64"),
        (("models", "digits", "rollouts", 0, "stopped"), "no", "stopped: expected true or false"),
        (("models", "digits", "rollouts", 0, "reached"), 0.0, "reached: expected a whole number"),
        (("models", "digits", "rollouts", 0, "boundaries"), {}, "boundaries: expected what an earlier plan"),
        (("models", "digits", "rollouts", 0, "only"), "all", "only: expected a list"),
        (("models", "digits", "rollouts", 0, "window"), [1], "window: expected a text"),
        (("models", "digits", "rollouts", 0, "settings", "trial_seconds"), -1, "trial_seconds: expected a number"),
        (("models", "digits", "rollouts", 0, "settings", "keep"), 1.5, "keep: expected a whole number"),
        (("models", "digits", "rollouts", 0, "settings", "accept_no_way_back"), 1, "way_back: expected true or false"),
        (("models", "digits", "rollouts", 0, "class_settings"), {"small": {}}, "class_settings.small"),
        (("models", "digits", "rollouts", 0, "device_settings"), ["edge-1"], "device_settings: expected an object"),
        (("models", "digits", "ask", "purpose"), "format", "purpose: expected one of read, swap, revert"),
        (("models", "digits", "ask", "waves"), ["1"], "waves: expected a whole number"),
    ],
)
def test_a_wrong_field_is_named(path: tuple[Any, ...], value: Any, message: str) -> None:
    document = a_document()
    place: Any = document
    for part in path[:-1]:
        place = place[part]
    place[path[-1]] = value
    with pytest.raises(ManifestError) as refused:
        read_desired(json.dumps(document).encode(), "hall")
    assert message in str(refused.value)


def test_a_document_that_is_too_long_is_not_parsed() -> None:
    with pytest.raises(ManifestError, match="expected at most 1048576 bytes; found 1048577"):
        read_desired(b" " * (desired.DESIRED_BYTES_MAX + 1), "hall")


@pytest.mark.parametrize("name", ["", "a/b", "..", "a.b", "é", "x" * 65, None, "-a"])
def test_what_cannot_name_a_fleet(name: Any) -> None:
    with pytest.raises(ArgumentError, match="rollout_pull: expected 1 to 64"):
        check_fleet_name(name, "rollout_pull")


@given(
    st.dictionaries(NAMES, st.sampled_from(["small", "large"]), min_size=1, max_size=30),
    st.sampled_from([["100%"], ["10%", "50%", "100%"], [2, "100%"], ["canary", "20%", "100%"]]),
    st.sampled_from([None, 1, "30%"]),
)
def test_a_device_finds_the_wave_that_the_plan_gave_it(fleet: dict[str, str], targets: list[Any], most: Any) -> None:
    canaries = sorted(fleet)[:2]
    planned = plan(read_hosts(fleet), targets, "salt", {"canary": canaries}, max_unavailable=most)
    rollout = DesiredRollout(
        "r", "1", "0" * 64, False, 1, read_boundaries(planned.boundaries), groups={"canary": canaries}
    )
    for wave in planned.document()["waves"]:
        assert {rollout.number_of(name, fleet[name]) for name in wave["hosts"]} == {wave["number"]}


def test_a_device_that_takes_no_part_has_no_wave() -> None:
    (rollout,) = read_desired(json.dumps(a_document()).encode(), "hall").models["digits"].rollouts
    assert rollout.has_reached("edge-1", "small")
    assert not rollout._replace(left_out=["edge-1"]).has_reached("edge-1", "small")
    assert not rollout._replace(only=["edge-2"]).has_reached("edge-1", "small")
    assert not rollout._replace(reached=0).has_reached("edge-1", "small")


def test_a_device_swaps_by_its_own_settings_else_by_those_of_its_class() -> None:
    (rollout,) = read_desired(json.dumps(a_document()).encode(), "hall").models["digits"].rollouts
    large, own = SwapSettings(keep=2), SwapSettings(keep=3)
    rollout = rollout._replace(class_settings={"large": large}, device_settings={"edge-3": own})
    found = [rollout.settings_of(*device) for device in (("edge-1", "small"), ("edge-2", "large"), ("edge-3", "large"))]
    assert found == [SwapSettings(), large, own]


@pytest.mark.parametrize(
    ("rollouts", "expected"),
    [
        ([], (None, [])),
        ([("new", False, True), ("old", False, True)], ("new", [])),
        ([("new", False, False), ("old", False, True)], ("old", [])),
        ([("new", True, True), ("old", False, True)], ("old", ["new"])),
        ([("new", True, False), ("old", True, True)], (None, ["old"])),
    ],
)
def test_the_newest_rollout_that_has_come_to_a_device_and_was_not_stopped(rollouts: Any, expected: Any) -> None:
    assert choose_rollout(rollouts) == expected
