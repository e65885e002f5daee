# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""Cohorts: which hosts come first. One pure function decides it, wherever it is asked."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from fractions import Fraction
from typing import Any, Collection, Dict, Iterable, Iterator, Mapping, NamedTuple, Sequence, Tuple, Union

from ansible_collections.edgeml.fleet.plugins.module_utils._common.errors import ArgumentError
from ansible_collections.edgeml.fleet.plugins.module_utils._common.records import is_whole
from ansible_collections.edgeml.fleet.plugins.module_utils._release.cohort import (
    POSITION_STEP,
    position,
    read_boundaries,
    wave_number,
)

from .outcome import Outcome

# Controls of one device class in one wave: more would tell the gate little, and each of them is read twice.
CONTROLS_MAX = 20

DEFAULT_WAVES = ("canary", "10%", "50%", "100%")

# What variables of an inventory in INI format, where everything is a text, say for false.
_NO = {"", "false", "no", "off", "0"}

_NUMBER = re.compile(r"[0-9]+", re.ASCII)
_PERCENT = re.compile(r"([0-9]+(?:\.[0-9]+)?) ?%", re.ASCII)

# Why a host may be left out; of several reasons the first counts.
_LEFT_OUT = (Outcome.DECOMMISSIONED, Outcome.PINNED, Outcome.MAINTENANCE)

Amount = Union[int, str]
Boundaries = Dict[str, Any]
_Step = Tuple[str, Union[str, None], "list[str]"]


class LeftOut(NamedTuple):
    """Why a device takes no part: it is out of service, pinned, or under maintenance, for a reason."""

    outcome: Outcome
    reason: str

    def __str__(self) -> str:
        """Return it as people read it."""
        return f"{self.outcome}: {self.reason}"


class Host(NamedTuple):
    """A device of the fleet: the class that it belongs to, and why it takes no part, if it does not."""

    device_class: str
    left_out: LeftOut | None = None


class Wave(NamedTuple):
    """One step of a rollout: its hosts in order of position."""

    name: str
    hosts: list[str]


class Plan(NamedTuple):
    """What ``plan`` decides. ``controls`` has one mapping (host to control) for each of ``waves``."""

    waves: list[Wave]
    left_out: dict[str, LeftOut]
    controls: list[dict[str, str]]
    boundaries: Boundaries

    def document(self) -> dict[str, Any]:
        """The plan as JSON's types."""
        numbers = {wave["name"]: number for number, wave in enumerate(self.boundaries["waves"], 1)}
        waves = [{"number": numbers[wave.name], "name": wave.name, "hosts": wave.hosts} for wave in self.waves]
        left_out = {name: str(why) for name, why in self.left_out.items()}
        return {"waves": waves, "left_out": left_out, "controls": self.controls, "boundaries": self.boundaries}


class _Target(NamedTuple):
    """How far a wave goes: to a share of the fleet (0 to 1), to a count of hosts, or over the members of a group."""

    name: str
    share: float | None = None
    number: int | None = None
    group: str | None = None


def read_hosts(hosts: Mapping[str, Any]) -> dict[str, Host]:
    """Turn ``{name: device_class}`` or ``{name: {device_class, decommissioned, pinned, maintenance}}`` into hosts.

    The last three are a reason, true, or nothing. Raises ArgumentError.
    """
    return {str(name): _read_host(str(name), found) for name, found in hosts.items()}


def _read_host(name: str, found: Any) -> Host:
    if isinstance(found, str):
        return Host(found)
    if not isinstance(found, Mapping) or not isinstance(found.get("device_class"), str):
        raise ArgumentError(f"hosts: {name}: expected a device class, or a mapping with one; found {found!r}")
    known = ("device_class", *(outcome.value for outcome in _LEFT_OUT))
    unknown = sorted(set(found).difference(known))
    if unknown:
        raise ArgumentError(f"hosts: {name}: expected {', '.join(known)}; found {', '.join(unknown)}")
    for outcome in _LEFT_OUT:
        value = found.get(outcome.value)
        reason = "yes" if value is True else str(value or "").strip()
        if reason.lower() not in _NO:
            return Host(found["device_class"], LeftOut(outcome, reason))
    return Host(found["device_class"])


def plan(
    hosts: Mapping[str, Host],
    targets: Sequence[Amount],
    salt: str,
    groups: Mapping[str, Iterable[str]] | None = None,
    max_unavailable: Amount | Mapping[str, Amount] | None = None,
    only: Iterable[str] | None = None,
    boundaries: Mapping[str, Any] | None = None,
) -> Plan:
    """Split the fleet into waves.

    ``hosts`` is the whole fleet, ``only`` (all, unless given) the hosts to return. Who comes first is decided by
    ``position``. Each of ``targets`` says how far the rollout has come after its wave:

    - "10%": every host whose position is below 0.1;
    - 5: the hosts of lowest position, until with those of the waves before there are five;
    - "canary", any other text: the members of that one of ``groups``, and nobody else.

    After a percentage or a count each class is represented: its host of lowest position belongs in any case. The last
    target is "100%". Hosts that are left out take no part.

    ``max_unavailable`` (a count, or a percentage of the class's hosts that take part, rounded down, at least 1; for
    all classes or for each) splits a wave until no part holds more hosts of a class. Waves without hosts are left out.

    A host's control is one of its class in a later wave: the next in line; each is the control of one host of a wave.
    Only the first CONTROLS_MAX hosts of a wave's device class have one.

    ``boundaries``, of an earlier plan, takes the place of the fleet: each of ``hosts`` gets the wave that it had there,
    whatever other hosts there are. A host that was not there gets the wave that its position has in its class, or
    the last.

    Raises ArgumentError.
    """
    left_out = {name: host.left_out for name, host in hosts.items() if host.left_out is not None}
    order = sorted((position(salt, name), name) for name in hosts if name not in left_out)
    places = {name: place for place, name in order}
    device_classes = {name: hosts[name].device_class for name in places}
    wanted = _read_targets(targets)
    if boundaries is None:
        limits = _limits(max_unavailable, Counter(device_classes.values()))
        steps = list(_split(_choose(places, device_classes, wanted, groups or {}), device_classes, limits))
        boundaries = _boundaries(salt, steps, device_classes, places)
        waves = [Wave(name, chosen) for name, _group, chosen in steps if chosen]
    else:
        waves = _follow(places, device_classes, groups or {}, salt, boundaries)
    if only is not None:
        asked = set(only)
        left_out = {name: reason for name, reason in left_out.items() if name in asked}
        kept = [Wave(wave.name, [name for name in wave.hosts if name in asked]) for wave in waves]
        waves = [wave for wave in kept if wave.hosts]
    return Plan(waves, left_out, _controls(waves, device_classes), dict(boundaries))


# ---- targets and budgets ----


def _read_targets(targets: Sequence[Amount]) -> list[_Target]:
    if isinstance(targets, str) or not isinstance(targets, Sequence):
        raise ArgumentError(f"waves: expected a list; found {targets!r}")
    found = [_read_target(target) for target in targets]
    if not found or found[-1].share != 1:
        last = repr(targets[-1]) if found else "no wave"
        raise ArgumentError(f'waves: expected "100%" as the last one (a number without % is a count); found {last}')
    shares = [target.share for target in found if target.share is not None]
    counts = [target.number for target in found if target.number is not None]
    if shares != sorted(set(shares)) or counts != sorted(set(counts)):
        raise ArgumentError(f"waves: expected percentages that rise, and counts that rise; found {list(targets)}")
    return found


def _read_target(target: Any) -> _Target:
    amount = _read_amount(target)
    if isinstance(amount, Fraction):
        return _Target(target.strip(), share=float(amount))
    if isinstance(amount, int):
        return _Target(str(amount), number=amount)
    if not isinstance(target, str) or not target or "%" in target or target.lstrip("+-").isdecimal():
        raise ArgumentError(
            f'waves: expected a count from 1, a percentage above "0%", up to "100%", or a group; found {target!r}'
        )
    return _Target(target, group=target)


def _read_amount(amount: Any) -> int | Fraction | None:
    """A count as int, a percentage as a share (above 0, at most 1), or None for anything else."""
    if is_whole(amount):
        return amount if amount > 0 else None
    text = amount.strip() if isinstance(amount, str) else ""
    percent = _PERCENT.fullmatch(text)
    if percent:
        share = Fraction(percent[1]) / 100
        return share if 0 < share <= 1 else None
    return int(text) or None if _NUMBER.fullmatch(text) else None


def _limits(max_unavailable: Any, sizes: Mapping[str, int]) -> dict[str, int]:
    """The most hosts that a wave may hold, by device class; ``sizes`` has the hosts of each device class."""
    if max_unavailable is None:
        return {}
    if not isinstance(max_unavailable, Mapping):
        return {device_class: _limit(max_unavailable, size, "") for device_class, size in sizes.items()}
    unknown = sorted(str(device_class) for device_class in set(max_unavailable) - set(sizes))
    if unknown and sizes:
        raise ArgumentError(
            f"max_unavailable: no device belongs to {', '.join(map(repr, unknown))};"
            f" the device classes are {', '.join(map(repr, sorted(sizes)))}"
        )
    return {
        device_class: _limit(most, sizes.get(device_class, 0), f"{device_class}: ")
        for device_class, most in max_unavailable.items()
    }


def _limit(most: Any, size: int, where: str) -> int:
    amount = _read_amount(most)
    if amount is None:
        raise ArgumentError(
            f'max_unavailable: {where}expected a count from 1, or a percentage above "0%", up to "100%"; found {most!r}'
        )
    return amount if isinstance(amount, int) else max(1, int(amount * size))


# ---- a plan of the whole fleet ----


def _choose(
    places: Mapping[str, float],
    device_classes: Mapping[str, str],
    targets: Iterable[_Target],
    groups: Mapping[str, Iterable[str]],
) -> Iterator[tuple[_Target, list[str]]]:
    """The hosts that each target adds to those before it, in order of position, which is that of ``places``."""
    first: dict[str, str] = {}
    for name, device_class in device_classes.items():
        first.setdefault(device_class, name)
    leaders = set(first.values())
    rest, done = list(places), 0
    for target in targets:
        if target.group is not None:
            members = _members(groups, target.group)
            chosen = [name for name in rest if name in members]
            rest = [name for name in rest if name not in members]
            leaders -= members
        else:
            end = _reach(rest, places, leaders, target, done)
            chosen, rest = rest[:end], rest[end:]
            if leaders:
                chosen += [name for name in rest if name in leaders]
                rest = [name for name in rest if name not in leaders]
                leaders = set()
        yield target, chosen
        done += len(chosen)


def _reach(
    rest: Sequence[str], places: Mapping[str, float], leaders: Collection[str], target: _Target, done: int
) -> int:
    """How many of the ``rest``, from its start, belong to a share, or to a count of which ``done`` are there already.

    ``leaders`` are the representatives among the ``rest``: they belong in any case, and are counted.
    """
    if target.share is not None:
        if target.share == 1:
            return len(rest)
        return next((index for index, name in enumerate(rest) if places[name] >= (target.share or 0)), len(rest))
    room = (target.number or 0) - done - len(leaders)
    for index, name in enumerate(rest):
        if name not in leaders:
            if room <= 0:
                return index
            room -= 1
    return len(rest)


def _members(groups: Mapping[str, Iterable[str]], name: str) -> set[str]:
    found = groups.get(name, ())
    if isinstance(found, str):
        raise ArgumentError(f"groups: {name}: expected a list of hosts; found {found!r}")
    return set(found)


def _split(
    chosen: Iterable[tuple[_Target, list[str]]], device_classes: Mapping[str, str], limits: Mapping[str, int]
) -> Iterator[_Step]:
    """Name, group and hosts of each wave. The parts of a split one are filled one after the other."""
    for target, names in chosen:
        if not limits:
            yield target.name, target.group, names
            continue
        sizes: Counter[str] = Counter()
        parts: list[list[str]] = [[]]
        for name in names:
            device_class = device_classes[name]
            part = sizes[device_class] // limits[device_class] if device_class in limits else 0
            sizes[device_class] += 1
            if part == len(parts):
                parts.append([])
            parts[part].append(name)
        for number, part_names in enumerate(parts, 1):
            name = target.name if len(parts) == 1 else f"{target.name} ({number} of {len(parts)})"
            yield name, target.group, part_names


def _boundaries(
    salt: str, steps: Sequence[_Step], device_classes: Mapping[str, str], places: Mapping[str, float]
) -> Boundaries:
    """The positions, by wave and class, below which a host belongs: all that is needed to decide as for the fleet."""
    waves = []
    for number, (name, group, hosts) in enumerate(steps, 1):
        below = {
            device_class: places[names[-1]] + POSITION_STEP
            for device_class, names in _by_device_class(hosts, device_classes).items()
        }
        if below or number == len(steps):
            waves.append({"name": name, "group": group, "below": below})
    return {"salt": salt, "waves": waves}


# ---- a plan by the cuts of another ----


def _follow(
    places: Mapping[str, float],
    device_classes: Mapping[str, str],
    groups: Mapping[str, Iterable[str]],
    salt: str,
    boundaries: Mapping[str, Any],
) -> list[Wave]:
    followed = read_boundaries(boundaries)
    if followed.salt != salt:
        raise ArgumentError(
            f"boundaries: expected those of a plan with the salt {salt!r}; found the salt {followed.salt!r}"
        )
    members = {wave.group: _members(groups, wave.group) for wave in followed.waves if wave.group is not None}
    waves = [Wave(wave.name, []) for wave in followed.waves]
    for name, place in places.items():
        waves[wave_number(followed.waves, name, device_classes[name], place, members) - 1].hosts.append(name)
    return [wave for wave in waves if wave.hosts]


# ---- controls ----


def _controls(waves: Sequence[Wave], device_classes: Mapping[str, str]) -> list[dict[str, str]]:
    divided = [_by_device_class(wave.hosts, device_classes) for wave in waves]
    line: defaultdict[str, list[str]] = defaultdict(list)
    for wave in divided:
        for device_class, names in wave.items():
            line[device_class] += names
    done: Counter[str] = Counter()
    controls = []
    for wave in divided:
        pairs: dict[str, str] = {}
        for device_class, names in wave.items():
            done[device_class] += len(names)
            most = min(len(names), CONTROLS_MAX)
            pairs.update(zip(names, line[device_class][done[device_class] : done[device_class] + most]))
        controls.append(pairs)
    return controls


def _by_device_class(names: Iterable[str], device_classes: Mapping[str, str]) -> dict[str, list[str]]:
    found: defaultdict[str, list[str]] = defaultdict(list)
    for name in names:
        found[device_classes[name]].append(name)
    return found
