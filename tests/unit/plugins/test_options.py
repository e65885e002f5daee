# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Every option of every role has its type, however its value arrives."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from ansible_collections.edgeml.fleet.plugins.plugin_utils._options import OptionError, typed_options

ROLES = Path(__file__).parents[3] / "roles"
# One value for each type that a default does not show: of a list, of an empty text.
SAMPLES: dict[str, Any] = {"str": "a text", "path": "/srv/models", "int": 8090, "float": 2.5, "bool": False}


def options() -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for path in sorted(ROLES.glob("*/meta/argument_specs.yml")):
        for entry_point in yaml.safe_load(path.read_text())["argument_specs"].values():
            found.update(entry_point["options"])
    return found


OPTIONS = options()


def sample(option: dict[str, Any]) -> Any:
    """A value of the option, another than its default where that can be."""
    if "choices" in option and option["type"] != "list":
        return option["choices"][-1]
    if option["type"] == "list":
        if option.get("elements") == "dict":
            return [{name: sample(inner) for name, inner in option.get("options", {}).items()}]
        return [option["choices"][-1] if "choices" in option else SAMPLES.get(option["elements"], "a text")]
    if option["type"] == "dict":
        return {name: sample(inner) for name, inner in option.get("options", {}).items()}
    return SAMPLES.get(option["type"], "a text")


def as_text(value: Any) -> str:
    """A value as ``-e name=value`` gives it."""
    return value if isinstance(value, str) else json.dumps(value)


@pytest.mark.parametrize("name", OPTIONS)
def test_a_text_becomes_what_the_value_itself_is(name: str) -> None:
    option = OPTIONS[name]
    value = sample(option)
    (native,) = typed_options({name: value}, {name: option}).values()
    (from_text,) = typed_options({name: as_text(value)}, {name: option}).values()
    assert from_text == native == value
    assert type(from_text) is type(native)


# The role rollout reads its own; and Ansible itself has to read a default that is a template.
DEFAULTS = {
    name: option["default"]
    for name, option in OPTIONS.items()
    if not (name.startswith("rollout_") or option.get("default") is None or "{{" in str(option["default"]))
}


@pytest.mark.parametrize("name", DEFAULTS)
def test_nothing_given_is_the_default(name: str) -> None:
    option = OPTIONS[name]
    for value in [None, ""] if option["type"] in ("bool", "int", "float") else [None]:
        assert typed_options({name: value}, {name: option}) == {name: DEFAULTS[name]}


@pytest.mark.parametrize(("text", "value"), [("false", False), ("no", False), ("0", False), ("True", True), (1, True)])
def test_truth_is_told_from_text(text: str | int, value: bool) -> None:
    assert typed_options({"a": text}, {"a": {"type": "bool"}}) == {"a": value}


def test_a_list_is_not_taken_apart_by_letters() -> None:
    option = {"a": {"type": "list", "elements": "str"}}
    for text in ('["x", "y"]', "[x, y]", "x,y"):
        assert typed_options({"a": text}, option) == {"a": ["x", "y"]}
    assert typed_options({"a": "[]"}, option) == {"a": []}
    assert typed_options({"a": "xy"}, option) == {"a": ["xy"]}


def test_what_is_no_such_value_is_refused_by_its_name() -> None:
    with pytest.raises(OptionError, match=r"'port' is of type .*str.* and we were unable to convert to int"):
        typed_options({"port": "http"}, {"port": {"type": "int"}})
    with pytest.raises(OptionError, match=r"value of level must be one of: low, high, got: middle"):
        typed_options({"level": "middle"}, {"level": {"type": "str", "choices": ["low", "high"]}})
