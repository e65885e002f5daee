# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The playbook ``collect_inputs``: from requests and labels on devices to a dataset that ``publish`` reads."""

from __future__ import annotations

import contextlib
import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from controller import DIGITS, Ansible, Run
from device import Device
from publications import digits_holdout, digits_model
from releases import read_release

from ansible_collections.edgeml.fleet.plugins.module_utils._release.collected_input import (
    CollectedInput,
    Tensor,
    file_name,
    pack,
)
from ansible_collections.edgeml.fleet.plugins.plugin_utils._collected.dataset import dataset_directory
from ansible_collections.edgeml.fleet.plugins.plugin_utils._collected.inbox import stored_inputs

# On a device; of the directories that a test's device has, one that a server can write to.
SPOOL = "/run/edgeml/collected"
HERE, OTHER, AWAY = "edge-s1", "edge-s2", "edge-away"
NOBODY = {"ansible_connection": "ssh", "ansible_host": "127.0.0.1", "ansible_port": 1}


def item(number: int, size: int = 16) -> CollectedInput:
    tensor = Tensor("x", "UINT8", (size,), number.to_bytes(2, "little") + bytes(size - 2))
    return CollectedInput("digits", "1.0.0", float(number), ("drifting",), (tensor,), 1)


def put(device: Device, *items: CollectedInput) -> None:
    for each in items:
        path = device.directory / "run/collected/digits" / file_name(each.digest)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(pack(each))


def left(device: Device) -> int:
    return len(list((device.directory / "run/collected").glob("*/*.input")))


@pytest.fixture
def devices(fleet: dict[str, Device]) -> Iterator[list[Device]]:
    """Two devices that have collected nothing yet."""
    found = [fleet[name] for name in (HERE, OTHER)]
    yield found
    for device in found:
        for path in (device.directory / "run/collected").glob("*/*"):
            path.unlink()


class Site:
    """A controller that collects from devices, of which one more is away."""

    def __init__(self, directory: Path, devices: list[Device]) -> None:
        self.directory = directory / "collected"
        self.ansible = Ansible(directory, devices, **{AWAY: NOBODY})
        self.variables = {"collect_inputs_directory": str(self.directory), "collect_inputs_spool": SPOOL}

    def run(self, *options: str, **more: Any) -> Run:
        return self.ansible.run("edgeml.fleet.collect_inputs", *options, **{**self.variables, **more})

    def stored(self) -> set[str]:
        return {found.digest for found in stored_inputs(str(self.directory))}

    def dataset(self) -> Path:
        return Path(dataset_directory(str(self.directory), "digits"))


def kill_in(directory: Path) -> None:
    """Kill what works in a directory: Ansible, and its workers, which have sessions of their own."""
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdigit() and (entry / "cwd").readlink() == directory:
                os.kill(int(entry.name), signal.SIGKILL)


def taken(run: Run, name: str) -> dict[str, Any]:
    return run.results("Take the inputs")[name]


@pytest.mark.end_to_end
def test_check_run_check_again_run_again(tmp_path: Path, devices: list[Device]) -> None:
    site, (here, other) = Site(tmp_path, devices), devices
    put(here, *map(item, range(5)))
    put(other, *map(item, range(4, 8)))
    would = site.run("--check", "--diff")
    assert would.code == 0, would
    assert (taken(would, HERE)["changed"], taken(would, HERE)["brought"]) == (True, 5)
    diff = {"before": {"waiting_on_the_device": 5}, "after": {"waiting_on_the_device": 0}}
    assert taken(would, HERE)["diff"] == diff
    assert (left(here), left(other), site.stored()) == (5, 4, set())

    run = site.run("--diff")
    assert run.code == 0, run
    assert (taken(run, HERE)["diff"], taken(run, OTHER)["brought"]) == (diff, 4)
    # Nothing of what was sent is in what Ansible shows or logs.
    assert "inputs" not in taken(run, HERE)
    assert (left(here), left(other)) == (0, 0)
    assert site.stored() == {item(number).digest for number in range(8)}
    (shown,) = run.results("Show what came").values()
    assert any(AWAY in line and "away" in line for line in shown["msg"])
    made = run.custom_stats["collect_inputs_datasets"]["digits"]
    assert (made["labelled"], made["unlabelled"]) == (0, 8)
    with np.load(site.dataset() / "unlabelled.npz") as arrays:
        assert sorted(row[0] for row in arrays["input:x"].tolist()) == list(range(8))

    before = {path: path.stat().st_mtime_ns for path in site.directory.rglob("*")}
    for options in (["--check", "--diff"], ["--diff"]):
        again = site.run(*options)
        assert again.code == 0, again
        assert [again.stats[name]["changed"] for name in (HERE, OTHER)] == [0, 0]
        assert taken(again, HERE)["brought"] == 0
        assert {path: path.stat().st_mtime_ns for path in site.directory.rglob("*")} == before


@pytest.mark.end_to_end
def test_a_killed_run_loses_nothing_and_the_next_one_goes_on(tmp_path: Path, devices: list[Device]) -> None:
    site, (here, _other) = Site(tmp_path, devices), devices
    items = [item(number, 3 << 20) for number in range(8)]
    put(here, *items)
    with site.ansible.start("edgeml.fleet.collect_inputs", **site.variables) as process:
        while not site.stored():
            assert process.poll() is None
        kill_in(site.ansible.directory)
        process.communicate()
    while here.calls():
        pass
    kept = {path.stem for path in (here.directory / "run/collected/digits").iterdir()}
    assert kept | site.stored() == {each.digest for each in items}
    assert kept
    run = site.run()
    assert run.code == 0, run
    assert (left(here), site.stored()) == (0, {each.digest for each in items})


def test_what_a_device_forges_is_refused_and_the_others_are_read(tmp_path: Path, devices: list[Device]) -> None:
    site, (here, other) = Site(tmp_path, devices), devices
    put(here, item(1))
    put(other, item(2), item(3))
    forged = other.directory / "run/collected/digits" / file_name("a" * 64)
    forged.write_bytes(pack(item(9)))
    run = site.run()
    assert run.code == 2, run
    assert "edge-s2" in str(run)
    assert taken(run, OTHER)["refused"] == [
        f"digits {'a' * 12}: expected digits {'a' * 64}; found digits {item(9).digest}"
    ]
    assert forged.exists()
    assert site.stored() == {item(number).digest for number in (1, 2, 3)}
    assert run.custom_stats["collect_inputs_failed"] == [OTHER]


@pytest.mark.both_ways
def test_a_device_without_the_command_is_read_by_the_module(tmp_path: Path, devices: list[Device]) -> None:
    site, (here, _other) = Site(tmp_path, devices), devices
    here.remove_command()
    put(here, *map(item, range(3)))
    run = site.run()
    assert run.code == 0, run
    assert (left(here), len(site.stored())) == (0, 3)


# ---- the whole way ----


@contextlib.contextmanager
def serving(device: Device, version: str) -> Iterator[None]:
    """The device serves a release of the digits, and may keep what was answered wrong."""
    device.stop_server()
    device.start_server(
        prediction_log="/run/edgeml/predictions.db",
        prediction_log_sample_percent=100,
        prediction_log_bytes=1 << 26,
        collect_inputs=[{"model": "digits", "reasons": ["disagreeing"]}],
    )
    try:
        device.serve(read_release(DIGITS, "digits", version))
        yield
    finally:
        device.stop_server()


@pytest.mark.end_to_end
def test_what_a_release_answers_wrong_judges_the_next_one(tmp_path: Path, devices: list[Device]) -> None:
    site = Site(tmp_path, devices)
    images, labels = digits_holdout()
    with contextlib.ExitStack() as stack:
        for device, part in zip(devices, (slice(0, 200), slice(160, 360)), strict=True):
            # It is right in a third of the images.
            stack.enter_context(serving(device, "1.2.0"))
            for number in range(part.start, part.stop, 20):
                rows = images[number : number + 20]
                tensor = {"name": "image", "datatype": "FP32", "shape": [20, 1, 8, 8], "data": rows.ravel().tolist()}
                request = {"id": str(number), "inputs": [tensor]}
                assert device.post("/v2/models/digits/infer", request) == 200
                feedback = {"id": str(number), "label": labels[number : number + 20].tolist()}
                assert device.post("/v2/models/digits/feedback", feedback) == 200
        run = site.run()
    assert run.code == 0, run
    document = json.loads((site.dataset() / "dataset.json").read_text())
    assert {row["device"] for row in document["labelled"]} == {HERE, OTHER}
    assert all(row["predicted"] != row["label"] for row in document["labelled"])
    # What both devices answered wrong is one row.
    assert document["left_out"]["the same input again"] > 10
    right = {images[number].astype("<f4").tobytes(): int(labels[number]) for number in range(360)}
    with np.load(site.dataset() / "labelled.npz") as arrays:
        found = [row.tobytes() for row in arrays["input:image"]]
        assert [right[row] for row in found] == arrays["labels"].tolist()
    assert len(found) > 180

    source = tmp_path / "better.onnx"
    source.write_bytes(digits_model("1.1.0"))
    published = site.ansible.run(
        "edgeml.fleet.publish",
        "--check",
        model_name="digits",
        model_version="1.3.0",
        model_source=str(source),
        model_samples=str(site.dataset() / "labelled.npz"),
        model_repository=str(tmp_path / "repository"),
        publish_device_image="none",
        # They are too few for one point.
        publish_accuracy_drop_max=0.02,
    )
    assert published.code == 0, published
    (row,) = published.results("Convert, prove, measure and publish the model")["localhost"]["table"]
    assert row["published"]
