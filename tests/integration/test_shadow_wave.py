# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Wave 0 as the playbook makes it: a release answers copies of live requests, and no client ever sees it."""

from __future__ import annotations

import json
import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from controller import DIGITS, Ansible
from device import Device
from releases import publish, read_release
from rollouts import judged

from ansible_collections.edgeml.fleet.plugins.module_utils._device.metrics import measure_candidate

pytestmark = pytest.mark.end_to_end


@contextmanager
def asked(device: Device) -> Iterator[set[int]]:
    """A client that asks a device some dozens of times a second; the statuses of its replies."""
    statuses: set[int] = set()
    ends = threading.Event()

    def ask() -> None:
        pixels = random.Random(1)
        while not ends.wait(0.01):
            data = [pixels.uniform(0, 16) for _pixel in range(64)]
            statuses.add(device.ask("digits", name="image", datatype="FP32", shape=[1, 1, 8, 8], data=data))

    client = threading.Thread(target=ask)
    client.start()
    try:
        yield statuses
    finally:
        ends.set()
        client.join()


@pytest.fixture
def device(fleet: dict[str, Device]) -> Device:
    device = fleet["edge-s1"]
    device.serve(read_release(DIGITS, "digits", "1.0.0"))
    return device


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A release that answers like 1.0.0, and one that takes its pixels for something else."""
    repository = tmp_path / "repository"
    good = read_release(DIGITS, "digits", "1.0.0")
    good.document["version"] = "1.0.1"
    for made in (good, read_release(DIGITS, "digits", "1.2.0")):
        publish(made, repository)
    return repository


def test_a_release_answers_copies_of_requests_before_any_client_sees_it(
    tmp_path: Path, device: Device, repository: Path
) -> None:
    ansible = Ansible(tmp_path, [device])

    def run(version: str) -> tuple[Any, Any]:
        # As long as it takes to be certain, on a machine that is busy as well.
        soak = {"rollout_soak_seconds": 1, "rollout_soak_seconds_max": 60, "rollout_shadow_devices": 1}
        more = {"model_repository": str(repository), "model_repository_unsigned": True, **soak}
        done = ansible.run("edgeml.fleet.rollout", **{**judged(version, tmp_path / "ledger", ["100%"]), **more})
        return done, json.loads((tmp_path / "ledger" / f"digits-{version}-1.json").read_text())

    with asked(device) as statuses:
        bad, ledger = run("1.2.0")
        assert bad.code == 2, bad
        assert (ledger["state"], [wave["number"] for wave in ledger["waves"]]) == ("failed", [0])
        assert ledger["waves"][0]["outcomes"] == {"edge-s1": "shadowed"}
        assert "shadow disagreement" in ledger["why"]
        assert bad.custom_stats["rollout_verdict"] == "fail"
        assert "failed as a shadow; no client saw it" in bad.results("Fail unless all is well")["edge-s1"]["msg"]
        assert device.versions() == ("1.0.0", "1.0.0", None)
        # Nothing of it stays.
        assert device.store.versions("digits") == ["1.0.0"]
        assert not device.server.end_shadow("digits")

        good, ledger = run("1.0.1")
        assert good.code == 0, good
        assert [(wave["number"], wave["verdict"]) for wave in ledger["waves"]] == [(0, "pass"), (1, "pass")]
        assert device.versions() == ("1.0.1", "1.0.1", "1.0.0")
        counts = measure_candidate(device.server.metrics(), "digits", "1.0.1")["shadow"]
        assert (counts["agreed"] > 0, counts["disagreed"]) == (True, 0)
    assert statuses == {200}
