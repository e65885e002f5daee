# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""A rollout as a state machine: what was planned, what was judged, and what follows. Pure.

A ``Rollout`` is what the ledger keeps of one attempt to roll one release out; each of its methods returns the rollout
as it is from then on. A ``Run`` is what one run of ``ansible-playbook`` does of it, from its plan to its end.
"""

from __future__ import annotations

import dataclasses
import datetime
import enum
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, ClassVar, Collection, Iterable, Mapping, Sequence

from ansible_collections.edgeml.fleet.plugins.module_utils._common.errors import EdgemlError

from . import window
from .gate.checks import Verdict
from .options import RolloutOptions
from .outcome import MAY_HOLD_NEW_VERSION, Outcome
from .waves import LeftOut

SCHEMA = 1
_NAMED_MAX = 5
_UNTOUCHED = (Outcome.REFUSED, Outcome.AWAY)


class RolloutError(EdgemlError):
    """The rollout's record is damaged, or forbids what was asked for."""


class State(str, enum.Enum):
    """Where a rollout is."""

    RUNNING = "running"
    PASSED = "passed"
    PAUSED = "paused"
    FAILED = "failed"
    ROLLED_BACK = "rolled back"

    def __str__(self) -> str:
        """Return the word itself."""
        return self.value

    @property
    def is_stopped(self) -> bool:
        """Whether nobody brings a device to the release any more."""
        return self in (State.FAILED, State.ROLLED_BACK)


class Next(str, enum.Enum):
    """What the playbook does after a step."""

    ROLL_OUT = "roll_out"
    SWAP = "swap"
    ASK = "ask"
    NEXT_WAVE = "next_wave"
    SOAK_AGAIN = "soak_again"
    REVERT = "revert"
    END = "end"


def rollout_id(model: str, version: str, attempt: int) -> str:
    """Return the name of one attempt to roll one release out, the same on each controller and in each run.

    A hyphen of the version becomes a tilde, which no name has: so ``cam`` ``1-2`` and ``cam-1`` ``2`` differ.
    """
    return f"{model}-{version.replace('-', '~')}-{attempt}"


def utc_now() -> str:
    """Return the present time, as the ledger writes it."""
    return datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


# ---- the plan ----


@dataclass(frozen=True)
class PlannedWave:
    """A wave of the plan; ``number`` counts from 1 over the whole fleet, so that a part of it may lack some."""

    number: int
    name: str
    hosts: tuple[str, ...]

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> PlannedWave:
        """Read it. Raises TypeError, ValueError or KeyError."""
        hosts = document["hosts"]
        if isinstance(hosts, str) or not isinstance(hosts, Sequence):
            raise TypeError(f"hosts: expected a list; found {hosts!r}")
        return cls(_integer(document["number"], "number"), str(document.get("name", "")), tuple(map(str, hosts)))

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON's types."""
        return {"number": self.number, "name": self.name, "hosts": list(self.hosts)}


@dataclass(frozen=True)
class Plan:
    """Which device belongs to which wave. ``limited``: the run was for a part of the fleet (``--limit``)."""

    waves: tuple[PlannedWave, ...]
    device_classes: Mapping[str, str] = field(default_factory=dict)
    left_out: Mapping[str, LeftOut] = field(default_factory=dict)
    salt: str = ""
    device_class: tuple[str, ...] = ()
    limited: bool = False

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> Plan:
        """Read it. Raises TypeError, ValueError or KeyError."""
        return cls(
            waves=tuple(PlannedWave.from_dict(wave) for wave in document["waves"]),
            device_classes=dict(document.get("device_classes") or {}),
            left_out=_read_left_out(document),
            salt=str(document.get("salt") or ""),
            device_class=tuple(document.get("device_class") or ()),
            limited=bool(document.get("limited")),
        )

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON's types."""
        return {
            "salt": self.salt,
            "device_class": list(self.device_class),
            "device_classes": dict(self.device_classes),
            "waves": [wave.to_dict() for wave in self.waves],
            "left_out": {host: str(why) for host, why in self.left_out.items()},
            "left_out_outcomes": {host: why.outcome.value for host, why in self.left_out.items()},
            "limited": self.limited,
        }

    @property
    def wave_numbers(self) -> dict[str, int]:
        """The number of each device's wave."""
        return {host: wave.number for wave in self.waves for host in wave.hosts}

    def merged_with(self, before: Plan) -> Plan:
        """Return this plan with the hosts that only the plan ``before`` had (of another --limit) in their waves."""
        planned = set(self.wave_numbers)
        waves = {wave.number: wave for wave in self.waves}
        for wave in before.waves:
            others = tuple(host for host in wave.hosts if host not in planned)
            if not others:
                continue
            known = waves.get(wave.number)
            hosts = (*others, *known.hosts) if known else others
            waves[wave.number] = dataclasses.replace(known or wave, hosts=hosts)
        return dataclasses.replace(self, waves=tuple(waves[number] for number in sorted(waves)))


# ---- what was judged ----


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
class Wave:
    """A wave that has begun.

    ``verdict`` is None until it is judged. ``findings`` are the gate's, as documents: the ledger of another version of
    the collection may have others. ``outcomes``: what became of each of its devices.
    """

    number: int
    name: str = ""
    began: str = field(default_factory=utc_now)
    ended: str | None = None
    verdict: Verdict | None = None
    findings: tuple[Mapping[str, Any], ...] = ()
    outcomes: Mapping[str, Outcome] = field(default_factory=dict)
    analyses: tuple[Analysis, ...] = ()

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> Wave:
        """Read it. Raises TypeError, ValueError or KeyError."""
        verdict = document.get("verdict")
        return cls(
            number=_integer(document["number"], "number"),
            name=str(document.get("name") or ""),
            began=str(document.get("began") or utc_now()),
            ended=document.get("ended"),
            verdict=None if verdict is None else Verdict(verdict),
            findings=tuple(document.get("findings") or ()),
            outcomes={str(host): Outcome(word) for host, word in (document.get("outcomes") or {}).items()},
            analyses=tuple(Analysis.from_dict(item) for item in document.get("analyses") or ()),
        )

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
        }


@dataclass(frozen=True)
class Rollout:
    """One attempt to roll one release out, as the ledger keeps it.

    ``settings`` are the options that it is judged by; ``devices`` one row for each device, once it has ended.
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
                attempt=_integer(document["attempt"], "attempt"),
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
        return dataclasses.replace(
            self, plan=plan, began=found.began, waves=found.waves, devices=found.devices, state=State.RUNNING
        )

    def wave(self, number: int) -> Wave | None:
        """Return the wave of this number, if it has begun."""
        return next((wave for wave in self.waves if wave.number == number), None)

    def with_wave(self, wave: Wave) -> Rollout:
        """Return the rollout with this wave in place of the one of the same number."""
        others = [known for known in self.waves if known.number != wave.number]
        return dataclasses.replace(self, waves=tuple(sorted([*others, wave], key=lambda known: known.number)))

    def with_wave_begun(self, number: int, name: str) -> Rollout:
        """Return the rollout with a wave begun. One that begins again keeps its analyses, not its verdict."""
        before = self.wave(number) or Wave(number)
        return self.with_wave(dataclasses.replace(before, name=name, ended=None, verdict=None))

    def with_verdict(
        self,
        number: int,
        verdict: Verdict,
        findings: Iterable[Mapping[str, Any]],
        outcomes: Mapping[str, Outcome],
    ) -> Rollout:
        """Return the rollout with one more analysis of a wave."""
        before, now = self.wave(number) or Wave(number), utc_now()
        return self.with_wave(
            dataclasses.replace(
                before,
                ended=now,
                verdict=verdict,
                findings=tuple(findings),
                outcomes={**before.outcomes, **outcomes},
                analyses=(*before.analyses, Analysis(now, verdict)),
            )
        )

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
    def outcomes(self) -> dict[str, Outcome]:
        """What became of the devices of all waves that were judged."""
        return {host: outcome for wave in self.waves for host, outcome in wave.outcomes.items()}

    def includes(self, number: int | None) -> bool:
        """Return whether a device of the wave ``number`` belongs on the release.

        One that was not planned for (None) joins a rollout of the whole fleet that has passed.
        """
        if number is None:
            return self.state is State.PASSED and not self.plan.limited
        return number <= self.reached

    def earlier_outcomes(self, wave: PlannedWave) -> dict[str, Outcome]:
        """Return what became of the devices that are not of this wave."""
        return {host: outcome for host, outcome in self.outcomes.items() if host not in wave.hosts}


# ---- one run ----


@dataclass(frozen=True)
class Run:
    """What one run of ``ansible-playbook`` rolls out.

    ``process`` is that of ansible-playbook, ``path`` the file that has the rollout: the ledger's, or in check mode one
    that goes with the run. ``controls`` has one mapping (host to control) for each of ``waves``, ``manifest`` the
    verified release. ``pause`` is what keeps the run from going on. After a verdict that is no pass,
    ``problems`` are what the gate found, ``revert`` the hosts that go back, and ``unwritten`` is the wave if the ledger
    could not take it.
    """

    kind: ClassVar[str] = "rollout"

    process: int
    path: str
    waves: tuple[PlannedWave, ...]
    controls: tuple[Mapping[str, str], ...]
    options: RolloutOptions
    manifest: Mapping[str, Any]
    pause: str = ""
    problems: tuple[str, ...] = ()
    revert: tuple[str, ...] = ()
    unwritten: Wave | None = None

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> Run:
        """Read what ``to_dict`` returned."""
        unwritten = document["unwritten"]
        return cls(
            process=int(document["process"]),
            path=str(document["path"]),
            waves=tuple(PlannedWave.from_dict(wave) for wave in document["waves"]),
            controls=tuple(dict(pairs) for pairs in document["controls"]),
            options=RolloutOptions(**document["options"]),
            manifest=document["manifest"],
            pause=str(document["pause"]),
            problems=tuple(document["problems"]),
            revert=tuple(document["revert"]),
            unwritten=None if unwritten is None else Wave.from_dict(unwritten),
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the run as JSON's types."""
        return {
            "kind": self.kind,
            "process": self.process,
            "path": self.path,
            "waves": [wave.to_dict() for wave in self.waves],
            "controls": [dict(pairs) for pairs in self.controls],
            "options": self.options.to_dict(),
            "manifest": dict(self.manifest),
            "pause": self.pause,
            "problems": list(self.problems),
            "revert": list(self.revert),
            "unwritten": self.unwritten.to_dict() if self.unwritten else None,
        }

    @property
    def hosts(self) -> list[str]:
        """All devices that are planned, wave by wave."""
        return [host for wave in self.waves for host in wave.hosts]

    def wave_of(self, batch: Collection[str]) -> PlannedWave:
        """Return the wave that a batch of hosts is.

        Raises RolloutError where Ansible plays other hosts than were planned.
        """
        played = set(batch)
        wave = max(self.waves, key=lambda wave: len(played.intersection(wave.hosts)))
        missing, others = sorted(set(wave.hosts) - played), sorted(played - set(wave.hosts))
        if missing or others:
            kinds = (("not played", missing), ("not of the wave", others))
            raise RolloutError(
                f"wave {wave.number} ({wave.name}) was planned with {len(wave.hosts)} devices, and Ansible plays "
                f"{len(played)}: {'; '.join(f'{what}: {_named(names)}' for what, names in kinds if names)}"
            )
        return wave

    def controls_of(self, wave: PlannedWave) -> list[str]:
        """Return the devices that the wave is compared with."""
        return list(self.controls[self.waves.index(wave)].values())

    def paused(self, why: str) -> Run:
        """Return the run where no further wave begins."""
        return dataclasses.replace(self, pause=why)

    def stopped(self, rollout: Rollout, problems: Iterable[str], unwritten: Wave | None) -> Run:
        """Return the run after a verdict that is no pass.

        After a fail the devices of its waves go back that may have the version.
        """
        outcomes, revert = rollout.outcomes, []
        if any(wave.verdict is Verdict.FAIL for wave in rollout.waves):
            revert = [host for host in self.hosts if outcomes.get(host) in MAY_HOLD_NEW_VERSION]
        return dataclasses.replace(self, problems=tuple(problems), revert=tuple(revert), unwritten=unwritten)


@dataclass(frozen=True)
class Reconciliation:
    """What one run of ``ansible-playbook`` brings the devices to: by host one call of ``model_swap`` a model."""

    kind: ClassVar[str] = "reconcile"

    process: int
    calls: Mapping[str, Sequence[Mapping[str, Any]]]
    problems: tuple[str, ...] = ()

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> Reconciliation:
        """Read what ``to_dict`` returned."""
        return cls(int(document["process"]), document["calls"], tuple(document["problems"]))

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON's types."""
        return {
            "kind": self.kind,
            "process": self.process,
            "calls": dict(self.calls),
            "problems": list(self.problems),
        }


@dataclass(frozen=True)
class Rollback:
    """What one run of ``ansible-playbook`` goes back from. ``known``: the ledger knows the release."""

    kind: ClassVar[str] = "rollback"

    process: int
    model: str
    version: str
    revert: tuple[str, ...]
    reason: str
    rollout_id: str = ""
    known: bool = True
    active: str = ""

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> Rollback:
        """Read what ``to_dict`` returned."""
        fields = {field.name: document[field.name] for field in dataclasses.fields(cls)}
        return cls(**{**fields, "revert": tuple(document["revert"])})

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON's types."""
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {"kind": self.kind, **fields, "revert": list(self.revert)}


def _named(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED_MAX} more" if len(names) > _NAMED_MAX else ""
    return ", ".join(names[:_NAMED_MAX]) + more


# ---- decisions ----


@dataclass(frozen=True)
class Decision:
    """What follows, and why: ``text`` is empty where it needs no reason, and the question where ``next`` is ASK."""

    next: Next
    text: str = ""


def before_wave(
    options: RolloutOptions,
    wave: PlannedWave,
    *,
    now: datetime.datetime,
    answer: str | None,
    can_ask: bool,
) -> Decision:
    """Decide whether a wave begins: not outside the window, and not before somebody agreed.

    ``answer`` is what a person typed, None before anybody was asked.
    """
    if options.plan_only:
        return Decision(Next.END)
    if not window.is_open(options.window, now):
        return Decision(Next.END, f"outside the maintenance window ({', '.join(options.window)})")
    before = wave.number - 1
    if before not in options.approve_after or options.approved >= before:
        return Decision(Next.SWAP)
    if answer is None and can_ask:
        devices = "1 device" if len(wave.hosts) == 1 else f"{len(wave.hosts)} devices"
        return Decision(Next.ASK, f"Wave {wave.number} ({wave.name}) has {devices}. Type yes to go on")
    if answer is not None and answer.strip().lower() == "yes":
        return Decision(Next.SWAP)
    return Decision(
        Next.END, f"somebody has to agree to wave {wave.number}: run it again with rollout_approved={before}"
    )


def after_verdict(verdict: Verdict, analysis: int, analyses_max: int) -> Next:
    """Decide what follows an analysis, which counts from 1."""
    if verdict is Verdict.PASS:
        return Next.NEXT_WAVE
    if verdict is Verdict.FAIL:
        return Next.REVERT
    return Next.SOAK_AGAIN if analysis < analyses_max else Next.END


def soak_seconds(soak: int, analysis: int, active: Iterable[float]) -> float:
    """Return how long a wave still soaks.

    One that soaked before the rollout was interrupted does not soak again: ``active`` is for how long each of its
    devices has had the version.
    """
    soaked = min(active, default=0.0) if analysis == 1 else 0.0
    return max(soak - soaked, 0.0)


def ended(
    rollout: Rollout, waves: Sequence[PlannedWave], pause: str = "", problems: Sequence[str] = ()
) -> tuple[State, str]:
    """Decide how a run over ``waves`` has ended, and why.

    ``pause`` is why no further wave began, empty if nothing kept it from beginning; ``problems`` are what the gate
    found in the last one. A planned wave without a verdict is never passed over.
    """
    for wave in waves:
        judged = rollout.wave(wave.number)
        verdict = judged.verdict if judged else None
        if verdict is Verdict.PASS:
            continue
        where = f"wave {wave.number} ({wave.name})"
        if verdict is Verdict.FAIL:
            # Where no device has anything of it, there is nothing to keep others from: what was wrong may be mended.
            untouched = all(outcome in _UNTOUCHED for outcome in rollout.outcomes.values())
            return State.PAUSED if untouched else State.FAILED, "; ".join(problems) or f"{where} failed"
        if pause:
            return State.PAUSED, pause
        if verdict is Verdict.INCONCLUSIVE:
            return State.PAUSED, "; ".join(problems) or f"{where} is inconclusive"
        return State.PAUSED, f"{where} was not judged"
    return State.PASSED, "every wave passed"


def count(rows: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    """Return how many rows have each outcome."""
    return dict(Counter(str(row["outcome"]) for row in rows))


def _read_left_out(document: Mapping[str, Any]) -> dict[str, LeftOut]:
    outcomes = document.get("left_out_outcomes") or {}
    found = {}
    for host, text in (document.get("left_out") or {}).items():
        outcome = Outcome(outcomes.get(host, Outcome.MAINTENANCE))
        found[str(host)] = LeftOut(outcome, str(text).removeprefix(f"{outcome}: "))
    return found


def _integer(value: Any, name: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name}: expected a whole number; found {value!r}")
    return int(value)
