# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What keeps an image from being swapped: each time the version before serves on, and the message names it."""

from __future__ import annotations

import os
import random
import re
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from container_device import STORAGE
from docker_service import DOCKER, PODMAN, docker, loaded_image, running_service
from image_device import ImageDevice
from image_parts import make_image
from user_manager import SYSTEMD

LIVE = "1.1.0"
STORAGE_BYTES = 48 << 20
# Whoever is only slow is not ended meanwhile.
WATCHDOG_SECONDS = 240

pytestmark = [
    pytest.mark.skipif(not Path(SYSTEMD).exists(), reason="needs systemd's program"),
    pytest.mark.runners,
]


@pytest.fixture(scope="module")
def device(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ImageDevice]:
    """A device that serves ``plus`` from the image of a release."""
    directory = tmp_path_factory.mktemp("device")
    with (
        pytest.MonkeyPatch.context() as patch,
        loaded_image(DOCKER, directory) as image,
        running_service(image, directory, DOCKER, WATCHDOG_SECONDS) as service,
    ):
        device = ImageDevice.make(service, directory, patch)
        built = device.build(LIVE, app=uuid.uuid4().bytes)
        result = device.swap(LIVE, device.publish(built, LIVE))
        assert result["live"] == LIVE, result
        yield device
        docker("image", "rm", "--force", built.image.reference, check=False)


def refused(device: ImageDevice, version: str, manifest: dict[str, Any], **options: Any) -> str:
    """Have the device swap, which must fail and change nothing. Returns the message."""
    before = device.running()
    result = device.swap(version, manifest, **options)
    assert result.get("failed"), result
    assert result["live"] == LIVE
    assert device.running() == before
    assert device.containers() == [device.service.container.name], "no bridge is left"
    assert device.service.device.infer("plus", [1, 2]).status == 200
    message: str = result["msg"]
    assert message.endswith(f"Live now: {LIVE}")
    return message


def new_release(device: ImageDevice, version: str) -> dict[str, Any]:
    return device.publish(device.build(version, app=uuid.uuid4().bytes), version)


@pytest.fixture
def small_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ImageDevice]:
    """A device whose Podman has a small file system for images and containers, and serves from a release's image."""
    # Podman refuses a directory with a long path.
    storage = tempfile.mkdtemp(prefix="storage-", dir="/tmp")
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={STORAGE_BYTES}", "none", storage], check=True)
    try:
        settings = f'[storage]\ndriver = "vfs"\ngraphroot = "{storage}/graph"\nrunroot = "{storage}/run"\n'
        (tmp_path / "storage.conf").write_text(settings)
        monkeypatch.setenv(STORAGE, str(tmp_path / "storage.conf"))
        with (
            loaded_image(PODMAN, tmp_path) as image,
            running_service(image, tmp_path, PODMAN, WATCHDOG_SECONDS) as service,
        ):
            device = ImageDevice.make(service, tmp_path, monkeypatch)
            result = device.swap(LIVE, new_release(device, LIVE))
            assert result["live"] == LIVE, result.get("msg", result)
            yield device
    finally:
        subprocess.run(["umount", "--lazy", storage], check=True)
        os.rmdir(storage)


def test_no_room_in_the_engines_store(small_device: ImageDevice) -> None:
    built = small_device.build("1.2.0", app=random.Random(16).randbytes(STORAGE_BYTES * 2 // 3))
    message = refused(small_device, "1.2.0", small_device.publish(built, "1.2.0"))
    found = re.search(
        r"the image needs (\d+) bytes in the engine's store, unpacked and on its way; (\d+) are free", message
    )
    assert found, message
    assert int(found[1]) > STORAGE_BYTES > int(found[2]) > 0


def test_a_layer_that_is_damaged_on_its_way(device: ImageDevice) -> None:
    manifest = new_release(device, "1.3.0")
    layer = next(file for file in manifest["variants"][0]["files"] if file["path"].endswith("-app.tar"))
    blob = device.directory / "repository" / "blobs" / "sha256" / layer["sha256"]
    blob.chmod(0o644)
    content = bytearray(blob.read_bytes())
    content[len(content) // 2] ^= 1
    blob.write_bytes(content)
    message = refused(device, "1.3.0", manifest)
    assert f"{layer['sha256']}; found " in message


def test_a_layer_that_is_damaged_in_the_store(device: ImageDevice) -> None:
    manifest = new_release(device, "1.4.0")
    assert not device.swap("1.4.0", manifest, state="present").get("failed")
    layer = next(file for file in manifest["variants"][0]["files"] if file["path"].endswith("-app.tar"))
    blob = Path(device.service.device.store.root) / "blobs" / "sha256" / layer["sha256"]
    blob.chmod(0o644)
    with blob.open("r+b") as file:
        file.seek(layer["size"] // 2)
        file.write(b"damaged")
    assert layer["sha256"] in refused(device, "1.4.0", manifest)


def test_an_image_for_another_architecture(device: ImageDevice, tmp_path: Path) -> None:
    other = {"x86_64": "aarch64", "aarch64": "x86_64"}
    built = device.build("1.5.0", app=uuid.uuid4().bytes)
    foreign = make_image(tmp_path, version="1.5.0", machine=other[built.machine])
    assert "no variant" in refused(device, "1.5.0", device.publish(foreign, "1.5.0"))


def test_an_engine_that_does_not_answer(device: ImageDevice, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = new_release(device, "1.6.0")
    before = device.running()
    with monkeypatch.context() as stopped:
        stopped.setenv("DOCKER_HOST", f"unix://{device.directory}/no.sock")
        result = device.swap("1.6.0", manifest)
    assert result.get("failed"), result
    assert "the container engine does not answer" in result["msg"]
    assert result["msg"].endswith(f"Live now: {LIVE}")
    assert device.running() == before
    assert device.service.device.infer("plus", [1, 2]).status == 200
