# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""What came of which device, for a person and for what follows. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# Where the playbook registers what the task of a device returned.
REGISTERED = "collect_inputs_taken"


def device_rows(said: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """A row of a table for each device, by its variables."""
    return [_row(device, variables.get(REGISTERED) or {}) for device, variables in said.items()]


def failed_devices(said: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The devices that were reached and not read, or of which something was refused. One that is away is none."""
    found = {device: variables.get(REGISTERED) or {} for device, variables in said.items()}
    return [device for device, result in found.items() if result.get("failed") or result.get("refused")]


def _row(device: str, result: Mapping[str, Any]) -> dict[str, Any]:
    row = {"device": device, "brought": "", "bytes": "", "left": "", "note": ""}
    if result.get("unreachable"):
        return {**row, "note": "away"}
    if result.get("failed") or result.get("skipped"):
        return {**row, "note": str(result.get("msg", ""))}
    if "brought" not in result:
        return {**row, "note": "not asked"}
    refused = result.get("refused") or []
    note = f"refused: {'; '.join(map(str, refused))}" if refused else ""
    return {**row, **{name: result[name] for name in ("brought", "bytes", "left")}, "note": note}
