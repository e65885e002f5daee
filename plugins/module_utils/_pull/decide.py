# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""What a device does about one model, by the fleet's desired state and by what it runs now. Pure."""

from __future__ import annotations

from typing import Mapping, NamedTuple, Sequence

from .._release.desired import Ask, DesiredModel, DesiredRollout, choose_rollout


class Identity(NamedTuple):
    """Who the device is for the fleet."""

    device: str
    device_class: str


class Known(NamedTuple):
    """What the device knows of a model: its ``active`` version, the rollout under which each version ``failed`` here
    (None where nobody knows), and the ``answered`` number of the last question."""

    active: str | None = None
    failed: Mapping[str, str | None] = {}
    answered: int = 0


class Change(NamedTuple):
    """A swap: ``state`` is ``active``, or ``previous`` to leave the version. ``rollout`` is whose settings hold."""

    state: str
    version: str
    rollout_id: str
    reason: str
    rollout: DesiredRollout | None = None
    retry: bool = False


class Decision(NamedTuple):
    """``changes`` to make in their order; the last one's result is reported. ``question`` is the one that is to be
    answered, None where there is none; ``probe``: with the accuracy. ``problem`` is why the device stays where it is
    although it should not; ``waits``: only for now."""

    changes: Sequence[Change] = ()
    question: Ask | None = None
    probe: bool = False
    problem: str = ""
    waits: bool = False


def decide(
    model: DesiredModel, me: Identity, known: Known, withdrawn: Mapping[str, str], window_open: Mapping[str, bool]
) -> Decision:
    """Decide what a device does about a model.

    ``withdrawn`` has the reason for each withdrawn version; ``window_open`` tells by rollout whether the device may
    swap to it now. A way back waits for no window.
    """
    wanted, stopped = choose_rollout(
        (rollout, rollout.stopped, rollout.has_reached(me.device, me.device_class)) for rollout in model.rollouts
    )
    question = _question(model, me, known)
    changes = _leaving(known, wanted, stopped, withdrawn, question)
    swaps = question is not None and question.purpose == "swap"
    problem, waits = "", False
    if wanted is not None and (changes or swaps or known.active != wanted.version):
        if wanted.version in withdrawn:
            problem = f"{wanted.version} is withdrawn: {withdrawn[wanted.version]}"
        elif known.active != wanted.version and not window_open.get(wanted.id, True):
            problem, waits = f"{wanted.version} waits for its window ({', '.join(wanted.window)})", True
        elif question is None or question.purpose != "revert":
            changes.append(_arriving(wanted, known))
    return Decision(tuple(changes), question, question is not None and question.probe, problem, waits)


def _question(model: DesiredModel, me: Identity, known: Known) -> Ask | None:
    """The controller's question, if it is for this device and has not been answered yet."""
    ask = model.ask
    if ask.number <= known.answered:
        return None
    rollout = model.rollout(ask.rollout_id)
    number = rollout.number_of(me.device, me.device_class) if rollout is not None else None
    if ask.everybody or (number is not None and number in ask.waves):
        return ask
    return ask._replace(purpose="read", probe=False) if me.device in ask.devices else None


def _leaving(
    known: Known,
    wanted: DesiredRollout | None,
    stopped: Sequence[DesiredRollout],
    withdrawn: Mapping[str, str],
    question: Ask | None,
) -> list[Change]:
    """The way back from what is withdrawn or stopped, or what the controller asks to leave."""
    active = known.active
    if question is not None and question.purpose == "revert":
        return [Change("previous", question.version, question.rollout_id, question.reason)]
    if active is None:
        return []
    if active in withdrawn:
        return [Change("previous", active, "", f"withdrawn: {withdrawn[active]}")]
    if wanted is not None and active == wanted.version:
        return []
    return [Change("previous", active, rollout.id, rollout.reason) for rollout in stopped if rollout.version == active][
        :1
    ]


def _arriving(wanted: DesiredRollout, known: Known) -> Change:
    # What failed under the same rollout is not tried again by itself.
    retry = wanted.retry and known.failed.get(wanted.version, wanted.id) != wanted.id
    return Change("active", wanted.version, wanted.id, wanted.reason, wanted, retry)
