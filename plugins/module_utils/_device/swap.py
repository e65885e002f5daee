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
import io
import os
import time
from typing import Any, BinaryIO, Iterable, Mapping

from .._common.errors import CandidateError, IncompatibleError, IntegrityError, ServerError, SwapError
from .._release.release import MODEL, File, Release
from .client import LateError, Server
from .describe import active_seconds, counted_seconds
from .facts import boot_id, boot_seconds
from .metrics import counted_since, measure_candidate
from .plan import REVERTED_BY_REQUEST, Plan, Planning, SwapOptions
from .preparation import note_smoke_test, prepare
from .runtime import Runtime, runtime_id
from .sensors import read_board, since_activation
from .smoke_test import SmokeTest
from .state import SWITCHING, WATCHING, State, Trial, require
from .trial import UNREADY_MAX
from .version import Version
from .way_back import is_tested, no_way_back

SERVER_RETURN_SECONDS = 90.0
HEALTH_INTERVAL_SECONDS = 0.5
DELTA_SUFFIX = ".delta"
_INLINE = "what came with the call"


class Swap(Planning):
    """The transitions of one model on this device, as a controller or a person asks for them.

    All but the plans need the store's lock.
    """

    def prune(self, release: Release, plan: Plan) -> None:
        """Make room for ``release``: without what an interrupted write left, and what the plan has no more need for."""
        files = release.files(require(plan.variant))
        self.store.clean_staging()
        self.store.remove_unused(needed=files)
        # Of what the store has as a blob, a power cut may have left a second name there.
        self.store.fetched.remove(needed=(*plan.missing, *plan.ordered))
        for version in plan.prunable:
            if version not in self.state.needed():
                self.store.remove(self.model, version, needed=files)
        if plan.drops_prepared:
            for model, version in self.idle_versions():
                self.store.drop_prepared(model, version)

    def stage(self, release: Release, plan: Plan, blobs: str | None, inline: Mapping[str, str]) -> None:
        """Bring ``release`` into the store and test it. What it lacks was fetched, comes from ``blobs``, a directory of
        files named by their digest, or stands in ``inline``, in base64 by its digest.

        Raises IntegrityError before anything of the release is visible if a byte
        is wrong, StoreError if the disk cannot hold it, CandidateError if it fails its smoke test.
        """
        moved = set(self.store.fetched.move(plan.missing, self.store.blobs))
        for file in plan.missing:
            if file in moved:
                continue
            if file.sha256 in inline:
                self.store.blobs.add(file, _decoded(inline[file.sha256]), _INLINE)
            else:
                self._add_staged(file, os.path.join(blobs or self.store.root, file.sha256))
        self.store.relink(plan.missing)
        self.store.install(release, require(plan.variant))
        self._test(self.store.version(self.model, release.version))

    def add_deltas(
        self, files: Iterable[File], directory: str | None, inline: Mapping[str, str]
    ) -> tuple[list[File], list[dict[str, Any]]]:
        """Make files that the release lacks of deltas: in ``directory``, named by the file's digest and DELTA_SUFFIX
        unless the whole file is there, or in ``inline``, in base64 by that digest.

        Returns the files that were made, and the deltas that were refused, each with its ``reason``: their files have
        to come whole. Raises OSError.
        """
        made, refused = [], []
        for file in files:
            path = os.path.join(directory or self.store.root, file.sha256)
            is_sent = directory is not None and os.path.exists(path + DELTA_SUFFIX) and not os.path.exists(path)
            if file.sha256 not in inline and not is_sent:
                continue
            try:
                if file.sha256 in inline:
                    self.store.blobs.add_delta(file, _decoded(inline[file.sha256]), _INLINE)
                else:
                    with open(path + DELTA_SUFFIX, "rb") as delta:
                        self.store.blobs.add_delta(file, delta, path + DELTA_SUFFIX)
            except IntegrityError as error:
                refused.append({"path": file.path, "sha256": file.sha256, "reason": str(error)})
                continue
            made.append(file)
        self.store.relink(made)
        return made, refused

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
        if plan.live is not None and plan.live == before.active and not options.accept_no_way_back:
            self._prove_way_back(plan.live, version.version)
        # ``earlier``: the version may have served before.
        past, earlier = self.strategy.measured(self.model, before.active or "", version.version)
        self._read_board(past, earlier)
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
        self.strategy.start_watching()
        switching = before.without_failure(version.version)._replace(
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
            if options.trial_seconds <= 0:
                self.strategy.confirm(self.model, version.version)
            begun = self.strategy.record(self.model, version.version)
            watching = trial._replace(phase=WATCHING, since=boot_seconds(), begun=begun)
            # Not from the reserve: on a disk without room for this, the way back needs it.
            self.state = self.state._replace(trial=watching if options.trial_seconds > 0 else None)
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
            self._verify(self.store.version(self.model, plan.after.active))
        if plan.switches:
            self.strategy.start_watching()
            if self.state.trial is not None:
                self._revert_trial(self.cause.why or REVERTED_BY_REQUEST, act=True, cause=self.cause)
            else:
                self._transition("revert", plan.after._replace(serving=self.serving))
        try:
            self.strategy.notify(self.model, plan.after.active)
        except ServerError as error:
            raise SwapError(
                f"{self.model}: the store went back to {plan.after.active}, the server did not: {error}",
                self.live_if_known(),
            ) from error

    def shadow(self, version: str, seconds: float) -> dict[str, Any]:
        """Have a version that the store holds answer copies of the requests for ``seconds``, in place of another.

        Returns what was measured of it until now. Raises CandidateError if it fails its smoke test, ServerError where
        the server refuses.
        """
        server = self._shadowing()
        self._test(self.store.version(self.model, version), verify=True)
        server.end_shadow(self.model)
        before = measure_candidate(server.metrics(), self.model, version)
        server.shadow(self.model, version, seconds)
        return before

    def end_shadow(self) -> bool:
        """Have no version answer copies of requests any more; return whether one did."""
        return self._shadowing().end_shadow(self.model)

    def _shadowing(self) -> Server:
        server = self.strategy.server
        if not isinstance(server, Server):
            raise IncompatibleError(
                f"{self.model}: the strategy {self.serving.strategy} notifies no server that answers copies of "
                "requests; state shadow needs the strategy load"
            )
        return server

    def remove(self, version: str) -> None:
        """Remove a version that nobody needs."""
        self.store.remove(self.model, version)
        with contextlib.suppress(ServerError):
            self.strategy.tidy(self.model)
        self.store.journal(self.model).append(self.cause.entry("remove", self.state, self.state, version=version))

    def make_room(self, plan: Plan) -> None:
        """Remove what the plan has no more need for, after it was carried out. What can't be removed now stays until
        another release is staged."""
        with contextlib.suppress(OSError, ServerError):
            for version in set(plan.prunable) & set(self.store.versions(self.model)):
                if version not in self.state.needed():
                    self.store.remove(self.model, version)
            self.strategy.tidy(self.model)

    # ---- the parts ----

    def _read_board(self, past: dict[str, Any], begun: dict[str, Any]) -> None:
        """Note what the board's sensors say of the version that served until now, and where its energy counter is."""
        board = read_board()
        if board is None:
            return
        activation = self.store.activation(self.model) or {}
        counted = (activation.get("begun") or {}).get("requests") or {}
        requests = counted_since(counted, past["requests"])["requests"] if "requests" in past else None
        age = active_seconds(self.state, activation)
        past["board"] = since_activation(board, activation, requests, age, counted_seconds(age, past.get("started")))
        if board.energy_joules is not None:
            begun["energy_joules"] = board.energy_joules

    def _add_staged(self, file: File, path: str) -> None:
        try:
            with open(path, "rb") as source:
                self.store.blobs.add(file, source, path)
        except FileNotFoundError as error:
            raise IntegrityError(f"{path}: {file.path}: expected {file.size} bytes; the file is missing") from error

    def _test(self, version: Version, verify: bool = False) -> None:
        """Smoke-test a candidate, unless it was with this runtime; ``verify`` each byte that will be loaded meanwhile.

        Then its model is prepared, unless it is already.
        """
        if version.release.kind != MODEL:
            if verify:
                version.verify()
            self._make_ready(version)
            return
        if version.chosen.boot is not None:
            # What runs it tries it, and goes back by itself.
            if verify:
                version.verify()
            self._stage(version)
            return
        tested = self.store.tested(version)
        if tested is None or tested.get("runtime_id") != runtime_id():
            self._smoke_test(version, verify)
        elif verify:
            self._verify(version)
        if self.serving.strategy == "load":
            prepare(self.store, version)

    def _make_ready(self, version: Version) -> None:
        """Make ready what is no model; of an image, have each model that serves tested in it."""
        # Imported here, because whoever swaps a model needs none of it.
        from .upgrade import prove_runtime

        runtime = self._stage(version)
        if runtime is None:
            return
        try:
            prove_runtime(self.store, runtime)
        except CandidateError as error:
            self._refuse(version, error)
            raise

    def _stage(self, version: Version) -> Runtime | None:
        """Have the strategy make ready what the version needs, and record a version that it refuses."""
        try:
            return self.strategy.stage(version)
        except CandidateError as error:
            self._refuse(version, error)
            raise

    def _smoke_test(self, version: Version, verify: bool) -> None:
        with SmokeTest(version) as test:
            if verify:
                version.verify()
            try:
                result = test.result()
            except CandidateError as error:
                self._refuse(version, error)
                raise
        if result is None:
            return
        note_smoke_test(self.store, version, result)
        if verify and self.store.prepared(version) is not None:
            self._verify(version)

    def _prove_way_back(self, live: str, version: str) -> None:
        """Smoke-test what serves now with the installed runtime, if it passed with another one before.

        Raises NoWayBackError where it fails: the server has it loaded, and could not load it again.
        """
        if is_tested(self.store, self.model, live) is not False:
            return
        held = self.store.version(self.model, live)
        try:
            with SmokeTest(held) as test:
                result = test.result()
        except CandidateError as error:
            why = f"it fails with the runtime that is installed: {error}. Install the one before. Or go on without"
            raise no_way_back(self.model, live, version, why) from error
        if result is not None:
            note_smoke_test(self.store, held, result)

    def _refuse(self, version: Version, error: CandidateError) -> None:
        """Record that a candidate failed its test."""
        failed = self.state.with_failure(version.version, self._failure(version.version, str(error)))
        entry = self.cause.entry("refused", self.state, failed, version=version.version, reason=str(error))
        self.store.journal(self.model).append(entry)
        self._update(failed)

    def _verify(self, version: Version) -> None:
        """Read all that the server will load, and raise IntegrityError unless it is as promised.

        A prepared model that is not as recorded is dropped: the release's files are loaded in its place.
        """
        tested, prepared = self.store.tested(version), self.store.prepared(version)
        if tested is not None and prepared is not None and tested.get("runtime_id") == runtime_id():
            try:
                version.verify_prepared(prepared)
                return
            except (OSError, IntegrityError):
                without = {name: value for name, value in tested.items() if name != "prepared"}
                self.store.note_test(version, without)
                self.store.drop_prepared(version.model, version.version)
        version.verify()

    def _notify_active(self, min_ready_seconds: float) -> None:
        """Have a server that lost the active version serve it again; nothing is switched."""
        active = require(self.state.active)
        try:
            self.strategy.notify(self.model, active)
            self._watch(active, min_ready_seconds)
        except ServerError as error:
            raise SwapError(f"{self.model} {active} is active and not served: {error}", self.live_if_known()) from error

    def _baseline(self, version: Version) -> dict[str, Any] | None:
        server = self.strategy.server
        if server is None or version.probe is None or self.live() in (None, version.version):
            return None
        # Imported here, because its own imports take time on a device that asks nothing.
        from .probe_set import probe_result

        return probe_result(server, *version.probe)

    def _watch(self, version: str, seconds: float) -> None:
        """Look for ``seconds`` whether the version is ready. Raises ServerError where it is not.

        An answer that is late says nothing of the version: a machine may be busy. So it is looked again, as often as
        the trial does.
        """
        deadline, late = time.monotonic() + seconds, 0
        held = self.store.versions(self.model)
        while True:
            try:
                if not self.strategy.is_ready(self.model, version, held):
                    raise ServerError(f"{self.model} {version} is not ready")
                late = 0
            except LateError as error:
                late += 1
                if late > UNREADY_MAX:
                    raise ServerError(f"{error}, {late} times in a row (at most {UNREADY_MAX})") from error
            if not late and time.monotonic() >= deadline:
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
                self.live_if_known(),
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
        return self.live_if_known()


def _decoded(text: str) -> BinaryIO:
    try:
        return io.BytesIO(base64.b64decode(text))
    except ValueError as error:
        raise IntegrityError(f"{_INLINE}: expected base64: {error}") from error
