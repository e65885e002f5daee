# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""What the device says of a model: one description, for the module ``model_info`` and the command ``edgeml``."""

from __future__ import annotations

import contextlib
import dataclasses
from typing import Any

from ._errors import ServerError
from ._probe import probe_accuracy, request_counts
from ._state import Serving
from ._store import Store
from ._strategy import make_strategy


def describe_model(store: Store, name: str, server: str, probe: bool = False, history: int = 0) -> dict[str, Any]:
    """Describe a model by what the store and whoever serves it say. ``server``: its address; ``probe``: measure the
    accuracy of the active version; ``history``: how many of the last transitions to tell.

    Raises StoreError for what is damaged and ServerError for a server that breaks off.
    """
    state = store.state(name)
    versions = store.versions(name)
    strategy = make_strategy(dataclasses.replace(state.serving or Serving(), server=server))
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
        asked = strategy.server if answers else None
        if asked and probe and live == state.active:
            entry["probe"] = probe_accuracy(asked, name, version.probe_path) if version.probe_path else None
        if asked:
            # After the probe, so that a version that nobody asked anything yet has been asked something.
            # A server that counts nothing, or tells it elsewhere, is well all the same.
            with contextlib.suppress(ServerError):
                entry["requests"] = request_counts(asked.metrics(), name, state.active)
    if history > 0:
        entry["history"] = store.history(name)[-history:]
    return entry
