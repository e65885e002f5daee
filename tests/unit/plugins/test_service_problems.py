# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which options of the role inference_service are refused. Certificates: test_tls_problems.py."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from certificates import Authority

from ansible_collections.edgeml.fleet.plugins.filter.service_problems import service_problems

WHEELS = {"aarch64": ["onnxruntime", "ai-edge-litert"], "armv7l": ["tflite-runtime"]}
VALUES: dict[str, Any] = {
    "allow_unprotected": False,
    "credentials": [],
    "listen_address": "127.0.0.1",
    "runtimes": [],
    "tls_certificate": "",
    "tls_client_ca": "",
    "tls_key": "",
}


def problems(architecture: str = "aarch64", **values: Any) -> list[str]:
    return service_problems({**VALUES, **values}, architecture, WHEELS)


@pytest.fixture
def tls(tmp_path: Path) -> dict[str, str]:
    authority = Authority(tmp_path, "authority")
    certificate, key = (path.read_text() for path in authority.issue("server"))
    return {"tls_certificate": certificate, "tls_key": key, "tls_client_ca": authority.path.read_text()}


def test_the_defaults_are_fine() -> None:
    assert problems() == []


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
