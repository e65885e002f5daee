# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""Values of options as they arrive, by ``-e``, from an INI inventory or a survey, as the types that are declared."""

from __future__ import annotations

from typing import Any, Mapping

import yaml
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator


class OptionError(ValueError):
    """A value is none of its option's type or choices; the text names the option, the type and what was found."""


def typed_options(values: Mapping[str, Any], options: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The values with the types of their options, which are those of a role's or a module's argument spec.

    A list or a mapping given as text is read as YAML, of which JSON is a part; any other text of a list is split at its
    commas, as Ansible does. An option without a value has its default. Raises OptionError.
    """
    given = {
        name: _structure(values[name], option.get("type", "str"))
        for name, option in options.items()
        if name in values and not _has_no_value(values[name], option)
    }
    checked = ArgumentSpecValidator({name: dict(option) for name, option in options.items()}).validate(given)
    if checked.error_messages:
        raise OptionError("; ".join(checked.error_messages))
    found: dict[str, Any] = checked.validated_parameters
    return found


def _has_no_value(value: Any, option: Mapping[str, Any]) -> bool:
    """Whether nothing was given: null, as JSON or an empty line of YAML says it, or a survey's empty text where no text
    can be meant."""
    if "{{" in str(option.get("default", "{{")):
        return False
    return value is None or (value == "" and option.get("type") in ("bool", "int", "float"))


def _structure(value: Any, kind: str) -> Any:
    """What a text says, where a list or a mapping is expected and it looks like one."""
    opening = {"list": "[", "dict": "{"}.get(kind)
    if opening is None or not isinstance(value, str) or not value.lstrip().startswith(opening):
        return value
    try:
        return yaml.safe_load(value)
    except yaml.YAMLError:
        return value
