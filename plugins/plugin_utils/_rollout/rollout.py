# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""A rollout, as the ledger keeps it: what was planned, what was judged, and where it stands. Pure.

A ``Rollout`` is one attempt to roll one release out; each of its methods returns the rollout as it is from then on.
``decisions`` says what follows. A ``Run`` is what one run of ``ansible-playbook`` does of it.
"""

from __future__ import annotations

import dataclasses
import datetime
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Iterable, Mapping

from ansible_collections.edgeml.fleet.plugins.module_utils._common.errors import EdgemlError

from .gate.checks import Verdict
from .outcome import Outcome
from .plan import SHADOW_WAVE, Plan, PlannedWave, whole_number
from .word import Word

SCHEMA = 1
# Of the reason that is told to those who watch a rollout.
_WHY_MAX = 1000
_TIME = "%Y-%m-%dT%H:%M:%SZ"


class RolloutError(EdgemlError):
    """The rollout's record is damaged, or forbids what was asked for."""


class State(Word):
    """Where a rollout is."""

    RUNNING = "running"
    PASSED = "passed"
    PAUSED = "paused"
    FAILED = "failed"
    ROLLED_BACK = "rolled back"

    @property
    def is_stopped(self) -> bool:
        """Whether nobody brings a device to the release any more."""
        return self in (State.FAILED, State.ROLLED_BACK)


def rollout_id(model: str, version: str, attempt: int) -> str:
    """Return the name of one attempt to roll one release out, the same on each controller and in each run.

    A hyphen of the version becomes a tilde, which no name has: so ``cam`` ``1-2`` and ``cam-1`` ``2`` differ.
    """
    return f"{model}-{version.replace('-', '~')}-{attempt}"


def release_of(name: str) -> tuple[str, str] | None:
    """Return model and version of the rollout that ``rollout_id`` names so; None for another text."""
    model, version, attempt = [*name.rsplit("-", 2), "", ""][:3]
    return (model, version.replace("~", "-")) if model and version and attempt.isdecimal() else None


def utc_now() -> str:
    """Return the present time, as the ledger writes it."""
    return datetime.datetime.now(datetime.timezone.utc).strftime(_TIME)


def second_after(time: str) -> str:
    """Return the time a second after one that the ledger wrote. Raises ValueError for what is none."""
    return (datetime.datetime.strptime(time, "%Y-%m-%dT%H:%M:%S%z") + datetime.timedelta(seconds=1)).strftime(_TIME)


@dataclass(frozen=True)
class Analysis:
    """One verdict on a wave, and when it was given."""

    time: str
    verdict: Verdict

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> Analysis:
        """Read it. Raises ValueError or KeyError."""
        return cls(str(document["time"]), Verdict(document["verdict"]))

    def to_dict(self) -> dict[str, str]:
        """Return it as JSON's types."""
        return {"time": self.time, "verdict": self.verdict.value}


@dataclass(frozen=True)
class Agreement:
    """That a person agreed to a wave: when, who, and how: at the ``terminal``, or by the variable of a later run."""

    time: str
    by: str
    how: str

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> Agreement:
        """Read it. Raises KeyError."""
        return cls(str(document["time"]), str(document["by"]), str(document["how"]))

    def to_dict(self) -> dict[str, str]:
        """Return it as JSON's types."""
        return {"time": self.time, "by": self.by, "how": self.how}


@dataclass(frozen=True)
class LabelAnalysis:
    """One verdict on a rollout that had passed, by the ``labels`` that had come by then, with the gate's findings."""

    time: str
    verdict: Verdict
    labels: int
    findings: tuple[Mapping[str, Any], ...] = ()

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> LabelAnalysis:
        """Read it. Raises TypeError, ValueError or KeyError."""
        return cls(
            time=str(document["time"]),
            verdict=Verdict(document["verdict"]),
            labels=whole_number(document["labels"], "labels"),
            findings=tuple(document.get("findings") or ()),
        )

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON's types."""
        return {**vars(self), "verdict": self.verdict.value, "findings": [dict(finding) for finding in self.findings]}


@dataclass(frozen=True)
class Wave:
    """A wave that has begun.

    ``verdict`` is None until it is judged. ``findings`` are the gate's, as documents: the ledger of another version of
    the collection may have others. ``outcomes``: what became of each of its devices. ``agreed`` is None where nobody
    had to agree. ``hosts`` are the devices that it has begun on: a run for a part of the fleet begins it on a part, and
    ``passed`` those that were looked at for a verdict that is a pass: the last one may be on a part.
    """

    number: int
    name: str = ""
    began: str = field(default_factory=utc_now)
    ended: str | None = None
    verdict: Verdict | None = None
    findings: tuple[Mapping[str, Any], ...] = ()
    outcomes: Mapping[str, Outcome] = field(default_factory=dict)
    analyses: tuple[Analysis, ...] = ()
    agreed: Agreement | None = None
    hosts: tuple[str, ...] = ()
    passed: tuple[str, ...] = ()

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> Wave:
        """Read it. Raises TypeError, ValueError or KeyError."""
        verdict, agreed = document.get("verdict"), document.get("agreed")
        wave = cls(
            number=whole_number(document["number"], "number"),
            name=str(document.get("name") or ""),
            began=str(document.get("began") or utc_now()),
            ended=document.get("ended"),
            verdict=None if verdict is None else Verdict(verdict),
            findings=tuple(document.get("findings") or ()),
            outcomes={str(host): Outcome(word) for host, word in (document.get("outcomes") or {}).items()},
            analyses=tuple(Analysis.from_dict(item) for item in document.get("analyses") or ()),
            agreed=Agreement.from_dict(agreed) if agreed else None,
            hosts=tuple(map(str, document.get("hosts") or ())),
        )
        return dataclasses.replace(wave, passed=tuple(map(str, document.get("passed", wave._usually_passed))))

    @property
    def _usually_passed(self) -> tuple[str, ...]:
        """Who has passed, where every run was for the whole wave."""
        return tuple(self.outcomes) if self.verdict is Verdict.PASS else ()

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON's types."""
        return {
            "number": self.number,
            "name": self.name,
            "began": self.began,
            "ended": self.ended,
            "verdict": self.verdict.value if self.verdict else None,
            "findings": [dict(finding) for finding in self.findings],
            "outcomes": {host: outcome.value for host, outcome in self.outcomes.items()},
            "analyses": [analysis.to_dict() for analysis in self.analyses],
            "agreed": self.agreed.to_dict() if self.agreed else None,
            **({"hosts": list(self.hosts)} if self.hosts else {}),
            **({"passed": list(self.passed)} if self.passed != self._usually_passed else {}),
        }


@dataclass(frozen=True)
class Rollout:
    """One attempt to roll one release out, as the ledger keeps it.

    ``settings`` are the options that it is judged by; ``devices`` one row for each device, once it has ended;
    ``labels`` what labels said that came after it had passed.
    """

    model: str
    version: str
    attempt: int
    digest: str
    plan: Plan
    reason: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    state: State = State.RUNNING
    why: str = ""
    began: str = field(default_factory=utc_now)
    ended: str | None = None
    waves: tuple[Wave, ...] = ()
    devices: tuple[Mapping[str, Any], ...] = ()
    labels: tuple[LabelAnalysis, ...] = ()

    @property
    def id(self) -> str:
        """The rollout's name."""
        return rollout_id(self.model, self.version, self.attempt)

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> Rollout:
        """Read what ``to_dict`` returned, and check it. Raises RolloutError."""
        try:
            if document.get("schema", SCHEMA) != SCHEMA:
                raise ValueError(f"schema: expected {SCHEMA}; found {document['schema']!r}")
            for name in ("model", "version", "digest"):
                if not isinstance(document[name], str):
                    raise TypeError(f"{name}: expected a text; found {document[name]!r}")
            return cls(
                model=document["model"],
                version=document["version"],
                attempt=whole_number(document["attempt"], "attempt"),
                digest=document["digest"],
                plan=Plan.from_dict(document["plan"]),
                reason=str(document.get("reason") or ""),
                settings=dict(document.get("settings") or {}),
                state=State(document.get("state", State.RUNNING.value)),
                why=str(document.get("why") or ""),
                began=str(document.get("began") or utc_now()),
                ended=document.get("ended"),
                waves=tuple(Wave.from_dict(wave) for wave in document.get("waves") or ()),
                devices=tuple(document.get("devices") or ()),
                labels=tuple(LabelAnalysis.from_dict(item) for item in document.get("labels") or ()),
            )
        except KeyError as error:
            raise RolloutError(f"{error.args[0]} is missing") from error
        except (TypeError, ValueError, AttributeError) as error:
            raise RolloutError(str(error)) from error

    def to_dict(self) -> dict[str, Any]:
        """Return the rollout as JSON's types."""
        return {
            "schema": SCHEMA,
            "id": self.id,
            "model": self.model,
            "version": self.version,
            "attempt": self.attempt,
            "digest": self.digest,
            "reason": self.reason,
            "settings": dict(self.settings),
            "plan": self.plan.to_dict(),
            "state": self.state.value,
            "why": self.why,
            "began": self.began,
            "ended": self.ended,
            "waves": [wave.to_dict() for wave in self.waves],
            "devices": [dict(row) for row in self.devices],
            "labels": [analysis.to_dict() for analysis in self.labels],
        }

    # ---- its course ----

    def resumed_from(self, found: Rollout | None) -> Rollout:
        """Return the rollout at its beginning, or going on from what the ledger ``found``: what was judged stays.

        Raises RolloutError if it was stopped, or if it is one of another release.
        """
        if found is None:
            return self
        if found.digest != self.digest:
            raise RolloutError(
                f"{self.id}: the ledger has it with manifest digest {found.digest}; this release has {self.digest}. "
                "A release is immutable: publish the change as a new version"
            )
        if found.state.is_stopped:
            raise RolloutError(
                f"{self.id} was stopped: {found.state} at {found.ended}: {found.why}. "
                f"To try the release again: rollout_attempt={found.attempt + 1}"
            )
        plan = self.plan.merged_with(found.plan)
        if found.state is State.PASSED and not found.plan.limited:
            # One of the whole fleet stays one, whatever part of it is played again.
            plan = dataclasses.replace(plan, limited=False)
        return dataclasses.replace(
            self,
            plan=plan,
            began=found.began,
            waves=found.waves,
            devices=found.devices,
            labels=found.labels,
            state=State.RUNNING,
        )

    def wave(self, number: int) -> Wave | None:
        """Return the wave of this number, if it has begun."""
        return next((wave for wave in self.waves if wave.number == number), None)

    def begun_wave(self, number: int) -> Wave:
        """Return the wave of this number. Raises RolloutError if it has not begun."""
        found = self.wave(number)
        if found is None:
            raise RolloutError(f"wave {number} has not begun")
        return found

    def with_wave(self, wave: Wave) -> Rollout:
        """Return the rollout with this wave in place of the one of the same number."""
        others = [known for known in self.waves if known.number != wave.number]
        return dataclasses.replace(self, waves=tuple(sorted([*others, wave], key=lambda known: known.number)))

    def with_wave_begun(
        self, number: int, name: str, agreed: Agreement | None = None, hosts: Iterable[str] = ()
    ) -> Rollout:
        """Return the rollout with a wave begun on ``hosts``. One that begins again keeps its analyses, no verdict."""
        before = self.wave(number) or Wave(number)
        hosts = tuple(hosts)
        begun = tuple(dict.fromkeys((*(before.hosts or before.outcomes), *hosts))) if hosts else before.hosts
        again = set(hosts or before.passed)
        passed = tuple(host for host in before.passed if host not in again)
        return self.with_wave(
            dataclasses.replace(before, name=name, ended=None, verdict=None, agreed=agreed, hosts=begun, passed=passed)
        )

    def with_verdict(
        self,
        number: int,
        verdict: Verdict,
        findings: Iterable[Mapping[str, Any]],
        outcomes: Mapping[str, Outcome],
    ) -> Rollout:
        """Return the rollout with one more analysis of a wave."""
        before, now = self.wave(number) or Wave(number), utc_now()
        known = {**before.outcomes, **outcomes}
        passed = {*before.passed, *(outcomes if verdict is Verdict.PASS else ())}
        return self.with_wave(
            dataclasses.replace(
                before,
                ended=now,
                verdict=verdict,
                findings=tuple(findings),
                outcomes=known,
                passed=tuple(host for host in known if host in passed),
                analyses=(*before.analyses, Analysis(now, verdict)),
            )
        )

    def with_labels_judged(self, analysis: LabelAnalysis) -> Rollout:
        """Return the rollout with one more analysis of the labels that came after it had passed."""
        return dataclasses.replace(self, labels=(*self.labels, analysis))

    def closed(self, state: State, why: str, devices: Iterable[Mapping[str, Any]] = ()) -> Rollout:
        """Return the rollout at its end, or where it pauses. Without ``devices`` it keeps those that it has."""
        rows = tuple(dict(row) for row in devices) or self.devices
        return dataclasses.replace(self, state=state, why=why, ended=utc_now(), devices=rows)

    # ---- what it says ----

    @property
    def reached(self) -> int:
        """The highest number of a wave that has begun; 0 for none. Devices up to there belong on the release."""
        return max((wave.number for wave in self.waves), default=0)

    @property
    def steps(self) -> int:
        """How many steps it has made: waves that began, verdicts on them, and its end. Grows while a run is at work."""
        ended = self.state is not State.RUNNING
        return sum(1 + len(wave.analyses) for wave in self.waves) + ended + len(self.labels)

    def progress(self) -> dict[str, Any]:
        """Return where it is, as JSON's types, for those who watch it."""
        return {
            "rollout": self.id,
            "model": self.model,
            "version": self.version,
            "state": self.state.value,
            "why": self.why[:_WHY_MAX],
            "began": self.began,
            "ended": self.ended,
            "wave": self.reached,
            "waves": len(self.plan.waves),
            "verdicts": [
                wave.verdict.value if wave.verdict else None for wave in self.waves if wave.number != SHADOW_WAVE
            ],
            "outcomes": dict(sorted(Counter(outcome.value for outcome in self.outcomes.values()).items())),
        }

    @property
    def outcomes(self) -> dict[str, Outcome]:
        """What became of the devices of all waves that were judged. In wave 0 nothing becomes of a device."""
        return {
            host: outcome
            for wave in self.waves
            if wave.number != SHADOW_WAVE
            for host, outcome in wave.outcomes.items()
        }

    @property
    def takes_new_devices(self) -> bool:
        """Whether it has come to all devices, also those not planned for: one of the whole fleet that has passed."""
        return self.state is State.PASSED and not self.plan.limited

    @property
    def hosts_reached(self) -> frozenset[str]:
        """The devices that it has come to: they belong on the release.

        A later wave may have begun before them, in a run for a part of the fleet.
        """
        planned = {wave.number: wave.hosts for wave in self.plan.waves}
        found: set[str] = set()
        for wave in self.waves:
            if wave.number != SHADOW_WAVE:
                # A version before this one noted no hosts.
                known = wave.outcomes if self.plan.limited else ()
                found.update(wave.hosts or known or planned.get(wave.number, ()))
        return frozenset(found)

    @property
    def not_passed(self) -> list[str]:
        """The planned devices that no passing verdict on their wave has looked at."""
        passed = {host for wave in self.waves if wave.number != SHADOW_WAVE for host in wave.passed}
        return [host for host in self.plan.wave_numbers if host not in passed]

    def earlier_outcomes(self, wave: PlannedWave) -> dict[str, Outcome]:
        """Return what became of the devices that are not of this wave."""
        return {host: outcome for host, outcome in self.outcomes.items() if host not in wave.hosts}
