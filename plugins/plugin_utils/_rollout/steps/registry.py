# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""The steps of a rollout, of a reconciliation and of a rollback on the controller, by their names.

Between two steps the playbook's tasks work on devices. Each step reads what they registered, decides, writes the ledger
and returns in ``next`` what follows. The action ``rollout_step`` runs them; what Ansible knows comes through ``Scene``.
"""

from __future__ import annotations

from typing import Callable

from . import begin_wave, close, fleet, judge, labels, names, plan, power, pulling, reconcile, rollback, soak
from .scene import Result

STEPS: dict[str, Callable[..., Result]] = {
    "have_hosts": names.have_hosts,
    "plan": plan.plan,
    "power": power.power,
    "begin_wave": begin_wave.begin_wave,
    "collect_swaps": pulling.collect_swaps,
    "soak": soak.soak,
    "judge": judge.judge,
    "collect_reverts": pulling.collect_reverts,
    "close": close.close,
    "open_verdicts": labels.open_verdicts,
    "judge_labels": labels.judge_labels,
    "wanted": reconcile.wanted,
    "withdrawn": reconcile.withdrawn,
    "presence": pulling.presence,
    "rollback": rollback.rollback,
    "fleet": fleet.fleet,
}
