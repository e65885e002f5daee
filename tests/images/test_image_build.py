# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The server's image, built by the playbook from Debian's packages and the locked wheels, and run by Docker."""

from __future__ import annotations

import json
import platform
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnx_models
import pytest
from controller import Ansible, Run
from docker_service import DOCKER, docker
from server_process import Device

from ansible_collections.edgeml.fleet.plugins.filter.server_image import server_image
from ansible_collections.edgeml.fleet.plugins.module_utils._release.image import ARCHITECTURES
from ansible_collections.edgeml.fleet.plugins.module_utils._release.repository import Repository

TASK = "Build and publish the images"
# What was downloaded stays for the next run.
CACHE = Path("~/.cache/edgeml-fleet/image").expanduser()
BYTES_MAX = 150_000_000


class Build:
    """Runs the playbook, for both architectures, into directories of the test."""

    def __init__(self, directory: Path) -> None:
        self.repository = directory / "repository"
        self.archives = directory / "archives"
        self._ansible = Ansible(directory, ())

    def run(self, *options: str, code: int = 0, **variables: Any) -> Run:
        """Run the playbook with options of ansible-playbook."""
        places = {"model_repository": self.repository, "image_archives": self.archives, "image_cache": CACHE}
        values = {"image_version": "1.0.0", **{name: str(place) for name, place in places.items()}, **variables}
        run = self._ansible.run("edgeml.fleet.image", *options, **values)
        assert run.code == code, run
        return run

    def result(self, *options: str, **variables: Any) -> dict[str, Any]:
        """What the module returned."""
        return self.run(*options, **variables).results(TASK)["localhost"]


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Build:
    """The playbook's directories, with images of both architectures."""
    build = Build(tmp_path_factory.mktemp("build"))
    checked = build.result("--check", "--diff")
    assert (checked["changed"], checked["diff"]["before"]) == (True, "")
    assert not build.repository.exists()
    assert not build.archives.exists()
    made = build.result()
    assert (made["changed"], made["digest"], made["needs_signature"]) == (True, checked["digest"], False)
    return build


def test_a_second_run_changes_nothing_also_from_nothing_that_was_downloaded(build: Build, tmp_path: Path) -> None:
    checked = build.result("--check", "--diff")
    assert (checked["changed"], checked["diff"]["before"]) == (False, checked["diff"]["after"])
    again = build.result(image_cache=str(tmp_path / "cache"))
    assert (again["changed"], again["published"]) == (False, False)
    assert [image["architecture"] for image in again["images"]] == list(ARCHITECTURES)
    assert all(image["bytes"] <= BYTES_MAX for image in again["images"])


def test_a_version_never_gets_other_content(build: Build) -> None:
    run = build.run(code=2, image_runtimes=["ncnn"])
    message = run.results(TASK)["localhost"]["msg"]
    assert "this version is published with other content, and a release never changes" in message


def test_the_release_is_whole_and_has_a_bill_of_materials(build: Build) -> None:
    repository = Repository(str(build.repository))
    release = repository.release("edgeml-inference", "1.0.0")
    assert repository.verify(release) > 0
    assert sorted(variant.name for variant in release.variants) == ["linux-amd64", "linux-arm64"]
    for name in ("bom-arm64", "bom-amd64"):
        (file,) = [file for file in release.all_files() if file.path == f"{name}.cdx.json"]
        bill = json.loads(Path(repository.blob_path(file.sha256)).read_text())
        packages = {component["name"] for component in bill["components"] if "purl" in component}
        assert {"libc6", "python3.11-minimal", "onnxruntime", "httptools"} <= packages


@pytest.fixture
def container(build: Build, tmp_path: Path) -> Iterator[Device]:
    """A device with a model, served by the image for this machine, as closed as the service's unit has it."""
    archive = build.archives / f"edgeml-inference-1.0.0-{ARCHITECTURES[platform.machine()]}.tar"
    reference = server_image(str(archive))["reference"]
    docker("load", "--input", str(archive))
    name = f"edgeml-{uuid.uuid4().hex[:12]}"
    closed = "--network=host --read-only --cap-drop=ALL --security-opt=no-new-privileges --tmpfs=/tmp --user=0:0"
    mount = f"--mount=type=bind,source={tmp_path},target={tmp_path}"
    python = tmp_path / "python"
    run = f"{DOCKER} run --rm --pull=never --name={name} {closed} {mount} {reference} /opt/edgeml/venv/bin/python"
    python.write_text(f'#!/bin/sh\nexec {run} "$@"\n')
    python.chmod(0o755)
    device = Device(tmp_path, str(python))
    device.publish("plus", "1.0.0", onnx_models.plus(1))
    try:
        device.start()
        yield device
    finally:
        device.stop()
        docker("rm", "--force", name, check=False)
        docker("image", "rm", reference, check=False)


def test_the_image_serves_and_swaps_a_model(container: Device) -> None:
    assert container.infer("plus", [1, 2]).json()["outputs"][0]["data"] == [2.0, 3.0]
    container.publish("plus", "1.1.0", onnx_models.plus(2))
    assert container.load("plus").status == 200
    assert container.infer("plus", [1, 2]).json()["outputs"][0]["data"] == [3.0, 4.0]
