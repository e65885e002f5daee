# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""The swap: from "this release is wanted" to "this release serves, or the old one still does".

One swap runs at a time (the store's lock). Whoever holds the lock first recovers what an interrupted one left.
"""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import io
import os
import time
from dataclasses import dataclass
from typing import Any, BinaryIO, Mapping

from .._common.errors import (
    ArgumentError,
    CandidateError,
    EdgemlError,
    FailedBeforeError,
    IncompatibleError,
    IntegrityError,
    ServerDownError,
    ServerError,
    StoreError,
    SwapError,
)
from .._release.manifest import File, Release, Variant, choose_variant
from .facts import boot_id, boot_seconds
from .probe_set import probe_accuracy
from .serving import make_strategy
from .smoke_test import SmokeTest, runtime_id
from .state import SWITCHING, WATCHING, Failure, Limits, ModelServer, State, Trial, require
from .store import Store, Version, utc_now
from .systemd import start_watching
from .trial import COMMIT, REVERT, WAIT, Reading, judge_trial

SERVER_RETURN_SECONDS = 90.0
HEALTH_INTERVAL_SECONDS = 0.5
REVERTED_BY_REQUEST = "reverted by request"
_INLINE = "what came with the call"


@dataclass(frozen=True)
class Plan:
    """What a call would do: the states before and after, what is served now, the blobs that must come first, and the
    versions that make room. ``recovers``: an interrupted swap or a trial comes to its end first."""

    before: State
    after: State
    live: str | None
    variant: Variant | None = None
    missing: tuple[File, ...] = ()
    prunable: tuple[str, ...] = ()
    stages: bool = False
    switches: bool = False
    notifies_server: bool = False
    recovers: bool = False

    @property
    def changed(self) -> bool:
        """Whether anything is to do."""
        return self.stages or self.switches or self.notifies_server or self.recovers or bool(self.missing)


@dataclass(frozen=True)
class Cause:
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


@dataclass(frozen=True)
class SwapOptions:
    """How a release is brought in: ``keep`` versions beside the needed ones, leave ``headroom_percent`` of disk
    and memory to the device, ``verify`` in full what is held, ``retry`` what failed here before (not in the same
    rollout), see it ready for ``min_ready_seconds``, and leave it on trial for ``trial_seconds`` (0: commit it)
    within ``limits``."""

    keep: int = 1
    headroom_percent: int = 20
    verify: bool = False
    retry: bool = False
    min_ready_seconds: float = 2.0
    trial_seconds: float = 300.0
    limits: Limits = dataclasses.field(default_factory=Limits)

    def __post_init__(self) -> None:
        """Raise ArgumentError for a number that is out of its range, or none."""
        values = {**vars(self), **vars(self.limits)}
        for name, most in _MOST.items():
            if not 0 <= values[name] <= most:
                raise ArgumentError(f"{name}: expected a number from 0 to {most}; found {values[name]!r}")


_MOST = {
    "keep": 1000,
    "headroom_percent": 99,
    "min_ready_seconds": 3600,
    "trial_seconds": 365 * 86400,
    "crashes_max": 1000,
    "error_rate_max": 1,
    "latency_ratio_max": 1_000_000,
    "requests_min": 1_000_000_000,
}


class Swap:
    """The transitions of one model on this device."""

    def __init__(self, store: Store, model: str, cause: Cause, serving: ModelServer | None = None) -> None:
        self.store = store
        self.model = model
        self.cause = cause
        self.initial_state = store.state(model)
        self.state = self.initial_state
        self.serving = serving or self.initial_state.serving or ModelServer()
        self.strategy = make_strategy(self.serving)

    def live(self) -> str | None:
        """The version that answers requests now; with nobody to ask, the one that the state names."""
        return self.strategy.live(self.model, self.state, self.store.versions(self.model))

    def live_if_told(self) -> str | None:
        """The version that answers requests now; None also where that cannot be told."""
        try:
            return self.live()
        except ServerError:
            return None

    # ---- settling what was left ----

    def recover_interrupted(self, act: bool, ends_trial: bool = False) -> None:
        """Put back what an interrupted swap left half done; with ``ends_trial``, end a trial by what is known of it.

        Afterwards ``state`` is what the device has, or in check mode (without ``act``) would have. With ``act``, the
        lock is held.
        """
        trial = self.state.trial
        if trial is not None and trial.phase == SWITCHING:
            self._recovered("interrupted", self.state.reverted(), act, reason="the swap was interrupted")
        elif trial is not None and ends_trial:
            self._check_trial(act, last=True)
        if act:
            self._recover_journal()
            self.store.link_active(self.model, self.state)

    def recover(self) -> None:
        """Settle everything that a crash, a power cut or a restart of the device left. Hold the lock.

        Raises StoreError when the active version's files are not there and there is none to fall back to.
        """
        self.store.clean_staging()
        self.recover_interrupted(act=True)
        trial = self.state.trial
        if trial is not None and trial.boot_id != boot_id():
            begun_anew = dataclasses.replace(trial, boot_id=boot_id(), since=boot_seconds(), boots=trial.boots + 1)
            self._update(dataclasses.replace(self.state, trial=begun_anew))
            self._check_trial(act=True, boot=True)
        self._fall_back()

    def check_trial(self) -> str:
        """Look once at a trial, and commit it, revert it or leave it. Hold the lock. Returns what was done and why."""
        self.recover_interrupted(act=True)
        return self._check_trial(act=True) if self.state.trial is not None else "no trial"

    def crashed(self) -> None:
        """Count a crash of the service against the trial, and revert it at once when there were too many.

        The service is down then: it starts with what the state says. What other units serve is counted by systemd.
        Hold the lock.
        """
        self.recover_interrupted(act=True)
        trial = self.state.trial
        if trial is not None and not self._counted_by_systemd:
            counted = dataclasses.replace(trial, crashes=trial.crashes + 1)
            self._update(dataclasses.replace(self.state, trial=counted))
            if counted.crashes > counted.limits.crashes_max:
                reason = f"the service crashed {counted.crashes} times (at most {counted.limits.crashes_max})"
                self._revert_trial(reason, act=True)

    def service_failed(self) -> bool:
        """Revert a trial because systemd gave the service up. Return whether there was one. Hold the lock."""
        self.recover_interrupted(act=True)
        if self.state.trial is None or self._counted_by_systemd:
            return False
        self._revert_trial("systemd gave the service up", act=True)
        return True

    def notify_if_needed(self) -> None:
        """Tell the server what was settled here, or when it answers with another version than the state names."""
        with contextlib.suppress(ServerError):
            if self.strategy.answers() and (
                self.state.active != self.initial_state.active or self.live() != self.state.active
            ):
                self.strategy.notify(self.model, self.state.active)

    # ---- plans: read, change nothing ----

    def plan_present(self, release: Release, device: Mapping[str, Any], options: SwapOptions) -> Plan:
        """Plan to hold ``release`` in the store. Raises IncompatibleError or StoreError where it cannot be."""
        return self._plan(release, device, options, self.state)

    def plan_active(self, release: Release, device: Mapping[str, Any], options: SwapOptions) -> Plan:
        """Plan to make ``release`` the active version. Raises ServerError when a server that must be told is down."""
        before, version = self.state, release.version
        failure = before.failed.get(version)
        if failure is not None and before.active != version and not self._tries_again(failure, options):
            raise FailedBeforeError(
                f"{self.model} {version} failed on this device at {failure.time}: {failure.reason}. "
                f"It is not tried again until it is asked for with retry",
                {"reason": failure.reason, "time": failure.time, "rollout_id": failure.rollout_id},
            )
        if before.trial is not None and before.active != version:
            raise ServerError(
                f"{self.serving.server}: the inference server does not answer, so that the trial of {before.active} "
                f"cannot be ended before {version}"
            )
        after = before if before.active == version else State(version, before.active)
        plan = self._plan(release, device, options, after)
        switches = after != before
        tells = switches or plan.live != version
        if tells and not self.strategy.answers():
            raise ServerDownError(f"{self.serving.server}: the inference server does not answer")
        if tells:
            _check_memory(release, require(plan.variant), device, options.headroom_percent)
        return dataclasses.replace(plan, switches=switches, notifies_server=tells)

    def plan_revert(self, version: str) -> Plan:
        """Plan to go back from ``version`` to the one before it; nothing to do when it is neither active nor live.

        Within a rollout, nothing is to do either where it was not this rollout that made ``version`` active. A version
        that is left counts as failed here: nobody brings it back without being told to.
        """
        before, live, rollout_id = self.state, self.live(), self.cause.rollout_id
        plan = Plan(self.initial_state, before, live, recovers=self._recovers)
        if before.active != version:
            return dataclasses.replace(plan, notifies_server=live == version)
        if rollout_id is not None and (self.store.activation(self.model) or {}).get("rollout_id") != rollout_id:
            return plan
        after = (
            before.reverted() if before.trial else dataclasses.replace(before, active=before.previous, previous=version)
        )
        after = after.with_failure(version, self._failure(version, self.cause.why or REVERTED_BY_REQUEST))
        if after.active is not None:
            after = after.without_failure(after.active)
        return dataclasses.replace(plan, after=after, switches=True, notifies_server=True)

    def plan_absent(self, version: str) -> Plan:
        """Plan to remove ``version`` from the store. Raises StoreError when it is needed."""
        if version in self.state.needed():
            raise StoreError(f"{self.model} {version} is active or previous on this device: revert it first")
        held = version in self.store.versions(self.model)
        return Plan(self.initial_state, self.state, self.live(), stages=held, recovers=self._recovers)

    # ---- acts: hold the store's lock ----

    def prune(self, release: Release, plan: Plan) -> None:
        """Make room for ``release``: without what an interrupted write left, and what the plan has no more need for."""
        files = release.files(require(plan.variant))
        self.store.clean_staging()
        self.store.remove_unused_blobs(needed=files)
        for version in plan.prunable:
            if version not in self.state.needed():
                self.store.remove(self.model, version, needed=files)

    def stage(self, release: Release, plan: Plan, blobs: str | None, inline: Mapping[str, str]) -> None:
        """Bring ``release`` into the store and test it. What it lacks comes from ``blobs``, a directory of files named
        by their digest, or stands in ``inline``, in base64 by its digest.

        Raises IntegrityError before anything of the release is visible if a byte
        is wrong, StoreError if the disk cannot hold it, CandidateError if it fails its smoke test.
        """
        for file in plan.missing:
            if file.sha256 in inline:
                self.store.add_blob(file, _decoded(inline[file.sha256]), _INLINE)
            else:
                self._add_staged(file, os.path.join(blobs or self.store.root, file.sha256))
            self.store.relink(file)
        self.store.install(release, require(plan.variant))
        self._test(self.store.version(self.model, release.version))

    def activate(self, plan: Plan, options: SwapOptions) -> dict[str, Any] | None:
        """Make ``plan.after.active`` serve, or put the old version back and raise SwapError.

        Verifies every byte and tests the candidate where it was not tested with this runtime, measures the accuracy
        of the version that serves now on the new release's probe set (returned; None when there is nothing to
        measure), switches, tells the server, watches it for a while, and leaves the version on trial.
        """
        version = self.store.version(self.model, require(plan.after.active))
        self._test(version, verify=True)
        if not plan.switches:
            self._notify_active(options.min_ready_seconds)
            return None
        before = self.state
        # ``earlier``: the version may have served before.
        past, earlier = self.strategy.measured(self.model, before.active or "", version.version)
        baseline = self._baseline(version)
        trial = Trial(
            phase=SWITCHING,
            active=before.active,
            previous=before.previous,
            seconds=options.trial_seconds,
            limits=options.limits,
            baseline=self.strategy.record(self.model, before.active),
            memory_bytes=version.chosen.memory_bytes,
            boot_id=boot_id(),
            since=boot_seconds(),
        )
        self.store.reserve_space()
        start_watching()
        switching = dataclasses.replace(
            before.without_failure(version.version),
            active=version.version,
            previous=before.active,
            trial=trial,
            serving=self.serving,
        )
        try:
            self._transition(
                "activate",
                switching,
                baseline=baseline,
                trial_seconds=options.trial_seconds,
                past=past if before.active else None,
                begun=earlier,
            )
            self.strategy.notify(self.model, version.version)
            self._watch(version.version, options.min_ready_seconds)
            begun = self.strategy.record(self.model, version.version)
            watching = dataclasses.replace(trial, phase=WATCHING, since=boot_seconds(), begun=begun)
            # Not from the reserve: on a disk without room for this, the way back needs it.
            self.state = dataclasses.replace(self.state, trial=watching if options.trial_seconds > 0 else None)
            self.store.update(self.model, self.state)
        except ServerError as error:
            live = self._put_back(
                before.with_failure(version.version, self._failure(version.version, str(error))), error
            )
            raise SwapError(f"{self.model} {version.version} did not become healthy: {error}", live) from error
        except OSError as error:
            # The device's fault, not the version's.
            live = self._put_back(before, error)
            raise SwapError(f"{self.model} {version.version} could not be switched to: {error}", live) from error
        return baseline

    def revert(self, plan: Plan) -> None:
        """Go back to the version before; with none before, stop serving the model. Needs no download."""
        if plan.after.active is not None:
            self.store.verify(self.store.version(self.model, plan.after.active))
        if plan.switches:
            start_watching()
            if self.state.trial is not None:
                self._revert_trial(self.cause.why or REVERTED_BY_REQUEST, act=True, cause=self.cause)
            else:
                self._transition("revert", dataclasses.replace(plan.after, serving=self.serving))
        try:
            self.strategy.notify(self.model, plan.after.active)
        except ServerError as error:
            raise SwapError(
                f"{self.model}: the store went back to {plan.after.active}, the server did not: {error}",
                self.live_if_told(),
            ) from error

    def remove(self, version: str) -> None:
        """Remove a version that nobody needs."""
        self.store.remove(self.model, version)
        self.store.record(self.model, self.cause.entry("remove", self.state, self.state, version=version))

    def make_room(self, plan: Plan) -> None:
        """Remove what the plan has no more need for, after it was carried out. What can't be removed now stays until
        another release is staged."""
        with contextlib.suppress(OSError):
            for version in set(plan.prunable) & set(self.store.versions(self.model)):
                if version not in self.state.needed():
                    self.store.remove(self.model, version)

    # ---- the parts: plans ----

    @property
    def _counted_by_systemd(self) -> bool:
        """Whether the model is served by a unit of its own, whose restarts its record has."""
        return self.serving.strategy in ("reload", "restart")

    def _tries_again(self, failure: Failure, options: SwapOptions) -> bool:
        """Whether a version that failed is tried again: not twice in one rollout."""
        rollout_id = self.cause.rollout_id
        return options.retry and (rollout_id is None or rollout_id != failure.rollout_id)

    @property
    def _recovers(self) -> bool:
        return self.state != self.initial_state

    def _plan(self, release: Release, device: Mapping[str, Any], options: SwapOptions, after: State) -> Plan:
        variant = choose_variant(release, device, options.headroom_percent)
        held = release.version in self.store.versions(self.model)
        if held:
            version = self.store.version(self.model, release.version)
            if version.digest != release.digest:
                raise StoreError(
                    f"{version.directory}: the store holds manifest digest {version.digest}; this release has "
                    f"{release.digest}. A release is immutable: publish the change as a new version"
                )
            variant = version.chosen
            missing = self.store.damaged(version) if options.verify else []
            if not options.verify:
                self.store.check_sizes(version)
        else:
            missing = self.store.missing(release.files(variant))
        needed = {*after.needed(), release.version}
        if options.trial_seconds > 0:
            needed |= self.state.needed()
        # A version that is neither staged nor switched to makes nothing superfluous.
        prunable = [] if held and after == self.state else self.store.prunable(self.model, options.keep, needed)
        self._check_disk(release, missing, prunable, options.headroom_percent)
        return Plan(
            self.initial_state,
            after,
            self.live(),
            variant,
            tuple(missing),
            tuple(prunable),
            stages=not held or bool(missing),
            recovers=self._recovers,
        )

    def _check_disk(self, release: Release, missing: list[File], prunable: list[str], headroom_percent: int) -> None:
        if not missing:
            return
        needed, free = sum(file.size for file in missing), self.store.free_bytes()
        removable = [version for version in prunable if version not in self.state.needed()]
        freed = sum(self.store.unique_bytes(self.model, version) for version in removable)
        if needed > (free + freed) * (100 - headroom_percent) // 100:
            raise StoreError(
                f"{self.store.root}: {self.model} {release.version} needs {needed} bytes; {free} are free, and "
                f"{freed} more after pruning {', '.join(removable) or 'nothing'}; {headroom_percent}% of that stay free"
            )

    # ---- the parts: acts ----

    def _add_staged(self, file: File, path: str) -> None:
        try:
            with open(path, "rb") as source:
                self.store.add_blob(file, source, path)
        except FileNotFoundError as error:
            raise IntegrityError(f"{path}: {file.path}: expected {file.size} bytes; the file is missing") from error

    def _transition(self, event: str, after: State, cause: Cause | None = None, **more: Any) -> None:
        entry = (cause or self.cause).entry(event, self.state, after, **more)
        if event != "activate":
            self.store.use_reserve()
        self.store.transition(self.model, after, entry)
        self.state = after

    def _update(self, state: State) -> None:
        self.store.use_reserve()
        self.store.update(self.model, state)
        self.state = state

    def _recovered(self, event: str, after: State, act: bool, **more: Any) -> None:
        if act:
            self._transition(event, after, cause=DEVICE, **more)
        else:
            self.state = after

    def _recover_journal(self) -> None:
        """Name a transition that the journal announces and that never came about."""
        last = self.store.last_transition(self.model)
        if last is not None and last.get("to") != self.state.active:
            announced = dataclasses.replace(self.state, active=last.get("to"))
            entry = DEVICE.entry("interrupted", announced, self.state, reason="the switch was never made")
            self.store.use_reserve()
            self.store.record(self.model, entry)

    def _check_trial(self, act: bool, last: bool = False, boot: bool = False) -> str:
        """Judge the trial; at boot by what was counted only, because the server is not up yet."""
        trial, active = require(self.state.trial), require(self.state.active)
        if boot:
            reading = Reading(answers=False, ready=None, record=None)
        else:
            reading = self.strategy.reading(self.model, active, self.store.versions(self.model))
        unready = 0 if reading.answers or boot else trial.unready + 1
        trial = dataclasses.replace(trial, unready=unready)
        elapsed = boot_seconds() - trial.since if trial.boot_id == boot_id() else 0.0
        verdict, reason = judge_trial(trial, reading, elapsed, last)
        if verdict == COMMIT:
            self._recovered("commit", dataclasses.replace(self.state, trial=None), act, reason=reason)
        elif verdict == REVERT:
            self._revert_trial(reason, act)
        elif act and verdict == WAIT and trial != self.state.trial:
            self._update(dataclasses.replace(self.state, trial=trial))
        return f"{verdict}: {reason}"

    def _revert_trial(self, reason: str, act: bool, cause: Cause = DEVICE) -> None:
        active = require(self.state.active)
        after = self.state.reverted().with_failure(active, self._failure(active, reason))
        if act:
            self._transition("revert", after, cause=cause, reason=reason)
        else:
            self.state = after

    def _failure(self, version: str, reason: str) -> Failure:
        digest = ""
        with contextlib.suppress(StoreError):
            digest = self.store.version(self.model, version).digest
        rollout_id = self.cause.rollout_id
        if rollout_id is None and version == self.state.active:
            rollout_id = (self.store.activation(self.model) or {}).get("rollout_id")
        return Failure(reason=reason[:500], time=utc_now(), digest=digest, rollout_id=rollout_id)

    def _fall_back(self) -> None:
        """Make the previous version active where the active one's files are not there with their sizes."""
        active, previous = self.state.active, self.state.previous
        if active is None:
            return
        try:
            self.store.check_sizes(self.store.version(self.model, active))
        except (StoreError, OSError) as error:
            if previous is None:
                raise
            self.store.verify(self.store.version(self.model, previous))
            without = dataclasses.replace(self.state, active=previous, previous=None, trial=None)
            after = without.with_failure(active, self._failure(active, str(error)))
            self._transition("fallback", after, cause=DEVICE, reason=str(error))

    def _test(self, version: Version, verify: bool = False) -> None:
        """Smoke-test a candidate, unless it was with this runtime; ``verify`` each byte meanwhile."""
        tested = self.store.tested(version)
        if tested is not None and tested.get("runtime_id") == runtime_id():
            if verify:
                self.store.verify(version)
            return
        with SmokeTest(version) as test:
            if verify:
                self.store.verify(version)
            try:
                result = test.result()
            except CandidateError as error:
                failed = self.state.with_failure(version.version, self._failure(version.version, str(error)))
                entry = self.cause.entry("refused", self.state, failed, version=version.version, reason=str(error))
                self.store.record(self.model, entry)
                self._update(failed)
                raise
        if result is not None:
            self.store.note_test(version, result)

    def _notify_active(self, min_ready_seconds: float) -> None:
        """Have a server that lost the active version serve it again; nothing is switched."""
        active = require(self.state.active)
        try:
            self.strategy.notify(self.model, active)
            self._watch(active, min_ready_seconds)
        except ServerError as error:
            raise SwapError(f"{self.model} {active} is active and not served: {error}", self.live_if_told()) from error

    def _baseline(self, version: Version) -> dict[str, Any] | None:
        server = self.strategy.server
        if server is None or version.probe_path is None or self.live() in (None, version.version):
            return None
        with contextlib.suppress(EdgemlError, KeyError, ValueError):
            return probe_accuracy(server, self.model, version.probe_path)
        return None

    def _watch(self, version: str, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        held = self.store.versions(self.model)
        while True:
            if not self.strategy.is_ready(self.model, version, held):
                raise ServerError(f"{self.model} {version} is not ready")
            if time.monotonic() >= deadline:
                return
            time.sleep(HEALTH_INTERVAL_SECONDS)

    def _put_back(self, after: State, error: Exception) -> str | None:
        """Return to the state before a failed swap; a server that died is waited for. Returns what is live then."""
        try:
            self.state = self.store.state(self.model)
            if self.state.active != after.active:
                self._transition("put_back", after, reason=str(error))
            self._recover_journal()
        except OSError as again:
            raise SwapError(
                f"{self.model}: the switch failed: {error}; to put {after.active} back failed as well, and is tried "
                f"again by the device and by the next swap: {again}",
                self.live_if_told(),
            ) from error
        deadline = time.monotonic() + SERVER_RETURN_SECONDS
        while True:
            try:
                self.strategy.notify(self.model, after.active)
                break
            except ServerError:
                if self.strategy.answers() or time.monotonic() >= deadline:
                    break
                time.sleep(HEALTH_INTERVAL_SECONDS)
        return self.live_if_told()


def _decoded(text: str) -> BinaryIO:
    try:
        return io.BytesIO(base64.b64decode(text))
    except ValueError as error:
        raise IntegrityError(f"{_INLINE}: expected base64: {error}") from error


def _check_memory(release: Release, variant: Variant, device: Mapping[str, Any], headroom_percent: int) -> None:
    """Raise IncompatibleError unless the new version fits beside what runs now."""
    available = device["memory_available_bytes"]
    if variant.memory_bytes > available * (100 - headroom_percent) // 100:
        raise IncompatibleError(
            f"{release.model} {release.version} needs {variant.memory_bytes} bytes of memory while the old version "
            f"still serves; {available} are available, of which {headroom_percent}% are to stay free"
        )
