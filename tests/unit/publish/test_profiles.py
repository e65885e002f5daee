# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Profiles of device classes: what several devices come to, and whose signature is believed."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from profiles import NOW, measured

from ansible_collections.edgeml.fleet.plugins.module_utils._common.errors import ArgumentError
from ansible_collections.edgeml.fleet.plugins.plugin_utils._publish.profiles import (
    class_profile,
    declared_devices,
    energy,
    profile_row,
    read_profile,
    write_profile,
)
from ansible_collections.edgeml.fleet.plugins.plugin_utils._trust import keys


def test_a_class_is_what_each_of_its_devices_can_do() -> None:
    small = {"memory_bytes": 1 << 30, "runtimes": {"onnxruntime": "1.9.0", "ncnn": "1.0"}}
    profile = class_profile("pi-4", [measured(), measured(device=small, load_seconds=0.4)], NOW)
    assert (profile["devices"], profile["memory_bytes"]) == (2, 1 << 30)
    # The older one, by numbers and not by letters.
    assert profile["runtimes"] == {"onnxruntime": "1.9.0"}
    assert profile["load_seconds"] == pytest.approx(0.3)
    assert declared_devices([profile, {**profile, "memory_bytes": 5, "model": "other"}]) == [
        {"name": "pi-4", "architecture": "aarch64", "memory_bytes": 5, "runtimes": {"onnxruntime": "1.9.0"}}
    ]


def test_one_emulated_device_marks_the_profile() -> None:
    profile = class_profile("pi-4", [measured(), measured(device={"emulated": True})], NOW)
    assert profile["emulated"]
    assert profile_row(profile)["class"] == "pi-4 (emulated)"


def test_what_no_sensor_says_stays_open() -> None:
    silent = measured(idle_watts=None, watts=None, joules=[], celsius_before=None, celsius_max=None)
    row = profile_row(class_profile("pi-4", [silent], NOW))
    assert (row["power"], row["energy"], row["hottest"]) == ("-", "-", "-")


@pytest.mark.parametrize(
    "other", [measured(version="1.1.0"), measured(variant="onnx-int8"), measured(device={"architecture": "x86_64"})]
)
def test_devices_that_ran_something_else_make_no_profile(other: dict[str, Any]) -> None:
    with pytest.raises(ArgumentError, match="pi-4: expected one variant of one version on one architecture; found"):
        class_profile("pi-4", [measured(), other], NOW)


def test_energy_has_an_interval_over_windows_or_over_devices() -> None:
    one = energy([[1.0, 2.0, 3.0]])
    assert one is not None
    # 2 +- 4.303 * 1 / sqrt(3)
    assert (one["low"], one["mean"], one["high"]) == pytest.approx((-0.4843, 2.0, 4.4843), abs=1e-3)
    several = energy([[1.0, 1.0], [], [3.0, 3.0]])
    assert several is not None
    # 2 +- 12.706 * 1.4142 / sqrt(2)
    assert (several["mean"], several["high"]) == pytest.approx((2.0, 14.706), abs=1e-2)
    assert energy([[1.0]]) is None
    assert energy([]) is None


def test_a_profile_is_believed_by_its_signature(tmp_path: Path) -> None:
    key = keys.generate("controller")
    public = keys.public_path(keys.write(key, str(tmp_path), None))
    profile = class_profile("pi-4 2gb", [measured()], NOW)
    path = Path(write_profile(str(tmp_path / "models"), profile, key))
    assert path == tmp_path / "models/profiles/pi-4%202gb/digits.json"
    assert read_profile(str(path), public) == json.loads(json.dumps(profile))
    stranger = keys.public_path(keys.write(keys.generate("stranger"), str(tmp_path), None))
    with pytest.raises(
        ArgumentError,
        match=r"digits.json: .*stranger.pub; another key signed it",
    ):
        read_profile(str(path), stranger)
    envelope = json.loads(path.read_text())
    changed = base64.b64decode(envelope["payload"]).replace(b"2147483648", b"9147483648")
    path.write_text(json.dumps({**envelope, "payload": base64.b64encode(changed).decode()}))
    with pytest.raises(ArgumentError, match="another key signed it"):
        read_profile(str(path), public)
    path.write_text("{}")
    with pytest.raises(ArgumentError, match="expected an envelope"):
        read_profile(str(path), public)
