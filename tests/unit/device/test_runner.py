# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How the service runs, as the role noted it, and the image that it starts from."""

from __future__ import annotations

import json
import os
import pwd
from pathlib import Path

import pytest
from edgeml_device._common.errors import ArgumentError, StoreError
from edgeml_device._device.facts import device_facts
from edgeml_device._device.runner import (
    ROLE_IMAGE,
    Image,
    Runner,
    container_environment,
    container_user,
    engine_program,
    memory_bytes,
    read_image,
    read_runner,
    use_role_image,
    write_image,
)
from edgeml_device._device.runtime import image_runtime

REFERENCE = "localhost/edgeml-inference:" + "0123456789abcdef" * 4
USER = pwd.getpwuid(os.getuid()).pw_name


def test_without_a_file_the_service_runs_natively(tmp_path: Path) -> None:
    assert read_runner(str(tmp_path / "runner.json")) == Runner("native")


def test_a_file_that_is_none_is_named(tmp_path: Path) -> None:
    path = tmp_path / "runner.json"
    path.write_text('{"name": "docker", "motor": 1}')
    with pytest.raises(ArgumentError, match=r"runner\.json: .*motor"):
        read_runner(str(path))


def test_the_image_of_a_release_goes_before_the_one_that_the_role_brought(tmp_path: Path) -> None:
    store = str(tmp_path)
    assert read_image(store) is None
    brought, newer = Image(REFERENCE, {"onnxruntime": "1.32.0"}), Image(REFERENCE[:-1] + "0")
    write_image(store, newer)
    use_role_image(store)
    assert read_image(store) == newer, "there is no other"
    write_image(store, brought, ROLE_IMAGE)
    assert read_image(store) == newer, "a run of the role undoes no rollout"
    use_role_image(store)
    assert read_image(store) == brought


@pytest.mark.parametrize(
    "reference", ["", "edgeml:latest", "-v /:/host edgeml:" + "0" * 64, REFERENCE + "0", "A:" + "0" * 64]
)
def test_what_is_no_image_of_ours_is_refused(tmp_path: Path, reference: str) -> None:
    (tmp_path / "image.json").write_text(json.dumps({"reference": reference}))
    with pytest.raises(ArgumentError, match="expected a name and a tag of 64 hexadecimal digits"):
        read_image(str(tmp_path))


def test_what_the_unit_is_told() -> None:
    runner = Runner("docker", "/usr/bin/docker", USER, memory_max="25%")
    assert container_environment(runner, Image(REFERENCE), memory=4 << 30, joins=False).splitlines() == [
        f"EDGEML_IMAGE={REFERENCE}",
        f"EDGEML_USER={container_user(USER)}",
        f"EDGEML_MEMORY_BYTES={1 << 30}",
        "EDGEML_JOIN=",
    ]
    assert container_environment(runner, Image(REFERENCE), memory=1, joins=True).endswith("EDGEML_JOIN=--join\n")
    with pytest.raises(
        StoreError, match="no image of the server is here yet: set inference_service_image, or roll out"
    ):
        container_environment(runner, None, memory=4 << 30, joins=False)


def test_a_user_is_told_by_its_numbers() -> None:
    assert container_user("root") == "0:0"
    with pytest.raises(StoreError, match=r"no user nobody-knows on this device: the role edgeml\.fleet\.provision"):
        container_user("nobody-knows")


@pytest.mark.parametrize(
    ("limit", "expected"),
    [("60%", 600), ("0%", 0), ("512M", 512 << 20), ("2G", 2 << 30), ("1000", 1000), ("3K", 3 << 10)],
)
def test_limits_are_read_as_systemd_reads_them(limit: str, expected: int) -> None:
    assert memory_bytes(limit, 1000) == expected


@pytest.mark.parametrize("limit", ["", "infinity", "1.5G", "-1", "60 %", "512MB"])
def test_another_limit_is_refused(limit: str) -> None:
    with pytest.raises(ArgumentError, match=r"inference_service_memory_max: expected a size such as 512M .* found"):
        memory_bytes(limit, 1000)


def test_an_image_is_a_runtime_and_its_digest_the_runtimes_name() -> None:
    runtime = image_runtime(Runner("podman", "/usr/bin/podman", "edgeml", "/p", "/c", ["/s"]), Image(REFERENCE))
    assert runtime == (f"image {REFERENCE[-64:]}", "/p", "/c", "/usr/bin/podman", REFERENCE, "edgeml", ["/s"])


def test_variants_are_chosen_by_the_runtimes_of_the_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = "edgeml_device._device"
    monkeypatch.setattr(
        f"{package}.runner.read_runner", lambda: Runner("docker", "/usr/bin/docker", code="/opt/edgeml/app")
    )
    monkeypatch.setattr(f"{package}.request.STORE", str(tmp_path))
    assert device_facts()["runtimes"] == {}
    write_image(str(tmp_path), Image(REFERENCE, {"ncnn": "1.0"}))
    assert device_facts()["runtimes"] == {"ncnn": "1.0"}


@pytest.mark.parametrize(
    ("engine", "bound", "program"),
    [
        ("/usr/bin/podman", "000001ffffffffff", []),
        # CAP_CHOWN and CAP_DAC_OVERRIDE, which the unit has that looks at trials.
        ("/usr/bin/podman", "0000000000000003", ["systemd-run", "--quiet", "--pipe", "--wait", "--collect", "--"]),
        ("/usr/bin/docker", "0000000000000003", []),
    ],
)
def test_podman_is_started_outside_the_sandbox_of_a_unit(
    tmp_path: Path, engine: str, bound: str, program: list[str]
) -> None:
    status = tmp_path / "status"
    status.write_text(f"Name:\tedgeml\nCapEff:\t{bound}\nCapBnd:\t{bound}\nSeccomp:\t2\n")
    assert engine_program(engine, str(status)) == [*program, engine]
