# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""The steps of a rollout, of a reconciliation and of a rollback on the controller.

Between two steps the playbook's tasks work on devices. Each step reads what they registered, decides, writes the ledger
and returns in ``next`` what follows. The action ``rollout_step`` runs them; what Ansible knows comes through ``Scene``.
"""

from __future__ import annotations

import datetime
import os
import time
from typing import Any, Callable, Mapping, Protocol, Sequence, Union

from ansible_collections.edgeml.fleet.plugins.module_utils._common.errors import ArgumentError, EdgemlError
from ansible_collections.edgeml.fleet.plugins.module_utils._common.table import text_table
from ansible_collections.edgeml.fleet.plugins.module_utils._release.repository import Repository

from . import devices, judging, ledger, waves
from .gate.checks import Verdict
from .lock import LockedError, take
from .options import DeviceOptions, LedgerOptions, RolloutOptions
from .outcome import Outcome, is_read_after, swap_outcome
from .report import view
from .rollout import (
    Decision,
    Next,
    Plan,
    PlannedWave,
    Reconciliation,
    Rollback,
    Rollout,
    RolloutError,
    Run,
    State,
    Wave,
    after_verdict,
    before_wave,
    count,
    ended,
    rollout_id,
    soak_seconds,
)

# What the tasks of the role register.
SWAP = "__rollout_swap"
READ = "__rollout_read"
CONTROLS_BEFORE = "__rollout_controls_before"
CONTROLS_AFTER = "__rollout_controls_after"
SOAKED = "__rollout_soak"
JUDGED = "__rollout_judged"
REVERT = "__rollout_revert"
RECONCILED = "__rollout_reconciled"

# The fact of localhost that has the run, from its plan on.
FACT = "edgeml_rollout"

LOCK_WAIT_SECONDS = 30
_HOSTS_SHOWN = 200
_NAMED_MAX = 10
_BAD = (Outcome.FAILED, Outcome.REFUSED, Outcome.SILENT)

AnyRun = Union[Run, Reconciliation, Rollback]
Result = dict[str, Any]


class StepError(EdgemlError):
    """A step cannot be done; the text says why, and what to do."""


class Scene(Protocol):
    """What Ansible knows where a step runs."""

    check_mode: bool
    # That of ansible-playbook.
    process: int
    # A directory that goes with the run, and that no other run has.
    scratch: str
    # The hosts of the play, and of its present batch.
    hosts: Sequence[str]
    batch: Sequence[str]
    groups: Mapping[str, Sequence[str]]
    # Whether the run is for a part of the inventory (--limit).
    limited: bool
    # Whether a person may be at the terminal.
    can_ask: bool
    # The variables of the host that the step runs for, those of the role included.
    variables: Mapping[str, Any]

    def matching(self, pattern: str) -> list[str]:
        """Return all hosts of the inventory that match, also those that are not played."""

    def host_variables(self, host: str) -> Mapping[str, Any]:
        """Return the variables of a host."""

    def registered(self, host: str, name: str) -> Mapping[str, Any]:
        """Return what a task registered for a host; nothing if it registered nothing."""

    def fact(self) -> Mapping[str, Any]:
        """Return what the first step noted; nothing if it did not run."""


# ---- between two steps ----


def noted(run: AnyRun, scene: Scene) -> Result:
    """Return the part of a result that notes the run for the steps and plays to come."""
    if isinstance(run, Run):
        hosts, sizes = run.hosts, [len(wave.hosts) for wave in run.waves]
        closing = list(run.revert) or hosts[:1]
        call = {**_release(run.options), "reason": "; ".join(run.problems)}
    else:
        call = {}
        hosts = list(run.calls if isinstance(run, Reconciliation) else run.revert)
        sizes, closing = [len(hosts)], hosts
    idle = not hosts and not (isinstance(run, Reconciliation) and run.problems)
    # A play needs a host, also where none has anything to do.
    hosts = hosts or [scene.hosts[0]]
    document = {
        **run.to_dict(),
        **call,
        "next": (Next.END if idle else Next.SWAP).value,
        "scratch": scene.scratch,
        "hosts": [devices.pattern(host) for host in hosts],
        "sizes": sizes,
        "closing": [devices.pattern(host) for host in closing or hosts],
    }
    return {"ansible_facts": {FACT: document}}


def _release(options: RolloutOptions) -> dict[str, Any]:
    """The part of a call of ``model_swap`` that says what it is about."""
    name = rollout_id(options.model, options.version, options.attempt)
    return {"model": options.model, "version": options.version, "rollout_id": name}


def _run(scene: Scene) -> AnyRun:
    document = scene.fact()
    # Of an earlier run, where facts are cached.
    if document.get("scratch") != scene.scratch:
        raise StepError(
            "this run has no plan: its first play did not run. Run the whole playbook; --start-at-task and --tags "
            "leave out what the rest stands on"
        )
    readers: dict[str, Callable[[Mapping[str, Any]], AnyRun]] = {
        kind.kind: kind.from_dict for kind in (Run, Reconciliation, Rollback)
    }
    return readers[document["kind"]](document)


def _rollout(scene: Scene) -> tuple[Run, Rollout]:
    run = _run(scene)
    if not isinstance(run, Run):
        raise StepError(f"this run is a {run.kind}, no rollout")
    rollout = ledger.read(run.path)
    if rollout is None:
        raise StepError(f"{run.path}: the rollout's file is gone while the rollout runs")
    return run, rollout.with_wave(run.unwritten) if run.unwritten else rollout


def _directory(text: str) -> str:
    return os.path.abspath(os.path.expanduser(os.path.expandvars(text)))


def _lock(directory: str, scene: Scene, note: str, *, waits: bool = True) -> None:
    """Hold the ledger's lock until the run ends; wait where another run has it, because a reconcile ends soon."""
    deadline = time.monotonic() + (LOCK_WAIT_SECONDS if waits else 0)
    while True:
        try:
            take(os.path.join(directory, "lock"), scene.process, note)
            return
        except OSError as error:
            raise StepError(
                f"rollout_ledger: {directory}: the ledger cannot be written: {error.strerror or error}. Name a "
                "directory that the user who runs ansible-playbook can write"
            ) from error
        except LockedError:
            if time.monotonic() >= deadline:
                raise
            time.sleep(1)


# ---- plan ----


def plan(scene: Scene) -> Result:
    """Verify the release, check every variable, split the fleet into waves and open the ledger. Touch no device."""
    names = _fleet(scene)
    options = RolloutOptions.from_variables(scene.variables)
    judging.read_limits(options.limits)
    directory = _directory(options.ledger)
    repository = _directory(options.repository)
    release = Repository(repository).release(options.model, options.version)
    Repository(repository).verify(release)
    fleet = {host: scene.host_variables(host) for host in names}
    _check_devices(fleet, scene.hosts)
    described = {host: devices.describe(found, options.device_class_variables) for host, found in fleet.items()}
    planned = _waves(scene, options, described)
    shown = [PlannedWave(wave["number"], wave["name"], tuple(wave["hosts"])) for wave in planned.document()["waves"]]
    notes = devices.check_groups(options.waves, scene.groups)
    notes += _unclassed(fleet, options.device_class_variables)
    if not shown:
        reasons = "; ".join(f"{host} {why}" for host, why in sorted(planned.left_out.items()))
        raise StepError(f"no device to roll out to: {reasons or 'the play has no hosts'}")
    rollout = Rollout(
        model=options.model,
        version=options.version,
        attempt=options.attempt,
        digest=release.digest,
        reason=options.reason,
        settings={
            "soak_seconds": options.soak_seconds,
            "soak_seconds_max": options.soak_seconds_max,
            "limits": options.limits,
            "window": options.window,
            "concurrency": options.concurrency,
        },
        plan=Plan(
            waves=tuple(shown),
            device_classes={host: found["device_class"] for host, found in described.items()},
            left_out=planned.left_out,
            salt=options.salt or options.model,
            device_class=tuple(options.device_class_variables),
            limited=scene.limited,
        ),
    )
    act = not (scene.check_mode or options.plan_only)
    if act:
        _lock(directory, scene, rollout.id)
    rollout = rollout.resumed_from(ledger.read(ledger.path_of(directory, rollout.id)))
    path = ledger.path_of(directory if act else scene.scratch, rollout.id)
    ledger.write(path, rollout)
    run = Run(
        process=scene.process,
        path=path,
        waves=tuple(shown),
        controls=tuple(planned.controls),
        options=options,
        manifest=dict(release.document),
    )
    lines = [f"{wave.name}: {len(wave.hosts)}: {_shortened(', '.join(wave.hosts))}" for wave in shown]
    lines += [f"{host} left out: {why}" for host, why in sorted(planned.left_out.items())]
    return {
        "next": (Next.END if options.plan_only else Next.ROLL_OUT).value,
        "msg": [f"{options.model} {options.version}", *lines, *notes],
        "rollout": rollout.to_dict(),
        "waves": [wave.to_dict() for wave in shown],
        "boundaries": planned.boundaries,
        **noted(run, scene),
    }


def _waves(scene: Scene, options: RolloutOptions, described: Mapping[str, Any]) -> waves.Plan:
    try:
        return waves.plan(
            waves.read_hosts(described),
            options.waves,
            options.salt or options.model,
            groups={name: scene.groups[name] for name in options.waves if name in scene.groups},
            max_unavailable=options.max_unavailable,
            only=scene.hosts,
            boundaries=options.boundaries or None,
        )
    except ArgumentError as error:
        raise ArgumentError(f"rollout_{error}") from None


def _fleet(scene: Scene, variable: str = "rollout_hosts") -> list[str]:
    """Return the whole fleet. Raises ArgumentError where there is none."""
    pattern = str(scene.variables.get(variable) or "edge")
    found = scene.matching(pattern)
    if not found:
        known = ", ".join(sorted(name for name in scene.groups if name not in ("all", "ungrouped"))) or "none"
        raise ArgumentError(f"{variable}: no host of the inventory matches {pattern!r}; its groups are: {known}")
    return found


def _check_devices(fleet: Mapping[str, Mapping[str, Any]], hosts: Sequence[str]) -> None:
    """Raise ArgumentError where a device's own options are wrong; most devices share theirs with many others."""
    names = [name for alternatives in DeviceOptions.names().values() for name in alternatives]
    right = set()
    for host in hosts:
        found = fleet.get(host, {})
        values = {name: found[name] for name in names if name in found}
        key = repr(sorted(values.items()))
        if key in right:
            continue
        try:
            DeviceOptions.from_variables(values)
        except ArgumentError as error:
            raise ArgumentError(f"{host}: {error}") from None
        right.add(key)


def _unclassed(fleet: Mapping[str, Mapping[str, Any]], class_variables: Sequence[str]) -> list[str]:
    found = devices.without_class(fleet, class_variables)
    if not found:
        return []
    names = f"{', '.join(found[:_NAMED_MAX])}{' …' if len(found) > _NAMED_MAX else ''}"
    what = " or ".join(class_variables)
    return [f"without {what}, and so a class of their own: {len(found)}: {names}"]


def _shortened(text: str) -> str:
    return text if len(text) <= _HOSTS_SHOWN else f"{text[: _HOSTS_SHOWN - 3].rpartition(' ')[0]} …"


# ---- waves ----


def begin_wave(scene: Scene, answer: str | None = None) -> Result:
    """Decide whether the wave of the present batch begins, and note that it has. ``answer``: what a person typed."""
    run, rollout = _rollout(scene)
    wave = None
    try:
        wave = run.wave_of(scene.batch)
        if scene.check_mode and not run.options.plan_only:
            decision = Decision(Next.SWAP)
        else:
            now = datetime.datetime.now(datetime.timezone.utc)
            decision = before_wave(run.options, wave, now=now, answer=answer, can_ask=scene.can_ask)
        if decision.next is Next.SWAP and not scene.check_mode:
            ledger.write(run.path, rollout.with_wave_begun(wave.number, wave.name))
    except (RolloutError, ledger.LedgerError) as error:
        decision = Decision(Next.END, str(error))
    result: Result = {
        "next": decision.next.value,
        "wave": wave.number if wave else None,
        "prompt": decision.text if decision.next is Next.ASK else "",
        "why": decision.text if decision.next is Next.END else "",
        "controls": [],
    }
    if decision.next is Next.END:
        result.update(noted(run.paused(decision.text), scene))
    elif wave:
        result["controls"] = [] if scene.check_mode else run.controls_of(wave)
        result["call"] = {
            **_release(run.options),
            "manifest": dict(run.manifest),
            "repository": _directory(run.options.repository),
            "reason": rollout.reason,
            "retry": rollout.attempt > 1,
        }
    return result


def soak(scene: Scene) -> Result:
    """Wait until the new version has run for long enough; ``unread`` are the devices that have said all there is."""
    run = _rollout(scene)[0]
    swaps = {host: scene.registered(host, SWAP) for host in scene.batch}
    analysis = int(scene.registered(scene.batch[0], SOAKED).get("analysis", 0)) + 1
    well = [swap for swap in swaps.values() if not swap.get("failed") and not swap.get("unreachable")]
    active = [float(swap.get("active_seconds") or 0.0) for swap in well]
    seconds = soak_seconds(run.options.soak_seconds, analysis, active)
    time.sleep(seconds)
    # By host, so that a large wave is not searched for each of its devices.
    unread = {host: swap_outcome(swap).value for host, swap in swaps.items() if not is_read_after(swap)}
    return {"analysis": analysis, "elapsed": seconds, "unread": unread}


def judge(scene: Scene) -> Result:
    """Judge the wave by what its devices returned, and note the verdict."""
    run, rollout = _rollout(scene)
    wave = run.wave_of(scene.batch)
    analysis = int(scene.registered(scene.batch[0], SOAKED)["analysis"])
    measured = judging.Measured(
        device_classes=rollout.plan.device_classes,
        version=rollout.version,
        swaps={host: scene.registered(host, SWAP) for host in wave.hosts},
        reads={host: scene.registered(host, READ) for host in wave.hosts},
        before=_by_item(scene.registered(scene.batch[0], CONTROLS_BEFORE)),
        after=_by_item(scene.registered(scene.batch[0], CONTROLS_AFTER)),
        earlier=rollout.earlier_outcomes(wave),
    )
    judged = judging.judge(
        measured,
        judging.read_limits(run.options.limits),
        analysis=analysis,
        analyses_max=run.options.analyses_max,
    )
    following = after_verdict(judged.verdict, analysis, run.options.analyses_max)
    rollout = rollout.with_verdict(wave.number, judged.verdict, judged.findings, judged.outcomes)
    result: Result = {
        "wave": wave.number,
        "verdict": judged.verdict.value,
        "checks": len(judged.reasons),
        "problems": list(judged.problems),
        "msg": [f"Wave {wave.number} ({wave.name}): {judged.verdict.value}", *judged.reasons],
    }
    try:
        ledger.write(run.path, rollout)
    except ledger.LedgerError as error:
        result["warnings"] = [str(error)]
        result["unwritten"] = _wave(rollout, wave.number).to_dict()
        if following is Next.NEXT_WAVE:
            following = Next.END
            result["problems"] = [str(error)]
    result["next"] = following.value
    return result


def _wave(rollout: Rollout, number: int) -> Wave:
    found = rollout.wave(number)
    if found is None:
        raise StepError(f"wave {number} has not begun")
    return found


def _by_item(result: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    return {str(item["item"]): item for item in result.get("results") or ()}


def stop(scene: Scene) -> Result:
    """Note why the rollout does not go on after this wave, and which devices go back."""
    run, rollout = _rollout(scene)
    wave = run.wave_of(scene.batch)
    judged = scene.registered(scene.batch[0], JUDGED)
    unwritten = None
    if judged.get("unwritten"):
        unwritten = Wave.from_dict(judged["unwritten"])
        rollout = rollout.with_wave(unwritten)
    problems = list(judged.get("problems") or ())
    if "verdict" not in judged:
        problems = [f"wave {wave.number} ({wave.name}) could not be judged: {judged.get('msg') or 'no result'}"]
        rollout = rollout.with_verdict(wave.number, Verdict.INCONCLUSIVE, (), {})
        unwritten = _wave(rollout, wave.number)
    stopped = run.stopped(rollout, problems, unwritten)
    if judged.get("verdict") == Verdict.PASS.value:
        stopped = stopped.paused("; ".join(problems))
    return {"next": (Next.REVERT if stopped.revert else Next.END).value, **noted(stopped, scene)}


# ---- the end ----


def close(scene: Scene) -> Result:
    """Sum up what became of each device; the result has a table, what workflows are told, and what failed."""
    run = _run(scene)
    if isinstance(run, Reconciliation):
        return _close_reconciliation(scene, run)
    if isinstance(run, Rollback):
        return _close_rollback(scene, run)
    return _close_rollout(scene)


def _close_rollout(scene: Scene) -> Result:
    run, rollout = _rollout(scene)
    results = {
        host: devices.DeviceResults(
            swap=scene.registered(host, SWAP),
            revert=scene.registered(host, REVERT) if host in run.revert else {},
        )
        for host in run.hosts
    }
    rows = devices.rollout_rows(
        run.waves,
        results,
        {} if scene.check_mode else rollout.outcomes,
        device_classes=rollout.plan.device_classes,
        left_out=rollout.plan.left_out,
    )
    state, why = ended(rollout, run.waves, run.pause, run.problems)
    rollout = rollout.closed(state, why, rows)
    result: Result = {
        "msg": text_table(rows),
        "state": "planned" if scene.check_mode else state.value,
        "why": "" if scene.check_mode else why,
        "report": "",
        "problem": "",
    }
    if not scene.check_mode:
        result["problem"] = _problem(rollout, run)
        result.update(record(run.path, rollout))
    result["stats"] = {
        "rollout_id": rollout.id,
        "rollout_verdict": _verdict(scene, run, rollout),
        "rollout_outcomes": count(rows),
        "rollout_report": result.pop("report"),
    }
    return result


def _verdict(scene: Scene, run: Run, rollout: Rollout) -> str:
    if scene.check_mode:
        return "planned"
    if run.pause:
        return "paused"
    judged = [wave.verdict.value for wave in rollout.waves if wave.verdict]
    return judged[-1] if judged else Verdict.INCONCLUSIVE.value


def _problem(rollout: Rollout, run: Run) -> str:
    """What the run fails with; nothing if every wave passed."""
    if rollout.state is State.PASSED:
        return ""
    if rollout.state is State.PAUSED:
        what = "paused; nothing was reverted, and the same command goes on from here"
        return f"{rollout.id}: {what}. {rollout.why}"
    left = [row["device"] for row in rollout.devices if row["after"] == rollout.version]
    still = f"Still on {rollout.version}: {', '.join(left)}. " if left else ""
    return f"{rollout.id}: failed, and was reverted where it had been activated. {still}{rollout.why}"


def record(path: str, rollout: Rollout) -> Result:
    """Write the rollout's file, and its report beside it. What cannot be written is told in ``warnings``."""
    report, warnings = f"{os.path.splitext(path)[0]}.html", []
    try:
        ledger.write(path, rollout)
    except ledger.LedgerError as error:
        warnings.append(str(error))
    try:
        view.write(rollout.to_dict(), report)
    except Exception as error:  # A report that cannot be made is no reason to fail a rollout.
        warnings.append(f"{report}: the report could not be written: {error!r}")
        report = ""
    return {"report": report, **({"warnings": warnings} if warnings else {})}


# ---- reconcile ----


def wanted(scene: Scene) -> Result:
    """Find out by the ledger what each device of the play should be on."""
    _fleet(scene)
    options = LedgerOptions.from_variables(scene.variables)
    directory = _directory(options.ledger)
    if not scene.check_mode:
        try:
            _lock(directory, scene, "reconcile", waits=False)
        except LockedError as error:
            # A rollout brings returning devices of its own to its release; the next schedule sees to the rest.
            return {
                "next": Next.END.value,
                "msg": str(error),
                "locked": True,
                **noted(Reconciliation(scene.process, {}), scene),
            }
    found = ledger.read_all(directory)
    hosts = {host: scene.host_variables(host) for host in scene.hosts}
    described = {host: devices.describe(item, options.device_class_variables) for host, item in hosts.items()}
    taking_part = [host for host, item in waves.read_hosts(described).items() if item.left_out is None]
    calls: dict[str, list[dict[str, Any]]] = {}
    for host, entries in ledger.wanted(found.rollouts, taking_part).items():
        certain = [entry for entry in entries if not found.damaged_of(entry["model"])]
        if certain:
            calls[host] = [_call(entry) for entry in certain]
    run = Reconciliation(scene.process, calls, tuple(found.damaged.values()))
    return {
        "next": (Next.SWAP if calls else Next.END).value,
        "msg": list(found.damaged.values()),
        "locked": False,
        **noted(run, scene),
    }


def _call(entry: Mapping[str, Any]) -> dict[str, Any]:
    """What ``model_swap`` is called with: the release that the device belongs on, or to leave one that was stopped."""
    if entry["version"] is not None:
        return {
            "model": entry["model"],
            "version": entry["version"],
            "state": "active",
            "rollout_id": entry["rollout_id"],
            "reason": "reconcile",
        }
    stopped = entry["stopped_releases"][0]
    return {
        "model": entry["model"],
        "version": stopped["version"],
        "state": "previous",
        "rollout_id": stopped["rollout_id"],
        "reason": stopped["why"],
    }


def _close_reconciliation(scene: Scene, run: Reconciliation) -> Result:
    results = {
        host: devices.DeviceResults(reconciled=scene.registered(host, RECONCILED).get("results") or ())
        for host in run.calls
    }
    rows = devices.reconcile_rows(results)
    news = [row for row in rows if row["outcome"] != Outcome.ALREADY_THERE.value]
    # A device that is away, or whose failure is known, is no news.
    bad = [row for row in rows if row["outcome"] in [outcome.value for outcome in _BAD]]
    problem = ""
    if bad:
        details = list(dict.fromkeys(row["detail"] for row in bad))
        problem = f"{', '.join(row['device'] for row in bad)}: {'; '.join(details)}"
    silent = [host for host, found in results.items() if not found.reconciled]
    if silent:
        problem = "; ".join(filter(None, [problem, f"neither reached nor explained: {', '.join(silent)}"]))
    problem = "; ".join(filter(None, [problem, *run.problems]))
    return {
        "msg": text_table(news),
        "problem": problem,
        "stats": {"reconcile_outcomes": count(rows)},
    }


# ---- rollback ----


def rollback(scene: Scene) -> Result:
    """Find out what to go back from, and note that its rollouts are rolled back before any device is touched.

    So no schedule brings the version back to a device that has just left it.
    """
    _fleet(scene, "rollback_hosts")
    values, directory = scene.variables, _directory(LedgerOptions.from_variables(scene.variables).ledger)
    if not scene.check_mode:
        _lock(directory, scene, "rollback")
    found = ledger.read_all(directory)
    reason = str(values.get("rollback_reason") or "rollback by an operator")
    wave = values.get("rollback_wave")
    if values.get("rollback_rollout"):
        run, concerned = _back_from_rollout(scene, found, str(values["rollback_rollout"]), wave, reason)
    else:
        run, concerned = _back_from_release(scene, found, reason)
    warnings = list(found.damaged.values())
    if not scene.limited and wave is None and not scene.check_mode:
        for rollout in concerned:
            if not rollout.state.is_stopped:
                closed = rollout.closed(State.ROLLED_BACK, reason)
                warnings += record(ledger.path_of(directory, rollout.id), closed).get("warnings", [])
    return {"next": Next.REVERT.value, **({"warnings": warnings} if warnings else {}), **noted(run, scene)}


def _back_from_rollout(
    scene: Scene, found: ledger.Contents, name: str, wave: Any, reason: str
) -> tuple[Rollback, list[Rollout]]:
    rollout = next((item for item in found.rollouts if item.id == name), None)
    if rollout is None:
        known = ", ".join(item.id for item in found.rollouts) or "none"
        raise StepError(
            f"rollback_rollout: expected a rollout of the ledger: {known}; found {name!r}. {_active(found)}"
        )
    planned = {item.number: item for item in rollout.plan.waves}
    if wave is not None:
        try:
            number = int(wave)
        except (TypeError, ValueError):
            number = 0
        if number not in planned:
            known = ", ".join(f"{item.number} ({item.name})" for item in planned.values())
            raise StepError(f"rollback_wave: expected a wave of {name}: {known}; found {wave!r}. {_active(found)}")
        planned = {number: planned[number]}
    played = set(scene.hosts)
    hosts = [host for item in planned.values() for host in item.hosts if host in played]
    if not hosts:
        raise StepError(f"{name}: none of its devices is among the hosts of this run")
    run = Rollback(scene.process, rollout.model, rollout.version, tuple(hosts), reason, rollout.id)
    return run, [rollout]


def _back_from_release(scene: Scene, found: ledger.Contents, reason: str) -> tuple[Rollback, list[Rollout]]:
    names = {}
    for field, variable in (("model", "model_name"), ("version", "model_version")):
        value = scene.variables.get(variable)
        if value in (None, ""):
            raise StepError(f"Set model_name and model_version, or rollback_rollout. {_active(found)}")
        if not isinstance(value, str):
            raise StepError(f'{variable}: expected a text; found {value!r}. Quote it: {variable}: "{value}"')
        names[field] = value
    concerned = [item for item in found.rollouts if (item.model, item.version) == (names["model"], names["version"])]
    run = Rollback(
        scene.process,
        names["model"],
        names["version"],
        tuple(scene.hosts),
        reason,
        known=bool(concerned),
        active=_active(found),
    )
    return run, concerned


def _active(found: ledger.Contents) -> str:
    """What the fleet is on by the ledger, in a sentence."""
    newest = {item.model: item for item in found.rollouts if not item.state.is_stopped}
    names = [f"{item.model} {item.version} ({item.id}, {item.state})" for _model, item in sorted(newest.items())]
    return f"Rolled out by the ledger: {', '.join(names) or 'nothing'}"


def _close_rollback(scene: Scene, run: Rollback) -> Result:
    swaps = {host: scene.registered(host, REVERT) for host in run.revert}
    rows = devices.rollback_rows({host: devices.DeviceResults(revert=swap) for host, swap in swaps.items()})
    problem = ""
    bad = [row for row in rows if row["outcome"] in ("away", Outcome.NOT_REVERTED.value)]
    if bad:
        details = list(dict.fromkeys(row["detail"] for row in bad))
        problem = f"not gone back: {', '.join(row['device'] for row in bad)}: {'; '.join(details)}"
    elif not run.known and not any(_held(swap, run.version) for swap in swaps.values()):
        live = count([{"outcome": row["before"]} for row in rows])
        active = ", ".join(f"{version} on {number}" for version, number in live.items())
        problem = f"{run.model} {run.version}: no device has it, and the ledger has no rollout of it. Active: {active}"
    return {
        "msg": text_table(rows),
        "problem": problem,
        "stats": {"rollback_outcomes": count(rows)},
    }


def _held(swap: Mapping[str, Any], version: str) -> bool:
    held = ((swap.get("diff") or {}).get("before") or {}).get("versions") or {}
    return bool(swap.get("changed")) or version in held


STEPS: dict[str, Callable[..., Result]] = {
    step.__name__: step for step in (plan, begin_wave, soak, judge, stop, close, wanted, rollback)
}
