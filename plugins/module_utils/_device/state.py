# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""What a device knows of one model: which version is active, which was before, which is on trial, and which failed.

Pure: values, and their spelling as the JSON of the store's ``state.json``.
"""

from __future__ import annotations

from typing import Any, Mapping, NamedTuple, TypeVar

from .._common.errors import ManifestError, StoreError
from .._common.records import as_document, build
from .._release.names import check_name
from .._release.release import KINDS, MODEL

SCHEMA = 1
FAILED_MAX = 32

Value = TypeVar("Value")

SWITCHING = "switching"
WATCHING = "watching"
STRATEGIES = ("load", "reload", "restart", "smp", "none")
# Of a microcontroller: its bootloader switches, and goes back.
SMP_STRATEGY = "smp"
# Of a release that is no model, whatever is asked for: the strategy has the name of the release's kind.
KIND_STRATEGIES = tuple(kind for kind in KINDS if kind != MODEL)


class Limits(NamedTuple):
    """What a version on trial may do before the device puts the one before it back.

    ``crashes_max``: how often the service may end by itself. ``error_rate_max``: share (0 to 1) of requests answered
    with a status of 500 or above. ``latency_ratio_max``: mean time of a request, to that of the version before.
    ``requests_min``: requests without which neither rate nor latency is judged.
    """

    crashes_max: int = 2
    error_rate_max: float = 0.05
    latency_ratio_max: float = 3.0
    requests_min: int = 50


class Record(NamedTuple):
    """What was counted of a version: requests, those answered with a status of 500 or above, those answered as asked
    (timed) and the sum of their times in seconds, the server's resident memory in bytes, and how often systemd
    restarted it. None where nobody counts it."""

    requests: int = 0
    errors: int = 0
    timed: int = 0
    latency_seconds_sum: float = 0.0
    resident_bytes: int | None = None
    restarts: int | None = None


class Trial(NamedTuple):
    """A switched version that has not yet proved itself.

    ``phase`` is ``switching`` until the version was seen healthy, then ``watching``. ``active`` and ``previous`` are
    what a revert returns to. The trial ends ``seconds`` after ``since`` (seconds of CLOCK_BOOTTIME in the boot
    ``boot_id``; a restart of the device begins it anew). ``baseline`` is the record of the version before,
    ``begun`` what was counted of this version when its trial began: it may have served before. ``memory_bytes`` is what
    the release declared. ``unready`` counts the looks in a row that found no answer.
    """

    phase: str
    active: str | None
    previous: str | None
    seconds: float
    limits: Limits
    baseline: Record | None
    memory_bytes: int
    boot_id: str
    since: float
    crashes: int = 0
    boots: int = 0
    unready: int = 0
    begun: Record | None = None


class Failure(NamedTuple):
    """Why and when (UTC) a version failed on this device or was left on purpose, the digest of its manifest, and the
    rollout that had made it active (None: no rollout had)."""

    reason: str
    time: str
    digest: str
    rollout_id: str | None = None


class ModelServer(NamedTuple):
    """The server of a model and how it is notified. ``strategy`` is load, reload, restart, smp or none, and of what
    is no model one of KIND_STRATEGIES; ``server`` is the path of a Unix socket or a URL, of smp the microcontroller's
    port; ``unit`` the systemd unit."""

    strategy: str = "load"
    server: str = "/run/edgeml/server.sock"
    unit: str = "edgeml-inference.service"


class State(NamedTuple):
    """One model on this device. ``serving`` is how its server was last notified; None before the first time."""

    active: str | None = None
    previous: str | None = None
    trial: Trial | None = None
    failed: Mapping[str, Failure] = {}
    serving: ModelServer | None = None

    def versions(self) -> dict[str, Any]:
        """The active and the previous version, as modules return them."""
        return {"active": self.active, "previous": self.previous}

    def needed(self) -> set[str]:
        """The versions that must stay: the active, the previous, and what a trial's revert returns to."""
        trial = (self.trial.active, self.trial.previous) if self.trial else ()
        return {version for version in (self.active, self.previous, *trial) if version is not None}

    def with_failure(self, version: str, failure: Failure) -> State:
        """The same state that also knows of a failed version. The oldest of more than FAILED_MAX are forgotten."""
        failed = {**self.without_failure(version).failed, version: failure}
        return self._replace(failed=dict(list(failed.items())[-FAILED_MAX:]))

    def without_failure(self, version: str) -> State:
        """The same state that knows nothing against a version."""
        return self._replace(failed={name: why for name, why in self.failed.items() if name != version})

    def reverted(self) -> State:
        """The state before the trial's version was switched to."""
        trial = require(self.trial)
        return self._replace(active=trial.active, previous=trial.previous, trial=None)


def require(value: Value | None) -> Value:
    """``value``, of which the caller knows that it is there."""
    if value is None:
        raise AssertionError("expected a value; found none")
    return value


def state_document(state: State) -> dict[str, Any]:
    """The state as JSON values."""
    document = as_document(state)
    # A list keeps the order in which versions failed; JSON objects are written sorted.
    failed = [{"version": version, **as_document(failure)} for version, failure in state.failed.items()]
    return {"schema": SCHEMA, **document, "failed": failed}


def parse_state(document: Any, origin: str) -> State:
    """Read a state from JSON values. Raises StoreError, with_path ``origin``, for anything but what was written."""
    try:
        if document["schema"] != SCHEMA or isinstance(document["schema"], bool):
            raise StoreError(f"{origin}: expected schema {SCHEMA}; found {document['schema']!r}")
        trial, failed, serving = document.get("trial"), document.get("failed", []), document.get("serving")
        if not isinstance(failed, list):
            raise TypeError(f"failed: expected a list; found {failed!r}")
        state = State(
            active=_version(document["active"], "active"),
            previous=_version(document["previous"], "previous"),
            trial=parse_trial(trial) if trial is not None else None,
            failed={
                check_name(entry["version"], "failed"): build(
                    Failure, {name: value for name, value in entry.items() if name != "version"}
                )
                for entry in failed
            },
            serving=_serving(serving) if serving is not None else None,
        )
        if state.trial is not None and state.active is None:
            raise ValueError("a trial, and no active version")
    except (KeyError, TypeError, ValueError, AttributeError, ManifestError) as error:
        raise StoreError(f"{origin}: damaged: {error!r}") from error
    return state


def parse_trial(document: Mapping[str, Any]) -> Trial:
    """Read a trial from JSON values. Raises KeyError, TypeError, ValueError or ManifestError for others."""
    baseline, begun = document["baseline"], document.get("begun")
    trial: Trial = build(
        Trial,
        {
            **document,
            "active": _version(document["active"], "trial.active"),
            "previous": _version(document["previous"], "trial.previous"),
            "limits": build(Limits, document["limits"]),
            "baseline": build(Record, baseline) if baseline is not None else None,
            "begun": build(Record, begun) if begun is not None else None,
        },
    )
    if trial.phase not in (SWITCHING, WATCHING):
        raise ValueError(f"trial.phase: expected {SWITCHING} or {WATCHING}; found {trial.phase!r}")
    return trial


def _serving(document: Mapping[str, Any]) -> ModelServer:
    serving: ModelServer = build(ModelServer, document)
    if serving.strategy not in (*STRATEGIES, *KIND_STRATEGIES):
        raise ValueError(
            f"serving.strategy: expected {', '.join(STRATEGIES[:-1])} or {STRATEGIES[-1]}; found {serving.strategy!r}"
        )
    return serving


def _version(value: Any, name: str) -> str | None:
    return None if value is None else check_name(value, name)
