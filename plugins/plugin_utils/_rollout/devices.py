# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""The devices of a fleet: what a plan knows of each, how a play names it, and what a table says of it. Pure."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Callable, Iterable, Mapping, Sequence

from ansible_collections.edgeml.fleet.plugins.module_utils._common.errors import ArgumentError

from .options import BOOLEAN, whole
from .outcome import Outcome, one_line, swap_outcome
from .plan import PlannedWave
from .waves import LeftOut

# A host whose name is such a word is named by it in a play; any other name would be taken apart.
_PLAIN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*\Z", re.ASCII)
_DEVICE_CLASS = "device_class"
# Of hosts in a message.
_NAMED_MAX = 10
# Of a microcontroller's host: the device through which it is reached.
GATEWAY = "mcu_gateway"

# Variables by which Ansible reaches a device, and the kind of plugin that the first ones name.
PLUGINS = {"ansible_connection": "connection", "ansible_shell_type": "shell", "ansible_become_method": "become"}
CONNECTION_VARIABLES = (*PLUGINS, "ansible_become", "ansible_port")

# What tells devices of one address apart: the way there, and whose store and server.
_BESIDE_ADDRESS = (
    "ansible_connection",
    "ansible_port",
    "ansible_ssh_args",
    "ansible_ssh_common_args",
    "ansible_ssh_extra_args",
    "rollout_server",
)

Row = dict[str, Any]
Result = Mapping[str, Any]


def pattern(host: str) -> str:
    """Return a pattern of Ansible that means this host and no other.

    A name such as ``Hall 3, gateway`` or ``rack1:cam2`` would be read as several patterns. It becomes a regular
    expression in which every letter stands for itself.
    """
    if _PLAIN.match(host):
        return host
    letters = [letter if _PLAIN.match(letter) else f"\\U{ord(letter):08x}" for letter in host]
    return f"~{''.join(letters)}\\Z"


def named(hosts: Sequence[str]) -> str:
    """Return the names of the first hosts, and how many more there are."""
    more = f" and {len(hosts) - _NAMED_MAX} more" if len(hosts) > _NAMED_MAX else ""
    return ", ".join(hosts[:_NAMED_MAX]) + more


def describe(variables: Mapping[str, Any], class_variables: Sequence[str]) -> dict[str, Any]:
    """Return what a plan must know of a host: ``device_class``, and ``pinned``, ``maintenance`` where set.

    Its class is the values of ``class_variables``, joined. A host without one of them belongs to the class of those
    without it.
    """
    parts = [str(variables[name]) if _has(variables, name) else f"no {name}" for name in class_variables]
    found: dict[str, Any] = {"device_class": " / ".join(parts) or "all"}
    for word in ("pinned", "maintenance"):
        value = variables.get(f"rollout_{word}")
        # As text it may come from an INI file or from -e.
        if value and str(value).strip().lower() not in ("false", "no", "off", "0"):
            found[word] = value
    return found


def check_connection(variables: Mapping[str, Any], has_plugin: Callable[[str, str], bool]) -> None:
    """Raise ArgumentError where Ansible could not even try to reach a device: it names the variable.

    ``has_plugin`` tells of a kind and a name whether the controller has that plugin.
    """
    if _has(variables, "ansible_port"):
        whole(1).convert("ansible_port", variables["ansible_port"])
    becomes = BOOLEAN.convert("ansible_become", variables.get("ansible_become", True))
    for variable, kind in PLUGINS.items():
        name = str(variables.get(variable) or "")
        # "smart" is a choice between plugins, and none itself.
        if name in ("", "smart") or (kind == "become" and not becomes) or has_plugin(kind, name):
            continue
        raise ArgumentError(
            f"{variable}: expected a {kind} plugin that this controller has; found {name!r}. "
            f"ansible-doc --type {kind} --list names them"
        )


def under_several_names(fleet: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return a note for each address that several hosts have, and that is reached in the same way for all of them."""
    places: dict[str, list[str]] = {}
    for host, variables in fleet.items():
        if "ansible_host" in variables:
            places.setdefault(str(variables["ansible_host"]), []).append(host)
    notes = []
    for address, hosts in places.items():
        ways: dict[str, list[str]] = {}
        # One variable of each host is read, and more only of those that share it.
        for host in hosts if len(hosts) > 1 else ():
            way = repr([(name, fleet[host][name]) for name in _BESIDE_ADDRESS if name in fleet[host]])
            ways.setdefault(way, []).append(host)
        notes += [
            f"the same device under several names, {address}: {', '.join(sorted(names))}: it is in several places of "
            "the plan, and measured as often"
            for names in ways.values()
            if len(names) > 1
        ]
    return notes


def without_class(fleet: Mapping[str, Mapping[str, Any]], class_variables: Sequence[str]) -> list[str]:
    """Return the hosts that lack one of the variables that give a device's class."""
    return sorted(name for name, variables in fleet.items() if not all(_has(variables, var) for var in class_variables))


def gateway_of(variables: Mapping[str, Any]) -> str:
    """Return the device through which a host is reached that is a microcontroller; nothing for another one."""
    return str(variables.get(GATEWAY) or "")


def gateways(fleet: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """Return the gateway of each microcontroller, by its name."""
    found = {name: gateway_of(variables) for name, variables in fleet.items()}
    return {name: gateway for name, gateway in found.items() if gateway}


def _has(variables: Mapping[str, Any], name: str) -> bool:
    """Whether a variable is set; a class may be called 0."""
    return variables.get(name) not in (None, "")


# ---- what became of them ----


@dataclass(frozen=True)
class DeviceResults:
    """What the tasks of a run registered for one device: results of ``model_swap`` and ``model_info``.

    ``unmended`` is the result of the task that could not mend the device's service, if one could not.
    """

    swap: Result = field(default_factory=dict)
    read: Result = field(default_factory=dict)
    revert: Result = field(default_factory=dict)
    reconciled: Sequence[Result] = ()
    unmended: Result = field(default_factory=dict)


def rollout_rows(
    waves: Iterable[PlannedWave],
    results: Mapping[str, DeviceResults],
    outcomes: Mapping[str, Outcome],
    *,
    device_classes: Mapping[str, str],
    left_out: Mapping[str, LeftOut],
) -> list[Row]:
    """Return one row for each device of a rollout, and for each that the plan left out."""
    rows = []
    for wave in waves:
        for host in wave.hosts:
            row = {"device": host, "class": device_classes.get(host, "all"), "wave": wave.number}
            rows.append({**row, **_became(results.get(host, DeviceResults()), outcomes.get(host))})
    for host, why in left_out.items():
        row = {"device": host, "class": device_classes.get(host, "all"), "wave": None, "before": "-", "after": "-"}
        rows.append({**row, "outcome": why.outcome.value, "detail": str(why)})
    return rows


def _became(results: DeviceResults, judged: Outcome | None) -> Row:
    swap, revert = results.swap, results.revert
    outcome = judged or _outcome_of_check(swap)
    before, after = _versions(swap)
    details = [one_line(swap) if swap.get("failed") or swap.get("unreachable") else ""]
    if (revert.get("unreachable") and outcome is not Outcome.AWAY) or revert.get("failed"):
        outcome = Outcome.NOT_REVERTED
        details.append(one_line(revert))
    elif revert.get("changed"):
        outcome, after = Outcome.REVERTED, _active(revert, "after")
        details.append(_without_version(revert))
    return {"before": before, "after": after, "outcome": outcome.value, "detail": "; ".join(filter(None, details))}


def _without_version(revert: Result) -> str:
    """What is to be said of a device that went back, and that no version was active on before."""
    ended = revert.get("changed") and (revert.get("after") or {}).get("active", "") is None
    return "no version was active before: the model is not served now" if ended else ""


def _outcome_of_check(swap: Result) -> Outcome:
    """What would become of a device, by what it says in check mode."""
    if swap.get("failed") or swap.get("unreachable"):
        return swap_outcome(swap)
    return Outcome.PLANNED if "changed" in swap and "before" in swap else Outcome.NOT_STARTED


def _versions(swap: Result) -> tuple[str, str]:
    """The active versions before and after a swap, by its result."""
    before, after = _active(swap, "before"), _active(swap, "after")
    if swap.get("failed"):
        after = str(swap.get("live") or "unknown")
        before = before if "before" in swap else after
    return before, after


def _active(result: Result, when: str) -> str:
    return str((result.get(when) or {}).get("active") or "-")


def reconcile_rows(results: Mapping[str, DeviceResults]) -> list[Row]:
    """Return one row for each device and model: what it should be on, what became of it, and why where it failed."""
    rows = []
    for host, found in results.items():
        for result in found.reconciled:
            item = result["item"]
            bad = result.get("failed") or result.get("unreachable")
            why = [one_line(result)]
            if found.unmended:
                why.append(f"the service could not be mended: {one_line(found.unmended) or 'nobody knows why'}")
            rows.append(
                {
                    "device": host,
                    "model": item["model"],
                    "version": item["version"] if item["state"] == "active" else "-",
                    "live": str(result.get("live") or "-"),
                    "outcome": swap_outcome(result).value,
                    "detail": "; ".join(why) if bad else "",
                }
            )
    return rows


def rollback_rows(results: Mapping[str, DeviceResults]) -> list[Row]:
    """Return one row for each device: the active version before and after, and what kept it where it could not go."""
    rows = []
    for host, found in results.items():
        result = found.revert
        bad = bool(result.get("failed") or result.get("unreachable"))
        before, after = _active(result, "before"), _active(result, "after")
        if result.get("unreachable"):
            outcome = "away"
        elif result.get("failed"):
            outcome, after = Outcome.NOT_REVERTED.value, str(result.get("live") or "unknown")
        else:
            outcome = Outcome.REVERTED.value if result.get("changed") else "unchanged"
        row = {"device": host, "before": before, "after": after, "outcome": outcome}
        rows.append({**row, "detail": one_line(result) if bad else _without_version(result)})
    return rows


def check_groups(targets: Iterable[Any], groups: Mapping[str, Iterable[str]]) -> list[str]:
    """Return a sentence for each of the plan's ``targets`` that names a group which has no hosts."""
    problems = []
    for target in targets:
        name = str(target).strip()
        if "%" in name or name.isdecimal() or list(groups.get(name, ())):
            continue
        what = "has no hosts" if name in groups else "is no group of the inventory"
        problems.append(f"rollout_waves: {name} {what}, so there is no wave of it")
    return problems


def count_outcomes(rows: Iterable[Row]) -> dict[str, int]:
    """Return how many rows have each outcome."""
    return dict(Counter(str(row["outcome"]) for row in rows))
