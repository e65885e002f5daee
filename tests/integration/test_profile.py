# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The playbook ``profile``: a real server is measured, and a publication reads what was kept."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from controller import DIGITS, Ansible
from device import Device

from ansible_collections.edgeml.fleet.plugins.plugin_utils._publish.profiles import read_profile
from ansible_collections.edgeml.fleet.plugins.plugin_utils._trust import keys

SENSORS = {
    "class/thermal/thermal_zone0/type": "cpu-thermal",
    "class/thermal/thermal_zone0/temp": "48250",
    "class/hwmon/hwmon0/name": "ina230",
    "class/hwmon/hwmon0/power1_input": "2450000",
}


@pytest.mark.end_to_end
def test_a_class_is_measured_and_kept(tmp_path: Path, fleet: dict[str, Device]) -> None:
    device = fleet["edge-s1"]
    for name, text in SENSORS.items():
        path = tmp_path / "board/sys" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    ansible = Ansible(tmp_path, [device])
    swap = {"model": "digits", "version": "1.0.0", "trial_seconds": 0}
    options = {"model": "digits", "burst": 5, "seconds": 0.5}
    swapped, measured, sensed = ansible.tasks(
        {"edgeml.fleet.model_swap": {**swap, "repository": str(DIGITS)}},
        {"edgeml.fleet.device_profile": options},
        {"edgeml.fleet.device_profile": {**options, "root": str(tmp_path / "board")}},
    )
    assert swapped["changed"], swapped
    profile = measured["profile"]
    assert (profile["version"], profile["variant"]) == ("1.0.0", "onnx-fp32")
    assert 0 < profile["burst"]["p50_seconds"] <= profile["burst"]["p95_seconds"]
    assert profile["sustained"]["requests_per_second"] > 0
    assert profile["resident_bytes"] > 0
    assert profile["load_seconds"] > 0
    # None of what is asked is traffic.
    assert "edgeml_inference_requests_total{" not in device.server.metrics()
    # The board uses as much at rest as at work: no inference takes anything.
    assert (sensed["profile"]["celsius_max"], sensed["profile"]["watts"]) == (48.25, 2.45)
    assert list(sensed["profile"]["joules"]) == pytest.approx([0.0] * len(sensed["profile"]["joules"]), abs=1e-9)

    key = keys.write(keys.generate("controller"), str(tmp_path / "keys"), None)
    models = str(tmp_path / "models")
    variables = {"model_name": "digits", "model_repository": models, "profile_hosts": device.name, "profile_key": key}
    run = ansible.run("edgeml.fleet.profile", profile_seconds=0.5, profile_burst=5, **variables)
    assert run.code == 0, run
    assert run.custom_stats["profile_classes"] == ["small"]
    kept = read_profile(f"{models}/profiles/small/digits.json", keys.public_path(key))
    assert (kept["device_class"], kept["version"], kept["devices"]) == ("small", "1.0.0", 1)
    lookup = f"edgeml.fleet.device_profiles', '{models}', public_key='{keys.public_path(key)}', declared=true"
    (shown,) = ansible.tasks({"ansible.builtin.debug": {"msg": "{{ query('" + lookup + ") }}"}})
    assert [entry["name"] for entry in shown["msg"]] == ["small"]

    # A rollout of the same variant reads it, and refuses before it touches a device.
    shutil.copytree(DIGITS, models, dirs_exist_ok=True)
    release = {"model_name": "digits", "model_version": "1.0.0", "model_repository": models}
    keyed = {**release, "model_repository_unsigned": True, "rollout_profiles_key": keys.public_path(key)}
    before = device.events()
    refused = ansible.run("edgeml.fleet.rollout", **keyed, rollout_limits={"latency_seconds_max": 1e-6})
    assert refused.code != 0
    assert "device class small (1 device): requests took " in str(refused)
    assert "rollout_limits allow 1e-06 s (latency_seconds_max); measured with digits 1.0.0" in str(refused)
    assert device.events() == before
