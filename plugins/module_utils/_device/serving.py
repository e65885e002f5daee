# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""The strategies: how the server of a model on this device is notified of a new version, and how it is observed."""

from __future__ import annotations

import contextlib
import math
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, Collection

from .._common.errors import EdgemlError, IncompatibleError, ServerError
from .client import InferenceServer, Server
from .facts import device_facts
from .metrics import BUCKETS, measure, parse_metrics, request_counts
from .service_manager import service_manager
from .state import ModelServer, Record, State
from .systemd import systemctl, systemd_runs, unit_property
from .trial import Reading

if TYPE_CHECKING:
    from .._release.release import Variant
    from .runtime import Runtime
    from .version import Version

# What a server takes to answer when a load has ended: requests in flight finish on the version before.
ANSWER_SECONDS = 30.0


class Strategy(ABC):
    """One way to have a version of ``model`` served. ``server`` can be asked for inferences, where there is one.

    ``held`` are the versions in the store: a server with names of its own for versions (Triton numbers them) is
    believed to serve the active one.
    """

    server: InferenceServer | None = None

    def device(self) -> dict[str, Any]:
        """The facts of what runs the model, as ``device_facts`` returns them. Raises ServerDownError where it has to be
        asked, and does not answer."""
        return device_facts()

    def start_watching(self) -> None:
        """Have the trials looked at regularly. Raises ServerError when that cannot be had."""
        service_manager().start_watching()

    @abstractmethod
    def answers(self) -> bool:
        """Whether there is a server to notify; one that is still starting is none."""

    @abstractmethod
    def notify(self, model: str, active: str | None) -> None:
        """Have the store's active version served, or nothing any more. Raises ServerError."""

    @abstractmethod
    def is_ready(self, model: str, version: str, held: Collection[str]) -> bool:
        """Whether ``version`` is served and ready. Raises ServerError when nobody answers."""

    @abstractmethod
    def live(self, model: str, state: State, held: Collection[str]) -> str | None:
        """The version that answers requests now; None when none does."""

    def silence(self, address: str) -> str:
        """What is said where nobody answers at ``address``."""
        return f"{address}: the inference server does not answer"

    def refuse(self, variant: Variant, headroom_percent: int) -> None:
        """Raise IncompatibleError, StoreError or ServerError where a version of this variant cannot be used here."""
        if variant.boot is not None:
            raise IncompatibleError(
                f"variant {variant.name} is for a microcontroller: expected the strategy smp and its port"
            )

    def stage(self, version: Version) -> Runtime | None:
        """Make ready what a version needs beside its files. Returns the runtime that it is, in which the models that
        serve have to be tested first; None of a model. Raises ServerError."""
        return None

    def confirm(self, model: str, version: str) -> None:
        """Have what is on trial stay, before the store says so. Raises ServerError where whoever runs it does not."""
        return

    def follow(self, model: str, active: str | None) -> None:
        """Have what starts next serve the store's active version. Notifies nobody."""
        return

    def tidy(self, model: str) -> None:
        """Remove what only versions needed that the store no longer has. Raises ServerError."""
        return

    def record(self, model: str, version: str | None) -> Record | None:
        """What was counted of ``version``; None where nobody counts."""
        return None

    def measured(self, model: str, *versions: str) -> list[dict[str, Any]]:
        """All that is known of each of the ``versions`` now (see ``metrics.measure``), with the ``restarts`` of its
        unit that systemd counts; without what nobody tells."""
        return [{} for _version in versions]

    def reading(self, model: str, version: str, held: Collection[str]) -> Reading:
        """One look at a version on trial."""
        if not self.answers():
            return Reading(answers=False, ready=None, record=self.record(model, version))
        try:
            return Reading(True, self.is_ready(model, version, held), self.record(model, version))
        except ServerError:
            return Reading(answers=False, ready=None, record=None)


class LoadStrategy(Strategy):
    """The server loads the new version beside the old, then switches; the repository extension of the Open Inference
    Protocol notifies it."""

    def __init__(self, server: Server, unit: str = ModelServer().unit) -> None:
        self.server: Server = server
        self._unit = unit

    def answers(self) -> bool:
        return self.server.has_started()

    def notify(self, model: str, active: str | None) -> None:
        if active is None:
            self.server.unload(model)
        else:
            self.server.load(model)

    def is_ready(self, model: str, version: str, held: Collection[str]) -> bool:
        # No answer is not the same as one that names no version: that would be any version's.
        serving = self.server.require_version(model)
        if serving in held:
            return serving == version and self.server.is_ready(model, version)
        return self.server.is_ready(model)

    def live(self, model: str, state: State, held: Collection[str]) -> str | None:
        serving = self.server.serving_version(model)
        if serving is None or serving in held:
            return serving
        return state.active

    def record(self, model: str, version: str | None) -> Record | None:
        try:
            text = self.server.metrics()
        except EdgemlError:
            return None
        counts = request_counts(text, model, version) if version else {}
        counts.pop(BUCKETS, None)
        values = {name: value for name, _labels, value in parse_metrics(text) if math.isfinite(value)}
        resident = values.get("process_resident_memory_bytes")
        return Record(**counts, resident_bytes=int(resident) if resident else None)

    def measured(self, model: str, *versions: str) -> list[dict[str, Any]]:
        restarts = _restarts(self._unit) if systemd_runs() else {}
        # A server that counts nothing, or tells it elsewhere, is well all the same.
        with contextlib.suppress(EdgemlError):
            text = self.server.metrics()
            return [{**measure(text, model, version), **restarts} for version in versions]
        return [dict(restarts) for _version in versions]


class UnitStrategy(Strategy):
    """A systemd unit is reloaded or restarted; it reads the model below ``models/<model>/active`` in the store."""

    def __init__(self, unit: str, verb: str) -> None:
        self._unit = unit
        self._verb = verb

    def answers(self) -> bool:
        try:
            return self._property("LoadState") == "loaded" and self._property("ActiveState") != "activating"
        except ServerError:
            return False

    def notify(self, model: str, active: str | None) -> None:
        systemctl(self._verb, "--", self._unit)

    def is_ready(self, model: str, version: str, held: Collection[str]) -> bool:
        return self._property("ActiveState") in ("active", "reloading")

    def live(self, model: str, state: State, held: Collection[str]) -> str | None:
        try:
            return state.active if state.active and self.is_ready(model, state.active, held) else None
        except ServerError:
            return None

    def record(self, model: str, version: str | None) -> Record | None:
        found = _restarts(self._unit)
        return Record(**found) if found else None

    def measured(self, model: str, *versions: str) -> list[dict[str, Any]]:
        return [_restarts(self._unit) for _version in versions]

    def _property(self, name: str) -> str:
        return unit_property(self._unit, name)


class NoStrategy(Strategy):
    """Nobody is notified; the server watches the store."""

    def answers(self) -> bool:
        return True

    def notify(self, model: str, active: str | None) -> None:
        return

    def is_ready(self, model: str, version: str, held: Collection[str]) -> bool:
        return True

    def live(self, model: str, state: State, held: Collection[str]) -> str | None:
        return state.active


def _restarts(unit: str) -> dict[str, int]:
    """How often systemd restarted a unit by itself; nothing where it does not say."""
    with contextlib.suppress(ServerError, ValueError):
        return {"restarts": int(unit_property(unit, "NRestarts"))}
    return {}
