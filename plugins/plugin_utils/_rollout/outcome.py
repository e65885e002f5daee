# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""What became of a device: one word, told from the results of its swap and of the read after it. Pure."""

from __future__ import annotations

from typing import Any, Mapping

UPDATED = "updated"
ALREADY = "already there"
# Nothing was switched: incompatible, no room, damaged.
REFUSED = "refused"
# Switched, and put back by the device itself; or another version serves after the soak.
FAILED = "failed"
# Not tried, because it failed here before and nobody asked to try it again.
FAILED_BEFORE = "failed before"
# Begun, and not heard from since.
SILENT = "silent"
# Never reached.
AWAY = "away"

# The new version serves on a device with one of these outcomes.
ON_NEW_VERSION = (UPDATED, ALREADY)


def swap_outcome(swap: Mapping[str, Any]) -> str:
    """The outcome by the result of ``model_swap`` alone, also of one that Ansible ended."""
    if swap.get("unreachable"):
        return SILENT if swap.get("started") else AWAY
    if swap.get("failed"):
        if "timedout" in swap:
            return SILENT
        if swap.get("failure"):
            return FAILED_BEFORE
        return REFUSED if swap.get("refused") else FAILED
    return UPDATED if swap.get("changed") else ALREADY


def outcome(swap: Mapping[str, Any], read: Mapping[str, Any]) -> str:
    """The outcome by the result of ``model_swap`` and that of ``model_info`` after the soak.

    A device that fell silent and is back tells itself what became of it.
    """
    if not swap:
        return SILENT
    told, wanted = swap_outcome(swap), swap.get("version")
    model = read.get("model")
    if told in ON_NEW_VERSION and (read.get("unreachable") or read.get("failed") or not isinstance(model, Mapping)):
        return SILENT
    if told not in (*ON_NEW_VERSION, SILENT, AWAY) or not isinstance(model, Mapping):
        return told
    if isinstance(wanted, str) and model.get("live") == wanted:
        return UPDATED if told == SILENT else ALREADY if told == AWAY else told
    return AWAY if told == AWAY else FAILED


def first_line(result: Mapping[str, Any]) -> str:
    """What a module's result says in its first line, shortened for a table."""
    return str(result.get("msg") or "").strip().partition("\n")[0][:300]
