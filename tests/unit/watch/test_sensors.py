# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The sensors of boards, by trees such as the kernel documents: a Raspberry Pi 4, a Jetson Orin Nano, a gateway."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from ansible_collections.edgeml.fleet.plugins.module_utils._device.describe import counted_seconds, restarts
from ansible_collections.edgeml.fleet.plugins.module_utils._device.sensors import (
    Board,
    read_board,
    read_sensors,
    since_activation,
)
from ansible_collections.edgeml.fleet.plugins.module_utils._device.state import State

PI4 = {
    "sys/class/thermal/thermal_zone0/type": "cpu-thermal\n",
    "sys/class/thermal/thermal_zone0/temp": "61829\n",
    "sys/devices/platform/soc/soc:firmware/get_throttled": "50005\n",
    "sys/class/thermal/cooling_device0/type": "thermal-cpufreq-0\n",
    "sys/class/thermal/cooling_device0/cur_state": "0\n",
    "sys/class/hwmon/hwmon0/name": "cpu_thermal\n",
    "sys/class/hwmon/hwmon0/temp1_input": "61829\n",
    "sys/class/hwmon/hwmon1/name": "rpi_volt\n",
    "sys/class/hwmon/hwmon1/in0_lcrit_alarm": "0\n",
}
JETSON = {
    "sys/class/thermal/thermal_zone0/type": "cpu-thermal\n",
    "sys/class/thermal/thermal_zone0/temp": "48250\n",
    "sys/class/thermal/thermal_zone1/type": "gpu-thermal\n",
    "sys/class/thermal/thermal_zone1/temp": "-256000\n",
    "sys/class/thermal/thermal_zone10/type": "cpu-thermal\n",
    "sys/class/thermal/thermal_zone10/temp": "47000\n",
    "sys/class/thermal/cooling_device0/type": "cpufreq-cpu0\n",
    "sys/class/thermal/cooling_device0/cur_state": "0\n",
    "sys/class/thermal/cooling_device1/type": "cpufreq-cpu4\n",
    "sys/class/thermal/cooling_device1/cur_state": "2\n",
    "sys/class/thermal/cooling_device2/type": "pwm-fan\n",
    "sys/class/thermal/cooling_device2/cur_state": "3\n",
    "sys/class/hwmon/hwmon3/name": "ina3221\n",
    "sys/class/hwmon/hwmon3/in1_label": "VDD_IN\n",
    "sys/class/hwmon/hwmon3/in1_input": "5080\n",
    "sys/class/hwmon/hwmon3/curr1_input": "944\n",
    "sys/class/hwmon/hwmon3/in4_input": "5000\n",
    "sys/class/hwmon/hwmon3/curr4_input": "10\n",
}
GATEWAY = {
    "sys/class/hwmon/hwmon0/name": "ina230\n",
    "sys/class/hwmon/hwmon0/power1_input": "2450000\n",
    "sys/class/hwmon/hwmon1/name": "ina230\n",
    "sys/class/hwmon/hwmon1/power1_input": "1200000\n",
    "sys/class/power_supply/bat0/power_now": "-3100000\n",
    "sys/class/power_supply/ac/online": "1\n",
}


def board(directory: Path, files: Mapping[str, str]) -> list[tuple[object, ...]]:
    """What the sensors of a tree say: metric, label and value."""
    for name, content in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return [(name, *labels.values(), value) for name, labels, value in read_sensors(str(directory))]


def test_a_raspberry_pi(tmp_path: Path) -> None:
    # 0x50005: under-voltage and throttled, now and before.
    assert board(tmp_path, PI4) == [
        ("edgeml_temperature_celsius", "cpu-thermal", 61.829),
        ("edgeml_throttled", "undervoltage", 1),
        ("edgeml_throttled", "frequency_capped", 0),
        ("edgeml_throttled", "throttled", 1),
        ("edgeml_throttled", "soft_temperature_limit", 0),
        ("edgeml_throttled", "cooling", 0),
    ]


def test_a_jetson(tmp_path: Path) -> None:
    assert board(tmp_path, JETSON) == [
        ("edgeml_temperature_celsius", "cpu-thermal", 48.25),
        ("edgeml_temperature_celsius", "cpu-thermal 2", 47),
        ("edgeml_throttled", "cooling", 1),
        ("edgeml_power_watts", "ina3221 VDD_IN", pytest.approx(4.79552)),
    ]


def test_a_gateway_with_meters_and_a_battery(tmp_path: Path) -> None:
    assert board(tmp_path, GATEWAY) == [
        ("edgeml_power_watts", "ina230 power1", 2.45),
        ("edgeml_power_watts", "ina230 power1 2", 1.2),
        ("edgeml_power_watts", "bat0", 3.1),
    ]


@pytest.mark.parametrize("content", ["", "hot\n", "\xff", "0x\n"])
def test_what_a_sensor_does_not_say_is_left_out(tmp_path: Path, content: str) -> None:
    assert board(tmp_path, dict.fromkeys({**PI4, **JETSON, **GATEWAY}, content)) == []


def test_a_board_without_sensors_says_nothing(tmp_path: Path) -> None:
    assert read_sensors(str(tmp_path)) == []


# ---- what the gate judges of them ----

METERED = {
    "sys/class/hwmon/hwmon0/name": "sbtsi\n",
    "sys/class/hwmon/hwmon0/energy1_input": "1500000000\n",
    "sys/class/hwmon/hwmon0/energy2_input": "500000000\n",
    "sys/devices/system/cpu/cpufreq/policy0/cpuinfo_max_freq": "1800000\n",
    "sys/devices/system/cpu/cpufreq/policy0/scaling_max_freq": "1800000\n",
    "sys/devices/system/cpu/cpufreq/policy0/scaling_cur_freq": "600000\n",
    "sys/devices/system/cpu/cpufreq/policy4/cpuinfo_max_freq": "2400000\n",
    "sys/devices/system/cpu/cpufreq/policy4/scaling_max_freq": "1200000\n",
}


def test_the_energy_of_all_counters_and_the_slowest_processor_s_limit(tmp_path: Path) -> None:
    board(tmp_path, METERED)
    assert read_board(str(tmp_path)) == Board(2000.0, None, None, 0.5)


def test_a_power_meter_is_averaged_where_nothing_counts_energy(tmp_path: Path) -> None:
    board(tmp_path, GATEWAY)
    found = read_board(str(tmp_path))
    assert found is not None
    assert found.energy_joules is None
    assert found.power_watts == pytest.approx(2.45 + 1.2 + 3.1)


def test_a_clock_that_the_firmware_holds_down_counts_itself(tmp_path: Path) -> None:
    board(tmp_path, {**PI4, **{name: text for name, text in METERED.items() if "policy0" in name}})
    assert read_board(str(tmp_path)) == Board(None, None, 61.829, 600 / 1800)


def test_a_board_without_sensors_is_none(tmp_path: Path) -> None:
    assert read_board(str(tmp_path)) is None


def test_what_is_counted_was_counted_since_the_server_started_if_that_was_later() -> None:
    day, now = 86400.0, time.time()
    assert counted_seconds(30 * day, now - 3600) == pytest.approx(3600, abs=60)
    assert counted_seconds(600.0, now - day) == 600.0
    # Clocks are not that exact, nor is one that was wrong when the server started.
    for started in (now - 595, now + 50, None):
        assert counted_seconds(600.0, started) == 600.0
    assert counted_seconds(None, now) is None
    # One that starts while the clock is set back a little has counted for no time, and not for less.
    assert counted_seconds(600.0, now + 5) == 0.0


def test_a_server_that_started_when_the_clock_was_wrong_has_not_started_anew() -> None:
    now = time.time()
    for started, seen in ((now - 86400, 0), (now + 50, 0), (now - 60, 1)):
        assert restarts(State("1.1.0"), {}, {"started": started}, 600.0) == seen
    assert restarts(State("1.1.0"), {}, {"started": None}, 600.0) is None


def test_energy_is_counted_since_the_version_became_active() -> None:
    now = Board(2000.0, None, 50.0, 1.0)
    begun = {"begun": {"energy_joules": 1900.0}}
    assert since_activation(now, begun, 200, 60.0, 60.0)["energy_joules"] == 100.0
    # The server has started anew, and its requests are those of a quarter of the time.
    assert since_activation(now, begun, 50, 60.0, 15.0)["energy_joules"] == 25.0
    # The board has started anew, and its counter with it.
    assert since_activation(now, {"begun": {"energy_joules": 2001.0}}, 200, 60.0, 20.0)["energy_joules"] == 2000.0
    # Nobody noted where it was then.
    assert since_activation(now, {}, 200, 60.0, 60.0) == {
        **now._asdict(),
        "energy_joules": None,
        "requests": 200,
        "seconds": 60.0,
    }
