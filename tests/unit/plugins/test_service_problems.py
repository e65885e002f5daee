# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which options of the role inference_service are refused. Certificates: test_tls_problems.py."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.errors import AnsibleFilterError
from certificates import Authority
from links import REPOSITORY
from oci_images import write_image

from ansible_collections.edgeml.fleet.plugins.filter.service_problems import service_problems

WHEELS = {
    "aarch64": {"onnxruntime": ["cp39", "cp313"], "ai-edge-litert": ["cp39"], "onnxruntime-qnn": ["cp313"]},
    "armv7l": {"tflite-runtime": ["cp39"]},
}
VALUES: dict[str, Any] = {
    "allow_unprotected": False,
    "credentials": [],
    "execution_provider": "cpu",
    "image": "",
    "listen_address": "127.0.0.1",
    "lock": "",
    "quadlet": False,
    "runner": "native",
    "runtimes": [],
    "share": False,
    "tls_certificate": "",
    "tls_client_ca": "",
    "tls_keep": False,
    "tls_key": "",
}


def problems(architecture: str = "aarch64", python: str = "cp39", **values: Any) -> list[str]:
    return service_problems({**VALUES, **values}, architecture, python, WHEELS)


@pytest.fixture
def tls(tmp_path: Path) -> dict[str, str]:
    authority = Authority(tmp_path, "authority")
    certificate, key = (path.read_text() for path in authority.issue("server"))
    return {"tls_certificate": certificate, "tls_key": key, "tls_client_ca": authority.path.read_text()}


def test_the_defaults_are_fine() -> None:
    assert problems() == []


@pytest.mark.parametrize(
    ("values", "python", "expected"),
    [
        ({"execution_provider": "qnn"}, "cp313", ""),
        (
            {"execution_provider": "qnn"},
            "cp39",
            "onnxruntime-qnn for cp313, but this device is aarch64 with cp39",
        ),
        (
            {"execution_provider": "qnn", "runtimes": ["ai-edge-litert"]},
            "cp39",
            "without onnxruntime",
        ),
        ({"execution_provider": "tensorrt"}, "cp39", "name a lock that has them in inference_service_lock"),
        ({"execution_provider": "tensorrt", "lock": "jetson.txt"}, "cp314", ""),
        ({"execution_provider": "qnn", "runner": "docker"}, "cp313", "only a native service opens an accelerator"),
    ],
)
def test_an_execution_provider_needs_its_packages(values: dict[str, Any], python: str, expected: str) -> None:
    found = problems(python=python, **values)
    assert (len(found), expected in "".join(found)) == (1 if expected else 0, True), found


def test_each_runner_needs_its_service_manager() -> None:
    def with_manager(service_mgr: str, **values: Any) -> list[str]:
        return service_problems({**VALUES, **values}, "aarch64", "cp39", WHEELS, service_mgr)

    assert with_manager("supervisord", runner="supervisor") == []
    assert with_manager("systemd", runner="supervisor") == [
        "inference_service_runner is supervisor, which needs supervisord; the device has systemd"
    ]
    assert with_manager("supervisord", runner="podman") == [
        "inference_service_runner is podman, which needs systemd; the device has supervisord"
    ]
    assert with_manager("supervisord", runner="supervisor", share=True) == [
        "inference_service_share needs systemd; the device has supervisord"
    ]


def test_what_is_of_containers_needs_one() -> None:
    assert problems(runner="podman", quadlet=True) == []
    assert problems(runner="docker", quadlet=True) == [
        "inference_service_quadlet is of Podman, but inference_service_runner is docker"
    ]
    (problem,) = problems(runner="docker", runtimes=["onnxruntime"])
    assert problem.endswith("inference_service_runner is docker: the runtimes are those of its image")
    (problem,) = problems(image="/images/arm64.tar")
    assert problem.endswith("is native, which has no image: expected one of docker, podman, k3s")


def test_an_image_is_for_the_devices_architecture(tmp_path: Path) -> None:
    image = tmp_path / "image.tar"
    write_image(image, [], {"onnxruntime": "1.32.0"}, "aarch64")
    assert problems(runner="podman", image=str(image)) == []
    for architecture in ("x86_64", "armv7l"):
        expected = f"inference_service_image {image} is built for arm64, but this device is {architecture}"
        assert problems(architecture, runner="podman", image=str(image)) == [expected]
    image.write_bytes(b"")
    with pytest.raises(AnsibleFilterError, match="expected an archive of an OCI layout with one image"):
        problems(runner="podman", image=str(image))


@pytest.mark.parametrize("runtimes", [[], ["onnxruntime"], ["ai-edge-litert", "onnxruntime"]])
def test_runtimes_that_there_are_wheels_of(runtimes: list[str]) -> None:
    assert problems(runtimes=runtimes) == []


def test_other_runtimes_and_architectures_are_refused() -> None:
    assert problems("riscv64") == [
        "the inference server has wheels for aarch64, armv7l, but this device is riscv64",
    ]
    (problem,) = problems("armv7l", runtimes=["onnxruntime"])
    assert problem == (
        "inference_service_runtimes is onnxruntime, but for this device (armv7l) there are wheels of "
        "tflite-runtime only"
    )


def test_a_python_without_wheels_is_refused() -> None:
    assert problems(python="cp313") == []
    assert problems(python="cp38") == [
        "there are wheels of onnxruntime for cp39, cp313, but the Python of this device is cp38"
    ]
    assert problems(python="cp313", runtimes=["ai-edge-litert", "onnxruntime"]) == [
        "there are wheels of ai-edge-litert for cp39, but the Python of this device is cp313"
    ]


def test_the_role_promises_the_wheels_that_are_locked() -> None:
    role = REPOSITORY / "roles/inference_service"
    wheels = yaml.safe_load((role / "vars/main.yml").read_text())["__inference_service_wheels"]
    for architecture, runtimes in wheels.items():
        for runtime, pythons in runtimes.items():
            locked = [
                path.stem
                for path in (role / "files/requirements").glob("cp*.txt")
                if f"\n{runtime}==" in f"\n{path.read_text()}"
            ]
            assert sorted(pythons) == sorted(locked), f"{architecture}: {runtime}"


@pytest.mark.parametrize("address", ["127.0.0.1", "127.1.2.3", "::1", "localhost"])
def test_loopback_needs_no_protection(address: str) -> None:
    assert problems(listen_address=address) == []


@pytest.mark.parametrize("address", ["0.0.0.0", "::", "192.0.2.1", "127.evil.example", "localhost.example", ""])
def test_the_network_needs_protection(address: str, tls: dict[str, str]) -> None:
    credentials = [{"name": "a", "secret": "0123456789abcdef"}]
    for incomplete in ({}, {"credentials": credentials}, {**tls, "tls_client_ca": ""}):
        (problem,) = problems(listen_address=address, **incomplete)
        assert problem.startswith(f"inference_service_listen_address is {address}, so that everybody")
    for complete in ({"allow_unprotected": True}, tls, {**tls, "tls_client_ca": "", "credentials": credentials}):
        assert problems(listen_address=address, **complete) == []


def test_half_of_what_tls_needs_is_refused(tls: dict[str, str]) -> None:
    for name in ("tls_certificate", "tls_key"):
        assert problems(**{name: tls[name]}) == [
            "inference_service_tls_certificate and inference_service_tls_key belong together"
        ]
    (problem,) = problems(tls_client_ca=tls["tls_client_ca"])
    assert problem.startswith("inference_service_tls_client_ca needs both ")


def test_what_the_server_could_not_load_is_refused(tls: dict[str, str]) -> None:
    (problem,) = problems(**{**tls, "tls_key": tls["tls_key"][:40]})
    assert problem.endswith("the key is not PEM, or of an unknown kind")
