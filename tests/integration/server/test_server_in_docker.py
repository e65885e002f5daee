# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The service in a container of Docker, by the role's own unit, a service manager of systemd and a real engine."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import onnx_models
import pytest
from docker_service import DOCKER, UNIT, WATCHDOG_SECONDS, Service, docker, loaded_image, running_service
from edgeml_device._common.errors import CandidateError
from edgeml_device._device.runner import Image, read_runner
from edgeml_device._device.runtime import image_runtime
from edgeml_device._device.smoke_test import SmokeTest
from load import OK, Load
from releases import make_release
from server_process import plus_input
from user_manager import SYSTEMD

INFER = "/v2/models/plus/infer"

pytestmark = pytest.mark.skipif(not Path(SYSTEMD).exists(), reason="needs systemd's program")


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Image]:
    """An image that Docker has loaded from the archive that the role sends."""
    with loaded_image(DOCKER, tmp_path_factory.mktemp("image")) as image:
        yield image


@pytest.fixture
def service(image: Image, tmp_path: Path) -> Iterator[Service]:
    """A service that serves ``plus`` 1.0.0, from the image."""
    with running_service(image, tmp_path) as service:
        yield service


def test_a_model_swaps_inside_the_running_container(service: Service, tmp_path: Path) -> None:
    device, process = service.device, service.process()
    assert device.infer("plus", [1, 2]).json()["outputs"][0]["data"] == [2, 3]
    found = docker("inspect", "--format={{.HostConfig.ReadonlyRootfs}} {{.HostConfig.CapDrop}}", service.container.name)
    assert found == "true [ALL]"
    with Load(tmp_path, device.port, INFER, {"inputs": [plus_input([1, 2])]}) as load:
        device.publish("plus", "2.0.0", onnx_models.plus(10))
        device.activate("plus", "1.0.0")
        done = service.edgeml("activate", "plus", "2.0.0", "--trial-seconds", "0")
        assert done.returncode == 0, done.stderr
        assert "plus: live now: 2.0.0" in done.stdout
    assert device.infer("plus", [1, 2]).json()["outputs"][0]["data"] == [11, 12]
    assert {request.status for request in load.requests} == {OK}, f"of {len(load.requests)} requests"
    assert service.process() == process
    assert service.manager.shown(UNIT, "NRestarts") == "0"


@pytest.mark.runners
def test_a_killed_server_and_one_that_hangs_are_started_again(service: Service) -> None:
    os.kill(service.process(), 9)
    service.wait_ready(restarts=1)
    assert service.device.infer("plus", [1, 2]).status == OK
    # It hangs with all its threads.
    docker("pause", service.container.name)
    service.wait_ready(restarts=2)
    assert service.device.infer("plus", [1, 2]).status == OK


@pytest.mark.runners
def test_without_the_sockets_directory_the_service_heals(service: Service, tmp_path: Path) -> None:
    for path in (tmp_path / "run").iterdir():
        path.unlink()
    (tmp_path / "run").rmdir()
    done = service.edgeml("activate", "plus", "1.0.0")
    assert (done.returncode, done.stdout) == (1, "")
    assert "run/server.sock: the inference server does not answer" in done.stderr
    service.wait_ready(restarts=1)
    assert "live now: 1.0.0" in service.edgeml("activate", "plus", "1.0.0").stdout


@pytest.mark.runners
def test_without_an_image_it_does_not_start_and_says_why(service: Service, tmp_path: Path) -> None:
    service.manager.call("stop", UNIT)
    os.unlink(tmp_path / "store" / "role-image.json")
    assert service.manager.run("start", UNIT).returncode != 0
    assert "no image of the server is here yet: set inference_service_image" in service.log


def test_a_second_runner_is_refused_and_the_first_serves_on(service: Service, tmp_path: Path) -> None:
    unit = service.container.unit(WATCHDOG_SECONDS).replace(service.container.name, service.container.name + "-two")
    unit = unit.replace("Restart=always", "Restart=no")
    service.manager.write("second.service", unit.replace("log.txt", "second.txt").replace("notify.sock", "second.sock"))
    try:
        assert service.manager.run("start", "second.service").returncode != 0
        assert "another server answers there" in (tmp_path / "second.txt").read_text()
    finally:
        docker("rm", "--force", service.container.name + "-two", check=False)
    assert service.device.infer("plus", [1, 2]).status == OK


def test_a_smoke_test_runs_in_the_image(service: Service, tmp_path: Path) -> None:
    device, runner = service.device, read_runner(str(service.container.runner))
    image = Image(docker("inspect", "--format={{.Config.Image}}", service.container.name))
    runtime = image_runtime(runner, image)
    with SmokeTest(device.store.version("plus", "1.0.0"), runtime) as test:
        assert (test.result() or {})["runtime_id"] == f"image {image.reference.partition(':')[2]}"
    device.publish_release(make_release("3.0.0", "plus", {"model.onnx": b"no model"}))
    with (
        SmokeTest(device.store.version("plus", "3.0.0"), runtime) as test,
        pytest.raises(CandidateError, match=r"plus 3\.0\.0: smoke test: "),
    ):
        test.result()
    assert docker("ps", "--all", "--quiet", "--filter", f"name=edgeml-test-{os.getpid()}") == ""
