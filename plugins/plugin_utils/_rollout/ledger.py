# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""The ledger: a directory on the controller with one JSON file for each rollout, and what the fleet should be on by it.

The devices are the truth about themselves; the ledger knows what was planned, judged and decided. Runs on the
controller only.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from typing import Any, Collection, Iterable, Mapping, NamedTuple, Sequence

from ansible_collections.edgeml.fleet.plugins.module_utils._common.errors import EdgemlError
from ansible_collections.edgeml.fleet.plugins.module_utils._common.files import write_whole
from ansible_collections.edgeml.fleet.plugins.module_utils._release.desired import choose_rollout

from .rollout import SCHEMA, Rollout, RolloutError, State, second_after

_SUFFIX = ".json"
# Where a host is, and where it goes back to.
_PLACES = 2


class LedgerError(EdgemlError):
    """The ledger cannot be read or written, or a file of it is damaged; the text names the file."""


@dataclass(frozen=True)
class Contents:
    """What a ledger holds: its rollouts, oldest first, and the files that are none, each with what is wrong."""

    rollouts: tuple[Rollout, ...]
    damaged: dict[str, str]

    def damaged_of(self, model: str) -> list[str]:
        """Return what is wrong with files that may be of rollouts of ``model``, by their names."""
        return [problem for name, problem in self.damaged.items() if name.startswith(f"{model}-")]


def path_of(directory: str, name: str) -> str:
    """Return the file of the rollout ``name``."""
    return os.path.join(directory, f"{name}{_SUFFIX}")


def read(path: str) -> Rollout | None:
    """Read the rollout of a file; None if there is no file. Raises LedgerError for one that is damaged."""
    try:
        with open(path, encoding="utf-8") as file:
            document = json.load(file)
        if not isinstance(document, dict) or "schema" not in document:
            raise RolloutError("expected a mapping with a schema")
        schema = document["schema"]
        if isinstance(schema, int) and schema > SCHEMA:
            raise LedgerError(
                f"{path}: a newer version of the collection wrote it: expected schema {SCHEMA}; found {schema}. Use "
                "that version on this controller, too"
            )
        return Rollout.from_dict(document)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError, RolloutError) as error:
        raise LedgerError(f"{path}: cannot be read: {error}. Move it away to forget the rollout") from error


def read_all(directory: str) -> Contents:
    """Read every rollout of the ledger. Raises LedgerError where the directory cannot be read.

    A file that is damaged, or was put there by somebody else, is passed over and named.
    """
    try:
        names = sorted(name[: -len(_SUFFIX)] for name in os.listdir(directory) if name.endswith(_SUFFIX))
    except FileNotFoundError:
        names = []
    except OSError as error:
        raise LedgerError(f"{directory}: cannot be read: {error}") from error
    rollouts, damaged = [], {}
    for name in names:
        try:
            rollout = read(path_of(directory, name))
        except LedgerError as error:
            damaged[name] = str(error)
            continue
        if rollout is not None:
            rollouts.append(rollout)
    return Contents(tuple(sorted(rollouts, key=lambda rollout: (rollout.began, rollout.attempt))), damaged)


def time_after_all(directory: str, now: str) -> str:
    """Return ``now``, or where the clock has stepped back, a second after the newest rollout of the ledger began.

    The newest rollout decides what a device should be on, so a later one must not look older.
    """
    newest = max((rollout.began for rollout in read_all(directory).rollouts), default="")
    try:
        return now if now > newest else second_after(newest)
    except ValueError:  # Somebody has written something else there.
        return now


def write(path: str, rollout: Rollout) -> None:
    """Put the rollout's file in place, whole or not at all. Raises LedgerError."""
    try:
        os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
        write_whole(path, json.dumps(rollout.to_dict(), indent=1) + "\n")
    except OSError as error:
        raise LedgerError(f"{path}: cannot be written: {error}") from error


# ---- what the fleet should be on ----


def needed(rollouts: Sequence[Rollout]) -> set[tuple[str, str]]:
    """Return the releases, each a model and a version, that a device may have to be given by the rollouts.

    They are those that a rollout is on its way to, and of each host the two newest that reached it and were not
    stopped: where it is, and where it goes back to. ``rollouts`` are given oldest first.
    """
    found = {(rollout.model, rollout.version) for rollout in rollouts if rollout.state in (State.RUNNING, State.PAUSED)}
    places: dict[tuple[str, str], list[str]] = {}
    for rollout in reversed(rollouts):
        if rollout.state.is_stopped:
            continue
        planned = _planned(rollout)
        for host in planned.numbers:
            versions = places.setdefault((rollout.model, host), [])
            if len(versions) < _PLACES and rollout.version not in versions and planned.has_come_to(host):
                versions.append(rollout.version)
                found.add((rollout.model, rollout.version))
    return found


def wanted(rollouts: Sequence[Rollout], hosts: Iterable[str]) -> dict[str, list[dict[str, Any]]]:
    """Return what each host should do by the rollouts, which are given oldest first: one entry a model.

    ``version`` is the release of the newest rollout that reached the host's wave and was not stopped (with its
    ``rollout_id`` and ``digest``); None where there is none. ``stopped_releases`` names the releases of newer rollouts
    that had reached the host's wave and were stopped, newest first, each with its ``rollout_id`` and ``why``. Hosts
    without an entry are left out.
    """
    by_model: dict[str, list[_Planned]] = {}
    for rollout in reversed(rollouts):
        by_model.setdefault(rollout.model, []).append(_planned(rollout))
    result = {}
    for host in hosts:
        entries = [_wanted(model, host, found) for model, found in sorted(by_model.items())]
        entries = [entry for entry in entries if entry["version"] is not None or entry["stopped_releases"]]
        if entries:
            result[host] = entries
    return result


class _Planned(NamedTuple):
    """A rollout, with what it says of each host."""

    rollout: Rollout
    numbers: Mapping[str, int]
    reached: int
    hosts_reached: Collection[str]

    def has_come_to(self, host: str) -> bool:
        """Whether the host belongs on the release; of a stopped rollout, whether it may have it."""
        if self.rollout.state.is_stopped:
            return self.numbers.get(host, self.reached + 1) <= self.reached
        joins = self.rollout.takes_new_devices and self.numbers.get(host, 0) <= self.reached
        return host in self.hosts_reached or joins


def _planned(rollout: Rollout) -> _Planned:
    return _Planned(rollout, rollout.plan.wave_numbers, rollout.reached, rollout.hosts_reached)


def _wanted(model: str, host: str, rollouts: Iterable[_Planned]) -> dict[str, Any]:
    """What a host should do about one model by its rollouts, newest first."""
    found, stopped = choose_rollout(
        (planned.rollout, planned.rollout.state.is_stopped, planned.has_come_to(host)) for planned in rollouts
    )
    entry: dict[str, Any] = {
        "model": model,
        "version": None,
        "stopped_releases": [
            {"version": rollout.version, "rollout_id": rollout.id, "why": rollout.why} for rollout in stopped
        ],
    }
    if found is not None:
        entry.update(version=found.version, rollout_id=found.id, digest=found.digest)
    return entry
