# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Six emulated microcontrollers behind two gateways, both this machine: a good and a bad release in waves."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from controller import Ansible, Run
from mcu_images import Images
from meters import Meter, release
from microcontrollers import sign_model
from releases import publish
from rollouts import judged

WAVES = ["1", "50%", "100%"]
NAMES = [f"meter-{number}" for number in range(1, 7)]


@pytest.fixture
def meters(tmp_path: Path, images: Images) -> Iterator[dict[str, Meter]]:
    """Six, of which each runs model 1.0.0."""
    made = release(images.model, images.digits, "1.0.0")
    with ExitStack() as stack:
        found = {name: stack.enter_context(Meter(tmp_path / name, images.firmware, images.model)) for name in NAMES}
        for meter in found.values():
            result = meter.swap(made, trial_seconds=0)
            assert not result.get("failed"), result
        yield found


def roll_out(ansible: Ansible, repository: Path, version: str) -> Run:
    variables = judged(version, ansible.directory / "ledger", WAVES)
    return ansible.run("edgeml.fleet.rollout", **{**variables, "model_repository": str(repository)})


def live(meters: dict[str, Meter]) -> set[str | None]:
    return {meter.read()["model"]["live"] for meter in meters.values()}


def test_a_good_release_reaches_all_and_a_bad_one_ends_at_the_first(
    meters: dict[str, Meter], images: Images, tmp_path: Path
) -> None:
    repository = tmp_path / "repository"
    bad = sign_model(images.new_digits.payload, tmp_path / "bad", "1.2.0")
    publish(release(images.new_model, images.new_digits, "1.1.0"), repository)
    # Its golden outputs are those of another model: as after a conversion that went wrong.
    publish(release(bad, images.digits, "1.2.0"), repository)
    hosts = {name: meter.inventory(f"gateway-{1 + number // 3}") for number, (name, meter) in enumerate(meters.items())}
    ansible = Ansible(tmp_path, [], **hosts)
    good_run = roll_out(ansible, repository, "1.1.0")
    assert good_run.code == 0, good_run
    assert live(meters) == {"1.1.0"}
    bad_run = roll_out(ansible, repository, "1.2.0")
    assert bad_run.code != 0
    assert live(meters) == {"1.1.0"}
    swapped = bad_run.results("Fetch, verify and swap")
    assert len(swapped) == 1
    (said,) = swapped.values()
    assert "golden test: output" in said["msg"]
    status = ansible.run("edgeml.fleet.status", status_page=str(tmp_path / "fleet.html"))
    assert status.code == 0, status
    page = (tmp_path / "fleet.html").read_text()
    assert page.count(", behind gateway-1") == page.count(", behind gateway-2") == 3
