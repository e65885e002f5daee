# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A model whose weights are in a file beside it, as PyTorch exports it, goes the whole way; also with a new app."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from controller import Ansible
from device import Device
from device_app import make_app
from networks import INPUTS, Network
from publications import Case

MODEL, WEIGHTS = "network.onnx", "network.onnx.data"
VERSIONS = ("1.1.0", "1.2.0")
NO_WAITING = {"min_ready_seconds": 0.2, "trial_seconds": 0}


@pytest.fixture(scope="module")
def network() -> Network:
    return Network(5)


@pytest.fixture(scope="module")
def repository(network: Network, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both versions, published from a file of the graph and one of the weights."""
    root = tmp_path_factory.mktemp("published")
    x = np.random.default_rng(1).standard_normal((400, INPUTS)).astype(np.float32)
    for number, version in enumerate(VERSIONS, 1):
        directory = root / version
        directory.mkdir()
        source = directory / MODEL
        content = network.content(number)
        onnx.save(
            onnx.load_from_string(content), str(source), save_as_external_data=True, location=WEIGHTS, size_threshold=0
        )
        assert source.stat().st_size < 20_000
        (y,) = onnxruntime.InferenceSession(content).run(None, {"x": x})
        case = Case(directory, source.read_bytes())
        case.samples = {"x": x, "labels": np.asarray(y).argmax(axis=1)}
        case.options.update(
            model=network.name, version=version, source=str(source), repository=str(root / "repository")
        )
        assert case.publish().changed
    return root / "repository"


@pytest.fixture
def device(machines: dict[str, Device]) -> Iterator[Device]:
    found = machines["edge-s1"]
    found.reset()
    yield found
    shutil.rmtree(upgraded(found), ignore_errors=True)


def upgraded(device: Device) -> Path:
    """Where a newer app is installed."""
    return device.directory / "opt" / "edgeml" / "app-upgraded"


def answered(device: Device, network: Network) -> tuple[str | None, list[float]]:
    """The version that serves, and its answer to the network's request."""
    reply, _data = device.server.infer(network.name, network.request)
    return device.server.serving_version(network.name), reply["outputs"][0]["data"]


def assert_serves(device: Device, network: Network, version: str) -> None:
    served, values = answered(device, network)
    assert served == version
    np.testing.assert_allclose(values, network.answer(VERSIONS.index(version) + 1), rtol=1e-3, atol=1e-4)


def swap(repository: Path, version: str, **more: Any) -> dict[str, Any]:
    options = {"model": Network.name, "version": version, **NO_WAITING, **more}
    if more.get("state") != "previous":
        options["repository"] = str(repository)
    return {"edgeml.fleet.model_swap": options}


def test_published_read_swapped_served_and_reverted_also_with_a_new_app(
    device: Device, network: Network, repository: Path, tmp_path: Path
) -> None:
    ansible = Ansible(tmp_path, [device])
    info = {"model": network.name, "version": "1.2.0", "repository": str(repository)}
    read, first, second = ansible.tasks(
        {"edgeml.fleet.release_info": info}, swap(repository, "1.1.0"), swap(repository, "1.2.0")
    )
    files = read["manifest"]["variants"][0]["files"]
    assert [file["path"] for file in files] == ["model.onnx", WEIGHTS]
    assert (first["live"], second["live"]) == VERSIONS
    # Whether another form is quicker depends on the machine; that it was looked for does not.
    assert {"settings", "forms"} & set(second["tested"]["prepared"])
    assert_serves(device, network, "1.2.0")
    (back,) = ansible.tasks(swap(repository, "1.2.0", state="previous"))
    assert back["live"] == "1.1.0"
    assert_serves(device, network, "1.1.0")

    upgraded(device).mkdir()
    make_app(upgraded(device))
    device.stop_server()
    device.start_server(network.name)
    assert_serves(device, network, "1.1.0")
    (forth,) = ansible.tasks(swap(repository, "1.2.0", retry=True))
    assert forth["tested"]["runtime_id"] == "venv-test app-upgraded"
    assert_serves(device, network, "1.2.0")
    (back,) = ansible.tasks(swap(repository, "1.2.0", state="previous"))
    assert back["live"] == "1.1.0"
    assert_serves(device, network, "1.1.0")
    device.store.version(network.name, "1.1.0").verify()
