# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""What the device says of a model: one description, for the module ``model_info`` and the command ``edgeml``."""

from __future__ import annotations

import time
from typing import Any, Mapping

from .._common.errors import EdgemlError
from .._smp.address import is_port
from .accelerator import read_accelerator
from .client import Server
from .expiry import CERTIFICATES, PULL_STATE, expiries, expiry_texts
from .facts import boot_id, boot_seconds
from .journal import parse_time
from .metrics import counted_since, measure_candidate
from .request import InfoRequest
from .sensors import read_board, since_activation
from .serving import Strategy
from .state import SMP_STRATEGY, ModelServer, State, require
from .store import Store
from .strategies import make_strategy
from .way_back import describe_way_back
from .withdrawn import known_withdrawals

# Clocks are set a little now and then, and the journal's times are of whole seconds.
CLOCK_SECONDS = 10.0


def answer_info(request: InfoRequest) -> dict[str, Any]:
    """Describe the device and its models. Returns the module's result; one with ``failed`` and ``msg`` where it
    failed."""
    store = Store(request.store)
    result: dict[str, Any] = {"changed": False}
    try:
        strategy = make_strategy(_addressed(ModelServer(), request.server), store)
        result["server_live"] = strategy.answers() if is_port(request.server) else Server(request.server).is_live()
        names = [request.model] if request.model else store.models()
        models = [
            describe_model(
                store,
                name,
                request.server,
                probe=request.probe,
                history=request.history,
                candidate=request.candidate,
            )
            for name in names
        ]
        if request.model:
            result["model"] = models[0]
        else:
            result["models"] = models
        if is_port(request.server):
            result["device"] = strategy.device() if result["server_live"] else {}
        else:
            result["device"] = {**strategy.device(), **read_accelerator()._asdict()}
        result["expires"] = expiry_texts(expiries(CERTIFICATES, PULL_STATE))
    except (EdgemlError, OSError) as error:
        result.update(failed=True, msg=str(error))
    return result


def describe_model(
    store: Store, name: str, server: str, probe: bool = False, history: int = 0, candidate: str | None = None
) -> dict[str, Any]:
    """Describe a model by what the store and whoever serves it say. ``server``: its address; ``probe``: measure the
    accuracy of the active version; ``history``: how many of the last transitions to tell; ``candidate``: a
    version that answers copies of requests.

    Raises StoreError for what is damaged and ServerError for a server that breaks off.
    """
    state = store.state(name)
    versions = store.versions(name)
    strategy = make_strategy(_addressed(state.serving or ModelServer(), server), store)
    answers = strategy.answers()
    live = strategy.live(name, state, versions) if answers else None
    trial = state.trial
    entry: dict[str, Any] = {
        "name": name,
        **state.versions(),
        "versions": versions,
        "live": live,
        "trial": {"seconds": trial.seconds, "returns_to": trial.active, "crashes": trial.crashes} if trial else None,
        "failed": [
            {"version": version, "reason": failure.reason, "time": failure.time}
            for version, failure in state.failed.items()
        ],
        "withdrawn": {
            version: reason
            for version, reason in sorted(known_withdrawals(store, name).releases.items())
            if version in versions
        },
        "way_back": describe_way_back(store, name, state),
    }
    if state.active is not None:
        version = store.version(name, state.active)
        activation = store.activation(name) or {}
        entry.update(
            variant=version.variant,
            digest=version.digest,
            replaced=activation.get("from"),
            rollout_id=activation.get("rollout_id"),
            baseline=activation.get("baseline"),
        )
        entry.update(_measured(strategy, name, state, activation))
        if probe and answers and live == state.active:
            asked = strategy.server
            entry["probe"] = None
            if asked and version.probe:
                # Imported here, because most calls ask nothing, and its own imports take time on a device.
                from .probe_set import probe_result

                entry["probe"] = probe_result(asked, *version.probe)
    if candidate is not None:
        copied = strategy.server
        measured = measure_candidate(copied.metrics(), name, candidate) if isinstance(copied, Server) else None
        entry["candidate"] = measured
    if history > 0:
        entry["history"] = store.journal(name).history()[-history:]
    return entry


def _addressed(serving: ModelServer, server: str) -> ModelServer:
    """How ``server`` is notified: a port is a microcontroller's, whatever was notified before."""
    return serving._replace(server=server, strategy=SMP_STRATEGY if is_port(server) else serving.strategy)


def _measured(strategy: Strategy, name: str, state: State, activation: Mapping[str, Any]) -> dict[str, Any]:
    """What was counted of the active version since it became active, and of the one before until then."""
    age = active_seconds(state, activation)
    (now,) = strategy.measured(name, require(state.active))
    found: dict[str, Any] = {
        "active_seconds": age,
        "counted_seconds": counted_seconds(age, now.get("started")),
        "past": activation.get("past"),
    }
    begun = activation.get("begun") or {}
    for counted in ("requests", "labels"):
        if counted in now:
            found[counted] = counted_since(begun.get(counted) or {}, now[counted])
    if "shadow" in now:
        # That was before it became active, and before the server's last start perhaps.
        found["shadow"] = now["shadow"] if any(now["shadow"].values()) else begun.get("shadow") or now["shadow"]
    found.update({name: now[name] for name in ("drift", "resident_bytes") if name in now})
    board = read_board()
    if board is not None:
        requests = (found.get("requests") or {}).get("requests")
        found["board"] = since_activation(board, activation, requests, age, found["counted_seconds"])
    found["restarts"] = restarts(state, begun, now, age)
    return found


def active_seconds(state: State, activation: Mapping[str, Any]) -> float | None:
    """Age of the activation, in seconds; None if nobody knows. While on trial it is read from the time since boot,
    which no jump of the clock touches."""
    if state.trial is not None and state.trial.boot_id == boot_id() and not state.trial.boots:
        return round(boot_seconds() - state.trial.since, 3)
    try:
        began = parse_time(str(activation.get("time")))
    except ValueError:
        return None
    return round(max(time.time() - began, 0.0), 3)


def counted_seconds(age: float | None, started: float | None) -> float | None:
    """For how long the server has counted what is known since an activation of that ``age``: if it ``started`` anew
    after that, since then; one whose clock was wrong then says nothing. None if nobody knows."""
    if age is None or started is None:
        return age
    since = round(time.time() - started, 3)
    return max(since, 0.0) if 0 < since + CLOCK_SECONDS < age else age


def restarts(state: State, begun: Mapping[str, Any], now: Mapping[str, Any], age: float | None) -> int | None:
    """How often the server restarted since the activation, by whoever saw most: the trial, systemd, its own start."""
    seen = [state.trial.crashes] if state.trial else []
    if "restarts" in now:
        # Lower than it was: systemd counts anew when somebody restarts the unit.
        seen.append(now["restarts"] - begun.get("restarts", 0) if now["restarts"] >= begun.get("restarts", 0) else 1)
    if now.get("started") is not None and age is not None:
        seen.append(int(counted_seconds(age, now["started"]) != age))
    return max(seen, default=None)
