# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""The strategy for the device's packages: a snapshot is installed by a unit of its own, which outlives who asked.

The store's ``packages.json`` names the snapshot that the device should have. The unit ``edgeml-packages.service``
brings it there: when a swap starts it, and at each boot, so that what a power cut interrupted is finished, by the state
that was recovered. ``packages-outcome.json`` is what became of it.
"""

from __future__ import annotations

import contextlib
import os
import time
from typing import Any, Collection

from .._common.errors import EdgemlError, IncompatibleError, ServerError, StoreError
from .._common.files import fsync_directory, remove_file
from .._release.packages import Snapshot, read_snapshot
from .._release.release import Variant
from . import restarts
from .client import Server
from .documents import document_bytes, read_document
from .metrics import measure_server
from .package_manager import PackageManager, changes, check_changes
from .state import State
from .store import Store
from .systemd import has_unit_file, systemctl, systemd_runs, unit_property
from .version import Version
from .whole_server import WholeServerStrategy

UNIT = "edgeml-packages.service"
_WANTED = "packages.json"
_OUTCOME = "packages-outcome.json"
# The packages that came with a snapshot and were not there before: one that has them not removes them.
_ADDED = "packages-added.json"
# The units that failed with a snapshot: whichever comes next has them started again.
_FAILED = "packages-failed-units.json"
_MODE = 0o640
_HEADROOM_PERCENT = 20
# A slow card, and a start of the server with all of its models.
_INSTALL_SECONDS = 4 * 3600.0
_START_SECONDS = 600.0
_INTERVAL_SECONDS = 0.5


class PackagesStrategy(WholeServerStrategy):
    """The packages of the device. ``server`` is the inference server, which has to serve with them."""

    def __init__(self, server: Server, store: Store, manager: PackageManager) -> None:
        super().__init__(server)
        self._store = store
        self._manager = manager

    def answers(self) -> bool:
        return self._server.has_started()

    def refuse(self, variant: Variant, headroom_percent: int) -> None:
        """Raise IncompatibleError where this is no Debian, or nothing could say what has to be restarted."""
        if not self._manager.is_there():
            raise IncompatibleError("this device has no apt and dpkg: a snapshot of Debian packages is not for it")
        if systemd_runs() and not restarts.is_there():
            raise IncompatibleError("needrestart is not installed on this device: apt-get install needrestart")

    def stage(self, version: Version) -> None:
        """Have apt simulate the snapshot. Raises IncompatibleError, StoreError, ServerError; nothing is touched."""
        snapshot = read_snapshot(version.chosen, version.directory)
        suite = self._manager.suite()
        if snapshot.suite != suite:
            raise IncompatibleError(
                f"the snapshot is of Debian's {snapshot.suite}; the device has {suite or 'another'}"
            )
        if has_unit():
            # After a power cut the device mends at its boot what dpkg left, and a controller may be there before.
            self._wait_for_unit()
        if self._manager.was_interrupted():
            raise StoreError("dpkg was interrupted on this device: dpkg --configure -a")
        wanted = changes(snapshot, self._manager.installed(snapshot.architecture))
        state = self._store.state(version.model)
        before = self._snapshot(version.model, state.active) if state.active is not None else None
        returns = version.version == state.previous
        check_changes(snapshot, wanted, before, self._manager.free_bytes(), _HEADROOM_PERCENT, returns=returns)
        if wanted:
            with self._manager.source(version.directory, self._lists) as source:
                source.added(wanted)

    def follow(self, model: str, active: str | None) -> None:
        """Note which snapshot the device should have; without one it stays as it is."""
        wanted = {"model": model, "version": active}
        if read_document(self._path(_WANTED), missing={}) != wanted:
            self._store.write_document(self._path(_WANTED), wanted, _MODE)

    def notify(self, model: str, active: str | None) -> None:
        self.follow(model, active)
        if has_unit():
            outcome = self._run_unit()
            # It may have been at work for another version, of a swap that was interrupted.
            if outcome.get("version") != active:
                outcome = self._run_unit()
            if outcome.get("error") or outcome.get("version") != active:
                raise ServerError(str(outcome.get("error") or f"{UNIT}: expected {active}; found {outcome!r}"))
        else:
            try:
                install_wanted(self._store, self._manager)
            except (EdgemlError, OSError) as error:
                raise ServerError(str(error)) from error
        self._wait_for_server()

    def is_ready(self, model: str, version: str, held: Collection[str]) -> bool:
        self._server.require_started()
        return self._has(model, version)

    def live(self, model: str, state: State, held: Collection[str]) -> str | None:
        """The active snapshot, if it is installed."""
        return state.active if state.active is not None and self._has(model, state.active) else None

    def measured(self, model: str, *versions: str) -> list[dict[str, Any]]:
        try:
            text = self._server.metrics()
        except EdgemlError:
            return [{} for _version in versions]
        # The server may go on counting, whatever is installed.
        return [measure_server(text) for _version in versions]

    # ---- the parts ----

    @property
    def _lists(self) -> str:
        return self._path("staging", "apt")

    def _path(self, *names: str) -> str:
        return os.path.join(self._store.root, *names)

    def _snapshot(self, model: str, version: str) -> Snapshot:
        found = self._store.version(model, version)
        return read_snapshot(found.chosen, found.directory)

    def _has(self, model: str, version: str) -> bool:
        try:
            snapshot = self._snapshot(model, version)
        except (EdgemlError, OSError):
            return False
        return not changes(snapshot, self._manager.installed(snapshot.architecture))

    def _run_unit(self) -> dict[str, Any]:
        """Start the unit, wait for its end, and return what it noted. It goes on when this process ends."""
        remove_file(self._path(_OUTCOME))
        systemctl("start", "--no-block", "--", UNIT)
        self._wait_for_unit()
        outcome: dict[str, Any] = read_document(self._path(_OUTCOME), missing={})
        return outcome or {"error": f"{UNIT} ended without an outcome: journalctl -u {UNIT}"}

    def _wait_for_unit(self) -> None:
        """Wait until the unit is not at work, and not about to be."""
        deadline = time.monotonic() + _INSTALL_SECONDS
        while unit_property(UNIT, "Job") not in ("", "0") or unit_property(UNIT, "ActiveState") == "activating":
            if time.monotonic() > deadline:
                raise ServerError(f"{UNIT}: it has not ended after {_INSTALL_SECONDS:.0f} s")
            time.sleep(_INTERVAL_SECONDS)

    def _wait_for_server(self) -> None:
        """Packages may have had the server restarted."""
        deadline = time.monotonic() + _START_SECONDS
        while not self._server.has_started():
            if time.monotonic() > deadline:
                raise ServerError("the inference server does not answer with these packages")
            time.sleep(_INTERVAL_SECONDS)


def has_unit() -> bool:
    """Whether systemd installs packages here: they are not tied to a login, or to another unit's sandbox."""
    return systemd_runs() and has_unit_file(UNIT)


def install_wanted(store: Store, manager: PackageManager) -> str:
    """Bring the packages to the snapshot that the device should have, and note what became of it; the unit does this.

    Returns what was done, in words. Raises EdgemlError, OSError.
    """
    path = os.path.join(store.root, _OUTCOME)
    wanted = read_document(os.path.join(store.root, _WANTED), missing={})
    version = wanted.get("version")
    outcome: dict[str, Any] = {"version": version, "error": None}
    try:
        done = _install(store, manager, str(wanted.get("model")), version)
    except (EdgemlError, OSError) as error:
        outcome["error"] = str(error)
        raise
    finally:
        # Not by the store's staging: whoever started the unit may be writing there, and waits for it.
        _write(path, outcome)
    return done


def _install(store: Store, manager: PackageManager, model: str, version: str | None) -> str:
    failed_path = os.path.join(store.root, _FAILED)
    failed_here = set(read_document(failed_path, missing=[]))
    failed_before = set(restarts.failed_units()) - failed_here
    if manager.was_interrupted():
        # What cannot be finished is replaced by the snapshot's version below.
        with contextlib.suppress(ServerError):
            manager.finish()
    if version is None:
        return "no snapshot: the packages stay as they are"
    found = store.version(model, version)
    snapshot = read_snapshot(found.chosen, found.directory)
    installed = manager.installed(snapshot.architecture)
    wanted = changes(snapshot, installed)
    added_path = os.path.join(store.root, _ADDED)
    added = set(read_document(added_path, missing=[]))
    if wanted:
        with manager.source(found.directory, os.path.join(store.root, "apt")) as source:
            # Before they come: a power cut must not make them look as if they had always been there.
            new = set(source.added(wanted))
            _write(added_path, sorted(added | new))
            source.install(wanted)
    superfluous = sorted((added & set(installed)) - set(snapshot.packages))
    if superfluous:
        manager.remove(superfluous)
        _write(added_path, sorted(set(read_document(added_path, missing=[])) - set(superfluous)))
    left = changes(snapshot, manager.installed(snapshot.architecture))
    if left or manager.was_interrupted():
        names = ", ".join(f"{each.name} {each.before}" for each in left[:10]) or "dpkg was interrupted"
        raise ServerError(f"{model} {version}: after the installation the device has: {names}")
    try:
        restarted = restarts.restart(failed_here)
    finally:
        broken = sorted(set(restarts.failed_units()) - failed_before)
        if set(broken) != failed_here:
            _write(failed_path, broken)
    if broken:
        raise ServerError(f"{model} {version}: units failed with these packages: {', '.join(broken)}")
    return f"{model} {version}: {len(wanted)} changed, {len(superfluous)} removed, {len(restarted)} units restarted"


def _write(path: str, document: Any) -> None:
    """Replace a document, durably."""
    part = f"{path}.part"
    with open(part, "wb") as file:
        file.write(document_bytes(document))
        file.flush()
        os.fchmod(file.fileno(), _MODE)
        os.fsync(file.fileno())
    os.rename(part, path)
    fsync_directory(os.path.dirname(path))
