# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is said of the settings of many devices: each device finds its own, and equal ones are said once."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.swap_settings import shared_settings, swap_settings

SETTINGS = st.sampled_from([swap_settings({"rollout_keep": keep}) for keep in (1, 2, 3)])
CLASSES = st.sampled_from(["small", "large", "other"])


def found_by(shared: dict[str, Any], host: str, device_class: str) -> Any:
    """What a device finds."""
    of_class = shared["device_classes"].get(device_class, shared["device"])
    return shared["devices"].get(host, of_class)


@settings(max_examples=25)
@given(st.dictionaries(st.text(max_size=3), st.tuples(CLASSES, SETTINGS), min_size=1, max_size=20))
def test_each_device_finds_its_own(fleet: dict[str, tuple[str, Any]]) -> None:
    classes = {host: device_class for host, (device_class, _own) in fleet.items()}
    shared = shared_settings({host: own for host, (_class, own) in fleet.items()}, classes)
    for host, (device_class, own) in fleet.items():
        assert found_by(shared, host, device_class) == own


def test_classes_that_differ_are_said_in_a_line_each() -> None:
    small, large = swap_settings({}), swap_settings({"rollout_trial_seconds": 900})
    own = {f"edge-{number}": large if number % 4 == 0 else small for number in range(1000)}
    classes = {f"edge-{number}": "large" if number % 4 == 0 else "small" for number in range(1000)}
    assert shared_settings(own, classes) == {"device": small, "device_classes": {"large": large}, "devices": {}}
