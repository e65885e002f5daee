# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""What a call would do, worked out before anything is done: plans read, and change nothing."""

from __future__ import annotations

from typing import Any, Mapping, NamedTuple, Sequence

from .._common.errors import (
    ArgumentError,
    FailedBeforeError,
    IncompatibleError,
    ServerDownError,
    ServerError,
    StoreError,
)
from .._common.files import Room
from .._release.release import MODEL, File, Release, Variant
from .._release.variant_choice import choose_variant
from .facts import has_locale
from .orders import Orders
from .recovery import Recovery
from .state import KIND_STRATEGIES, Failure, Limits, State, require
from .way_back import refuse_without_way_back

# What a swap makes beside the blobs: the version's directory, its records, and what is staged on the way.
_VERSION_INODES = 8
REVERTED_BY_REQUEST = "reverted by request"


class _Options(NamedTuple):
    keep: int = 1
    keep_versions: Sequence[str] = ()
    headroom_percent: int = 20
    verify: bool = False
    retry: bool = False
    min_ready_seconds: float = 2.0
    trial_seconds: float = 300.0
    limits: Limits = Limits()
    accept_no_way_back: bool = False


class SwapOptions(_Options):
    """How a release is brought in: ``keep`` versions beside the needed ones and ``keep_versions``, leave
    ``headroom_percent`` of disk and memory to the device, ``verify`` in full what is held, ``retry`` what failed here
    before (not in the same rollout), see it ready for ``min_ready_seconds``, and leave it on trial for
    ``trial_seconds`` (0: commit it) within ``limits``. ``accept_no_way_back``: also where it could not return."""

    __slots__ = ()

    def __new__(cls, *values: Any, **options: Any) -> SwapOptions:
        """Raise ArgumentError for a number that is out of its range, or none."""
        made = super().__new__(cls, *values, **options)
        found = {**made._asdict(), **made.limits._asdict()}
        for name, most in _MOST.items():
            if not 0 <= found[name] <= most:
                raise ArgumentError(f"{name}: expected a number from 0 to {most}; found {found[name]!r}")
        return made


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


class Plan(NamedTuple):
    """What a call would do: the states before and after, what is served now, the blobs that must come first, and the
    versions that make room. ``recovers``: an interrupted swap or a trial comes to its end first. ``drops_prepared``:
    the prepared models of versions that are not active make room, too. ``ordered``: what is fetched for other versions,
    and stays; ``changes_order``: an order to fetch is given, or ends."""

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
    drops_prepared: bool = False
    ordered: tuple[File, ...] = ()
    changes_order: bool = False

    @property
    def changed(self) -> bool:
        """Whether anything is to do."""
        acts = self.stages or self.switches or self.notifies_server or self.recovers or self.changes_order
        return acts or bool(self.missing)


def _failed_before(what: str, failure: Failure) -> FailedBeforeError:
    return FailedBeforeError(
        f"{what} failed on this device at {failure.time}: {failure.reason}. "
        "It is not tried again until it is asked for with retry",
        {"reason": failure.reason, "time": failure.time, "rollout_id": failure.rollout_id},
    )


class Planning(Recovery):
    """Plans the transitions of a model."""

    def plan_present(self, release: Release, device: Mapping[str, Any], options: SwapOptions) -> Plan:
        """Plan to hold ``release`` in the store. Raises IncompatibleError or StoreError where it cannot be."""
        return self._plan(release, device, options, self.state)

    def plan_active(self, release: Release, device: Mapping[str, Any], options: SwapOptions) -> Plan:
        """Plan to make ``release`` the active version. Raises ServerError when the server to notify is down.

        Raises NoWayBackError where the device could not return to what serves now.
        """
        before, version = self.state, release.version
        failure = before.failed.get(version)
        if failure is not None and before.active != version and not self._tries_again(failure, options):
            raise _failed_before(f"{self.model} {version}", failure)
        if before.trial is not None and before.active != version:
            raise ServerError(
                f"{self.strategy.silence(self.serving.server)}, so that the trial of {before.active} cannot be ended "
                f"before {version}"
            )
        after = before if before.active == version else State(version, before.active)
        plan = self._plan(release, device, options, after)
        switches = after != before
        tells = switches or plan.live != version
        if tells and not self.strategy.answers():
            raise ServerDownError(self.strategy.silence(self.serving.server))
        if switches and plan.live is not None and plan.live == before.active and not options.accept_no_way_back:
            refuse_without_way_back(self.store, self.model, plan.live, version, verify=options.verify)
        if tells:
            _check_memory(release, require(plan.variant), device, options.headroom_percent)
        return plan._replace(switches=switches, notifies_server=tells)

    def plan_revert(self, version: str, accept_withdrawn: bool = False, retry: bool = False) -> Plan:
        """Plan to go back from ``version`` to the one before it; nothing to do when it is neither active nor live.

        Within a rollout, nothing is to do either where it was not this rollout that made ``version`` active. A version
        that is left counts as failed here: nobody brings it back without being asked to.

        A rollout and a trial also go back to a release that is withdrawn: it ran before, and the version that they
        leave is worse. A person has to accept it; otherwise this raises WithdrawnError. Nor does a person go back to a
        version that failed here or was left: without ``retry`` this raises FailedBeforeError.
        """
        before, live, rollout_id = self.state, self.live(), self.cause.rollout_id
        plan = Plan(self.initial_state, before, live, recovers=self._recovers)
        if before.active != version:
            return plan._replace(notifies_server=live == version)
        if rollout_id is not None and (self.store.activation(self.model) or {}).get("rollout_id") != rollout_id:
            return plan
        after = before.reverted() if before.trial else before._replace(active=before.previous, previous=version)
        if not (before.trial or rollout_id is not None or after.active is None):
            if not accept_withdrawn:
                self.refuse_withdrawn(after.active)
            failure = before.failed.get(after.active)
            if failure is not None and not retry:
                raise _failed_before(f"{self.model} {after.active}, the version before {version},", failure)
        after = after.with_failure(version, self._failure(version, self.cause.why or REVERTED_BY_REQUEST))
        if after.active is not None:
            after = after.without_failure(after.active)
        return plan._replace(after=after, switches=True, notifies_server=True)

    def plan_nothing(self) -> Plan:
        """Plan to leave everything as it is."""
        return Plan(self.initial_state, self.state, self.live(), recovers=self._recovers)

    def plan_absent(self, version: str) -> Plan:
        """Plan to remove ``version`` from the store. Raises StoreError when it is needed."""
        if version in self.state.needed():
            raise StoreError(f"{self.model} {version} is active or previous on this device: revert it first")
        held = version in self.store.versions(self.model)
        ordered = Orders(self.store).find(self.model, version) is not None
        plan = Plan(self.initial_state, self.state, self.live(), stages=held, recovers=self._recovers)
        return plan._replace(changes_order=ordered)

    # ---- the parts ----

    def _tries_again(self, failure: Failure, options: SwapOptions) -> bool:
        """Whether a version that failed is tried again: not twice in one rollout."""
        rollout_id = self.cause.rollout_id
        return options.retry and (rollout_id is None or rollout_id != failure.rollout_id)

    @property
    def _recovers(self) -> bool:
        return self.state != self.initial_state

    def _plan(self, release: Release, device: Mapping[str, Any], options: SwapOptions, after: State) -> Plan:
        variant = choose_variant(release, device, options.headroom_percent, has_locale)
        strategy = self.serving.strategy
        held_kind = strategy if strategy in KIND_STRATEGIES else MODEL
        if release.kind != held_kind:
            raise IncompatibleError(
                f"{self.model} {release.version} is a release of the kind {release.kind}; on this device {self.model} "
                f"is of the kind {held_kind}"
            )
        held = release.version in self.store.versions(self.model)
        if held:
            version = self.store.version(self.model, release.version)
            if version.digest != release.digest:
                raise StoreError(
                    f"{version.directory}: the store holds manifest digest {version.digest}; this release has "
                    f"{release.digest}. A release is immutable: publish the change as a new version"
                )
            variant = version.chosen
            missing = version.damaged() if options.verify else []
            if not options.verify:
                version.check_sizes()
        else:
            missing = self.store.blobs.missing(release.files(variant))
        self.strategy.refuse(variant, options.headroom_percent)
        needed = {*after.needed(), *options.keep_versions, release.version}
        if options.trial_seconds > 0:
            needed |= self.state.needed()
        # A version that is neither staged nor switched to makes nothing superfluous.
        prunable = [] if held and after == self.state else self.store.prunable(self.model, options.keep, needed)
        ordered = tuple(Orders(self.store).files())
        drops_prepared = self._check_disk(release, missing, prunable, options.headroom_percent, ordered)
        return Plan(
            self.initial_state,
            after,
            self.live(),
            variant,
            tuple(missing),
            tuple(prunable),
            stages=not held or bool(missing),
            recovers=self._recovers,
            drops_prepared=drops_prepared,
            ordered=ordered,
        )

    def idle_versions(self) -> list[tuple[str, str]]:
        """The versions of all models that are not active, by model and version: they can lose what is prepared."""
        return [
            (model, version)
            for model in self.store.models()
            for version in self.store.versions(model)
            if version != self.store.state(model).active
        ]

    def _check_disk(
        self,
        release: Release,
        missing: list[File],
        prunable: list[str],
        headroom_percent: int,
        ordered: Sequence[File],
    ) -> bool:
        """Whether prepared models have to make room, too. Raises StoreError where not even that is enough."""
        if not missing:
            return False
        fetched = self.store.fetched
        needed, free = sum(file.size - fetched.bytes_of(file) for file in missing), self.store.free_bytes()
        removable = [version for version in prunable if version not in self.state.needed()]
        superfluous = fetched.superfluous((*missing, *ordered))
        self._check_inodes(release, missing, removable, superfluous)
        freed = sum(self.store.unique_bytes(self.model, version) for version in removable) + superfluous.bytes
        if needed <= (free + freed) * (100 - headroom_percent) // 100:
            return False
        freed += sum(
            self.store.prepared_bytes(model, version)
            for model, version in self.idle_versions()
            if model != self.model or version not in removable
        )
        if needed > (free + freed) * (100 - headroom_percent) // 100:
            raise StoreError(
                f"{self.store.root}: {self.model} {release.version} needs {needed} bytes; {free} are free, and "
                f"{freed} more after pruning {', '.join(removable) or 'nothing'}; {headroom_percent}% of that stay free"
            )
        return True

    def _check_inodes(self, release: Release, missing: list[File], removable: list[str], superfluous: Room) -> None:
        """Raise StoreError where the disk has no inodes for what is missing and the version's own files."""
        free = self.store.free_room().files
        if free is None:
            return
        needed = _VERSION_INODES + sum(not self.store.fetched.is_begun(file) for file in missing)
        freed = (superfluous.files or 0) + sum(self.store.unique_files(self.model, version) for version in removable)
        if needed > free + freed:
            raise StoreError(
                f"{self.store.root}: {self.model} {release.version} needs {needed} inodes; {free} are free, and "
                f"{freed} more after pruning {', '.join(removable) or 'nothing'}. Remove files from this disk (df -i)"
            )


def _check_memory(release: Release, variant: Variant, device: Mapping[str, Any], headroom_percent: int) -> None:
    """Raise IncompatibleError unless the new version fits beside what runs now."""
    available = device["memory_available_bytes"]
    if variant.memory_bytes > available * (100 - headroom_percent) // 100:
        raise IncompatibleError(
            f"{release.model} {release.version} needs {variant.memory_bytes} bytes of memory while the old version "
            f"still serves; {available} are available, of which {headroom_percent}% are to stay free"
        )
