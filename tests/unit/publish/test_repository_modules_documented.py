# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The modules that work on the controller document the options that their actions take."""

from __future__ import annotations

import importlib

import pytest
from module_options import documented_options

PLUGINS = "ansible_collections.edgeml.fleet.plugins"


@pytest.mark.parametrize(
    "name",
    [
        "device_decommission",
        "image_release",
        "model_channel",
        "model_withdrawal",
        "model_repository_info",
        "model_repository_prune",
    ],
)
def test_each_option_is_documented_as_it_is(name: str) -> None:
    without_text = {
        option: {key: value for key, value in said.items() if key != "description"}
        for option, said in documented_options(name).items()
    }
    assert without_text == importlib.import_module(f"{PLUGINS}.action.{name}").ActionModule.arguments
