# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""What every transition of a model has: who asks for it, the state that it starts from, and how it is recorded."""

from __future__ import annotations

import contextlib
from typing import Any, NamedTuple

from .._common.errors import ServerError, StoreError
from .._release.withdrawals import Withdrawals
from .journal import utc_now
from .state import Failure, ModelServer, State
from .store import Store
from .strategies import make_strategy
from .withdrawn import keep_withdrawals, known_withdrawals, refuse_withdrawn


class Cause(NamedTuple):
    """Who asks for a transition, and why: recorded in the device's journal."""

    actor: str
    why: str = ""
    rollout_id: str | None = None

    def entry(self, event: str, before: State, after: State, **more: Any) -> dict[str, Any]:
        """A journal entry for the transition from ``before`` to ``after``."""
        return {
            "event": event,
            "from": before.active,
            "to": after.active,
            "rollout_id": self.rollout_id,
            "actor": self.actor,
            "why": self.why,
            **more,
        }


DEVICE = Cause(actor="device")


class Transitions:
    """One model on this device, and its transitions. Writing methods need the store's lock.

    ``initial_state`` is the state that was found, ``state`` what it has become, or in check mode would become.
    """

    def __init__(self, store: Store, model: str, cause: Cause, serving: ModelServer | None = None) -> None:
        self.store = store
        self.model = model
        self.cause = cause
        self.initial_state = store.state(model)
        self.state = self.initial_state
        self.serving = serving or self.initial_state.serving or ModelServer()
        self.strategy = make_strategy(self.serving, store)
        self._withdrawals: Withdrawals | None = None

    def live(self) -> str | None:
        """The version that answers requests now; with nobody to ask, the one that the state names."""
        return self.strategy.live(self.model, self.state, self.store.versions(self.model))

    def live_if_known(self) -> str | None:
        """The version that answers requests now; None also where that is unknown."""
        try:
            return self.live()
        except ServerError:
            return None

    def notify_if_needed(self) -> None:
        """Tell the server what was settled here, or when it answers with another version than the state names."""
        with contextlib.suppress(ServerError):
            if self.strategy.answers() and (
                self.state.active != self.initial_state.active or self.live() != self.state.active
            ):
                self.strategy.notify(self.model, self.state.active)

    def learn_withdrawals(self, found: Withdrawals, act: bool) -> None:
        """Take over a list of withdrawn releases that is not older than the known one; outside check mode, keep it."""
        if act:
            keep_withdrawals(self.store, self.model, found)
        self._withdrawals = known_withdrawals(self.store, self.model).followed_by(found)

    def refuse_withdrawn(self, version: str) -> None:
        """Raise WithdrawnError for a version that nobody may run any more, by what this device knows."""
        refuse_withdrawn(self._known_withdrawals(), self.model, version)

    def why_withdrawn(self, version: str | None) -> str | None:
        """Why a version is withdrawn, by what this device knows; None if it is not, or if that record is damaged: a way
        back must not fail for it."""
        with contextlib.suppress(StoreError, OSError):
            return self._known_withdrawals().releases.get(version or "")
        return None

    # ---- for subclasses ----

    def _transition(self, event: str, after: State, cause: Cause | None = None, **more: Any) -> None:
        reason = self.why_withdrawn(after.active) if after.active != self.state.active else None
        if reason is not None:
            more["withdrawn"] = reason
        entry = (cause or self.cause).entry(event, self.state, after, **more)
        if event != "activate":
            self.store.use_reserve()
        self.store.transition(self.model, after, entry)
        self.state = after
        self.strategy.follow(self.model, after.active)

    def _known_withdrawals(self) -> Withdrawals:
        if self._withdrawals is None:
            self._withdrawals = known_withdrawals(self.store, self.model)
        return self._withdrawals

    def _update(self, state: State) -> None:
        self.store.use_reserve()
        self.store.update(self.model, state)
        self.state = state

    def _failure(self, version: str, reason: str) -> Failure:
        digest = ""
        with contextlib.suppress(StoreError):
            digest = self.store.version(self.model, version).digest
        rollout_id = self.cause.rollout_id
        if rollout_id is None and version == self.state.active:
            rollout_id = (self.store.activation(self.model) or {}).get("rollout_id")
        return Failure(reason=reason[:500], time=utc_now(), digest=digest, rollout_id=rollout_id)

    @property
    def _counted_by_systemd(self) -> bool:
        """Whether the model is served by a unit of its own, whose restarts its record has."""
        return self.serving.strategy in ("reload", "restart")
