# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""The trial of a new installation: what the models do that served before, against the limits of a new version.

The installer notes the models with what was counted of them, the new installation begins the trial, and the timer of
the models' trials judges it. What is worse than its limits makes way for the installation before; what is not ends the
trial, and the installation before is removed.
"""

from __future__ import annotations

import json
import os
from typing import Any, Iterable, Mapping, NamedTuple

from .._common.errors import CandidateError, StoreError, with_path
from .._common.files import DurableTree, file_status, fsync_directory, remove_file, remove_tree
from .._common.records import as_document
from .facts import boot_id, boot_seconds
from .journal import utc_now
from .plan import SwapOptions
from .service_manager import service_manager
from .state import SWITCHING, WATCHING, Limits, ModelServer, Trial, parse_trial
from .store import Store
from .strategies import make_strategy
from .transitions import DEVICE, Transitions
from .trial import COMMIT, REVERT, WAIT, Reading, judge_trial

GO_BACK_UNIT = "edgeml-go-back.service"
CLEAR_UNIT = "edgeml-clear.service"
_MODE = 0o640


class Upgrade(NamedTuple):
    """An installation, by the names of its directories, and the trial of each model by the version that served when it
    was installed. ``failed`` is why and when (UTC) it was given up."""

    names: str
    models: Mapping[str, tuple[str, Trial]] = {}
    failed: Mapping[str, str] | None = None


class UpgradeTrial:
    """The trial of the newest installation on a device. Its methods need the store's lock."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._path = os.path.join(store.root, "upgrade.json")
        self._way_back = os.path.join(store.root, "way-back")
        # What the way back becomes when the trial has ended well: from then on it leads nowhere.
        self._ended = os.path.join(store.root, "ended-trial")

    @property
    def is_on(self) -> bool:
        """Whether a trial has begun, and what it leaves behind is still there."""
        return os.path.isdir(self._ended) or self._is_watched(self._read())

    def refuse_failed(self, names: str) -> None:
        """Raise CandidateError for an installation that failed its trial on this device."""
        found = self._read()
        if found is not None and found.failed is not None and found.names == names:
            raise CandidateError(
                f"this installation ({names}) failed its trial here at {found.failed['time']}: "
                f"{found.failed['reason']}. To try it once more, remove {self._path}"
            )

    def note(self, names: str, models: Iterable[tuple[str, str]]) -> None:
        """Note which models serve, with their versions, and what was counted of them, before they get a new runtime."""
        noted = {}
        for model, version in models:
            counted = Transitions(self._store, model, DEVICE).strategy.record(model, version)
            # Another runtime may need more memory, and less.
            baseline = None if counted is None else counted._replace(resident_bytes=None)
            trial = Trial(
                phase=SWITCHING,
                active=version,
                previous=None,
                seconds=SwapOptions().trial_seconds,
                limits=Limits(),
                baseline=baseline,
                memory_bytes=0,
                boot_id="",
                since=0.0,
            )
            noted[model] = (version, trial)
        # What is outdated is for the installer to say now.
        remove_tree(self._ended)
        self._write(Upgrade(names, noted))

    def begin(self) -> str:
        """Begin the trial, now that the server runs from the new installation. Returns what is on trial."""
        found = self._read()
        if found is None or found.failed is not None or not found.models:
            remove_file(self._path)
            remove_tree(self._way_back)
            return "no model served before: no trial, what was installed stays"
        service_manager().start_watching()
        models = {}
        for model, (version, trial) in found.models.items():
            begun = self._reading(model, version).record
            models[model] = (
                version,
                trial._replace(phase=WATCHING, boot_id=boot_id(), since=boot_seconds(), begun=begun),
            )
        self._write(found._replace(models=models))
        return f"on trial: {found.names}"

    def crashed(self) -> None:
        """Count a crash of the service against the trial; the next look judges it."""
        found = self._read()
        if found is not None and self._is_watched(found):
            models = {
                model: (version, trial._replace(crashes=trial.crashes + 1))
                for model, (version, trial) in found.models.items()
            }
            self._write(found._replace(models=models))

    def look(self, given_up: bool = False) -> str:
        """Look once, and end the trial or go back; ``given_up``: the service is started no more. Returns what was
        done and why."""
        if os.path.isdir(self._ended):
            return self._end("the installation before")
        found = self._read()
        if found is None or not self._is_watched(found):
            return "no trial"
        models: dict[str, tuple[str, Trial]] = {}
        reasons: list[str] = []
        waits: list[str] = []
        for model, (version, trial) in found.models.items():
            # Another version has a trial of its own.
            if self._store.state(model).active != version:
                continue
            models[model], verdict, reason = self._look_at(model, version, trial)
            (reasons if verdict == REVERT else waits if verdict == WAIT else []).append(f"{model} {version}: {reason}")
        if given_up:
            reasons.append("the service manager gave the service up")
        if reasons:
            return self._go_back(found, reasons[0])
        if models and waits:
            self._write(found._replace(models=models))
            return f"{WAIT}: {waits[0]}"
        return self._end(found.names)

    # ---- the parts ----

    def _look_at(self, model: str, version: str, trial: Trial) -> tuple[tuple[str, Trial], str, str]:
        reading = self._reading(model, version)
        if trial.boot_id != boot_id():
            trial = trial._replace(boot_id=boot_id(), since=boot_seconds(), boots=trial.boots + 1)
        trial = trial._replace(unready=0 if reading.answers else trial.unready + 1)
        verdict, reason = judge_trial(trial, reading, boot_seconds() - trial.since)
        return (version, trial), verdict, reason

    def _reading(self, model: str, version: str) -> Reading:
        serving = self._store.state(model).serving or ModelServer()
        return make_strategy(serving, self._store).reading(model, version, self._store.versions(model))

    def _go_back(self, found: Upgrade, reason: str) -> str:
        self._write(Upgrade(found.names, failed={"reason": reason[:500], "time": utc_now()}))
        for model in found.models:
            state = self._store.state(model)
            self._store.journal(model).append(DEVICE.entry("installation reverted", state, state, reason=reason))
        service_manager().start_unit(GO_BACK_UNIT)
        return f"{REVERT}: {reason}"

    def _end(self, subject: str) -> str:
        """End the trial for good, or go on with that after a crash. Returns what was done.

        The installation before lies where only a unit outside the sandbox of `edgeml watch` can write.
        """
        if os.path.isdir(self._way_back):
            os.rename(self._way_back, self._ended)
            fsync_directory(self._store.root)
        remove_file(self._path)
        if not os.path.isdir(self._ended) or not service_manager().start_unit(CLEAR_UNIT):
            remove_tree(self._ended)
        return f"{COMMIT}: {subject}"

    @staticmethod
    def _is_watched(found: Upgrade | None) -> bool:
        return found is not None and any(trial.phase == WATCHING for _version, trial in found.models.values())

    def _read(self) -> Upgrade | None:
        if file_status(self._path) is None:
            return None
        try:
            with with_path(self._path), open(self._path, encoding="utf-8") as file:
                document = json.load(file)
            models = {name: (each["version"], parse_trial(each["trial"])) for name, each in document["models"].items()}
            return Upgrade(str(document["names"]), models, document["failed"])
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise StoreError(f"{self._path}: damaged: {error!r}; remove it, and install once more") from error

    def _write(self, upgrade: Upgrade) -> None:
        models: dict[str, Any] = {
            model: {"version": version, "trial": as_document(trial)}
            for model, (version, trial) in upgrade.models.items()
        }
        document = {"names": upgrade.names, "models": models, "failed": upgrade.failed}
        content = json.dumps(document, sort_keys=True).encode("utf-8") + b"\n"
        DurableTree(self._store.root).replace(self._path, content, _MODE)
