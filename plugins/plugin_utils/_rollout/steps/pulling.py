# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""What steps do for devices that pull: publish what they are to do, and wait for what they report.

These are two steps of a wave, and of a way back: the devices that are called begin between them.
"""

from __future__ import annotations

import dataclasses
import time
from typing import TYPE_CHECKING, Callable, Collection, Iterable, Sequence

from ansible_collections.edgeml.fleet.plugins.module_utils._common.errors import EdgemlError
from ansible_collections.edgeml.fleet.plugins.module_utils._release.desired import Ask
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout import devices, ledger
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.decisions import Next
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.options import LedgerOptions
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.plan import PlannedWave
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.progress import duration
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.rollout import Rollout, State
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.run import Rollback, Run

from .scene import Result, Scene, StepError, changed, current_rollout, current_run

if TYPE_CHECKING:
    from ansible_collections.edgeml.fleet.plugins.plugin_utils._broker import BrokerAddress
    from ansible_collections.edgeml.fleet.plugins.plugin_utils._pull.publication import Publication
    from ansible_collections.edgeml.fleet.plugins.plugin_utils._pull.settings import PullSettings

PULL = "pull"
# What devices are asked to do.
SWAP, READ, REVERT = "swap", "read", "revert"

Question = Callable[[int], Ask]


def pulled_hosts(scene: Scene, hosts: Iterable[str]) -> tuple[str, ...]:
    """Return those of the hosts that pull for themselves."""
    return tuple(host for host in hosts if scene.host_variables(host).get("rollout_transport") == PULL)


def check(scene: Scene) -> None:
    """Raise an error where this controller could not publish, before anything is begun."""
    from ansible_collections.edgeml.fleet.plugins.plugin_utils._pull.mailbox import open_mailbox
    from ansible_collections.edgeml.fleet.plugins.plugin_utils._pull.publication import Publisher

    settings, _ledger = _settings(scene)
    Publisher(settings, scene.scratch).check()
    open_mailbox(settings)


def begin_swaps(scene: Scene) -> Result:
    """Ask those of the present wave that pull to swap, and their controls what they are on. Nobody is waited for.

    Of a wave without such devices nothing is asked, and nothing is returned.
    """
    run, rollout = current_rollout(scene)
    wave = run.wave_of(scene.batch)
    if scene.check_mode:
        # Beginning the wave has noted nothing.
        rollout = rollout.with_wave_begun(wave.number, wave.name, hosts=wave.hosts)
    if not any(_pulled_of(run, wave)):
        return {}
    return _ask(scene, run.options.model, _wave_question(run, rollout, wave, SWAP), rollout)


def collect_swaps(scene: Scene) -> Result:
    """Wait until those of the present wave that pull have reported their swap, or the time for it is over.

    ``reports`` has by device what ``model_swap`` would return of it, ``controls`` what ``model_info`` would, ``away``
    those that have not even begun. Where the mailbox could not be read in all that time the rollout pauses.
    """
    run, rollout = current_rollout(scene)
    wave = run.wave_of(scene.batch)
    hosts, controls = _pulled_of(run, wave)
    waiting = _Waiting(scene, run.options.model, _in_wave(run, rollout, wave), "what came of the swap")
    try:
        result = waiting.wait([*hosts, *controls])
    except EdgemlError as error:
        return {"next": Next.END.value, "why": str(error), **changed(run.paused(str(error)), scene)}
    reports = {host: waiting.swap(host) for host in hosts}
    return {
        **result,
        "next": Next.SWAP.value,
        "reports": reports,
        "controls": {host: waiting.info(host) for host in controls},
        "away": [host for host in result["missing"] if not reports.get(host, {}).get("started")],
    }


def collect_reads(scene: Scene, unread: Collection[str], away: Collection[str]) -> Result:
    """Ask those of the present wave that pull, and their controls, what they have measured, and wait for it.

    ``unread`` have said all there is; ``away`` are asked, and not waited for. ``trouble`` is why the mailbox could not
    be read in all that time, if it could not.
    """
    run, rollout = current_rollout(scene)
    wave = run.wave_of(scene.batch)
    hosts, controls = _pulled_of(run, wave)
    asked = [*(host for host in hosts if host not in unread), *controls]
    if not asked:
        return {}
    result = _ask(scene, run.options.model, _wave_question(run, rollout, wave, READ), rollout)
    waiting = _Waiting(scene, run.options.model, _in_wave(run, rollout, wave), "what they have measured")
    try:
        found = waiting.wait(asked, away)
    except EdgemlError as error:
        return {**result, "trouble": str(error)}
    return {**result, **found, **_joined_warnings(result, found)}


def begin_reverts(scene: Scene, run: Run) -> Result:
    """Tell those of the devices that go back that pull; nothing where none does."""
    if not set(run.revert).intersection(run.pulled):
        return {}

    def ask() -> Result:
        rollout = current_rollout(scene)[1]
        failed = dataclasses.replace(rollout, state=State.FAILED, why="; ".join(run.problems))
        return _ask(scene, run.options.model, _revert_question(failed), failed)

    return _or_warned(ask)


def begin_rollback(scene: Scene, run: Rollback, stopped: Collection[Rollout]) -> Result:
    """Tell the devices that pull to leave a version; nothing where none pulls. ``stopped`` are its rollouts by now."""
    return _or_warned(lambda: _ask(scene, run.model, _rollback_question(run), *stopped)) if run.pulled else {}


def _or_warned(ask: Callable[[], Result]) -> Result:
    """Ask devices that pull to go back. Where that cannot be published the others go back nevertheless."""
    try:
        return ask()
    except (EdgemlError, OSError) as error:
        return {"warnings": [f"the devices that pull could not be told to go back: {error}"]}


def collect_reverts(scene: Scene) -> Result:
    """Wait until the devices that go back that pull have reported it, or the time for it is over.

    ``reports`` has by device what ``model_swap`` would return of it. One that could not be told to go back, or could
    not be heard, is named by the summary.
    """
    run = current_run(scene)
    if not isinstance(run, (Run, Rollback)):
        raise StepError(f"this run is a {run.kind}, and nothing goes back")
    hosts = [host for host in run.revert if host in set(run.pulled)]
    if scene.check_mode or not hosts:
        return {}
    waiting = _waiting_for_reverts(scene, run)
    if waiting is None:
        why = "pulls, and could not be told to go back"
        return {"reports": {host: {"unreachable": True, "started": False, "msg": f"{host} {why}"} for host in hosts}}
    try:
        result = waiting.wait(hosts)
    except (EdgemlError, OSError) as error:
        result = {"warnings": [str(error)]}
    return {**result, "reports": {host: waiting.swap(host) for host in hosts}}


def _waiting_for_reverts(scene: Scene, run: Run | Rollback) -> _Waiting | None:
    """What waits for the devices that were told to go back; None where none was, which a warning has said."""
    model = run.options.model if isinstance(run, Run) else run.model
    try:
        waiting = _Waiting(scene, model, _going_back(scene, run), "the way back")
    except (EdgemlError, OSError):
        # Without the settings, or without the rollout's file, nothing was published either.
        return None
    return waiting if waiting.is_asked(REVERT) else None


def _pulled_of(run: Run, wave: PlannedWave) -> tuple[list[str], list[str]]:
    """The devices of a wave that pull, and those of its controls that do."""
    pulled = set(run.pulled)
    return [host for host in wave.hosts if host in pulled], [host for host in run.controls_of(wave) if host in pulled]


def _in_wave(run: Run, rollout: Rollout, wave: PlannedWave) -> str:
    return f"{rollout.id}: wave {wave.number} of {len(run.waves)} ({wave.name})"


def _going_back(scene: Scene, run: Run | Rollback) -> str:
    return current_rollout(scene)[1].id if isinstance(run, Run) else f"{run.model} {run.version}"


def _wave_question(run: Run, rollout: Rollout, wave: PlannedWave, purpose: str) -> Question:
    controls = _pulled_of(run, wave)[1]

    def ask(number: int) -> Ask:
        return Ask(number, purpose, rollout.id, waves=[wave.number], devices=controls, probe=purpose == READ)

    return ask


def _revert_question(failed: Rollout) -> Question:
    def ask(number: int) -> Ask:
        waves = [wave.number for wave in failed.waves]
        return Ask(number, REVERT, failed.id, failed.version, failed.why[:4096], waves)

    return ask


def _rollback_question(run: Rollback) -> Question:
    def ask(number: int) -> Ask:
        return Ask(number, REVERT, run.rollout_id, run.version, run.reason[:4096], everybody=True)

    return ask


def _ask(scene: Scene, model: str, question: Question, *replaced: Rollout) -> Result:
    """Publish a question."""
    publication, _settings_of_fleet, unheard = publish(scene, replaced, lambda number: (model, question(number)))
    result: Result = {
        "published": publication.desired.version,
        "changed": publication.changed,
        "diff": publication.diff(),
    }
    if unheard:
        result["warnings"] = [f"devices were not told to look, and look at their own time: {unheard}"]
    return result


class _Waiting:
    """Waits for the answers to what this run has asked last about a model, and says how that goes on.

    Lines begin with ``where``; ``what`` is reported.
    """

    def __init__(self, scene: Scene, model: str, where: str, what: str) -> None:
        from ansible_collections.edgeml.fleet.plugins.plugin_utils._pull.publication import question_of_run
        from ansible_collections.edgeml.fleet.plugins.plugin_utils._pull.reports import Book

        self._scene, self._model, self._where, self._what = scene, model, where, what
        self._settings, _ledger = _settings(scene)
        self._book = Book(self._settings.book)
        self._asked = question_of_run(scene.scratch, self._settings.fleet, model)

    def is_asked(self, purpose: str) -> bool:
        """Whether this is what was asked last."""
        return self._asked is not None and self._asked.purpose == purpose

    @property
    def _number(self) -> int:
        if self._asked is None:
            raise StepError("this run has asked no device that pulls")
        return self._asked.number

    def wait(self, hosts: Sequence[str], away: Collection[str] = ()) -> Result:
        """Wait for hosts, for those that are ``away`` only as long as for the others. Raises EdgemlError."""
        from ansible_collections.edgeml.fleet.plugins.plugin_utils._pull.collect import wait_for

        def tell(missing: Sequence[str], seconds: float, trouble: Exception | None) -> None:
            self._scene.say(self._line(len(hosts) - len(away), missing, seconds, trouble))

        away = [host for host in away if host in hosts]
        found = wait_for(self._settings, hosts, self._model, self._number, away=away, tell=tell)
        result: Result = {"missing": found.missing, "answered": found.answered, "seconds": round(found.seconds, 1)}
        if found.refused:
            result["warnings"] = [f"a report does not count: {line}" for line in found.refused]
        if found.missing:
            counts = f"{found.answered} of {len(hosts)} devices that pull have reported"
            result["msg"] = f"{counts}; no word from {devices.named(found.missing)}"
        return result

    def _line(self, number: int, missing: Sequence[str], seconds: float, trouble: Exception | None) -> str:
        until = time.strftime("%H:%M:%S", time.gmtime(time.time() + seconds))
        text = (
            f"{self._where}: {number - len(missing)} of {number} that pull have reported {self._what}; waits "
            f"for at most {duration(seconds)}, until {until} UTC, for {devices.named(missing)}"
        )
        return f"{text}. The mailbox cannot be read now: {trouble}" if trouble else text

    def swap(self, host: str) -> Result:
        """What a device answered, as ``model_swap`` returns it."""
        from ansible_collections.edgeml.fleet.plugins.plugin_utils._pull.results import swap_result

        return swap_result(self._book.read(host), host, self._model, self._number)

    def info(self, host: str) -> Result:
        """What a device answered, as ``model_info`` returns it."""
        from ansible_collections.edgeml.fleet.plugins.plugin_utils._pull.results import info_result

        return info_result(self._book.read(host), host, self._model, self._number)


def _joined_warnings(*results: Result) -> Result:
    warnings = [warning for result in results for warning in result.get("warnings", [])]
    return {"warnings": warnings} if warnings else {}


def publish(
    scene: Scene, replaced: Collection[Rollout] = (), question: Callable[[int], tuple[str, Ask]] | None = None
) -> tuple[Publication, PullSettings, str]:
    """Publish what the ledger says, with ``replaced`` in place of its rollouts of the same names.

    Returns the publication, the settings, and why the broker could not be told, if it could not. In check mode nothing
    is published.
    """
    from ansible_collections.edgeml.fleet.plugins.plugin_utils._pull.publication import Publisher

    settings, directory = _settings(scene)
    rollouts = {rollout.id: rollout for rollout in (*ledger.read_all(directory).rollouts, *replaced)}
    newest = sorted(rollouts.values(), key=lambda rollout: (rollout.began, rollout.attempt), reverse=True)
    publication = Publisher(settings, scene.scratch).publish(newest, question, act=not scene.check_mode)
    is_told = settings.mqtt_broker and not scene.check_mode
    return publication, settings, _tell(settings, publication, newest) if is_told else ""


def _tell(settings: PullSettings, publication: Publication, newest: Sequence[Rollout]) -> str:
    """Tell the fleet's broker how its rollouts go on, and have devices look for what was published.

    Returns why that did not work, or nothing.
    """
    from ansible_collections.edgeml.fleet.plugins.plugin_utils._broker import RolloutProgress, tell_fleet

    found: dict[str, RolloutProgress] = {}
    for rollout in newest:
        counter = publication.desired.version, rollout.steps
        found.setdefault(rollout.model, RolloutProgress(rollout.model, counter, rollout.progress()))
    return tell_fleet(_address(settings), settings.fleet, list(found.values()), publication.changed)


def _address(settings: PullSettings) -> BrokerAddress:
    from ansible_collections.edgeml.fleet.plugins.plugin_utils._broker import BrokerAddress

    certificate, key = settings.certificate_file, settings.key_file
    return BrokerAddress(settings.mqtt_broker, settings.mqtt_port, settings.mqtt_ca_file, certificate, key)


def presence(scene: Scene) -> Result:
    """Read which devices their broker says are there, if the fleet has one."""
    from ansible_collections.edgeml.fleet.plugins.plugin_utils._broker import read_presence

    if not LedgerOptions.from_variables(scene.variables).pull.get("mqtt_broker"):
        return {"presence": {}}
    settings, _ledger = _settings(scene)
    return {"presence": read_presence(_address(settings), settings.fleet)}


def _settings(scene: Scene) -> tuple[PullSettings, str]:
    """Where the desired state is published, and the ledger's directory."""
    from ansible_collections.edgeml.fleet.plugins.plugin_utils._pull.settings import read_settings

    options = LedgerOptions.from_variables(scene.variables)
    repository = str(scene.variables.get("model_repository") or "")
    return read_settings(options.pull, repository, options.ledger_directory), options.ledger_directory


def publish_at_end(scene: Scene, *rollouts: Rollout) -> list[str]:
    """Publish where a run has come to; return what kept it from that."""
    if scene.check_mode:
        return []
    try:
        publish(scene, rollouts)
    except (EdgemlError, OSError) as error:
        return [f"the desired state of the devices that pull could not be published: {error}"]
    return []


def refuse_part_of_fleet(pulled: Sequence[str], part: str) -> None:
    """Raise StepError where a part of the fleet cannot go back alone."""
    if pulled:
        raise StepError(
            f"{devices.named(pulled)}: devices that pull follow one desired state, which cannot leave a "
            f"version for {part} alone. Go back without that, on the whole fleet, or roll out another version to these"
        )
