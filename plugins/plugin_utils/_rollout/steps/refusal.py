# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""What the first step of a run returns where nothing can be begun.

Ansible passes on the statistics for workflows only of a task that does not fail. So the step says what is wrong, and
the task after it fails with that.
"""

from __future__ import annotations

from ansible_collections.edgeml.fleet.plugins.module_utils._common.errors import message_of
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.decisions import Next
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.lock import LockedError
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.run import Reconciliation

from .names import prefix_of
from .scene import Result, Scene, noted

# What the names of a playbook's variables begin with, by its first step.
_PREFIXES = {"plan": "rollout_", "rollback": "rollback_", "wanted": "reconcile_"}


def refused(step: str, error: Exception, scene: Scene) -> Result | None:
    """Return the result of a first step that ended with an error; None for a step that is no first one."""
    why = message_of(error)
    prefix = prefix_of(scene) if step == "have_hosts" else _PREFIXES.get(step)
    if prefix is None:
        return None
    stats = {f"{prefix}problem": why, **({"rollout_verdict": "refused"} if step == "plan" else {})}
    if step == "wanted":
        # Its summary fails with what is wrong, as with what is wrong of one device.
        return {"next": Next.SWAP.value, "stats": stats, **noted(Reconciliation(scene.process, {}, (why,)), scene)}
    return {"next": Next.REFUSE.value, "msg": why, "locked": isinstance(error, LockedError), "stats": stats}
