# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""How a rollout is kept: its file in the ledger, and its report beside it."""

from __future__ import annotations

import os
from typing import Any

from . import ledger
from .report import view
from .rollout import Rollout


def record(path: str, rollout: Rollout) -> dict[str, Any]:
    """Write the rollout's file, and its report beside it. ``warnings`` names what could not be written."""
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
