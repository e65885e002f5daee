# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""A poll that has something to do: verify what is published, act by it, and report.

Whatever is wrong with the repository, the clock or the link, the device goes on serving what it serves.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import time
from typing import Any, Mapping, Sequence

from .._common import window
from .._common.errors import ArgumentError, EdgemlError, IntegrityError, ManifestError, StoreError
from .._device.describe import answer_info
from .._device.perform import answer_swap
from .._device.request import InfoRequest, SwapRequest
from .._device.state import Limits
from .._device.store import Store
from .._release.desired import Desired, DesiredModel, desired_name, read_desired
from .._release.manifest import parse_release_json
from .._trust.client import Client, Fetcher
from .._trust.metadata import TrustError
from .config import PullConfig, fetch_options
from .decide import Change, Decision, Identity, Known, decide
from .memory import Memory
from .origin import LinkError, clock_state
from .report import REPORT_BYTES_MAX, Report, sign_report

# What a source that cannot be reached, or is not whole, refuses by: another one is asked.
_LINK_KINDS = ("unreachable", "slow", "missing")
_TIME = "%Y-%m-%dT%H:%M:%SZ"


class RefusedError(EdgemlError):
    """What a source has is not to be believed, or this clock is wrong: nothing was changed."""


class Agent:
    """A device that acts by what is published, under the lock of its memory.

    ``lines`` are what it did, for a person.
    """

    def __init__(self, config: PullConfig, memory: Memory) -> None:
        self._config = config
        self._memory = memory
        self._state = memory.state()
        self._store = Store(config.store)
        self._me = Identity(config.device, config.device_class)
        self._pending = False
        self._sources: list[str] = []
        self.lines: list[str] = []

    def follow(self, source: str, *, location: str, timestamp: str, others: Sequence[str]) -> str:
        """Verify what a source has at ``location``, an address or a directory, act by it, and queue what is to be
        reported.

        ``timestamp`` is the text of its ``timestamp.json``. ``others`` may give files, too. Returns what keeps the
        device from following, nothing if all is well. Raises LinkError where the source ends in the middle, and
        RefusedError.
        """
        self._sources = [where if "://" in where else f"file://{where}" for where in (location, *others)]
        fetcher = Fetcher(location, fetch_options(self._config))
        self._client = Client(location, _read(self._config.root), self._memory.path("metadata"), fetcher=fetcher)
        with contextlib.closing(self._client):
            return self._follow_source(source, timestamp)

    def _follow_source(self, source: str, timestamp: str) -> str:
        try:
            desired = self._verified()
        except (TrustError, ManifestError) as error:
            kind = getattr(error, "kind", "")
            if kind in _LINK_KINDS:
                raise LinkError(str(error)) from error
            if kind == "expired":
                # Told once, and not verified anew by each poll.
                self._keep(clock=clock_state(time.time(), self._state.expires))
            if kind == "rollback":
                # What is older than what was seen cannot become newer, and is not verified anew by each poll.
                kept = {name: self._state.stale[name] for name in self._config.sources if name in self._state.stale}
                self._keep(stale={**kept, source: {"timestamp": timestamp, "problem": str(error)}})
            raise RefusedError(str(error)) from error
        expires = self._expires()
        handled = {"timestamp": self._timestamp(), "expires": expires, "clock": clock_state(time.time(), expires)}
        if handled["clock"] == "behind":
            self._keep(**handled)
            raise RefusedError(
                f"this clock says {_now()}, and the metadata was signed later: set it. Nothing is changed until then"
            )
        problem = self._follow(desired)
        version = desired.version if desired else self._state.desired_version
        self._keep(**handled, pending=self._pending, problem=problem or None, desired_version=version)
        return problem

    def refuse(self, problem: str) -> None:
        """Remember what keeps the device from following, and tell the controller once."""
        if problem != self._state.problem:
            self._queue(problem=problem)
            self._keep(problem=problem)

    def _verified(self) -> Desired | None:
        """The fleet's desired state; None where none was published yet. Raises TrustError and ManifestError."""
        self._client.refresh()
        name = desired_name(self._config.fleet)
        try:
            content, version = self._client.target(name)
        except TrustError as error:
            if error.kind == "unsigned":
                return None
            raise
        desired = read_desired(content, self._config.fleet)
        if desired.version != version:
            raise ManifestError(f"{name}: expected version {version}, as it is signed; found {desired.version}")
        return desired

    def _follow(self, desired: Desired | None) -> str:
        """Act on each model; return what kept the device from following."""
        withdrawn: dict[str, dict[str, str]] = {}
        for release in self._client.releases():
            if release.withdrawn is not None:
                withdrawn.setdefault(release.model, {})[release.version] = release.withdrawn
        models = dict(desired.models) if desired else {}
        for name in self._store.models() if self._store.exists() else ():
            models.setdefault(name, DesiredModel())
        problems = []
        for name, model in sorted(models.items()):
            try:
                found = self._follow_model(name, model, withdrawn.get(name, {}), desired.version if desired else 0)
            except (StoreError, OSError) as error:
                found = f"{name}: {error}"
                self._pending = True
            problems += [found] if found else []
        return "; ".join(problems)

    # ---- one model ----

    def _follow_model(self, name: str, model: DesiredModel, withdrawn: Mapping[str, str], version: int) -> str:
        now = datetime.datetime.now(datetime.timezone.utc)
        is_open = {rollout.id: window.is_open(rollout.window, now) for rollout in model.rollouts}
        decision = decide(model, self._me, self._known(name), withdrawn, is_open)
        question = decision.question
        if decision.waits:
            self._pending = True
        result: Mapping[str, Any] | None = None
        done: Change | None = None
        for change in decision.changes:
            if question is None and change.state == "active" and self._known(name).active == change.version:
                # The way back has led there.
                continue
            if question is not None and change.state == "active":
                self._queue(
                    model=name,
                    desired_version=version,
                    question=question.number,
                    begun=True,
                    state=change.state,
                    version=change.version,
                )
            done, result = change, self._swap(name, change)
            if result is None:
                self._pending = True
                return f"{name} {change.version}: not complete yet"
        if not (decision.waits and question is not None and question.purpose == "swap"):
            self._report(name, version, decision, done, result)
        failed = result is not None and bool(result.get("failed"))
        return decision.problem or (str(result.get("msg")) if failed and result else "")

    def _known(self, name: str) -> Known:
        if not self._store.exists():
            return Known(answered=int(self._state.answered.get(name, 0)))
        state = self._store.state(name)
        failed = {version: failure.rollout_id for version, failure in state.failed.items()}
        return Known(state.active, failed, int(self._state.answered.get(name, 0)))

    def _swap(self, name: str, change: Change) -> Mapping[str, Any] | None:
        """Make a change; its result, or None where it could not come to its end yet."""
        config = self._config
        request = SwapRequest(
            model=name,
            version=change.version,
            state=change.state,
            rollout_id=change.rollout_id or None,
            reason=change.reason,
            retry=change.retry,
            store=config.store,
            server=config.server,
            strategy=config.strategy,
            server_unit=config.server_unit,
        )
        try:
            if change.rollout is not None:
                request = self._bringing(request, change)
            result = answer_swap(request, check_mode=False)
        except LinkError as error:
            self.lines.append(f"{name} {change.version}: {error}")
            return None
        except (EdgemlError, TypeError) as error:
            result = {
                "failed": True, "changed": False, "refused": True, "model": name, "version": change.version,
                "msg": str(error), "live": self._known(name).active,
            }  # fmt: skip
        fetched = (result.get("fetched") or {}).get("failure")
        if not result.get("failed") and result.get("missing_blobs"):
            self.lines.append(f"{name} {change.version}: {(fetched or {}).get('message') or 'files are missing'}")
            return None
        what = result.get("msg") if result.get("failed") else "changed" if result.get("changed") else "as it was"
        self.lines.append(f"{name} {change.version} {change.state}: {what}")
        return result

    def _bringing(self, request: SwapRequest, change: Change) -> SwapRequest:
        """The request with the manifest, verified, and where its files are fetched from."""
        rollout = change.rollout
        if rollout is None:
            raise AssertionError("expected a rollout; found none")
        try:
            content, signed = self._client.manifest(request.model, request.version)
        except TrustError as error:
            if error.kind in _LINK_KINDS:
                raise LinkError(str(error)) from error
            raise
        release = parse_release_json(content, f"{request.model} {request.version}")
        if not release.digest == signed.digest == rollout.digest:
            raise IntegrityError(
                f"{request.model} {request.version}: expected the digest {rollout.digest}, which the fleet's desired "
                f"state names; found {release.digest}, signed as {signed.digest}"
            )
        settings = rollout.settings_of(self._me.device, self._me.device_class)
        return request._replace(
            manifest=release.document,
            fetch=fetch_options(self._config, self._sources),
            min_ready_seconds=settings.min_ready_seconds,
            trial_seconds=settings.trial_seconds,
            trial_limits=Limits(**settings.trial_limits),
            keep=settings.keep,
            accept_no_way_back=settings.accept_no_way_back,
        )

    # ---- what is told ----

    def _report(
        self, name: str, version: int, decision: Decision, change: Change | None, result: Mapping[str, Any] | None
    ) -> None:
        """Answer the controller's question; or tell of a change that nobody asked for."""
        question = decision.question
        if question is None and not (result is not None and (result.get("changed") or result.get("failed"))):
            return
        config = self._config
        info = answer_info(InfoRequest(model=name, probe=decision.probe, store=config.store, server=config.server))
        is_told = self._queue(
            model=name,
            desired_version=version,
            question=question.number if question is not None else 0,
            state=change.state if change is not None else "",
            version=change.version if change is not None else "",
            result=result,
            info=info,
            problem=decision.problem or None,
        )
        if question is not None and is_told:
            self._keep(answered={**self._state.answered, name: question.number})

    def _queue(self, **fields: Any) -> bool:
        """Queue a report; return whether that could be: not before the device has its certificate."""
        config = self._config
        if config.mailbox is None:
            return False
        if not os.path.exists(config.certificate):
            self.lines.append(f"{config.certificate}: nothing is reported until the device has its certificate")
            return False
        sequence = self._memory.next_sequence()
        report = Report(
            device=config.device, fleet=config.fleet, sequence=sequence, written_at=_now(), **fields
        )  # fmt: skip
        content = sign_report(report, config.certificate, config.key)
        if len(content) > REPORT_BYTES_MAX:
            report = report._replace(info=None, problem="what was measured does not fit into a report")
            content = sign_report(report, config.certificate, config.key)
        self._memory.enqueue(sequence, content, report.is_observation)
        self._keep(sequence=sequence)
        return True

    def _keep(self, **changes: Any) -> None:
        self._state = self._state._replace(**changes)
        self._memory.keep(self._state)

    # ---- the metadata that was verified ----

    def _timestamp(self) -> str:
        return _read(self._memory.path("metadata", "timestamp.json")).decode("utf-8", "replace")

    def _expires(self) -> float:
        document = json.loads(_read(self._memory.path("metadata", "timestamp.json")))
        return window.read_time(document["signed"]["expires"]).timestamp()


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise ArgumentError(f"{path}: cannot be read: {error.strerror}") from error


def _now() -> str:
    return datetime.datetime.now(datetime.timezone.utc).strftime(_TIME)
