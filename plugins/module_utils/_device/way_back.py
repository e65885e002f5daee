# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""The way back: to which version a device can return without a network, and what keeps it from that."""

from __future__ import annotations

from typing import Any

from .._common.errors import EdgemlError, NoWayBackError
from .runtime import runtime_id
from .state import State
from .store import RESERVE_BYTES, Store
from .withdrawn import known_withdrawals


def describe_way_back(store: Store, model: str, state: State) -> dict[str, Any] | None:
    """Return where the model can go back to; None where no version is active.

    ``version`` is what a revert returns to, None after a first installation. ``ready`` is whether it can be returned to
    now, with what the device holds: its files are all there in full length, it is not withdrawn, and there is disk for
    the switch; otherwise ``problem`` says why not. ``tested`` is whether it passed its smoke test with the runtime that
    is installed now; None where nobody knows. ``ends`` is what ends the window: ``trial``, when the device commits the
    active version, or returns by itself; ``next release``, which takes the place of what this returns to.
    """
    if state.active is None:
        return None
    version = state.trial.active if state.trial else state.previous
    problem = _problem(store, model, version)
    return {
        "version": version,
        "ready": problem is None,
        "problem": problem,
        "tested": None if version is None or problem is not None else is_tested(store, model, version),
        "ends": "trial" if state.trial else "next release",
    }


def _problem(store: Store, model: str, version: str | None) -> str | None:
    if version is None:
        return "no version was active before"
    try:
        store.version(model, version).check_sizes()
        reason = known_withdrawals(store, model).releases.get(version)
    except (EdgemlError, OSError) as error:
        return str(error)
    if reason is not None:
        return f"{version} is withdrawn: {reason}"
    if not store.has_reserve() and store.free_bytes() < RESERVE_BYTES:
        return f"{store.root}: the disk is full, and nothing is set aside for a way back"
    return None


def is_tested(store: Store, model: str, version: str) -> bool | None:
    """Whether a version passed its smoke test with the runtime that is installed now; None where nobody knows."""
    try:
        installed = runtime_id()
    except EdgemlError:
        return None
    test = store.tested(store.version(model, version))
    if installed is None or test is None:
        return None
    return bool(test.get("runtime_id") == installed)


def refuse_without_way_back(store: Store, model: str, live: str, version: str, *, verify: bool) -> None:
    """Raise NoWayBackError where the device holds too little of what serves now, ``live``, to return to it from
    ``version``. With ``verify`` each byte is read, otherwise the sizes are compared.

    That it is withdrawn is no reason: a device returns to it from a trial all the same.
    """
    try:
        held = store.version(model, live)
        if verify:
            held.verify()
        held.check_sizes()
    except (EdgemlError, OSError) as error:
        remedy = f"Bring it anew: model_swap with version {live}, state present and verify full. Or go on without"
        raise no_way_back(model, live, version, f"{error}. {remedy}") from error


def no_way_back(model: str, live: str, version: str, why: str) -> NoWayBackError:
    """The error of a switch from ``live`` to ``version`` that could not be undone."""
    return NoWayBackError(
        f"{model} {version} was not switched to: the device could not return to {live}, which serves: {why} "
        "(accept_no_way_back; in a rollout rollout_accept_no_way_back)"
    )
