# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""The desired state of a fleet, by the ledger: what is published of its rollouts, and what its devices are asked."""

from __future__ import annotations

import json
import os
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Callable, Iterable, Mapping, NamedTuple, Sequence

from ansible_collections.edgeml.fleet.plugins.module_utils._common.errors import ArgumentError, EdgemlError
from ansible_collections.edgeml.fleet.plugins.module_utils._release.cohort import read_boundaries
from ansible_collections.edgeml.fleet.plugins.module_utils._release.desired import (
    Ask,
    Desired,
    DesiredModel,
    DesiredRollout,
    SwapSettings,
    read_desired,
    write_desired,
)
from ansible_collections.edgeml.fleet.plugins.module_utils._trust.metadata import (
    FLEET_LIFETIME_DAYS,
    TrustError,
    days_left,
    now_utc,
    require_packages,
)
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.rollout import Rollout, State, utc_now

from .settings import PullSettings

if TYPE_CHECKING:
    from ansible_collections.edgeml.fleet.plugins.plugin_utils._trust.keys import PrivateKey

# Of a model: what devices may be on, and go back to.
ROLLOUTS_MAX = 16


class PublishError(EdgemlError):
    """The desired state cannot be published; the text says why, and what to do."""


class Question(NamedTuple):
    """The number of what devices are asked about a model, and whether they are to ``swap``, ``read`` or ``revert``."""

    number: int
    purpose: str

    @classmethod
    def of(cls, ask: Ask) -> Question:
        """What is published of it, in short."""
        return cls(ask.number, ask.purpose)


@dataclass(frozen=True)
class Publication:
    """What is in force now, and what was ``before``; both are canonical JSON."""

    desired: Desired
    before: str
    after: str

    @property
    def changed(self) -> bool:
        """Whether something was published."""
        return self.before != self.after

    def diff(self) -> dict[str, str]:
        """For Ansible's diff mode."""
        return {"before": _pretty(self.before), "after": _pretty(self.after)}


def desired_rollout(rollout: Rollout) -> DesiredRollout | None:
    """Return what devices are told of a rollout; None for one whose plan no device could follow."""
    try:
        boundaries = read_boundaries(rollout.plan.boundaries)
    except ArgumentError:
        return None
    settings = rollout.settings
    stopped = rollout.state.is_stopped
    groups = {
        wave.group: sorted(host for planned in rollout.plan.waves if planned.number == number for host in planned.hosts)
        for number, wave in enumerate(boundaries.waves, 1)
        if wave.group is not None
    }
    return DesiredRollout(
        id=rollout.id,
        version=rollout.version,
        digest=rollout.digest,
        stopped=stopped,
        reached=len(boundaries.waves) if rollout.state is State.PASSED else rollout.reached,
        boundaries=boundaries,
        groups=groups,
        only=_only(rollout),
        left_out=sorted(rollout.plan.left_out),
        retry=rollout.attempt > 1,
        reason=(rollout.why if stopped else rollout.reason)[:4096],
        window=list(settings.get("window") or ()),
        settings=SwapSettings(**(settings.get("device") or {})),
        class_settings=_settings_by_name(settings.get("device_classes")),
        device_settings=_settings_by_name(settings.get("devices")),
    )


def _only(rollout: Rollout) -> list[str] | None:
    """The devices that take part, where others do not: in a run for a part of the fleet, and after one.

    Without those that it has not come to although their wave, or a later one, has begun.
    """
    if rollout.takes_new_devices:
        return None
    numbers = rollout.plan.wave_numbers
    begun = max(numbers.values(), default=0) if rollout.state is State.PASSED else rollout.reached
    early = {host for host, number in numbers.items() if number <= begun}.difference(rollout.hosts_reached)
    return sorted(set(numbers).difference(early)) if rollout.plan.limited or early else None


def _settings_by_name(document: Mapping[str, Mapping[str, Any]] | None) -> dict[str, SwapSettings]:
    return {name: SwapSettings(**found) for name, found in (document or {}).items()}


def merged_model(rollouts: Iterable[Rollout], before: DesiredModel, ask: Ask | None) -> DesiredModel:
    """Return what is published of one model. ``rollouts`` are the ledger's, newest first.

    What another ledger has published stays behind them. A rollout that no device has come to yet is left out.
    """
    known = list(rollouts)
    found = [desired_rollout(rollout) for rollout in known if rollout.reached]
    others = [rollout for rollout in before.rollouts if rollout.id not in {item.id for item in known}]
    shown = [rollout for rollout in found if rollout is not None]
    return DesiredModel([*shown, *others][:ROLLOUTS_MAX], before.ask if ask is None else ask)


class Publisher:
    """Publishes the desired state of one fleet, for one run of a playbook.

    ``scratch`` is the run's own directory: what the run has published is noted there, so that another controller that
    publishes meanwhile is noticed.
    """

    def __init__(self, settings: PullSettings, scratch: str) -> None:
        require_packages()
        from ansible_collections.edgeml.fleet.plugins.plugin_utils._trust.fleets import FleetRepository

        self._settings = settings
        self._note = note_path(scratch, settings.fleet)
        self._repository = FleetRepository(settings.repository, settings.fleet)

    def _keys(self) -> tuple[PrivateKey, PrivateKey]:
        """The fleet's key, and that of snapshot and timestamp. Raises KeyFileError."""
        from ansible_collections.edgeml.fleet.plugins.plugin_utils._trust.keys import Passphrases, read_private

        passphrases = Passphrases()
        return read_private(self._settings.fleet_key, passphrases), read_private(self._settings.online_key, passphrases)

    def in_force(self) -> Desired:
        """Return what is published; an empty desired state where nothing was. Raises TrustError."""
        return _read(self._repository.published().content, self._settings.fleet)

    def check(self) -> None:
        """Raise TrustError where this controller could not publish."""
        self._repository.published()
        self._repository.check_key(self._keys()[0])

    def publish(
        self,
        rollouts: Sequence[Rollout],
        question: Callable[[int], tuple[str, Ask]] | None = None,
        *,
        act: bool = True,
    ) -> Publication:
        """Bring the state of ``rollouts``, the ledger's, newest first, into force, with a new ``question`` if given.

        ``question`` gives, by its number, the model and what its devices are asked. Nothing is published where nothing
        would change and what is in force has half of its life; nothing either unless ``act``. Raises TrustError and
        PublishError.
        """
        found = self._repository.published()
        self._check_version(found.version)
        before = _read(found.content, self._settings.fleet)
        asked: dict[str, Ask] = {}
        if question is not None:
            number = max((model.ask.number for model in before.models.values()), default=0) + 1
            name, ask = question(number)
            asked[name] = ask
        names = {rollout.model for rollout in rollouts} | set(before.models) | set(asked)
        models = {
            name: merged_model(
                [rollout for rollout in rollouts if rollout.model == name],
                before.models.get(name, DesiredModel()),
                asked.get(name),
            )
            for name in sorted(names)
        }
        models = {name: model for name, model in models.items() if model != DesiredModel()}
        fresh = found.expires is not None and days_left(found.expires, now_utc()) > FLEET_LIFETIME_DAYS / 2
        new = Desired(self._settings.fleet, found.version + 1, socket.gethostname(), utc_now(), models)
        text = found.content.decode()
        # By their spelling: what was read has lists where this has tuples.
        unchanged = write_desired(before._replace(models=models)) == write_desired(before)
        if unchanged and (fresh or not models):
            return Publication(before, text, text)
        if act:
            key, online = self._keys()
            version = self._repository.publish(
                lambda version: write_desired(new._replace(version=version)),
                expected=found.version,
                key=key,
                online=[online],
            )
            self._note_version(version, {name: Question.of(model.ask) for name, model in models.items()})
        return Publication(new, text, write_desired(new).decode())

    def _check_version(self, version: int) -> None:
        known = _read_note(self._note).get("version", version)
        if known != version:
            now = self.in_force()
            raise PublishError(
                f"fleet {self._settings.fleet}: this run published version {known} of the desired state, and version "
                f"{version} is in force, which {now.controller} published at {now.time}: two controllers work on the "
                "fleet. End one of them, and run the other again"
            )

    def _note_version(self, version: int, questions: Mapping[str, Question]) -> None:
        with open(self._note, "w", encoding="utf-8") as file:
            json.dump({"version": version, "questions": dict(questions)}, file)


def note_path(scratch: str, fleet: str) -> str:
    """Return the file in which a run notes what it has published."""
    return os.path.join(scratch, f"pull-{fleet}.json")


def question_of_run(scratch: str, fleet: str, model: str) -> Question | None:
    """Return what this run of a playbook asks devices about a model; None where it has not published."""
    questions = _read_note(note_path(scratch, fleet)).get("questions")
    return None if questions is None else Question(*questions.get(model, (0, "")))


def _read_note(path: str) -> dict[str, Any]:
    try:
        with open(path, encoding="utf-8") as file:
            found: dict[str, Any] = json.load(file)
        return found
    except FileNotFoundError:
        return {}


def _read(content: bytes, fleet: str) -> Desired:
    if not content:
        return Desired(fleet, 0, "", "")
    try:
        return read_desired(content, fleet)
    except EdgemlError as error:
        raise TrustError(f"{error}. Find out who published it") from error


def _pretty(text: str) -> str:
    document: Mapping[str, Any] = json.loads(text) if text else {}
    return json.dumps(document, indent=1, sort_keys=True) + "\n" if document else ""
