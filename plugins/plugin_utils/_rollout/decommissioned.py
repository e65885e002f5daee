# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""The devices that are out of service for good: one JSON file each, in ``decommissioned/`` of the ledger.

No rollout and no reconciliation takes such a device along, though the inventory may still name it.
"""

from __future__ import annotations

import contextlib
import json
import os
from dataclasses import asdict, dataclass
from typing import Any, Mapping
from urllib.parse import quote, unquote

from ansible_collections.edgeml.fleet.plugins.module_utils._common.files import write_whole

from .ledger import LedgerError

_DIRECTORY = "decommissioned"
_SUFFIX = ".json"


@dataclass(frozen=True)
class Decommissioned:
    """A device that is out of service: since ``at`` (UTC), why, and whether everything was removed from it."""

    device: str
    at: str
    reason: str
    wiped: bool = False

    def __str__(self) -> str:
        """Return it as people read it."""
        return f"{self.reason} ({self.at})"

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        return asdict(self)


def read_decommissioned(ledger: str) -> dict[str, Decommissioned]:
    """Return the devices of a ledger that are out of service, by name. Raises LedgerError for a damaged file."""
    directory = os.path.join(ledger, _DIRECTORY)
    try:
        names = sorted(name for name in os.listdir(directory) if name.endswith(_SUFFIX))
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        raise LedgerError(f"{directory}: cannot be read: {error}") from error
    found = [_read(os.path.join(directory, name), unquote(name[: -len(_SUFFIX)])) for name in names]
    return {entry.device: entry for entry in found}


def leave_out(described: Mapping[str, Mapping[str, Any]], ledger: str) -> dict[str, dict[str, Any]]:
    """Return what a plan must know of each host, and of those that are out of service why. Raises LedgerError."""
    gone = read_decommissioned(ledger)
    return {
        host: {**about, "decommissioned": str(gone[host])} if host in gone else dict(about)
        for host, about in described.items()
    }


def _read(path: str, device: str) -> Decommissioned:
    try:
        with open(path, encoding="utf-8") as file:
            document: Mapping[str, Any] = json.load(file)
        entry = Decommissioned(
            str(document["device"]), str(document["at"]), str(document["reason"]), document["wiped"] is True
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise LedgerError(f"{path}: expected device, at, reason and wiped of a device: {error!r}") from error
    if entry.device != device:
        raise LedgerError(f"{path}: expected the device {device}, as the file is named; found {entry.device}")
    return entry


def write_decommissioned(ledger: str, entry: Decommissioned) -> None:
    """Note that a device is out of service. Raises LedgerError."""
    path = _path(ledger, entry.device)
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        write_whole(path, json.dumps(entry.to_dict(), indent=1) + "\n")
    except OSError as error:
        raise LedgerError(f"{path}: cannot be written: {error}") from error


def forget_decommissioned(ledger: str, device: str) -> None:
    """Have rollouts take a device along again. Raises LedgerError."""
    path = _path(ledger, device)
    try:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
    except OSError as error:
        raise LedgerError(f"{path}: cannot be removed: {error}") from error


def _path(ledger: str, device: str) -> str:
    return os.path.join(ledger, _DIRECTORY, f"{quote(device, safe='')}{_SUFFIX}")
