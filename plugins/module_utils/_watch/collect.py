# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""Collects the metrics of a device from its store, what pull mode remembers, its certificates and its sensors."""

from __future__ import annotations

import contextlib
import os
from typing import Iterator

from .._common.errors import EdgemlError
from .._device import expiry
from .._device.journal import parse_time
from .._device.orders import Orders
from .._device.sensors import read_sensors
from .._device.store import Store
from .._device.transitions import DEVICE
from .._device.way_back import describe_way_back
from .._device.withdrawn import known_withdrawals
from .._pull.memory import Memory
from .metrics import Sample

PULL_STATE = os.path.dirname(expiry.PULL_STATE)
# What makes another version active that was active before.
_RETURNS = ("revert", "put_back", "fallback")


def collect(store: Store, pull_state: str = PULL_STATE, root: str = "/") -> list[Sample]:
    """Return the samples of this device. ``pull_state`` is the directory of pull mode, ``root`` where etc and sys are.

    What is damaged is counted, and hides nothing else. Raises OSError where the store's disk cannot be read.
    """
    samples = list(_store_samples(store))
    certificates = {name: os.path.join(root, path.lstrip("/")) for name, path in expiry.CERTIFICATES.items()}
    ends = expiry.expiries(certificates, os.path.join(pull_state, "state.json"))
    samples += [("edgeml_expiry_timestamp_seconds", {"of": name}, seconds) for name, seconds in ends.items()]
    samples += _pull_samples(pull_state)
    return samples + read_sensors(root)


def _store_samples(store: Store) -> Iterator[Sample]:
    if not store.exists():
        return
    disk = os.statvfs(store.root)
    yield "edgeml_store_free_bytes", {}, float(store.free_bytes())
    yield "edgeml_store_size_bytes", {}, float(disk.f_blocks * disk.f_frsize)
    yield "edgeml_store_reserve", {}, float(store.has_reserve())
    damaged = 0
    for model in store.models():
        try:
            yield from list(_model_samples(store, model))
        except (EdgemlError, OSError):
            damaged += 1
    yield "edgeml_store_damaged_models", {}, float(damaged)
    for order in Orders(store).all():
        # One whose release has no variant for this device any more is told by the command that fetches.
        with contextlib.suppress(EdgemlError, OSError):
            found = Orders(store).describe(order)
            labels = {"model": found["model"], "version": found["version"]}
            yield "edgeml_fetch_bytes", labels, float(found["bytes"])
            yield "edgeml_fetch_held_bytes", labels, float(found["held_bytes"])


def _model_samples(store: Store, model: str) -> Iterator[Sample]:
    state = store.state(model)
    for role, version in state.versions().items():
        if version is not None:
            yield "edgeml_version_info", {"model": model, "version": version, "role": role}, 1.0
    yield "edgeml_trial_active", {"model": model}, float(state.trial is not None)
    yield "edgeml_reverted_timestamp_seconds", {"model": model}, _went_back_at(store, model)
    yield "edgeml_failed_versions", {"model": model}, float(len(state.failed))
    withdrawn = known_withdrawals(store, model).releases
    yield "edgeml_withdrawn_active", {"model": model}, float(state.active in withdrawn)
    way_back = describe_way_back(store, model, state)
    if way_back is not None:
        labels = {"model": model, "version": way_back["version"] or ""}
        yield "edgeml_way_back_ready", labels, float(way_back["ready"])


def _went_back_at(store: Store, model: str) -> float:
    for entry in store.journal(model).newest_first():
        if entry.get("event") in _RETURNS and entry.get("actor") == DEVICE.actor:
            with contextlib.suppress(ValueError):
                return parse_time(str(entry.get("time")))
    return 0.0


def _pull_samples(directory: str) -> Iterator[Sample]:
    """What pull mode remembers; nothing on a device that has never pulled."""
    if not os.path.exists(os.path.join(directory, "state.json")):
        return
    memory = Memory(directory)
    try:
        state = memory.state()
        yield "edgeml_pull_problem", {}, float(state.problem is not None)
        yield "edgeml_pull_desired_version", {}, float(state.desired_version)
    except (EdgemlError, OSError):
        yield "edgeml_pull_problem", {}, 1.0
    yield "edgeml_pull_queued_reports", {}, float(len(memory.queued()))
