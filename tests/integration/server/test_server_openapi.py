# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The server does what its OpenAPI description says, whatever it is sent: Schemathesis makes the requests."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import edgeml_server
import onnx_models
import pytest
import requests
import schemathesis
import urllib3
from hypothesis import HealthCheck, given, settings
from releases import make_pipeline
from requests.adapters import HTTPAdapter
from schemathesis.checks import CheckFunction
from schemathesis.core.result import Ok
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi import checks
from server_process import GUARD_SECONDS, Device

DESCRIPTION = Path(edgeml_server.__file__).parent / "http" / "openapi.json"
CHECKS: list[CheckFunction] = [
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_headers_conformance,
    checks.response_schema_conformance,
    checks.unsupported_method,
]
ALLOWED_5XX = {503, 504}


def _operations() -> list[Any]:
    """The described operations. Among the names that are tried are those of what there is."""
    document = json.loads(DESCRIPTION.read_text())
    parameters = document["components"]["parameters"]
    for name, values in (("Model", ("plus", "reader")), ("Part", ("detector",)), ("Version", ("1.0.0",))):
        parameters[name]["schema"] = {"anyOf": [*({"const": value} for value in values), parameters[name]["schema"]]}
    found = schemathesis.openapi.from_dict(document).get_all_operations()
    return [operation.ok() for operation in found if isinstance(operation, Ok)]


def _cases() -> list[Any]:
    """Each operation with requests that fit its description, and those with a body with some that do not.

    What only the Unix socket answers is tried over both.
    """
    return [
        pytest.param(operation, mode, local, id=f"{operation.label} {mode.value}{' unix' if local else ''}")
        for operation in _operations()
        for mode in GenerationMode
        if mode is GenerationMode.POSITIVE or operation.body
        for local in ((False, True) if "/repository/" in operation.label else (False,))
    ]


class UnixAdapter(HTTPAdapter):
    """Sends requests over a Unix socket."""

    def __init__(self, device: Device) -> None:
        super().__init__()
        self._device = device

    def get_connection_with_tls_context(self, *_arguments: Any, **_options: Any) -> Any:
        return _UnixPool(self._device)


class _UnixPool(urllib3.HTTPConnectionPool):
    def __init__(self, device: Device) -> None:
        super().__init__("localhost")
        self._device = device

    def _new_conn(self) -> Any:
        connection = urllib3.connection.HTTPConnection("localhost", timeout=GUARD_SECONDS)
        connection.sock = self._device.connect(local=True).sock
        return connection


@pytest.fixture(scope="module")
def described(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Device]:
    device = Device(tmp_path_factory.mktemp("device"))
    try:
        device.publish("plus", "1.1.0", onnx_models.plus(2))
        device.publish("plus", "1.0.0", onnx_models.plus(1))
        device.publish_release(make_pipeline("1.0.0", "reader", {"detector": onnx_models.plus(1)}))
        device.start(max_request_bytes=100_000, prediction_log=str(device.directory / "predictions.db"))
        yield device
    finally:
        device.stop()


@pytest.mark.parametrize(("operation", "mode", "local"), _cases())
def test_every_operation_answers_as_described(
    described: Device, operation: Any, mode: GenerationMode, local: bool
) -> None:
    with requests.Session() as session:
        if local:
            session.mount("http://", UnixAdapter(described))

        @settings(max_examples=20, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
        @given(operation.as_strategy(generation_mode=mode))
        def answers(case: Any) -> None:
            base_url = f"http://127.0.0.1:{described.port}"
            response = case.call(base_url=base_url, session=session, timeout=GUARD_SECONDS)
            assert response.status_code < 500 or response.status_code in ALLOWED_5XX, response.text
            case.validate_response(response, checks=CHECKS)

        answers()
    assert described.request("POST", "/v2/repository/models/plus/load", local=True).status == 200


def test_the_description_is_served_as_it_is_shipped(described: Device) -> None:
    reply = described.get("/v2/openapi.json")
    assert reply.body == DESCRIPTION.read_bytes()
    assert reply.json()["info"]["version"] == edgeml_server.__version__


def test_the_readme_lists_what_is_described() -> None:
    readme = (DESCRIPTION.resolve().parents[3] / "README.md").read_text(encoding="utf-8")
    listed = set()
    for method, path in re.findall(r"^\| `(GET|POST) (/[^`]*)` \|", readme, re.MULTILINE):
        path = path.replace("{m}", "{model}").replace("{v}", "{version}")
        listed |= {(method, re.sub(r"\[.*?\]", "", path)), (method, path.replace("[", "").replace("]", ""))}
    described = json.loads(DESCRIPTION.read_text())["paths"]
    assert listed == {(method.upper(), path) for path, methods in described.items() for method in methods}


def test_every_error_is_described_as_one(described: Device) -> None:
    document = json.loads(DESCRIPTION.read_text())
    for name, response in document["components"]["responses"].items():
        if name != "Inference":
            assert response["content"]["application/json"]["schema"] == {"$ref": "#/components/schemas/Error"}
