# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""The swap: from "this release is wanted" to "this release serves, or the old one still does"."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from dataclasses import dataclass
from typing import Any, Mapping

from ._errors import EdgemlError, IntegrityError, ServerError, StoreError, SwapError
from ._manifest import File, Release, Variant, choose_variant
from ._oip import Server
from ._probe import probe_accuracy
from ._store import State, Store, Version

SERVER_RETURN_SECONDS = 90.0
HEALTH_INTERVAL_SECONDS = 0.5


@dataclass(frozen=True)
class Plan:
    """What a call would do: the states before and after, what is served now, the blobs that must come first, and the
    versions that make room."""

    before: State
    after: State
    live: str | None
    variant: Variant | None = None
    missing: tuple[File, ...] = ()
    surplus: tuple[str, ...] = ()
    stages: bool = False
    tells_server: bool = False

    @property
    def changed(self) -> bool:
        """Whether anything is to do."""
        return self.stages or self.tells_server or self.before != self.after


@dataclass(frozen=True)
class Context:
    """Who asks for a transition, and why: recorded in the device's journal."""

    rollout_id: str | None
    actor: str
    why: str

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


class Swap:
    """The transitions of one model on this device. ``server`` is None where nobody is to be told."""

    def __init__(self, store: Store, server: Server | None, model: str, context: Context) -> None:
        self.store = store
        self.server = server
        self.model = model
        self.context = context

    def live(self) -> str | None:
        """The version that answers requests now; with no server to ask, the one that the state names."""
        return self.server.serving_version(self.model) if self.server else self.store.state(self.model).active

    # ---- plans: read, change nothing ----

    def plan_present(self, release: Release, device: Mapping[str, Any], keep: int) -> Plan:
        """Plan to hold ``release`` in the store, and ``keep`` others beside the active and the previous one.

        Raises IncompatibleError or StoreError where it cannot be."""
        before = self.store.state(self.model)
        variant = choose_variant(release, device)
        held = release.version in self.store.versions(self.model)
        if held:
            version = self.store.version(self.model, release.version)
            if version.digest != release.digest:
                raise StoreError(
                    f"{version.directory}: the store holds manifest digest {version.digest}; this release has "
                    f"{release.digest}. A release is immutable: publish the change as a new version"
                )
            self.store.check_sizes(version)
            variant = version.chosen
        missing = () if held else tuple(self.store.missing(release.files(variant)))
        surplus = () if held else self._surplus(before, release, keep)
        return Plan(before, before, self.live(), variant, missing, surplus, stages=not held)

    def plan_active(self, release: Release, device: Mapping[str, Any], keep: int) -> Plan:
        """Plan to make ``release`` the active version. Raises ServerError when a server that must be told is down."""
        present = self.plan_present(release, device, keep)
        before = present.before
        after = before if before.active == release.version else State(release.version, before.active)
        tells = self.server is not None and (after != before or present.live != release.version)
        if self.server is not None and tells and not self.server.is_live():
            raise ServerError(f"{self.server.path}: the inference server does not answer")
        surplus = () if after == before else self._surplus(after, release, keep)
        return Plan(before, after, present.live, present.variant, present.missing, surplus, present.stages, tells)

    def plan_leave(self, version: str) -> Plan:
        """Plan to go back from ``version`` to the one before it; nothing to do when it is neither active nor live.

        Within a rollout, nothing is to do either where it was not this rollout that made ``version`` active.
        """
        before = self.store.state(self.model)
        live = self.live()
        rollout_id = self.context.rollout_id
        if rollout_id is not None and before.active == version:
            activation = self.store.activation(self.model) or {}
            if activation.get("rollout_id") != rollout_id:
                return Plan(before, before, live)
        if before.active != version:
            return Plan(before, before, live, tells_server=live == version)
        after = State(active=before.previous, previous=version)
        return Plan(before, after, live, tells_server=self.server is not None)

    def plan_absent(self, version: str) -> Plan:
        """Plan to remove ``version`` from the store. Raises StoreError when it is the active or previous one."""
        before = self.store.state(self.model)
        if version in (before.active, before.previous):
            raise StoreError(f"{self.model} {version} is active or previous on this device: leave it first")
        return Plan(before, before, self.live(), stages=version in self.store.versions(self.model))

    # ---- acts: hold the store's lock ----

    def stage(self, release: Release, plan: Plan, blobs: str | None) -> None:
        """Bring ``release`` into the store from ``blobs``, a directory of files named by their digest.

        Older versions make room first. Raises IntegrityError before anything of the release is visible if a byte
        is wrong, and StoreError if the disk cannot hold it.
        """
        self.store.clean_staging()
        assert plan.variant is not None
        for version in plan.surplus:
            if version not in (plan.before.active, plan.before.previous):
                self.store.remove(self.model, version, needed=release.files(plan.variant))
        needed, free = sum(file.size for file in plan.missing), shutil.disk_usage(self.store.root).free
        if needed > free:
            raise StoreError(f"{self.store.root}: {self.model} {release.version} needs {needed} bytes; {free} are free")
        for file in plan.missing:
            path = os.path.join(blobs or self.store.root, file.sha256)
            try:
                with open(path, "rb") as source:
                    self.store.add_blob(file, source, path)
            except FileNotFoundError as error:
                raise IntegrityError(f"{path}: {file.path}: expected {file.size} bytes; the file is missing") from error
        self.store.install(release, plan.variant)

    def activate(self, plan: Plan, health_seconds: float) -> dict[str, Any] | None:
        """Make ``plan.after.active`` serve, or put the old version back and raise SwapError.

        Verifies every byte, measures the accuracy of the version that serves now on the new release's probe set
        (returned; None when there is nothing to measure), switches, tells the server, and watches it for
        ``health_seconds``.
        """
        assert plan.after.active is not None
        version = self.store.version(self.model, plan.after.active)
        self.store.verify(version)
        baseline = self._baseline(plan, version)
        if plan.after != plan.before:
            entry = self.context.entry("activate", plan.before, plan.after, baseline=baseline)
            self.store.activate(self.model, plan.after, entry)
        if self.server is None:
            return baseline
        try:
            self.server.load(self.model)
            self._watch(version.version, health_seconds)
        except ServerError as error:
            live = self._put_back(plan, str(error))
            raise SwapError(f"{self.model} {version.version} did not become healthy: {error}", live) from error
        return baseline

    def leave(self, plan: Plan) -> None:
        """Go back to the version before; with none before, stop serving the model. Needs no download."""
        if plan.after.active is not None:
            self.store.verify(self.store.version(self.model, plan.after.active))
        if plan.after != plan.before:
            self.store.activate(self.model, plan.after, self.context.entry("revert", plan.before, plan.after))
        try:
            self._tell(plan.after)
        except ServerError as error:
            raise SwapError(
                f"{self.model}: the store went back to {plan.after.active}, the server did not: {error}", self.live()
            ) from error

    def remove(self, version: str, plan: Plan) -> None:
        """Remove a version that is neither active nor previous."""
        self.store.remove(self.model, version)
        self.store.record(self.model, self.context.entry("remove", plan.before, plan.after, version=version))

    def make_room(self, plan: Plan) -> None:
        """Remove what the plan has no more need for, after it was carried out."""
        for version in set(plan.surplus) & set(self.store.versions(self.model)):
            self.store.remove(self.model, version)

    # ---- the parts ----

    def _surplus(self, state: State, release: Release, keep: int) -> tuple[str, ...]:
        return tuple(self.store.surplus(self.model, keep, (state.active, state.previous, release.version)))

    def _baseline(self, plan: Plan, version: Version) -> dict[str, Any] | None:
        if self.server is None or plan.live is None or version.probe_path is None or plan.live == version.version:
            return None
        with contextlib.suppress(EdgemlError, KeyError, ValueError):
            return probe_accuracy(self.server, self.model, version.probe_path)
        return None

    def _tell(self, state: State) -> None:
        if self.server is None:
            return
        if state.active is None:
            self.server.unload(self.model)
        else:
            self.server.load(self.model)

    def _watch(self, version: str, seconds: float) -> None:
        assert self.server is not None
        deadline = time.monotonic() + seconds
        while True:
            if not self.server.is_ready(self.model, version):
                raise ServerError(f"{self.server.path}: {self.model} {version} is not ready")
            if time.monotonic() >= deadline:
                return
            time.sleep(HEALTH_INTERVAL_SECONDS)

    def _put_back(self, plan: Plan, reason: str) -> str | None:
        """Return to the state before a failed swap; a server that died is waited for. Returns what is live then."""
        if plan.after != plan.before:
            entry = self.context.entry("put_back", plan.after, plan.before, reason=reason)
            self.store.activate(self.model, plan.before, entry)
        assert self.server is not None
        deadline = time.monotonic() + SERVER_RETURN_SECONDS
        while True:
            try:
                self._tell(plan.before)
                break
            except ServerError:
                if self.server.is_live() or time.monotonic() >= deadline:
                    break
                time.sleep(HEALTH_INTERVAL_SECONDS)
        return self.live()
