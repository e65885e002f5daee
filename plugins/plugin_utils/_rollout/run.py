# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""What one run of ``ansible-playbook`` does: a rollout, a reconciliation or a rollback. Pure.

The first step of a run makes it, and the steps after it read it.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any, ClassVar, Collection, Iterable, Mapping, Sequence, Union

from . import devices
from .gate.checks import Verdict
from .options import RolloutOptions
from .outcome import MAY_HOLD_NEW_VERSION
from .plan import SHADOW, SHADOW_WAVE, PlannedWave
from .rollout import Rollout, RolloutError, Wave


@dataclass(frozen=True)
class Run:
    """What one run of ``ansible-playbook`` rolls out.

    ``process`` is that of ansible-playbook, ``path`` the file that has the rollout: the ledger's, or in check mode one
    that goes with the run. ``controls`` has one mapping (host to control) for each of ``waves``, ``manifest`` the
    verified release, ``withdrawn`` what devices are told of withdrawn ones. ``pause`` is what keeps the run from going
    on. After a verdict that is no pass, ``problems`` are what the gate found, ``revert`` the hosts that go back, and
    ``unwritten`` is the wave if the ledger could not take it. ``pulled`` are the devices that pull for themselves,
    ``shadow`` those of wave 0, as long as it has not passed; ``profiled`` is what requests take, by the profiles of the
    gate's device classes, in seconds. ``others`` are devices of the rollout that this run leaves out and that take part
    in it: it is for a part of the fleet.
    """

    kind: ClassVar[str] = "rollout"
    changing: ClassVar[tuple[str, ...]] = ("pause", "problems", "revert", "unwritten", "shadow")

    process: int
    path: str
    waves: tuple[PlannedWave, ...]
    controls: tuple[Mapping[str, str], ...]
    options: RolloutOptions
    manifest: Mapping[str, Any]
    withdrawn: Mapping[str, Any] = field(default_factory=dict)
    pause: str = ""
    problems: tuple[str, ...] = ()
    revert: tuple[str, ...] = ()
    unwritten: Wave | None = None
    pulled: tuple[str, ...] = ()
    shadow: tuple[str, ...] = ()
    profiled: Mapping[str, float] = field(default_factory=dict)
    others: tuple[str, ...] = ()

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
            withdrawn=document["withdrawn"],
            pause=str(document["pause"]),
            problems=tuple(document["problems"]),
            revert=tuple(document["revert"]),
            unwritten=None if unwritten is None else Wave.from_dict(unwritten),
            pulled=tuple(document.get("pulled") or ()),
            shadow=tuple(document.get("shadow") or ()),
            profiled=dict(document.get("profiled") or {}),
            others=tuple(document.get("others") or ()),
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
            "withdrawn": dict(self.withdrawn),
            "pause": self.pause,
            "problems": list(self.problems),
            "revert": list(self.revert),
            "unwritten": self.unwritten.to_dict() if self.unwritten else None,
            "pulled": list(self.pulled),
            "shadow": list(self.shadow),
            "profiled": dict(self.profiled),
            "others": list(self.others),
        }

    @property
    def hosts(self) -> list[str]:
        """All devices that are planned, wave by wave."""
        return [host for wave in self.waves for host in wave.hosts]

    @property
    def closing(self) -> list[str]:
        """The devices that the last play works on: those that go back, else one that the summary runs by.

        A plan alone reads what each device has counted.
        """
        return self.hosts if self.options.plan_only else list(self.revert) or self.hosts[:1]

    def wave_of(self, batch: Collection[str]) -> PlannedWave:
        """Return the wave that a batch of hosts is: wave 0 until it has passed, if there is one.

        Raises RolloutError where Ansible plays other hosts than were planned.
        """
        played = set(batch)
        waves = (PlannedWave(SHADOW_WAVE, SHADOW, self.shadow),) if self.shadow else self.waves
        wave = max(waves, key=lambda wave: len(played.intersection(wave.hosts)))
        missing, others = sorted(set(wave.hosts) - played), sorted(played - set(wave.hosts))
        if missing or others:
            kinds = (("not played", missing), ("not of the wave", others))
            raise RolloutError(
                f"wave {wave.number} ({wave.name}) was planned with {len(wave.hosts)} devices, and Ansible plays "
                f"{len(played)}: {'; '.join(f'{what}: {devices.named(names)}' for what, names in kinds if names)}"
            )
        return wave

    def controls_of(self, wave: PlannedWave) -> list[str]:
        """Return the devices that the wave is compared with."""
        return list(self.controls[self.waves.index(wave)].values()) if wave in self.waves else []

    def paused(self, why: str) -> Run:
        """Return the run where no further wave begins."""
        return dataclasses.replace(self, pause=why)

    def stopped(self, rollout: Rollout, problems: Iterable[str], unwritten: Wave | None) -> Run:
        """Return the run after a verdict that is no pass.

        After a fail of one of its waves their devices go back that may have the version.
        """
        outcomes, revert = rollout.outcomes, []
        own = {wave.number for wave in self.waves}
        if any(wave.verdict is Verdict.FAIL for wave in rollout.waves if wave.number in own):
            revert = [host for host in self.hosts if outcomes.get(host) in MAY_HOLD_NEW_VERSION]
        return dataclasses.replace(self, problems=tuple(problems), revert=tuple(revert), unwritten=unwritten)


@dataclass(frozen=True)
class Reconciliation:
    """What one run of ``ansible-playbook`` brings the devices to: by host one call of ``model_swap`` a model."""

    kind: ClassVar[str] = "reconcile"
    changing: ClassVar[tuple[str, ...]] = ()

    process: int
    calls: Mapping[str, Sequence[Mapping[str, Any]]]
    problems: tuple[str, ...] = ()
    # The manifests that were verified for all devices, by model and version.
    manifests: Mapping[str, Mapping[str, Mapping[str, Any]]] = field(default_factory=dict)
    # What devices are told of withdrawn releases, by model.
    withdrawn: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> Reconciliation:
        """Read what ``to_dict`` returned."""
        return cls(
            int(document["process"]),
            document["calls"],
            tuple(document["problems"]),
            document.get("manifests") or {},
            document.get("withdrawn") or {},
        )

    @property
    def hosts(self) -> list[str]:
        """The devices that are called."""
        return list(self.calls)

    @property
    def closing(self) -> list[str]:
        """The devices that the last play works on."""
        return self.hosts

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON's types."""
        return {
            "kind": self.kind,
            "process": self.process,
            "calls": dict(self.calls),
            "problems": list(self.problems),
            "manifests": {model: dict(versions) for model, versions in self.manifests.items()},
            "withdrawn": dict(self.withdrawn),
        }


_ROLLBACK_LISTS = ("revert", "pulled", "unnoted")


@dataclass(frozen=True)
class Rollback:
    """What one run of ``ansible-playbook`` goes back from. ``known``: the ledger knows the release.

    ``unnoted`` is why the ledger does not say that its rollouts are rolled back, where it should.
    """

    kind: ClassVar[str] = "rollback"
    changing: ClassVar[tuple[str, ...]] = ()

    process: int
    model: str
    version: str
    revert: tuple[str, ...]
    reason: str
    rollout_id: str = ""
    known: bool = True
    active: str = ""
    pulled: tuple[str, ...] = ()
    unnoted: tuple[str, ...] = ()

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> Rollback:
        """Read what ``to_dict`` returned."""
        fields = {field.name: document[field.name] for field in dataclasses.fields(cls)}
        return cls(**{**fields, **{name: tuple(document[name]) for name in _ROLLBACK_LISTS}})

    @property
    def hosts(self) -> list[str]:
        """The devices that go back."""
        return list(self.revert)

    @property
    def closing(self) -> list[str]:
        """The devices that the last play works on."""
        return self.hosts

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON's types."""
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {"kind": self.kind, **fields, **{name: list(fields[name]) for name in _ROLLBACK_LISTS}}


@dataclass(frozen=True)
class LabelReading:
    """Which models each device is asked for labels of. ``problems``: the rollouts that labels have failed."""

    kind: ClassVar[str] = "labels"
    changing: ClassVar[tuple[str, ...]] = ("problems",)

    process: int
    models: Mapping[str, Sequence[str]]
    problems: tuple[str, ...] = ()

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> LabelReading:
        """Read what ``to_dict`` returned."""
        return cls(int(document["process"]), document["models"], tuple(document["problems"]))

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON's types."""
        models = {host: list(names) for host, names in self.models.items()}
        return {"kind": self.kind, "process": self.process, "models": models, "problems": list(self.problems)}

    @property
    def hosts(self) -> list[str]:
        """The devices that are asked."""
        return list(self.models)

    @property
    def closing(self) -> list[str]:
        """The devices that the last play works on."""
        return self.hosts


AnyRun = Union[Run, Reconciliation, Rollback, LabelReading]
