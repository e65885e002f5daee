# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Labels that come after the last wave, sent by clients to the real server: a reconciliation takes a release back."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from controller import DIGITS, Ansible
from device import Device
from releases import read_release
from rollouts import at_once

pytestmark = pytest.mark.end_to_end

NAMES = ("edge-s1", "edge-s2")
ROWS, REQUESTS = 32, 4


def questions() -> tuple[dict[str, Any], list[int]]:
    """The first samples of the digits' probe set, with their labels."""
    manifest = json.loads((DIGITS / "digits" / "1.1.0" / "manifest.json").read_text())
    document = json.loads((DIGITS / "blobs" / "sha256" / manifest["probe"]["sha256"]).read_text())
    (tensor,) = document["inputs"]
    size = len(tensor["data"]) // tensor["shape"][0]
    rows = {**tensor, "shape": [ROWS, *tensor["shape"][1:]], "data": tensor["data"][: ROWS * size]}
    return rows, document["labels"][:ROWS]


def predict_and_label(device: Device, name: str, shift: int) -> None:
    """Have a client ask, and say later what was right; with a ``shift`` it was always something else."""
    rows, labels = questions()
    for number in range(REQUESTS):
        request = f"{name}-{number}"
        assert device.post("/v2/models/digits/infer", {"id": request, "inputs": [rows]}) == 200
        feedback = {"id": request, "label": [(label + shift) % 10 for label in labels]}
        assert device.post("/v2/models/digits/feedback", feedback) == 200


@pytest.fixture
def labelled(fleet: dict[str, Device]) -> Iterator[list[Device]]:
    """Two devices that log predictions, so that labels can be sent for them, and serve digits 1.0.0."""
    devices = [fleet[name] for name in NAMES]
    for device in devices:
        device.stop_server()
        device.start_server(prediction_log="/run/edgeml/predictions.db", prediction_log_sample_percent=100)
        device.serve(read_release(DIGITS, "digits", "1.0.0"))
        predict_and_label(device, "before", shift=0)
    yield devices
    for device in devices:
        device.stop_server()


def test_labels_that_come_late_take_a_release_back(tmp_path: Path, labelled: list[Device]) -> None:
    fleet = labelled
    ansible, ledger = Ansible(tmp_path, fleet), tmp_path / "ledger"
    release = {"model_name": "digits", "model_version": "1.1.0", "rollout_waves": ["100%"]}
    rollout = ansible.run("edgeml.fleet.rollout", **at_once(ledger), **release)
    assert rollout.code == 0, rollout
    for device in fleet:
        predict_and_label(device, "after", shift=1)

    late = ansible.run("edgeml.fleet.reconcile", rollout_ledger=str(ledger))
    assert late.code == 2, late
    assert [device.versions()[:2] for device in fleet] == [("1.0.0", "1.0.0")] * 2
    book = json.loads((ledger / "digits-1.1.0-1.json").read_text())
    assert (book["state"], [entry["labels"] for entry in book["labels"]]) == ("failed", [2 * ROWS * REQUESTS])
    assert book["why"].startswith("labels that came later: fail: live accuracy drop")
    assert book["why"] in str(late)
