# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""A request for a swap, done: for the module ``model_swap`` and the command ``edgeml call``."""

from __future__ import annotations

from typing import Any, Iterable

from .._common.errors import (
    ArgumentError,
    EdgemlError,
    FailedBeforeError,
    IntegrityError,
    ManifestError,
    ServerDownError,
    StoreError,
    SwapError,
    message_of,
)
from .._fetch.failures import FetchError
from .._release.manifest import parse_release
from .._release.names import check_name
from .._release.release import MODEL, File, Release
from .._release.withdrawals import parse_withdrawals
from .describe import active_seconds
from .orders import Orders
from .plan import Plan, SwapOptions
from .request import SentPart, SwapRequest, tell_from_the_beginning
from .service_manager import service_manager
from .state import KIND_STRATEGIES, SMP_STRATEGY, ModelServer
from .store import LOCK_SECONDS, Store
from .swap import Swap
from .transitions import Cause

REVERT_LOCK_SECONDS = 600
_BRINGING = ("present", "staged", "shadow", "active")


def answer_swap(request: SwapRequest, check_mode: bool) -> dict[str, Any]:
    """Plan what is asked for and, outside check mode, do it under the store's lock.

    Returns the module's result; one with ``failed`` and ``msg`` where the request failed.
    """
    call = SwapCall(request)
    result = call.answer(check_mode)
    asks = request.fetch.sources and request.sent_part.sha256 is None
    if not call.lacking or check_mode or not asks or result.get("failed"):
        return result
    # Imported by a call that fetches, and no other: on a small board it takes its time.
    from .._fetch.pace import Patience
    from .fetching import fetch_files

    # Without the store's lock: a fetch may take hours, and a way back waits for nobody.
    try:
        patience = Patience(connects_once=request.controller_sends)
        fetched = fetch_files(call.store, call.lacking, request.fetch, request.headroom_percent, patience=patience)
    except (EdgemlError, OSError) as error:
        return call.failed(error, call.live(), refused=True)
    told: dict[str, Any] = {"fetched": fetched.document()}
    if fetched.warnings:
        told["warnings"] = list(fetched.warnings)
    if fetched.failure is not None:
        call.note_lacking(call.lacking)
        return {**result, **told} if fetched.falls_back else {**call.failed(fetched.failure, call.live(), True), **told}
    last = SwapCall(request).answer(check_mode)
    tell_from_the_beginning(last, result)
    return {**last, **told}


class SwapCall:
    """One request for a swap, and its result as far as it has come."""

    def __init__(self, request: SwapRequest) -> None:
        self.request = request
        self.store = Store(request.store)
        self.result: dict[str, Any] = {"changed": False, "model": request.model, "version": request.version}
        # What has to be brought before the request can be done.
        self.lacking: tuple[File, ...] = ()
        self._swap: Swap | None = None
        self._digest = ""

    def answer(self, check_mode: bool) -> dict[str, Any]:
        """Run, outside check mode under the store's lock, and return the result, also of a request that failed."""
        try:
            if check_mode:
                self.run(act=False)
            else:
                # A way back is for what may still be at work, and then waits for its end.
                with self.store.lock(REVERT_LOCK_SECONDS if self.request.state == "previous" else LOCK_SECONDS):
                    self.run(act=True)
            return self.result
        except SwapError as error:
            return self.failed(error, error.live, refused=False)
        except (EdgemlError, OSError) as error:
            result = self.failed(error, self.live(), refused=not self.switched())
            result["server_down"] = isinstance(error, ServerDownError)
            if isinstance(error, FailedBeforeError):
                result["failure"] = error.failure
            return result

    def run(self, act: bool) -> None:
        """Plan what O(state) asks for, describe it in ``result``, and do it if ``act``."""
        request = self.request
        model, version, state = request.model, request.version, request.state
        check_name(model, "model")
        check_name(version, "version")
        request.fetch.check()
        options = self._swap_options()
        swap = self._swap = self._open(prepared=act or self.store.exists())
        if request.withdrawn is not None:
            swap.learn_withdrawals(parse_withdrawals(request.withdrawn, "withdrawn"), act)
        ends_shadow = state == "shadow" and request.shadow_seconds <= 0
        if state in _BRINGING and not ends_shadow:
            swap.refuse_withdrawn(version)
        # Another version is asked for, or this one left: what the device knows of a trial until now decides it.
        swap.recover_interrupted(act, ends_trial=state == "active" and swap.state.active != version)
        if act and swap.state != swap.initial_state:
            swap.notify_if_needed()
        held = self._digests()
        if ends_shadow:
            plan = swap.plan_nothing()._replace(notifies_server=act and swap.end_shadow())
        elif state in ("present", "shadow", "active"):
            brought = self._bring(swap, options, held, act)
            if brought is None:
                return
            plan = brought
        elif state == "staged":
            plan = self._order(swap, options, act)
        else:
            goes_back = state == "previous"
            plan = swap.plan_revert(version, retry=request.retry) if goes_back else swap.plan_absent(version)
            if act and plan.notifies_server:
                swap.revert(plan)
            elif act and plan.stages:
                swap.remove(version)
            if act and plan.changes_order:
                Orders(self.store).end(model, version)
        self._describe(plan, held)
        reason = swap.why_withdrawn(plan.after.active)
        if reason is not None:
            self.result["withdrawn"] = reason
        if act:
            self.result["live"] = swap.live()
            self.result["active_seconds"] = active_seconds(self.store.state(model), self.store.activation(model) or {})

    def note_lacking(self, files: Iterable[File]) -> None:
        """Say in the result which of ``files`` have to be brought: those that were not fetched."""
        self.lacking = tuple(file for file in files if not self.store.fetched.has(file))
        deltas = self.store.fetched.held_deltas(self.lacking)
        self.result["missing_blobs"] = [
            {
                **file.entry,
                "held_bytes": self.store.fetched.bytes_of(file),
                "held_deltas": deltas.get(file.sha256, {}),
            }
            for file in self.lacking
        ]

    def live(self) -> str | None:
        """The version that serves now; None also when that is unknown."""
        try:
            return (self._swap or self._open()).live()
        except (EdgemlError, OSError):
            return None

    def switched(self) -> bool:
        """Whether another version is active than when the call began; False also when that is unknown."""
        try:
            return (
                self._swap is not None and self.store.state(self._swap.model).active != self._swap.initial_state.active
            )
        except (EdgemlError, OSError):
            return False

    def failed(self, error: Exception, live: str | None, refused: bool) -> dict[str, Any]:
        """The result of a request that failed by ``error``."""
        message = f"{message_of(error)}. Live now: {live or 'no version'}"
        return {**self.result, "failed": True, "changed": False, "msg": message, "live": live, "refused": refused}

    def _open(self, prepared: bool = True) -> Swap:
        request = self.request
        cause = Cause(actor="ansible", why=request.reason, rollout_id=request.rollout_id)
        # A microcontroller is there before its store is.
        strategy = self._strategy() if prepared or request.strategy == SMP_STRATEGY else "none"
        serving = ModelServer(strategy=strategy, server=request.server, unit=request.server_unit)
        return Swap(self.store, request.model, cause, serving)

    def _strategy(self) -> str:
        """What is asked for; of what is no model there is one way only."""
        held = self.store.kind(self.request.model)
        kind = held if held != MODEL else (self.request.manifest or {}).get("kind")
        return kind if kind in KIND_STRATEGIES else self.request.strategy

    def _swap_options(self) -> SwapOptions:
        request = self.request
        return SwapOptions(
            keep=request.keep,
            keep_versions=request.keep_versions,
            headroom_percent=request.headroom_percent,
            verify=request.verify == "full",
            retry=request.retry,
            min_ready_seconds=request.min_ready_seconds,
            trial_seconds=request.trial_seconds,
            limits=request.trial_limits,
            accept_no_way_back=request.accept_no_way_back,
        )

    def _bring(self, swap: Swap, options: SwapOptions, held: dict[str, str], act: bool) -> Plan | None:
        """Have the release held, or active; None when its blobs have to be sent first."""
        request, result = self.request, self.result
        release = self._release()
        self._digest = release.digest
        make_plan = swap.plan_active if request.state == "active" else swap.plan_present
        plan = make_plan(release, swap.strategy.device(), options)
        # What serves already is compared with nothing.
        shadows = request.state == "shadow" and plan.before.active != request.version
        plan = plan._replace(notifies_server=plan.notifies_server or shadows)
        result["variant"] = plan.variant.name if plan.variant else None
        self.note_lacking(plan.missing)
        for file in self.lacking:
            if file.sha256 in request.unavailable_blobs and not request.fetch.sources:
                path = request.unavailable_blobs[file.sha256]
                raise IntegrityError(f"{path}: {file.path}: expected {file.size} bytes; the file is missing")
        if not act:
            return plan
        if request.sent_part.sha256 is not None:
            self._add_part(plan, request.sent_part)
            self._lacks(plan, held)
            return None
        if plan.stages:
            swap.prune(release, plan)
        sent, deltas = request.inline_blobs, request.inline_deltas
        inline = {*sent, *deltas}
        if request.staged_blobs is None and any(file.sha256 not in inline for file in self.lacking):
            self._lacks(plan, held)
            return None
        if plan.stages and self.lacking:
            whole = [file for file in self.lacking if file.sha256 not in sent]
            made, result["refused_deltas"] = swap.add_deltas(whole, request.staged_blobs, deltas)
            plan = plan._replace(missing=tuple(file for file in plan.missing if file not in made))
            if result["refused_deltas"]:
                self.note_lacking(plan.missing)
                self._lacks(plan, held)
                return None
        if plan.stages:
            swap.stage(release, plan, request.staged_blobs, sent)
            self.note_lacking(())
            Orders(self.store).end(request.model, request.version)
        if request.state == "active" and plan.notifies_server:
            result["baseline"] = swap.activate(plan, options)
            swap.make_room(plan)
        if shadows:
            result["candidate"] = swap.shadow(request.version, request.shadow_seconds)
        result["tested"] = self.store.tested(self.store.version(request.model, request.version))
        return plan

    def _add_part(self, plan: Plan, part: SentPart) -> None:
        """Add what was sent to what there is of its file, and say what is still lacking."""
        fetched, refused = self.store.fetched, []
        for file in self.lacking:
            if file.sha256 != part.sha256:
                continue
            if part.delta is None:
                fetched.add_part(file, part)
                continue
            try:
                fetched.add_delta_part(file, part, self.store.blobs, self.request.headroom_percent)
            except (IntegrityError, FetchError) as error:
                refused.append({"path": file.path, "sha256": file.sha256, "reason": str(error)})
        self.result["refused_deltas"] = refused
        self.note_lacking(plan.missing)

    def _lacks(self, plan: Plan, held: dict[str, str]) -> None:
        """Ask for what is lacking, and say what there is that deltas can be made from."""
        self._describe(plan, held)
        self.result["changed"] = False
        self.result["held_blobs"] = self.store.blobs.held()

    def _order(self, swap: Swap, options: SwapOptions, act: bool) -> Plan:
        """Have the device fetch the release by itself, unless it holds it."""
        request, orders = self.request, Orders(self.store)
        if not request.fetch.sources:
            raise ArgumentError("fetch.sources: expected where the device fetches from; found nothing")
        release = self._release()
        plan = swap.plan_present(release, swap.strategy.device(), options)
        self.result["variant"] = plan.variant.name if plan.variant else None
        changes = orders.is_new(request) if plan.stages else orders.find(request.model, request.version) is not None
        if act and changes and plan.stages:
            orders.give(request)
            service_manager().start_fetching()
        elif act and changes:
            orders.end(request.model, request.version)
        order = orders.find(request.model, request.version)
        self.result["order"] = orders.describe(order) if order is not None else None
        return plan._replace(stages=False, missing=(), prunable=(), changes_order=changes)

    def _release(self) -> Release:
        request = self.request
        if request.manifest is None:
            return self.store.version(request.model, request.version).release
        release = parse_release(request.manifest)
        if (release.model, release.version) != (request.model, request.version):
            raise ManifestError(
                f"manifest: expected {request.model} {request.version}; found {release.model} {release.version}"
            )
        return release

    def _describe(self, plan: Plan, held: dict[str, str]) -> None:
        """Fill in what the plan says of before and after, with the diff. ``held``: the versions before."""
        version, state, seconds = self.request.version, self.request.state, self.request.trial_seconds
        gone = {version} if state == "absent" else set(plan.prunable)
        after = {name: digest for name, digest in held.items() if name not in gone}
        if plan.stages and state != "absent":
            after[version] = self._digest
        begins = plan.switches and state == "active"
        trial = None
        if begins and seconds > 0:
            trial = {"version": version, "seconds": seconds, "returns_to": plan.after.previous}
        elif plan.after.trial is not None:
            running = plan.after.trial
            trial = {"version": plan.after.active, "seconds": running.seconds, "returns_to": running.active}
        notifies = plan.notifies_server and state != "shadow"
        notified = notifies or plan.recovers or self.request.strategy == "none"
        self.result.update(
            changed=plan.changed,
            before=plan.before.versions(),
            after=plan.after.versions(),
            live=plan.live,
            trial=trial,
            diff={
                "before": {**plan.before.versions(), "versions": held, "live": plan.live},
                "after": {
                    **plan.after.versions(),
                    "versions": dict(sorted(after.items())),
                    "live": plan.after.active if notified else plan.live,
                },
            },
        )

    def _digests(self) -> dict[str, str]:
        """The versions that the store holds, each with its manifest's digest."""
        found = {}
        for version in self.store.versions(self.request.model):
            try:
                found[version] = self.store.version(self.request.model, version).digest
            except StoreError:
                found[version] = "damaged"
        return found
