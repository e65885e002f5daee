# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""How a rollout is kept: its file in the ledger, with its report and its signed evidence beside it."""

from __future__ import annotations

import os
from typing import NamedTuple

from ansible_collections.edgeml.fleet.plugins.module_utils._common.errors import EdgemlError

from . import ledger
from .evidence import evidence_path, write_evidence
from .report import view
from .rollout import Rollout


class Recorded(NamedTuple):
    """Where the report and the evidence are, each empty where there is none, and what could not be written.

    ``unwritten`` is why the rollout's file says what it said before; the ``warnings`` have it, too.
    """

    report: str
    evidence: str
    warnings: tuple[str, ...]
    unwritten: str = ""


def record(path: str, rollout: Rollout, evidence_key: str = "") -> Recorded:
    """Write the rollout's file, its report, and with a key its evidence."""
    report, unwritten = f"{os.path.splitext(path)[0]}.html", ""
    try:
        ledger.write(path, rollout)
    except ledger.LedgerError as error:
        unwritten = str(error)
    warnings = [unwritten] if unwritten else []
    try:
        view.write(rollout.to_dict(), report)
    except Exception as error:  # A report that cannot be made is no reason to fail a rollout.
        warnings.append(f"{report}: the report could not be written: {error!r}")
        report = ""
    evidence, problem = _sign(evidence_path(path), rollout, evidence_key)
    warnings += [problem] if problem else []
    return Recorded(report, evidence, tuple(warnings), unwritten)


def _sign(path: str, rollout: Rollout, key: str) -> tuple[str, str]:
    """Write the evidence; return its path, and what is wrong."""
    if not key:
        stale = f"{path}: signed before this, and of another state of the rollout: set rollout_evidence_key"
        return "", stale if os.path.exists(path) else ""
    try:
        write_evidence(rollout, path, key)
    except (EdgemlError, OSError) as error:
        return "", f"{path}: the evidence could not be written: {error}"
    return path, ""
