# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""What became of a device, by the results of its swap and of the read after it. Pure."""

from __future__ import annotations

from typing import Any, Mapping

from .word import Word


class Outcome(Word):
    """What became of one device in a rollout or a reconciliation. Its value is the word that people read."""

    UPDATED = "updated"
    ALREADY_THERE = "already there"
    # It answered copies of requests, and its clients never saw the version.
    SHADOWED = "shadowed"
    # Nothing was switched: incompatible, no room, damaged.
    REFUSED = "refused"
    # Switched, and put back by the device itself; or another version serves after the soak.
    FAILED = "failed"
    # Not tried, because it failed on this device before and nobody asked to try it again.
    FAILED_BEFORE = "failed before"
    # Begun, and not heard from since.
    SILENT = "silent"
    # Begun, and not heard from since, like the controls: their link is gone, and nobody knows of the version.
    CUT_OFF = "cut off"
    # Never reached.
    AWAY = "away"
    # The plan left it out.
    PINNED = "pinned"
    MAINTENANCE = "maintenance"
    DECOMMISSIONED = "decommissioned"
    # Check mode: what would happen.
    PLANNED = "planned"
    NOT_STARTED = "not started"
    REVERTED = "reverted"
    NOT_REVERTED = "not reverted"


# Of a message in a table.
_LINE_MAX = 300

# The new version serves on a device with one of these outcomes.
ON_NEW_VERSION = (Outcome.UPDATED, Outcome.ALREADY_THERE)
# A device with one of these outcomes may serve the new version, or hold it as its active one.
MAY_HOLD_NEW_VERSION = (*ON_NEW_VERSION, Outcome.FAILED, Outcome.SILENT, Outcome.CUT_OFF)


def swap_outcome(swap: Mapping[str, Any]) -> Outcome:
    """Return the outcome by the result of ``model_swap`` alone, also of one that Ansible ended."""
    if swap.get("unreachable"):
        return Outcome.SILENT if swap.get("started") else Outcome.AWAY
    if swap.get("failed"):
        if "timedout" in swap:
            return Outcome.SILENT
        if swap.get("failure"):
            return Outcome.FAILED_BEFORE
        # Without a word of the device Ansible itself ended the task before it began: no connection could be set up.
        return Outcome.REFUSED if swap.get("refused", "live" not in swap) else Outcome.FAILED
    return Outcome.UPDATED if swap.get("changed") else Outcome.ALREADY_THERE


def shadow_outcome(start: Mapping[str, Any], read: Mapping[str, Any]) -> Outcome:
    """Return the outcome of a device of wave 0 by the results of ``model_swap`` and of ``model_info`` after it."""
    begun = swap_outcome(start) if start else Outcome.SILENT
    if begun not in ON_NEW_VERSION or start.get("candidate") is None:
        return begun
    model = read.get("model")
    if read.get("failed") or read.get("unreachable") or not isinstance(model, Mapping):
        return Outcome.SILENT
    return Outcome.SHADOWED


def is_read_after(swap: Mapping[str, Any]) -> bool:
    """Return whether the device is read after the soak: not one that refused or failed, which reported all there is.

    One whose connection broke is: it may be back, with the new version or with the old one.
    """
    return bool(not swap.get("failed") or swap.get("unreachable") or "timedout" in swap)


def brought(swap: Mapping[str, Any], version: str) -> bool:
    """Return whether a device had nothing of a version before it was called."""
    return "diff" in swap and version not in swap["diff"]["before"]["versions"]


def outcome(swap: Mapping[str, Any], read: Mapping[str, Any]) -> Outcome:
    """Return the outcome by the result of ``model_swap`` and that of ``model_info`` after the soak.

    A device that fell silent and is back reports itself what became of it.
    """
    if not swap:
        return Outcome.SILENT
    reported, wanted = swap_outcome(swap), swap.get("version")
    model = read.get("model")
    if reported in ON_NEW_VERSION and (read.get("unreachable") or read.get("failed") or not isinstance(model, Mapping)):
        return Outcome.SILENT
    if reported not in (*ON_NEW_VERSION, Outcome.SILENT, Outcome.AWAY) or not isinstance(model, Mapping):
        return reported
    if isinstance(wanted, str) and model.get("live") == wanted:
        if reported is Outcome.SILENT:
            return Outcome.UPDATED
        return Outcome.ALREADY_THERE if reported is Outcome.AWAY else reported
    return Outcome.AWAY if reported is Outcome.AWAY else Outcome.FAILED


def one_line(result: Mapping[str, Any]) -> str:
    """Return what a result says in one line, shortened for a table.

    That is its first line; but all lines of ssh, which puts the reason last, without those that only adorn.
    """
    lines = [line.strip("@ \r") for line in str(result.get("msg") or "").strip().splitlines()]
    if not result.get("unreachable"):
        lines = lines[:1]
    return "; ".join(line for line in lines if line).replace(":; ", ": ")[:_LINE_MAX]
