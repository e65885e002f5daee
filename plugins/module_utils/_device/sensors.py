# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""What the board's own sensors say: temperature, throttling, clock, power and energy, from sysfs. A board without them
says nothing.

The interfaces of the kernel: https://docs.kernel.org/driver-api/thermal/sysfs-api.html,
https://docs.kernel.org/hwmon/sysfs-interface.html. Raspberry Pi: the firmware's ``get_throttled``.
"""

from __future__ import annotations

import contextlib
import glob
import os
import time
from typing import Any, Iterator, Mapping, NamedTuple

from .accelerator import power_mode
from .facts import read_text
from .metrics import Sample

# The bits of the Raspberry Pi's firmware, of what is so right now.
_FIRMWARE = {0: "undervoltage", 1: "frequency_capped", 2: "throttled", 3: "soft_temperature_limit"}
# A meter tells the power of a moment: a few are averaged.
_POWER_READINGS, _POWER_SECONDS = 5, 0.04
_FIRMWARE_FILE = "sys/devices/platform/soc/soc:firmware/get_throttled"


class Board(NamedTuple):
    """What the board's sensors say now, each None where there is no such sensor.

    ``energy_joules`` is a counter that began at some time; ``power_watts``, where there is none, the sum of all meters,
    averaged over a moment. ``temperature_celsius`` is the hottest sensor's, ``clock_ratio`` how fast the slowest
    processor may run now, of its highest clock. ``power_mode`` is that of a Jetson.
    """

    energy_joules: float | None
    power_watts: float | None
    temperature_celsius: float | None
    clock_ratio: float | None
    power_mode: str | None = None


def read_board(root: str = "/") -> Board | None:
    """Return what the gate judges of the sensors below ``root``; None of a board that has none."""
    energy = _energy(root)
    watts = [] if energy is not None else _power_readings(root)
    degrees = [value for _name, _labels, value in _temperatures(root)]
    board = Board(
        energy_joules=energy,
        power_watts=sum(watts) / len(watts) if watts else None,
        temperature_celsius=max(degrees) if degrees else None,
        clock_ratio=_clock_ratio(root),
        power_mode=power_mode(root) or None,
    )
    return None if board == Board(None, None, None, None) else board


def since_activation(
    board: Board,
    activation: Mapping[str, Any],
    requests: int | None,
    age: float | None,
    seconds: float | None,
) -> dict[str, Any]:
    """Return what the sensors say of a version for the time in which its requests were counted.

    ``activation`` is the journal's entry, of that ``age``; ``requests`` were counted in the last ``seconds`` of it. Of
    energy that was counted for longer, as by a board whose server started anew, the average of a second is taken.
    """
    begun = (activation.get("begun") or {}).get("energy_joules")
    energy = None
    if board.energy_joules is not None and begun is not None:
        # Lower than it was: the board has started anew, and its server with it.
        energy = board.energy_joules
        if energy >= begun:
            energy = (energy - begun) * (seconds / age if age and seconds is not None else 1.0)
    return {**board._asdict(), "energy_joules": energy, "requests": requests, "seconds": seconds}


def read_sensors(root: str = "/") -> list[Sample]:
    """Return the samples of all sensors that are below ``root``, where sys is mounted."""
    return [*_temperatures(root), *_throttling(root), *_powers(root)]


def _temperatures(root: str) -> Iterator[Sample]:
    names: dict[str, int] = {}
    for zone in _directories(root, "sys/class/thermal/thermal_zone*"):
        millidegrees = _number(zone, "temp")
        # A sensor that is off says so by an impossible value.
        if millidegrees is not None and -50_000 < millidegrees < 250_000:
            name = _unique(_text(zone, "type") or os.path.basename(zone), names)
            yield "edgeml_temperature_celsius", {"sensor": name}, millidegrees / 1000


def _throttling(root: str) -> Iterator[Sample]:
    firmware = _text(os.path.join(root, os.path.dirname(_FIRMWARE_FILE)), os.path.basename(_FIRMWARE_FILE))
    with contextlib.suppress(ValueError):
        if firmware is not None:
            flags = int(firmware, 16)
            for bit, cause in _FIRMWARE.items():
                yield "edgeml_throttled", {"cause": cause}, float(flags >> bit & 1)
    # Elsewhere the kernel holds the clock of the processors down, as a device that cools.
    cooling = [
        _number(device, "cur_state")
        for device in _directories(root, "sys/class/thermal/cooling_device*")
        if "cpufreq" in (_text(device, "type") or "")
    ]
    known = [state for state in cooling if state is not None]
    if known:
        yield "edgeml_throttled", {"cause": "cooling"}, float(any(state > 0 for state in known))


def _powers(root: str) -> Iterator[Sample]:
    names: dict[str, int] = {}
    for chip in _directories(root, "sys/class/hwmon/hwmon*"):
        title = _text(chip, "name") or os.path.basename(chip)
        for path in sorted(glob.glob(os.path.join(glob.escape(chip), "power*_input"))):
            number = os.path.basename(path)[len("power") : -len("_input")]
            microwatts = _number(chip, f"power{number}_input")
            if microwatts is not None:
                label = _text(chip, f"power{number}_label") or f"power{number}"
                yield "edgeml_power_watts", {"sensor": _unique(f"{title} {label}", names)}, microwatts / 1e6
        # Such as the INA3221 of a Jetson, which measures millivolts and milliamperes.
        for path in sorted(glob.glob(os.path.join(glob.escape(chip), "curr*_input"))):
            number = os.path.basename(path)[len("curr") : -len("_input")]
            volts, amperes = _number(chip, f"in{number}_input"), _number(chip, f"curr{number}_input")
            rail = _text(chip, f"in{number}_label")
            # Only what has a name is a rail of the board; of others nobody knows whether the two belong together.
            if volts is not None and amperes is not None and rail:
                yield "edgeml_power_watts", {"sensor": _unique(f"{title} {rail}", names)}, volts * amperes / 1e6
    for supply in _directories(root, "sys/class/power_supply/*"):
        microwatts = _number(supply, "power_now")
        if microwatts is not None:
            yield "edgeml_power_watts", {"sensor": _unique(os.path.basename(supply), names)}, abs(microwatts) / 1e6


def _power_readings(root: str) -> list[float]:
    """The power of all meters together, a few times; nothing where there is none."""
    readings = []
    for number in range(_POWER_READINGS):
        if number:
            time.sleep(_POWER_SECONDS)
        watts = [value for _name, _labels, value in _powers(root)]
        if not watts:
            break
        readings.append(sum(watts))
    return readings


def _energy(root: str) -> float | None:
    """The sum of the counters of energy, which hwmon has in microjoules."""
    found = [
        microjoules
        for chip in _directories(root, "sys/class/hwmon/hwmon*")
        for path in sorted(glob.glob(os.path.join(glob.escape(chip), "energy*_input")))
        if (microjoules := _number(chip, os.path.basename(path))) is not None
    ]
    return sum(found) / 1e6 if found else None


def _clock_ratio(root: str) -> float | None:
    """How fast the slowest processor may run now.

    A governor that saves power does not lower it; a limit of the kernel does. Where the firmware holds the clock down,
    the kernel's limit does not say so, and the clock itself counts.
    """
    held_down = any(
        value for _name, labels, value in _throttling(root) if labels["cause"] in ("frequency_capped", "throttled")
    )
    limit = "scaling_cur_freq" if held_down else "scaling_max_freq"
    ratios = []
    for policy in _directories(root, "sys/devices/system/cpu/cpufreq/policy*"):
        allowed, highest = _number(policy, limit), _number(policy, "cpuinfo_max_freq")
        if allowed and highest:
            ratios.append(min(allowed / highest, 1.0))
    return min(ratios) if ratios else None


def _directories(root: str, pattern: str) -> list[str]:
    """In the order of their numbers: a pattern sorts 10 before 2."""
    found = glob.glob(os.path.join(glob.escape(root), pattern))
    return sorted(found, key=lambda path: (len(path), path))


def _unique(name: str, names: dict[str, int]) -> str:
    """The name, with its number from the second sensor of that name on."""
    names[name] = names.get(name, 0) + 1
    return name if names[name] == 1 else f"{name} {names[name]}"


def _text(directory: str, name: str) -> str | None:
    return read_text(os.path.join(directory, name)).strip("\0\n ") or None


def _number(directory: str, name: str) -> float | None:
    """A number of a file; None also where the sensor does not answer, which sysfs tells by an error at the read."""
    text = _text(directory, name)
    try:
        return None if text is None else float(int(text))
    except ValueError:
        return None
