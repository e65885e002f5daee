# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""The desired state of a fleet that pulls: which rollouts there are, how far each has come, and who is to report.

One document says it for all devices; each finds its own place by it. Its JSON is canonical. Pure.
"""

from __future__ import annotations

import json
import re
from typing import Any, Iterable, Mapping, NamedTuple, Sequence, TypeVar

from .._common.errors import ArgumentError, ManifestError
from .._common.records import is_number, is_whole
from .cohort import PlanBoundaries, position, read_boundaries, wave_number
from .fields import check_count, check_fields, check_text, shown
from .names import check_name

SCHEMA = 1
DESIRED_BYTES_MAX = 1 << 20
# More waves, groups, devices or models than a fleet has.
ENTRIES_MAX = 200_000
SECONDS_MAX = 1e9
PURPOSES = ("read", "swap", "revert")
_FLEET = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}\Z")
_DIGEST = re.compile(r"(sha256:)?[0-9a-f]{64}\Z")

Entry = TypeVar("Entry")


class SwapSettings(NamedTuple):
    """How a device swaps: options of ``model_swap``."""

    min_ready_seconds: float = 2.0
    trial_seconds: float = 300.0
    trial_limits: Mapping[str, Any] = {}
    keep: int = 1
    accept_no_way_back: bool = False


class DesiredRollout(NamedTuple):
    """One rollout of a release. Devices of waves up to ``reached`` belong on it; where it is ``stopped``, off it.

    ``groups`` has the members of each group that a wave names; ``only`` the devices that take part, None for all of
    them; ``left_out`` those that do not. ``retry``: also where the release failed before. ``window``: when a device may
    swap to it. ``settings`` are those of most devices; ``class_settings`` has those of the device classes that differ,
    ``device_settings`` those of the devices that differ from their class.
    """

    id: str
    version: str
    digest: str
    stopped: bool
    reached: int
    boundaries: PlanBoundaries
    groups: Mapping[str, Sequence[str]] = {}
    only: Sequence[str] | None = None
    left_out: Sequence[str] = ()
    retry: bool = False
    reason: str = ""
    window: Sequence[str] = ()
    settings: SwapSettings = SwapSettings()
    class_settings: Mapping[str, SwapSettings] = {}
    device_settings: Mapping[str, SwapSettings] = {}

    def settings_of(self, device: str, device_class: str) -> SwapSettings:
        """How a device swaps."""
        of_class = self.class_settings.get(device_class, self.settings)
        return self.device_settings.get(device, of_class)

    def number_of(self, device: str, device_class: str) -> int | None:
        """The number of a device's wave; None for one that takes no part."""
        if device in self.left_out or (self.only is not None and device not in self.only):
            return None
        place = position(self.boundaries.salt, device)
        return wave_number(self.boundaries.waves, device, device_class, place, self.groups)

    def has_reached(self, device: str, device_class: str) -> bool:
        """Whether the rollout has come to a device."""
        number = self.number_of(device, device_class)
        return number is not None and number <= self.reached


class Ask(NamedTuple):
    """What the controller waits for. ``number`` counts up with each question about a model.

    ``purpose`` is ``swap``: report the swap to the newest rollout's release; ``revert``: leave ``version`` and report
    that; ``read``: report what is measured, with ``probe`` also the accuracy on the probe set. It is for the devices of
    ``waves`` of the rollout ``rollout_id``; those of ``devices`` are read, without the probe set. ``everybody``: for
    all devices.
    """

    number: int = 0
    purpose: str = "read"
    rollout_id: str = ""
    version: str = ""
    reason: str = ""
    waves: Sequence[int] = ()
    devices: Sequence[str] = ()
    everybody: bool = False
    probe: bool = False


class DesiredModel(NamedTuple):
    """A model's rollouts, newest first, and what the controller waits for."""

    rollouts: Sequence[DesiredRollout] = ()
    ask: Ask = Ask()

    def rollout(self, name: str) -> DesiredRollout | None:
        """The rollout of this id, if it is there."""
        return next((rollout for rollout in self.rollouts if rollout.id == name), None)


class Desired(NamedTuple):
    """The desired state of ``fleet``. ``version`` counts up; ``controller`` names who published it, at ``time``."""

    fleet: str
    version: int
    controller: str
    time: str
    models: Mapping[str, DesiredModel] = {}


def choose_rollout(rollouts: Iterable[tuple[Entry, bool, bool]]) -> tuple[Entry | None, list[Entry]]:
    """Return what a device belongs on, and what it has to leave.

    ``rollouts`` are given newest first, each with whether it is stopped, and whether it has come to the device. The
    first is the newest that has come to the device and was not stopped, None if there is none; the others are the
    newer ones that had come to it and were stopped.
    """
    stopped: list[Entry] = []
    for rollout, is_stopped, has_reached in rollouts:
        if has_reached and not is_stopped:
            return rollout, stopped
        if has_reached:
            stopped.append(rollout)
    return None, stopped


def is_fleet_name(value: Any) -> bool:
    """Whether ``value`` can name a fleet, and so a role of the signed metadata and a directory."""
    return isinstance(value, str) and _FLEET.match(value) is not None


def check_fleet_name(value: Any, field: str) -> str:
    """Return ``value`` if it can name a fleet, or raise ArgumentError."""
    if not is_fleet_name(value):
        raise ArgumentError(
            f"{field}: expected 1 to 64 of the characters A-Z a-z 0-9 _ -, the first a letter or digit; found "
            f"{shown(value)}"
        )
    name: str = value
    return name


def desired_name(fleet: str) -> str:
    """Return the name of the target that is a fleet's desired state."""
    return f"fleet/{fleet}/desired.json"


def fleet_role(fleet: str) -> str:
    """Return the role of the signed metadata that may write a fleet's desired state."""
    return f"fleet-{fleet}"


# ---- its spelling ----


def write_desired(desired: Desired) -> bytes:
    """The document, canonical: equal states have equal bytes."""
    document = {"schema": SCHEMA, **desired._asdict()}
    document["models"] = {name: _model_document(model) for name, model in desired.models.items()}
    return (json.dumps(document, sort_keys=True, separators=(",", ":"), allow_nan=False) + "\n").encode("ascii")


def _model_document(model: DesiredModel) -> dict[str, Any]:
    return {"ask": model.ask._asdict(), "rollouts": [_rollout_document(rollout) for rollout in model.rollouts]}


def _rollout_document(rollout: DesiredRollout) -> dict[str, Any]:
    boundaries = {
        "salt": rollout.boundaries.salt,
        "waves": [wave._asdict() for wave in rollout.boundaries.waves],
    }
    document = {**rollout._asdict(), "boundaries": boundaries, "settings": rollout.settings._asdict()}
    for name in ("class_settings", "device_settings"):
        document[name] = {key: settings._asdict() for key, settings in document[name].items()}
    return document


def read_desired(content: bytes, fleet: str) -> Desired:
    """Parse the document. Raises ManifestError: the field, what was expected, what was found."""
    where = desired_name(fleet)
    if len(content) > DESIRED_BYTES_MAX:
        raise ManifestError(f"{where}: expected at most {DESIRED_BYTES_MAX} bytes; found {len(content)}")
    try:
        document = json.loads(content.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise ManifestError(f"{where}: expected JSON; {error}") from error
    schema = document.get("schema") if isinstance(document, Mapping) else None
    if not is_whole(schema) or schema != SCHEMA:
        raise ManifestError(
            f"{where}: schema: expected {SCHEMA}; found {shown(schema)}. Install the controller's edgeml here"
        )
    fields = check_fields(document, where, ("schema", *Desired._fields))
    if fields["fleet"] != fleet:
        raise ManifestError(f"{where}: fleet: expected {fleet}; found {shown(fields['fleet'])}")
    for name in ("controller", "time"):
        check_text(fields[name], f"{where}: {name}")
    models = _object(fields["models"], f"{where}: models")
    return Desired(
        fleet=fleet,
        version=check_count(fields["version"], f"{where}: version"),
        controller=fields["controller"],
        time=fields["time"],
        models={
            check_name(name, f"{where}: models"): _read_model(model, f"{where}: models.{name}")
            for name, model in models.items()
        },
    )


def _read_model(document: Any, where: str) -> DesiredModel:
    fields = check_fields(document, where, DesiredModel._fields)
    rollouts = _list(fields["rollouts"], f"{where}.rollouts")
    return DesiredModel(
        rollouts=[_read_rollout(item, f"{where}.rollouts[{number}]") for number, item in enumerate(rollouts)],
        ask=_read_ask(fields["ask"], f"{where}.ask"),
    )


def _read_rollout(document: Any, where: str) -> DesiredRollout:
    fields = check_fields(document, where, DesiredRollout._fields)
    for name in ("id", "reason"):
        check_text(fields[name], f"{where}.{name}")
    if not isinstance(fields["digest"], str) or not _DIGEST.match(fields["digest"]):
        raise ManifestError(f"{where}.digest: expected a SHA-256; found {shown(fields['digest'])}")
    boundaries = _read_boundaries(fields["boundaries"], where)
    groups = _object(fields["groups"], f"{where}.groups")
    return DesiredRollout(
        id=fields["id"],
        version=check_name(fields["version"], f"{where}.version"),
        digest=fields["digest"],
        stopped=_flag(fields["stopped"], f"{where}.stopped"),
        reached=_number(fields["reached"], f"{where}.reached"),
        boundaries=boundaries,
        groups={name: _texts(members, f"{where}.groups.{name}") for name, members in groups.items()},
        only=None if fields["only"] is None else _texts(fields["only"], f"{where}.only"),
        left_out=_texts(fields["left_out"], f"{where}.left_out"),
        retry=_flag(fields["retry"], f"{where}.retry"),
        reason=fields["reason"],
        window=_texts(fields["window"], f"{where}.window"),
        settings=_read_settings(fields["settings"], f"{where}.settings"),
        class_settings=_read_settings_by_name(fields["class_settings"], f"{where}.class_settings"),
        device_settings=_read_settings_by_name(fields["device_settings"], f"{where}.device_settings"),
    )


def _read_settings_by_name(document: Any, where: str) -> Mapping[str, SwapSettings]:
    return {name: _read_settings(item, f"{where}.{name}") for name, item in _object(document, where).items()}


def _read_boundaries(document: Any, where: str) -> PlanBoundaries:
    try:
        boundaries = read_boundaries(document)
    except (ArgumentError, TypeError) as error:
        raise ManifestError(f"{where}.{error}") from error
    written = {"salt": boundaries.salt, "waves": [wave._asdict() for wave in boundaries.waves]}
    places = [place for wave in document["waves"] for place in wave["below"].values()]
    are_right = all(is_number(place) and 0 <= place <= 1 for place in places) and len(boundaries.waves) <= ENTRIES_MAX
    # As a plan writes it, and not only what can be read as such.
    if written != document or not are_right:
        raise ManifestError(f"{where}.boundaries: expected what a plan writes; found {shown(document)}")
    return boundaries


def _read_settings(document: Any, where: str) -> SwapSettings:
    fields = check_fields(document, where, SwapSettings._fields)
    for name in ("min_ready_seconds", "trial_seconds"):
        value = fields[name]
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < SECONDS_MAX:
            raise ManifestError(f"{where}.{name}: expected a number of seconds from 0; found {shown(value)}")
    return SwapSettings(
        min_ready_seconds=float(fields["min_ready_seconds"]),
        trial_seconds=float(fields["trial_seconds"]),
        trial_limits=_object(fields["trial_limits"], f"{where}.trial_limits"),
        keep=_number(fields["keep"], f"{where}.keep"),
        accept_no_way_back=_flag(fields["accept_no_way_back"], f"{where}.accept_no_way_back"),
    )


def _read_ask(document: Any, where: str) -> Ask:
    fields = check_fields(document, where, Ask._fields)
    if fields["purpose"] not in PURPOSES:
        raise ManifestError(f"{where}.purpose: expected one of {', '.join(PURPOSES)}; found {shown(fields['purpose'])}")
    for name in ("rollout_id", "version", "reason"):
        check_text(fields[name], f"{where}.{name}")
    return Ask(
        number=_number(fields["number"], f"{where}.number"),
        purpose=fields["purpose"],
        rollout_id=fields["rollout_id"],
        version=fields["version"],
        reason=fields["reason"],
        waves=[_number(item, f"{where}.waves") for item in _list(fields["waves"], f"{where}.waves")],
        devices=_texts(fields["devices"], f"{where}.devices"),
        everybody=_flag(fields["everybody"], f"{where}.everybody"),
        probe=_flag(fields["probe"], f"{where}.probe"),
    )


def _object(value: Any, where: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping) or len(value) > ENTRIES_MAX:
        raise ManifestError(f"{where}: expected an object; found {shown(value)}")
    return value


def _list(value: Any, where: str) -> Sequence[Any]:
    if not isinstance(value, list) or len(value) > ENTRIES_MAX:
        raise ManifestError(f"{where}: expected a list; found {shown(value)}")
    return value


def _texts(value: Any, where: str) -> Sequence[str]:
    for item in _list(value, where):
        check_text(item, where)
    return list(value)


def _number(value: Any, where: str) -> int:
    return 0 if value == 0 and not isinstance(value, (bool, float)) else check_count(value, where)


def _flag(value: Any, where: str) -> bool:
    if not isinstance(value, bool):
        raise ManifestError(f"{where}: expected true or false; found {shown(value)}")
    return value
