# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The names of variables that people give with ``-e``."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from links import REPOSITORY
from rollout_stage import Stage

from ansible_collections.edgeml.fleet.plugins.module_utils._common.errors import ArgumentError
from ansible_collections.edgeml.fleet.plugins.plugin_utils._rollout.names import check_given, known_names

ROLES = ["model_repository_tls_client_ca", "model_sync_releases"]


def check(*names: str, own: str = "rollout_") -> None:
    check_given(names, [own], ROLES, ["rollout_notify"])


@pytest.mark.parametrize(
    "name",
    [
        "rollout_waves",
        "rollout_pinned",
        "model_repository_root",
        # A role's of this collection, one of a role of the user's own, and names of others.
        "model_repository_tls_client_ca",
        "model_sync_releases",
        "rollout_notify_url",
        "model_owner",
        "rolloutwaves",
        "awx_job_id",
        # What a job before this one told its workflow.
        "rollout_boundaries",
        "rollout_id",
        "rollout_problem",
        "reconcile_outcomes",
        "status_problem",
        # What another playbook reads, or a playbook of the user's own.
        "rollback_wave",
        "status_webhook",
    ],
)
def test_what_means_something_or_is_not_ours_is_taken(name: str) -> None:
    check(name)


@pytest.mark.parametrize(
    ("name", "own", "message"),
    [
        ("rollback_waves", "rollback_", "rollback_waves: no such variable; did you mean rollback_wave?"),
        ("rollback_waves", "rollout_", "rollback_waves: no such variable; did you mean rollback_wave?"),
        ("model_verison", "rollout_", "model_verison: no such variable; did you mean model_version?"),
        ("status_hots", "rollout_", "status_hots: no such variable; did you mean status_hosts?"),
        ("rotate_untill", "rotate_", "rotate_untill: no such variable; did you mean rotate_until?"),
        (
            "rollout_serial",
            "rollout_",
            "rollout_serial: no such variable; the nearest are rollout_salt, rollout_server. Names that begin with ",
        ),
        ("rollout_xyz", "rollout_", "rollout_xyz: no such variable. Names that begin with rollout_ are this "),
        ("edgeml_version", "rollback_", "edgeml_version: no such variable. Names that begin with edgeml_ are this "),
    ],
)
def test_what_means_nothing_is_refused(name: str, own: str, message: str) -> None:
    with pytest.raises(ArgumentError, match=f"^{re.escape(message)}"):
        check("rollout_waves", name, own=own)


def test_all_that_is_documented_of_a_playbook_is_known() -> None:
    documented = re.findall(r"^\| (`\w+`(?:, `\w+`)*) \|", (REPOSITORY / "docs/playbooks.md").read_text(), re.MULTILINE)
    names = {name for cell in documented for name in re.findall(r"\w+", cell)}
    names |= set(re.findall(r"`((?:rollout|rollback|rotate|decommission|reconcile)_\w+)`", told_to_workflows()))
    known = known_names([])
    unknown = [
        name
        for name in sorted(names)
        if any(name.startswith(prefix) for prefix in known)
        and not any(name.startswith(prefix) and name[len(prefix) :] in words for prefix, words in known.items())
    ]
    assert len(names) > 60
    assert unknown == []


def told_to_workflows() -> str:
    pages = [
        REPOSITORY / "docs/playbooks.md",
        REPOSITORY / "docs/scheduling.md",
        REPOSITORY / "roles/rollout/README.md",
    ]
    return "\n".join(line for page in pages for line in page.read_text().splitlines() if "set_stats" in line)


@pytest.mark.parametrize("step", ["plan", "wanted", "rollback"])
def test_each_first_step_refuses_before_it_does_anything(tmp_path: Path, step: str) -> None:
    stage = Stage(tmp_path)
    stage.given = ["edgeml_wave"]
    with pytest.raises(ArgumentError, match=r"^edgeml_wave: no such variable"):
        stage.step(step)
    assert not stage.ledger.exists()
