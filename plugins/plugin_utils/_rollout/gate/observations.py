# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""The devices of a wave and its controls: the outcome of each, and what it measured. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Iterable, Mapping, Sequence, Union

from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.outcome import ON_NEW_VERSION, outcome

from .measurements import NOT_MEASURED, Observation
from .reader import Reader, unasked


@dataclass(frozen=True)
class DeviceObservation:
    """One device of the wave: its ``outcome`` and, where it reported, its observations.

    ``first_installation``: the new version replaced none. ``now`` is the new version since it became active, ``past``
    the version before until then; their probe results are answers to the same questions. ``problems`` names values
    that are not valid, ``unasked`` why the version before could not be asked these questions. ``probe_expected``: the
    release has a probe set, and the device was to answer it.
    """

    name: str
    device_class: str
    outcome: str
    first_installation: bool = False
    now: Observation = NOT_MEASURED
    past: Observation = NOT_MEASURED
    problems: tuple[str, ...] = ()
    probe_expected: bool = True
    unasked: str = ""


@dataclass(frozen=True)
class Control:
    """A device that keeps the old version: ``now`` is what it measured during the soak, ``past`` what it did before."""

    name: str
    device_class: str
    now: Observation
    past: Observation


@dataclass(frozen=True)
class Groups:
    """The devices of a wave that serve the new version and the controls, by device class.

    ``profiled`` is what the profile of a class says: the 95th percentile of the requests' time, in seconds.
    """

    wave: Mapping[str, Sequence[DeviceObservation]]
    controls: Mapping[str, Sequence[Control]]
    profiled: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        serving: Sequence[DeviceObservation],
        controls: Sequence[Control],
        profiled: Mapping[str, float] | None = None,
    ) -> Groups:
        """Group the devices; a control of a class that the wave does not have is left out."""
        names = sorted({item.device_class for item in serving})
        return cls(
            {name: [item for item in serving if item.device_class == name] for name in names},
            {name: [item for item in controls if item.device_class == name] for name in names},
            {name: seconds for name, seconds in (profiled or {}).items() if name in names},
        )

    @property
    def device_classes(self) -> list[str]:
        """The device classes of the wave, in order."""
        return list(self.wave)

    @property
    def serving(self) -> list[DeviceObservation]:
        """All devices of the wave that serve the new version."""
        return [item for items in self.wave.values() for item in items]

    @property
    def all_controls(self) -> list[Control]:
        """The controls of all device classes."""
        return [item for items in self.controls.values() for item in items]


Device = Union[DeviceObservation, Control]


def has_past(item: Device) -> bool:
    """Whether the device served a version before."""
    return not (isinstance(item, DeviceObservation) and item.first_installation)


def observe_device(name: str, device_class: str, swap: Any, read: Any) -> DeviceObservation:
    """Read the results of ``model_swap`` and ``model_info`` of a device of the wave. Never raises."""
    swap, read = _mapping(swap), _mapping(read)
    result = outcome(swap, read)
    if result not in ON_NEW_VERSION:
        return DeviceObservation(name, device_class, result)
    model, reader = read["model"], Reader()
    baseline, probe = model.get("baseline"), model.get("probe")
    refused = unasked(baseline)
    past = reader.observation(model.get("past"), None if refused else baseline, "past ")
    now = reader.observation(model, probe)
    if past.probe and now.probe and (past.probe.metric, past.probe.samples) != (now.probe.metric, now.probe.samples):
        reader.problems.append(
            f"baseline: expected {now.probe.samples} samples of {now.probe.measured}; "
            f"found {past.probe.samples} of {past.probe.measured}"
        )
    for what, document, version in (("probe", probe, swap["version"]), ("baseline", baseline, model.get("replaced"))):
        answered = _mapping(document).get("version", version)
        if answered != version:
            reader.problems.append(f"{what}: expected answers of {version}; found those of {str(answered)[:50]}")
    return DeviceObservation(
        name=name,
        device_class=device_class,
        outcome=result,
        first_installation=model.get("replaced") is None,
        now=now,
        past=past,
        problems=tuple(reader.problems),
        probe_expected="probe" not in model or probe is not None,
        unasked=refused,
    )


def observe_control(name: str, document: Any, version: str | None) -> Control | None:
    """Read a control's device class and its results of ``model_info`` before and after the soak. Never raises.

    Returns None for a device that cannot be a control: it did not answer, has the new ``version``, changed its version
    during the soak, or reported a value that is not valid.
    """
    entry = _mapping(document)
    reads = [_mapping(entry.get(name)) for name in ("before", "after")]
    if any(read.get("failed") or read.get("unreachable") for read in reads):
        return None
    before, after = (_mapping(read.get("model")) for read in reads)
    live = after.get("live")
    if not isinstance(live, str) or live != before.get("live") or live == version:
        return None
    reader = Reader()
    past = reader.observation(before, before.get("probe"))
    now = reader.observation(after, after.get("probe"))
    return None if reader.problems else Control(name, str(entry.get("device_class")), now.since(past), past)


def by_name(items: Iterable[Any]) -> list[Any]:
    """Return devices in the order of their names."""
    return sorted(items, key=lambda item: str(item.name))


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
