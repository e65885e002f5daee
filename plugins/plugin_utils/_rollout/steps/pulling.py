# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""What steps do for devices that pull: publish what they are to do, and wait for what they report."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Callable, Collection, Iterable, Sequence

from ansible_collections.edgeml.fleet.plugins.module_utils._common.errors import EdgemlError
from ansible_collections.edgeml.fleet.plugins.module_utils._release.desired import Ask
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout import ledger
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.options import LedgerOptions
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.plan import PlannedWave
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.rollout import Rollout, State
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.run import Rollback, Run

from .scene import Result, Scene, StepError, current_rollout

if TYPE_CHECKING:
    from ansible_collections.edgeml.fleet.plugins.plugin_utils._broker import BrokerAddress
    from ansible_collections.edgeml.fleet.plugins.plugin_utils._pull.publication import Publication
    from ansible_collections.edgeml.fleet.plugins.plugin_utils._pull.settings import PullSettings

PULL = "pull"
_NAMED_MAX = 10

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


def collect(scene: Scene, purpose: str, unread: Collection[str] = ()) -> Result:
    """Ask those of the present wave that pull, and wait until they have reported, or the time for it is over.

    ``purpose`` is ``swap`` or ``read``. ``unread`` are not read: they have said all there is. Of a wave without such
    devices nothing is asked, and nothing is returned.
    """
    run, rollout = current_rollout(scene)
    if not run.pulled:
        return {}
    wave = run.wave_of(scene.batch)
    if scene.check_mode:
        # Beginning the wave has noted nothing.
        rollout = rollout.with_wave_begun(wave.number, wave.name)
    hosts, question = _wave_question(run, rollout, wave, purpose, unread)
    return _ask(scene, hosts, run.options.model, question, rollout) if hosts else {}


def collect_reverts(scene: Scene, run: Run) -> Result:
    """Have those of the devices that go back that pull do so, and wait for their reports; nothing where none does."""
    pulled = set(run.pulled)
    hosts = [host for host in run.revert if host in pulled]
    if not hosts:
        return {}
    rollout = current_rollout(scene)[1]
    failed = dataclasses.replace(rollout, state=State.FAILED, why="; ".join(run.problems))
    return _ask(scene, hosts, run.options.model, _revert_question(failed), failed)


def collect_rollback(scene: Scene, run: Rollback) -> Result:
    """Have the devices that pull leave a version, and wait for their reports; nothing where none pulls."""
    return _ask(scene, run.pulled, run.model, _rollback_question(run), None) if run.pulled else {}


def _wave_question(
    run: Run, rollout: Rollout, wave: PlannedWave, purpose: str, unread: Collection[str]
) -> tuple[list[str], Question]:
    """The devices of a wave that pull, with the controls that do, and what they are asked."""
    pulled = set(run.pulled)
    controls = [host for host in run.controls_of(wave) if host in pulled]
    hosts = [host for host in wave.hosts if host in pulled and host not in unread]

    def ask(number: int) -> Ask:
        return Ask(number, purpose, rollout.id, waves=[wave.number], devices=controls, probe=purpose == "read")

    return [*hosts, *controls], ask


def _revert_question(failed: Rollout) -> Question:
    def ask(number: int) -> Ask:
        waves = [wave.number for wave in failed.waves]
        return Ask(number, "revert", failed.id, failed.version, failed.why[:4096], waves)

    return ask


def _rollback_question(run: Rollback) -> Question:
    def ask(number: int) -> Ask:
        return Ask(number, "revert", run.rollout_id, run.version, run.reason[:4096], everybody=True)

    return ask


def _ask(scene: Scene, hosts: Sequence[str], model: str, question: Question, replaced: Rollout | None) -> Result:
    from ansible_collections.edgeml.fleet.plugins.plugin_utils._pull.collect import wait_for

    publication, settings, unheard = publish(scene, replaced, lambda number: (model, question(number)))
    result: Result = {
        "published": publication.desired.version,
        "changed": publication.changed,
        "diff": publication.diff(),
        "missing": [],
        "answered": 0,
    }
    if scene.check_mode:
        return result
    number = publication.desired.models[model].ask.number
    found = wait_for(settings, hosts, model, number, settings.report_seconds)
    result.update(missing=found.missing, answered=found.answered, seconds=round(found.seconds, 1))
    warnings = [f"a report does not count: {line}" for line in found.refused]
    if unheard:
        warnings.append(f"devices were not told to look, and look at their own time: {unheard}")
    if warnings:
        result["warnings"] = warnings
    if found.missing:
        names = ", ".join(found.missing[:_NAMED_MAX]) + (" …" if len(found.missing) > _NAMED_MAX else "")
        result["msg"] = f"{found.answered} of {len(hosts)} devices that pull have reported; no word from {names}"
    return result


def publish(
    scene: Scene, replaced: Rollout | None = None, question: Callable[[int], tuple[str, Ask]] | None = None
) -> tuple[Publication, PullSettings, str]:
    """Publish what the ledger says, with ``replaced`` in place of its rollout of the same name.

    Returns the publication, the settings, and why the broker could not be told, if it could not. In check mode nothing
    is published.
    """
    from ansible_collections.edgeml.fleet.plugins.plugin_utils._pull.publication import Publisher

    settings, directory = _settings(scene)
    rollouts = {rollout.id: rollout for rollout in ledger.read_all(directory).rollouts}
    if replaced is not None:
        rollouts[replaced.id] = replaced
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


def publish_at_end(scene: Scene, rollout: Rollout | None = None) -> list[str]:
    """Publish where a run has come to; return what kept it from that."""
    if scene.check_mode:
        return []
    try:
        publish(scene, rollout)
    except (EdgemlError, OSError) as error:
        return [f"the desired state of the devices that pull could not be published: {error}"]
    return []


def refuse_part_of_fleet(pulled: Sequence[str], part: str) -> None:
    """Raise StepError where a part of the fleet cannot go back alone."""
    if pulled:
        raise StepError(
            f"{', '.join(pulled[:_NAMED_MAX])}: devices that pull follow one desired state, which cannot leave a "
            f"version for {part} alone. Go back without that, on the whole fleet, or roll out another version to these"
        )
