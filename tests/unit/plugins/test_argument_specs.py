# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Every role's argument_specs, defaults and README tell the same story."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from links import REPOSITORY

ROLES = sorted(path for path in (REPOSITORY / "roles").iterdir() if path.is_dir())


def load(path: Path) -> dict[str, Any]:
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert isinstance(content, dict), f"{path} is no mapping"
    return content


def entry_points(role: Path) -> dict[str, dict[str, Any]]:
    specs: dict[str, dict[str, Any]] = load(role / "meta" / "argument_specs.yml")["argument_specs"]
    return specs


def options(role: Path) -> dict[str, dict[str, Any]]:
    """Return the options of all entry points of a role by name."""
    return {name: option for spec in entry_points(role).values() for name, option in spec.get("options", {}).items()}


@pytest.fixture(params=ROLES, ids=lambda path: path.name)
def role(request: pytest.FixtureRequest) -> Path:
    path: Path = request.param
    return path


def test_roles_exist() -> None:
    assert ROLES


def test_each_entry_point_has_a_task_file(role: Path) -> None:
    for name in entry_points(role):
        assert (role / "tasks" / f"{name}.yml").is_file()


def test_each_entry_point_says_the_same_of_an_option(role: Path) -> None:
    merged = options(role)
    for name, spec in entry_points(role).items():
        for option, description in spec.get("options", {}).items():
            assert description == merged[option], f"entry point {name} describes {option} otherwise"


def test_options_are_typed_and_described(role: Path) -> None:
    for name, option in options(role).items():
        assert option.get("type"), f"{name} has no type"
        assert option.get("description"), f"{name} has no description"
        assert option["type"] != "list" or option.get("elements"), f"{name} does not say what its elements are"
        if "choices" in option and not option.get("required"):
            defaults = option["default"] if option["type"] == "list" else [option["default"]]
            assert set(defaults) <= set(option["choices"]), f"{name}'s default is not among its choices"


def test_defaults_equal_the_specs(role: Path) -> None:
    optional = {name: option for name, option in options(role).items() if not option.get("required")}
    without_default = sorted(name for name, option in optional.items() if "default" not in option)
    assert without_default == [], "these options are neither required nor have a default"
    assert load(role / "defaults" / "main.yml") == {name: option["default"] for name, option in optional.items()}


def test_variables_carry_the_role_name(role: Path) -> None:
    assert [name for name in options(role) if not name.startswith(f"{role.name}_")] == []
    internal = load(role / "vars" / "main.yml") if (role / "vars" / "main.yml").exists() else {}
    assert [name for name in internal if not name.startswith(f"__{role.name}_")] == []


def test_readme_mentions_each_variable(role: Path) -> None:
    readme = (role / "README.md").read_text(encoding="utf-8")
    assert [name for name in options(role) if f"`{name}`" not in readme] == []
