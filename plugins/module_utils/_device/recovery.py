# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""What the device does by itself: it recovers from what was interrupted, and it ends trials.

A version on trial is committed, or reverted when it crashes, fails or exceeds its limits; also with no controller.
"""

from __future__ import annotations

from typing import Any

from .._common.errors import ServerError, StoreError
from .._common.words import counted
from .facts import boot_id, boot_seconds
from .state import SWITCHING, State, require
from .transitions import DEVICE, Cause, Transitions
from .trial import COMMIT, REVERT, WAIT, Reading, judge_trial


class Recovery(Transitions):
    """Recovers a model from interruptions and judges its trial."""

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
            begun_anew = trial._replace(boot_id=boot_id(), since=boot_seconds(), boots=trial.boots + 1)
            self._update(self.state._replace(trial=begun_anew))
            self._check_trial(act=True, boot=True)
        self._fall_back()
        # A power cut between the state and what follows it leaves the two apart.
        if self.initial_state.serving is not None:
            self.strategy.follow(self.model, self.state.active)

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
            after = trial._replace(crashes=trial.crashes + 1)
            self._update(self.state._replace(trial=after))
            if after.crashes > after.limits.crashes_max:
                crashes = counted(after.crashes, "time")
                reason = f"the service crashed {crashes} (at most {after.limits.crashes_max})"
                self._revert_trial(reason, act=True)

    def service_failed(self) -> bool:
        """Revert a trial because the service was given up. Return whether there was one. Hold the lock."""
        self.recover_interrupted(act=True)
        if self.state.trial is None or self._counted_by_systemd:
            return False
        self._revert_trial("the service manager gave the service up", act=True)
        return True

    # ---- the parts ----

    def _recovered(self, event: str, after: State, act: bool, **more: Any) -> None:
        if act:
            self._transition(event, after, cause=DEVICE, **more)
        else:
            self.state = after

    def _recover_journal(self) -> None:
        """Name a transition that the journal announces and that never came about."""
        last = self.store.journal(self.model).last_transition()
        if last is not None and last.get("to") != self.state.active:
            announced = self.state._replace(active=last.get("to"))
            entry = DEVICE.entry("interrupted", announced, self.state, reason="the switch was never made")
            self.store.use_reserve()
            self.store.journal(self.model).append(entry)

    def _check_trial(self, act: bool, last: bool = False, boot: bool = False) -> str:
        """Judge the trial; at boot by what was counted only, because the server is not up yet."""
        trial, active = require(self.state.trial), require(self.state.active)
        if boot:
            reading = Reading(answers=False, ready=None, record=None)
        else:
            reading = self.strategy.reading(self.model, active, self.store.versions(self.model))
        unready = 0 if reading.answers or boot else trial.unready + 1
        trial = trial._replace(unready=unready)
        elapsed = boot_seconds() - trial.since if trial.boot_id == boot_id() else 0.0
        verdict, reason = judge_trial(trial, reading, elapsed, last)
        if verdict == COMMIT and act:
            try:
                self.strategy.confirm(self.model, active)
            except ServerError as error:
                verdict, reason = WAIT, f"it cannot be confirmed: {error}"
        if verdict == COMMIT:
            self._recovered("commit", self.state._replace(trial=None), act, reason=reason)
        elif verdict == REVERT:
            self._revert_trial(reason, act)
        elif act and verdict == WAIT and trial != self.state.trial:
            self._update(self.state._replace(trial=trial))
        return f"{verdict}: {reason}"

    def _revert_trial(self, reason: str, act: bool, cause: Cause = DEVICE) -> None:
        active = require(self.state.active)
        after = self.state.reverted().with_failure(active, self._failure(active, reason))
        if act:
            self._transition("revert", after, cause=cause, reason=reason)
        else:
            self.state = after

    def _fall_back(self) -> None:
        """Make the previous version active where the active one's files are not there with their sizes."""
        active, previous = self.state.active, self.state.previous
        if active is None:
            return
        try:
            self.store.version(self.model, active).check_sizes()
        except (StoreError, OSError) as error:
            if previous is None:
                raise
            self.store.version(self.model, previous).verify()
            without = self.state._replace(active=previous, previous=None, trial=None)
            after = without.with_failure(active, self._failure(active, str(error)))
            self._transition("fallback", after, cause=DEVICE, reason=str(error))
