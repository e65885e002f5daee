# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Deltas sent by ``model_swap`` to a device with the real server: what goes over the link, and what is served then."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from controller import Ansible
from device import Device
from networks import FILE, Network
from releases import Made, make_release, publish

from ansible_collections.edgeml.fleet.plugins.module_utils._common.errors import ServerError
from ansible_collections.edgeml.fleet.plugins.module_utils._release.release import File
from ansible_collections.edgeml.fleet.plugins.module_utils._release.repository import Repository
from ansible_collections.edgeml.fleet.plugins.plugin_utils._publish.cli import main

# Noise cannot be compressed: a delta with it is more than comes with a call.
NOISE = os.urandom(100_000)


@pytest.fixture(scope="module")
def network() -> Network:
    return Network(2)


def release_of(network: Network, number: int, **files: bytes) -> Made:
    return make_release(f"1.{number}.0", network.name, files={FILE: network.content(number), **files})


@pytest.fixture(scope="module")
def published(network: Network, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four versions, with deltas from each to the next."""
    root = tmp_path_factory.mktemp("published")
    for number in range(2):
        publish(release_of(network, number), root)
    publish(release_of(network, 2, noise=NOISE), root)
    publish(release_of(network, 3, noise=NOISE[:90_000] + bytes(10_000) + NOISE[:90_000]), root)
    for old, new in (("1.0.0", "1.1.0"), ("1.1.0", "1.2.0"), ("1.2.0", "1.3.0")):
        names = ["--model", network.name, "--repository", str(root), "--from", old, "--to", new]
        assert main(["delta", *names]) == 0
    return root


@pytest.fixture
def repository(published: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(published, tmp_path / "repository"))


@pytest.fixture
def device(network: Network, machines: dict[str, Device]) -> Device:
    """A device that serves the first version."""
    found = machines["edge-s1"]
    found.reset()
    with suppress(ServerError):
        found.server.unload(network.name)
    found.serve(release_of(network, 0))
    return found


def swap(network: Network, repository: Path, version: str, **arguments: Any) -> dict[str, Any]:
    common = {"min_ready_seconds": 0.2, "trial_seconds": 0, "repository": str(repository)}
    return {"edgeml.fleet.model_swap": {"model": network.name, "version": version, **common, **arguments}}


def model_files(repository: Path, network: Network, version: str) -> list[File]:
    return list(Repository(str(repository)).release(network.name, version).variants[0].files)


def answers(device: Device, network: Network, number: int) -> None:
    """Assert that the device answers as this version does."""
    reply, _data = device.server.infer(network.name, network.request)
    np.testing.assert_allclose(reply["outputs"][0]["data"], network.answer(number), rtol=1e-3, atol=1e-4)


def test_a_version_comes_as_what_differs_from_the_one_before(
    network: Network, repository: Path, device: Device, tmp_path: Path
) -> None:
    ansible = Ansible(tmp_path, [device])
    first, second, again = ansible.tasks(
        swap(network, repository, "1.1.0"), swap(network, repository, "1.2.0"), swap(network, repository, "1.2.0")
    )
    assert (first["changed"], first["live"], first["refused_deltas"]) == (True, "1.1.0", [])
    (file,) = model_files(repository, network, "1.1.0")
    assert first["sent"]["whole_bytes"] == file.size
    assert first["sent"]["deltas"] == 1
    assert first["sent"]["bytes"] < 2000
    # The model as a delta within the call, and what is new in a transfer.
    assert (second["changed"], second["live"], second["sent"]["deltas"]) == (True, "1.2.0", 1)
    assert len(NOISE) < second["sent"]["bytes"] < len(NOISE) + 2000
    assert (again["changed"], "sent" in again) == (False, False)
    answers(device, network, 2)


def test_a_large_delta_is_transferred(network: Network, repository: Path, device: Device, tmp_path: Path) -> None:
    ansible = Ansible(tmp_path, [device])
    _held, third = ansible.tasks(
        swap(network, repository, "1.2.0", state="present"), swap(network, repository, "1.3.0")
    )
    assert (third["live"], third["sent"]["deltas"], third["refused_deltas"]) == ("1.3.0", 2, [])
    assert third["sent"]["bytes"] < 0.1 * third["sent"]["whole_bytes"]
    answers(device, network, 3)


@pytest.mark.parametrize("damage", ["its content", "a captive portal"])
def test_a_wrong_delta_is_said_and_the_whole_file_follows(
    network: Network, repository: Path, device: Device, tmp_path: Path, damage: str
) -> None:
    (file,) = model_files(repository, network, "1.1.0")
    store = Repository(str(repository))
    delta = next(delta for delta in store.deltas(file) if delta.bases)
    path = Path(store.delta_path(file, delta))
    content = bytearray(path.read_bytes())
    if damage == "its content":
        content[-1] ^= 1
    else:
        content = bytearray(b"<html>" * delta.size)[: delta.size]
    path.write_bytes(content)
    (result,) = Ansible(tmp_path, [device]).tasks(swap(network, repository, "1.1.0"))
    assert (result["changed"], result["live"], result["missing_blobs"]) == (True, "1.1.0", [])
    (warning,) = [text for text in result["warnings"] if "delta" in text]
    assert warning.startswith(f"{FILE}: sent whole, as its delta was refused: ")
    assert result["sent"]["bytes"] == delta.size + file.size
    answers(device, network, 1)


@pytest.mark.parametrize(
    "index", ["damaged", '{"schema": 1, "deltas": [{"sha256": "../../x", "size": 1, "bases": []}]}']
)
def test_an_index_that_is_none_costs_the_whole_file(
    network: Network, repository: Path, device: Device, tmp_path: Path, index: str
) -> None:
    (file,) = model_files(repository, network, "1.1.0")
    (repository / "deltas" / file.sha256 / "index.json").write_text(index)
    (result,) = Ansible(tmp_path, [device]).tasks(swap(network, repository, "1.1.0"))
    whole = {"bytes": file.size, "whole_bytes": file.size, "deltas": 0, "resumed_bytes": 0}
    assert (result["live"], result["sent"]) == ("1.1.0", whole)
    assert "warnings" not in result
