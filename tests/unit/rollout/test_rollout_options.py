# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The options of a rollout: values are converted where they enter, and the role says the same of each."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml
from links import REPOSITORY

from ansible_collections.edgeml.fleet.plugins.module_utils._common.errors import ArgumentError
from ansible_collections.edgeml.fleet.plugins.module_utils._device.request import argument_spec
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout import options
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.options import (
    DeviceOptions,
    LedgerOptions,
    RolloutOptions,
)

ROLE = REPOSITORY / "roles" / "rollout"
RELEASE = {"model_name": "digits", "model_version": "1.1.0", "model_repository": "/srv/models"}


def read(**variables: Any) -> RolloutOptions:
    return RolloutOptions.from_variables({**RELEASE, **variables})


# ---- declared once ----


def without_description(option: dict[str, Any]) -> dict[str, Any]:
    kept = {name: value for name, value in option.items() if name != "description"}
    if "options" in kept:
        kept["options"] = {name: without_description(item) for name, item in kept["options"].items()}
    return kept


def test_the_role_s_argument_spec_says_the_same_of_each_option() -> None:
    spec = yaml.safe_load((ROLE / "meta" / "argument_specs.yml").read_text())["argument_specs"]["plan"]["options"]
    assert {name: without_description(option) for name, option in spec.items()} == options.of_role()


def test_the_role_s_defaults_are_those_of_the_options() -> None:
    defaults = yaml.safe_load((ROLE / "defaults" / "main.yml").read_text())
    assert defaults == {name: spec["default"] for name, spec in options.of_role().items() if not spec.get("required")}


def test_the_readme_has_each_option_with_its_default() -> None:
    rows = dict(re.findall(r"^\| (`rollout_[^|]*) \| ([^|]*) \|", (ROLE / "README.md").read_text(), re.MULTILINE))
    found = {}
    for names, values in rows.items():
        written = [value.strip("` ") for value in re.split(r"`, `", values.strip())]
        for number, name in enumerate(re.findall(r"`(\w+)`", names)):
            found[name] = written[min(number, len(written) - 1)]
    for name, spec in options.of_role().items():
        if spec.get("required"):
            assert found[name] == "required"
        else:
            assert yaml.safe_load(found[name]) == spec["default"], name


def test_the_limits_of_a_trial_are_those_of_the_module() -> None:
    theirs = {name: spec["type"] for name, spec in argument_spec("model_swap")["trial_limits"]["options"].items()}
    assert {name: kind.name for name, kind in options.TRIAL_LIMITS.items()} == theirs


# ---- values as they arrive ----

# By variable: its own type, and the same as text.
AS_TEXT: dict[str, tuple[Any, str]] = {
    "rollout_device_class_variables": (["device_class", "site"], "device_class,site"),
    "rollout_waves": (["canary", "10%", "100%"], "canary,10%,100%"),
    "rollout_boundaries": ({"salt": "digits", "waves": []}, '{"salt": "digits", "waves": []}'),
    "rollout_salt": ("7", "7"),
    "rollout_max_unavailable": ({"small": 2}, "{small: 2}"),
    "rollout_window": (["Sat,Sun 00:00-24:00 Europe/Berlin"], "Sat,Sun 00:00-24:00 Europe/Berlin"),
    "rollout_soak_seconds": (90, "90"),
    "rollout_soak_seconds_max": (900, "900"),
    "rollout_limits": ({"accuracy_min": 0.9}, "{accuracy_min: 0.9}"),
    "rollout_concurrency": (5, "5"),
    "rollout_attempt": (2, "2"),
    "rollout_approve_after": ([1, 2], "1,2"),
    "rollout_approved": (1, "1"),
    "rollout_plan_only": (False, "false"),
    "rollout_label_days": (3.0, "3"),
    "rollout_plan_page": ("plan.html", "plan.html"),
    "rollout_reason": ("better", "better"),
    "rollout_approved_by": ("ann", "ann"),
    "rollout_shadow_devices": (2, "2"),
    "rollout_accept_no_way_back": (True, "yes"),
    "rollout_evidence_key": ("~/keys/controller.pem", "~/keys/controller.pem"),
    "rollout_profiles_key": ("~/keys/controller.pub", "~/keys/controller.pub"),
    "rollout_ledger": ("/srv/ledger", "/srv/ledger"),
    "rollout_device_timeout": (60, "60"),
    "rollout_device_silence_seconds": (90.0, "90"),
    "rollout_jitter_seconds": (1.5, "1.5"),
    "rollout_min_ready_seconds": (0.5, "0.5"),
    "rollout_trial_seconds": (600.0, "600"),
    "rollout_trial_limits": ({"crashes_max": 1}, "{crashes_max: 1}"),
    "rollout_server": ({"strategy": "none"}, "{strategy: none}"),
    "rollout_fetch": (
        {"sources": ["http://cache"], "bytes_per_second": 9},
        "{sources: 'http://cache', bytes_per_second: '9'}",
    ),
    "rollout_transport": ("pull", "pull"),
    "rollout_pull": ({"fleet": "hall", "report_seconds": 60.0}, "{fleet: hall, report_seconds: '60'}"),
    "rollout_keep": (2, "2"),
    "rollout_model": ("faces", "faces"),
    "rollout_version": ("2.0", "2.0"),
    "rollout_repository": ("/srv", "/srv"),
}


def test_each_option_is_tried_below() -> None:
    assert set(AS_TEXT) == set(options.of_role())


@pytest.mark.parametrize("variable", AS_TEXT)
def test_a_value_is_the_same_given_as_text_and_as_its_own_type(variable: str) -> None:
    value, text = AS_TEXT[variable]
    kind = DeviceOptions if variable in DeviceOptions.spec() else RolloutOptions
    found = []
    for given in (value, text):
        read_options = kind.from_variables({**RELEASE, variable: given})
        found.append(getattr(read_options, variable.removeprefix("rollout_")))
    assert found == [value, value]
    assert type(found[1]) is type(value)


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("model_version", 2.0, 'model_version: expected a text; found the number 2.0. Quote it: model_version: "2.0"'),
        ("model_version", 2, 'Quote it: model_version: "2"'),
        ("model_name", None, "model_name is not set. Set it in the inventory, or with -e model_name="),
        ("model_name", " ", "model_name: expected a text that is not empty; found ' '"),
        ("rollout_approve_after", ["one"], "rollout_approve_after: expected a whole number from 1; found 'one'"),
        ("rollout_approve_after", [0], "rollout_approve_after: expected a whole number from 1; found 0"),
        ("rollout_approve_after", {"a": 1}, "rollout_approve_after: expected a list; found {'a': 1}"),
        ("rollout_concurrency", -1, "rollout_concurrency: expected a whole number from 0; found -1"),
        ("rollout_concurrency", "many", "rollout_concurrency: expected a whole number from 0; found 'many'"),
        ("rollout_soak_seconds", 1.5, "rollout_soak_seconds: expected a whole number from 0; found 1.5"),
        ("rollout_soak_seconds", True, "rollout_soak_seconds: expected a whole number from 0; found True"),
        ("rollout_soak_seconds", "nan", "rollout_soak_seconds: expected a whole number from 0; found 'nan'"),
        ("rollout_attempt", 0, "rollout_attempt: expected a whole number from 1; found 0"),
        ("rollout_plan_only", "perhaps", "rollout_plan_only: expected true or false; found 'perhaps'"),
        ("rollout_window", ["at night"], "rollout_window: window: expected a text like"),
        ("rollout_window", ["01:00-05:00 Europe/Bärlin"], "rollout_window: window: expected a zone like Europe/Berlin"),
        ("rollout_window", 7, "rollout_window: window: expected a text like"),
        ("rollout_waves", "[a", "rollout_waves: cannot be read as YAML"),
        ("rollout_limits", ["a"], "rollout_limits: expected a mapping; found ['a']"),
    ],
)
def test_a_value_that_cannot_be_one_is_refused_by_the_name_of_its_variable(
    variable: str, value: Any, message: str
) -> None:
    with pytest.raises(ArgumentError) as caught:
        read(**{variable: value})
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        (
            "rollout_trial_limits",
            {"crash_max": 1},
            "rollout_trial_limits: crash_max: no such option; expected crashes_max, error_rate_max",
        ),
        (
            "rollout_trial_limits",
            {"crashes_max": "many"},
            "rollout_trial_limits: crashes_max: expected a whole number from 0; found 'many'",
        ),
        (
            "rollout_server",
            {"strategy": "relaod"},
            "rollout_server: strategy: expected one of load, reload, restart, smp, none; found 'relaod'",
        ),
        ("rollout_keep", -1, "rollout_keep: expected a whole number from 0; found -1"),
        ("rollout_device_timeout", 0, "rollout_device_timeout: expected a whole number from 1; found 0"),
    ],
)
def test_a_device_s_options_are_checked_too(variable: str, value: Any, message: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        DeviceOptions.from_variables({variable: value})
    assert message in str(caught.value)


@pytest.mark.parametrize("missing", RELEASE)
def test_what_is_missing_is_named_with_how_to_give_it(missing: str) -> None:
    variables = {name: value for name, value in RELEASE.items() if name != missing}
    with pytest.raises(ArgumentError, match=f"{missing} is not set. Set it in the inventory, or with -e {missing}=…"):
        RolloutOptions.from_variables(variables)


def test_the_role_s_own_variable_comes_before_the_playbook_s() -> None:
    assert read(rollout_version="1.2.0").version == "1.2.0"


def test_the_ledger_s_options_need_no_release() -> None:
    assert LedgerOptions.from_variables({}).ledger == "~/.local/state/edgeml/rollouts"


@pytest.mark.parametrize(("soak", "most", "analyses"), [(60, 300, 5), (60, 30, 1), (0, 300, 1), (7, 20, 2)])
def test_how_often_a_wave_is_analysed(soak: int, most: int, analyses: int) -> None:
    assert read(rollout_soak_seconds=soak, rollout_soak_seconds_max=most).analyses_max == analyses
