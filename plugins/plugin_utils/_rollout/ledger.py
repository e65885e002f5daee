# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""The ledger: what a controller noted of its rollouts, one JSON file each, and what the fleet should be on by it.

The devices are the truth about themselves; the ledger knows what was planned, judged and decided. Runs on the
controller only.
"""

from __future__ import annotations

import datetime
import json
import os
from typing import Any, Iterable, Mapping, Sequence

from ansible_collections.edgeml.fleet.plugins.module_utils._common.errors import EdgemlError
from ansible_collections.edgeml.fleet.plugins.module_utils._common.files import write_whole

SCHEMA = 1

RUNNING = "running"
PASSED = "passed"
PAUSED = "paused"
FAILED = "failed"
ROLLED_BACK = "rolled back"
STATES = (RUNNING, PASSED, PAUSED, FAILED, ROLLED_BACK)
# Nobody brings a device to the release of such a rollout any more.
STOPPED = (FAILED, ROLLED_BACK)

Rollout = dict[str, Any]


class LedgerError(EdgemlError):
    """The ledger is damaged, cannot be read or written, or forbids what was asked for."""


def rollout_id(model: str, version: str, attempt: int) -> str:
    """The name of one attempt to roll one release out: the same on each controller and in each run."""
    return f"{model}-{version}-{attempt}"


def utc_now() -> str:
    """The time now, as the ledger writes it."""
    return datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


# ---- files ----


def path_of(directory: str, name: str) -> str:
    """The file of the rollout ``name``."""
    return os.path.join(directory, f"{name}.json")


def read(directory: str, name: str) -> Rollout | None:
    """The rollout ``name``; None if the ledger does not have it. Raises LedgerError for a file that is damaged."""
    path = path_of(directory, name)
    try:
        with open(path, encoding="utf-8") as file:
            return _checked(json.load(file), path)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise LedgerError(f"{path}: cannot be read: {error}. Move it away to forget the rollout") from error


def read_all(directory: str) -> list[Rollout]:
    """Every rollout of the ledger, oldest first. Raises LedgerError for a file that is damaged."""
    try:
        names = [name[: -len(".json")] for name in os.listdir(directory) if name.endswith(".json")]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise LedgerError(f"{directory}: cannot be read: {error}") from error
    found = [rollout for rollout in (read(directory, name) for name in sorted(names)) if rollout is not None]
    return sorted(found, key=lambda rollout: (rollout["began"], rollout["attempt"]))


def write(directory: str, rollout: Rollout) -> None:
    """Put the rollout's file in place, whole or not at all. Raises LedgerError."""
    path = path_of(directory, rollout["id"])
    try:
        os.makedirs(directory, exist_ok=True)
        write_whole(path, json.dumps(rollout, indent=1) + "\n")
    except OSError as error:
        raise LedgerError(f"{path}: cannot be written: {error}") from error


def _checked(document: Any, path: str) -> Rollout:
    try:
        if document["schema"] != SCHEMA:
            raise ValueError(f"schema: expected {SCHEMA}; found {document['schema']!r}")
        if document["state"] not in STATES:
            raise ValueError(f"state: expected one of {', '.join(STATES)}; found {document['state']!r}")
        for name in ("id", "model", "version", "digest", "began"):
            if not isinstance(document[name], str):
                raise ValueError(f"{name}: expected a text; found {document[name]!r}")
        if not isinstance(document["attempt"], int):
            raise ValueError(f"attempt: expected a number; found {document['attempt']!r}")
        hosts = [wave["hosts"] for wave in document["plan"]["waves"]]
        numbers = [wave["number"] for wave in [*document["plan"]["waves"], *document["waves"]]]
        if not all(isinstance(names, list) for names in hosts) or not all(isinstance(item, int) for item in numbers):
            raise ValueError("waves: expected lists of hosts, and numbers")
    except (KeyError, TypeError, ValueError) as error:
        raise LedgerError(f"{path}: damaged: {error!r}. Move it away to forget the rollout") from error
    rollout: Rollout = document
    return rollout


# ---- the course of a rollout: each returns the rollout as it is from then on ----


def opened(found: Rollout | None, wanted: Mapping[str, Any]) -> Rollout:
    """The rollout ``wanted`` (see ``rollout_ledger``) at its beginning, or going on where it was interrupted.

    What was judged stays. Raises LedgerError if it was stopped, or if it is one of another release.
    """
    if found is None:
        return {
            "schema": SCHEMA,
            **wanted,
            "state": RUNNING,
            "why": "",
            "began": utc_now(),
            "ended": None,
            "waves": [],
            "devices": [],
        }
    if found["digest"] != wanted["digest"]:
        raise LedgerError(
            f"{wanted['id']}: the ledger has it with manifest digest {found['digest']}; this release has "
            f"{wanted['digest']}. A release is immutable: publish the change as a new version"
        )
    if found["state"] in STOPPED:
        raise LedgerError(
            f"{wanted['id']} was stopped: {found['state']} at {found['ended']}: {found['why']}. "
            f"To try the release again: rollout_attempt={int(found['attempt']) + 1}"
        )
    plan = {**wanted["plan"], "waves": _merged(found["plan"]["waves"], wanted["plan"]["waves"])}
    return {**found, **wanted, "plan": plan, "state": RUNNING, "why": "", "ended": None}


def _merged(before: Iterable[Mapping[str, Any]], now: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The waves planned now, and the hosts that only the plan before had (of another --limit) in theirs."""
    planned = {host for wave in now for host in wave["hosts"]}
    waves = {int(wave["number"]): dict(wave) for wave in now}
    for wave in before:
        left = [host for host in wave["hosts"] if host not in planned]
        number = int(wave["number"])
        if left and number in waves:
            waves[number]["hosts"] = [*left, *waves[number]["hosts"]]
        elif left:
            waves[number] = {**wave, "hosts": left}
    return [waves[number] for number in sorted(waves)]


def with_wave(rollout: Rollout, wave: Mapping[str, Any]) -> Rollout:
    """The rollout with ``wave`` begun, looked at once more, or judged: what it tells is added to what is known of it.

    A wave that is begun again keeps the analyses of before, not their verdict.
    """
    number = wave["number"]
    before = next((known for known in rollout["waves"] if known["number"] == number), None)
    if before is None:
        before = {"number": number, "began": utc_now(), "analyses": []}
    noted = {
        "ended": None,
        "verdict": None,
        "findings": [],
        "outcomes": {},
        **before,
        **{name: value for name, value in wave.items() if name != "analysis"},
    }
    if wave.get("verdict") is None:
        noted.update(ended=None, verdict=None)
    else:
        noted["ended"] = utc_now()
        noted["analyses"] = [*before["analyses"], {"time": noted["ended"], "verdict": wave["verdict"]}]
    others = [known for known in rollout["waves"] if known["number"] != number]
    return {**rollout, "waves": sorted([*others, noted], key=lambda known: int(known["number"]))}


def closed(rollout: Rollout, state: str, why: str, devices: Sequence[Mapping[str, Any]]) -> Rollout:
    """The rollout at its end, or where it pauses."""
    return {**rollout, "state": state, "why": why, "ended": utc_now(), "devices": [dict(row) for row in devices]}


# ---- what the fleet should be on ----


def wanted(rollouts: Sequence[Rollout], hosts: Iterable[str]) -> dict[str, list[dict[str, Any]]]:
    """What each host should do by the rollouts, which are given oldest first: one entry a model; hosts without are
    left out.

    ``version`` is the release of the newest rollout that reached the host's wave and was not stopped (with its
    ``rollout_id`` and ``digest``); None where there is none. ``stopped_releases`` names the releases of newer rollouts
    that had reached the host's wave and were stopped, newest first, each with its ``rollout_id`` and ``why``.
    """
    planned = [(rollout, _wave_numbers(rollout), reached(rollout)) for rollout in reversed(rollouts)]
    result = {}
    for host in hosts:
        models: dict[str, dict[str, Any]] = {}
        for rollout, numbers, begun in planned:
            model = rollout["model"]
            entry = models.setdefault(model, {"model": model, "version": None, "stopped_releases": []})
            if entry["version"] is not None:
                continue
            if rollout["state"] in STOPPED and numbers.get(host, begun + 1) <= begun:
                left = {"version": rollout["version"], "rollout_id": rollout["id"], "why": rollout["why"]}
                entry["stopped_releases"].append(left)
            elif rollout["state"] not in STOPPED and _includes(rollout, numbers.get(host), begun):
                entry.update(version=rollout["version"], rollout_id=rollout["id"], digest=rollout["digest"])
        entries = [
            entry
            for _model, entry in sorted(models.items())
            if entry["version"] is not None or entry["stopped_releases"]
        ]
        if entries:
            result[host] = entries
    return result


def reached(rollout: Rollout) -> int:
    """The highest number of a wave that has begun; 0 for none. Devices up to there belong on the release."""
    return max((int(wave["number"]) for wave in rollout["waves"]), default=0)


def _includes(rollout: Rollout, number: int | None, begun: int) -> bool:
    """Whether a device of wave ``number`` belongs on the release. One that was not planned for (None) joins a rollout
    of the whole fleet that has passed."""
    if number is None:
        return rollout["state"] == PASSED and not rollout["plan"].get("limited")
    return number <= begun


def _wave_numbers(rollout: Rollout) -> dict[str, int]:
    return {host: int(wave["number"]) for wave in rollout["plan"]["waves"] for host in wave["hosts"]}
