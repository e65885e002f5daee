# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Variables that somebody gives by mistake, with ``-e``: nothing is touched, and the message says what is meant."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from sites import Site


@pytest.fixture
def site(tmp_path: Path) -> Site:
    made = Site(tmp_path, command=True)
    hosts = {f"edge-{number}": {"number": number} for number in range(2)}
    made.write("hosts.json", {"all": {"vars": made.variables(), "children": {"edge": {"hosts": hosts}}}})
    return made


def refused(site: Site, playbook: str, **variables: Any) -> str:
    run = site.ansible.run(f"edgeml.fleet.{playbook}", **variables)
    assert run.code == 2, run
    (failed,) = [line for line in repr(run).splitlines() if ": localhost: " in line or ": edge-0: " in line]
    return failed


def test_a_part_of_a_rollback_is_never_all_of_it(site: Site) -> None:
    """``rollback_wave`` misspelt, and for a version instead of a rollout."""
    assert site.rollout(rollout_waves=[1, "100%"]).code == 0
    release = {"model_name": "plain", "model_version": "1.0.0"}
    assert "did you mean rollback_wave?" in refused(
        site, "rollback", rollback_rollout="plain-1.0.0-1", rollback_waves=2
    )
    assert (
        "rollback_wave: expected rollback_rollout beside it, the rollout that wave 2 is of: plain-1.0.0-1. Without it "
        "all devices would go back"
    ) in refused(site, "rollback", rollback_wave=2, **release)
    assert [site.active(number) for number in range(2)] == ["1.0.0", "1.0.0"]
    # As a survey gives the answer that nobody gave.
    run = site.ansible.run("edgeml.fleet.rollback", rollback_rollout="plain-1.0.0-1", rollback_wave="")
    assert run.code == 0, run
    assert [site.active(number) for number in range(2)] == [None, None]
    (closed,) = run.results("Show what became of each device").values()
    assert all("no version was active before: the model is not served now" in line for line in closed["msg"][1:])


def test_all_that_is_missing_is_named_by_its_variable(site: Site) -> None:
    assert refused(site, "publish", model_name="plain", model_source="").endswith(
        "model_version, model_source, model_samples: not set. Set it in the inventory, or with -e model_version=…"
    )


@pytest.mark.parametrize(("playbook", "variable"), [("rollout", "rollout_hosts"), ("status", "status_hosts")])
def test_an_inventory_that_is_not_there_is_no_fleet_without_devices(site: Site, playbook: str, variable: str) -> None:
    """A schedule would believe that all is well. A slice of AWX may be empty."""
    (site.ansible.directory / "hosts.json").unlink()
    assert f"{variable}: no host of the inventory matches " in refused(site, playbook)
    job = site.ansible.run(f"edgeml.fleet.{playbook}", awx_job_id=7)
    assert job.code == 0, job


def test_extra_variables_of_all_kinds(site: Site) -> None:
    (site.ansible.directory / "roles" / "rollout_notify").mkdir(parents=True)
    site.ansible.configure("roles_path = roles")
    told = {"rollout_id": "plain-0.9.0-1", "rollout_problem": "", "rollback_outcomes": {}, "awx_job_id": 7}
    own = {"rollout_notify_url": "http://127.0.0.1:9", "model_owner": "ann", "model_repository_listen_port": 8443}
    run = site.rollout(rollout_plan_only=True, **told, **own)
    assert run.code == 0, run
    assert "rollout_serial: no such variable; the nearest are " in refused(
        site, "rollout", model_name="plain", model_version="1.0.0", rollout_serial=1
    )
    assert "status_hots: no such variable; did you mean status_hosts?" in refused(site, "status", status_hots="edge")
