# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An image of the server is swapped as a model is: no request is lost, and what is no good leaves the one before."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from docker_service import DOCKER, PODMAN, UNIT, loaded_image, running_service
from edgeml_device._device.runner import read_image
from image_device import NAME, NEVER_STARTS, ImageDevice
from image_parts import with_entrypoint
from load import OK, Load
from server_process import plus_input
from user_manager import SYSTEMD

INFER = "/v2/models/plus/infer"
REQUEST = {"inputs": [plus_input([1, 2])]}
# Whoever is only slow is not ended meanwhile.
WATCHDOG_SECONDS = 240
# More than the device waits for an answer of its server.
SLOW_SECONDS = 15
# Whose container does not run for a while from the moment on in which a swap comes to it.
SLOW = """#!/bin/sh
if [ "$1" = reset-failed ]; then
    {engine} pause {container} >/dev/null
    setsid sh -c 'sleep {seconds}; {engine} unpause {container}' >/dev/null 2>&1 </dev/null &
fi
exec /usr/bin/systemctl --user "$@"
"""

pytestmark = [
    pytest.mark.skipif(not Path(SYSTEMD).exists(), reason="needs systemd's program"),
    pytest.mark.runners,
]


@pytest.fixture(params=[DOCKER, PODMAN])
def device(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ImageDevice]:
    """A device that serves ``plus`` from an image that the role brought."""
    with (
        loaded_image(request.param, tmp_path) as image,
        running_service(image, tmp_path, request.param, WATCHDOG_SECONDS) as service,
    ):
        yield ImageDevice.make(service, tmp_path, monkeypatch)


def test_an_image_is_swapped_and_reverted_and_no_request_is_lost(device: ImageDevice, tmp_path: Path) -> None:
    first = device.running()
    good = device.build("1.1.0", app=uuid.uuid4().bytes)
    bad = with_entrypoint(device.build("1.2.0", app=uuid.uuid4().bytes), NEVER_STARTS)
    with Load(tmp_path, device.service.device.port, INFER, REQUEST) as load:
        result = device.swap("1.1.0", device.publish(good, "1.1.0"))
        assert not result.get("failed"), result["msg"]
        assert (result["live"], result["trial"]["returns_to"]) == ("1.1.0", None)
        assert device.running() == good.image.reference
        assert device.containers() == [device.service.container.name], "the bridge has ended"

        failed = device.swap("1.2.0", device.publish(bad, "1.2.0"))
        assert failed["failed"]
        assert "1.2.0 did not become healthy: a container of the new image did not become ready" in failed["msg"]
        assert failed["live"] == "1.1.0"
        assert (device.running(), device.containers()) == (good.image.reference, [device.service.container.name])

        reverted = device.swap("1.1.0", state="previous")
        assert not reverted.get("failed"), reverted["msg"]
    assert device.running() == first, "what the role brought serves again"
    lost = [request for request in load.requests if request.status != OK]
    assert not lost, f"{len(lost)} of {len(load.requests)} requests: {lost[:5]}"
    image = read_image(device.service.device.store.root)
    assert image is not None
    assert image.reference == first
    device.service.engine("image", "rm", good.image.reference, bad.image.reference, check=False)
    assert NAME not in device.service.device.get("/v2/health/ready").body.decode()


# The rule is the device's, and has nothing to do with the engine.
@pytest.mark.parametrize("device", [DOCKER], indirect=True)
def test_swaps_take_none_of_the_starts_that_systemd_allows(device: ImageDevice) -> None:
    manager = device.service.manager
    unit = manager.path(UNIT).read_text()
    assert "StartLimitBurst=10\n" in unit
    manager.write(UNIT, unit.replace("StartLimitBurst=10\n", "StartLimitBurst=5\n"))
    good = device.build("1.1.0", app=uuid.uuid4().bytes)
    manifest = device.publish(good, "1.1.0")
    for number in range(2):
        result = device.swap("1.1.0", manifest, retry=True, trial_seconds=0.0)
        assert not result.get("failed"), (number, result["msg"])
        reverted = device.swap("1.1.0", state="previous")
        assert not reverted.get("failed"), (number, reverted["msg"])
    assert device.running() != good.image.reference
    assert manager.shown(UNIT, "Result") == "success"


# The rule is the device's, and has nothing to do with the engine.
@pytest.mark.parametrize("device", [DOCKER], indirect=True)
def test_a_server_that_is_slow_to_answer_gives_way_and_is_not_restarted(device: ImageDevice, tmp_path: Path) -> None:
    good = device.build("1.1.0", app=uuid.uuid4().bytes)
    manifest = device.publish(good, "1.1.0")
    slow = SLOW.format(engine=DOCKER, container=device.service.container.name, seconds=SLOW_SECONDS)
    (device.directory / "bin" / "systemctl").write_text(slow)
    with Load(tmp_path, device.service.device.port, INFER, REQUEST) as load:
        result = device.swap("1.1.0", manifest, trial_seconds=0.0)
    assert not result.get("failed"), result["msg"]
    assert device.running() == good.image.reference
    lost = [request for request in load.requests if request.status != OK]
    assert not lost, f"{len(lost)} of {len(load.requests)} requests: {lost[:5]}"
    assert max(request.seconds for request in load.requests) > SLOW_SECONDS / 2, "nothing was slow"
