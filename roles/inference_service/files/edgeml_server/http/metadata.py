# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Endpoints for health, metadata, metrics and the API's description."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from edgeml_server import __version__
from edgeml_server.common.errors import NotFoundError, UnavailableError
from edgeml_server.common.tensors import TensorSpec
from edgeml_server.models.loading import LoadedModel
from edgeml_server.models.repository import ModelRepository
from edgeml_server.models.served import ServedModel, full_name
from edgeml_server.observe.metrics import CONTENT_TYPE, Metrics

from .lifecycle import Lifecycle, Phase
from .messages import Request, Response, json_response

SERVER_NAME = "edgeml"
EXTENSIONS = ["binary_tensor_data", "classification", "sequence", "model_repository", "edgeml_feedback"]

PIPELINE_PLATFORM = "edgeml_pipeline"

_METADATA_CHARACTERS_MAX = 1000

_OPENAPI = os.path.join(os.path.dirname(__file__), "openapi.json")


class MetadataEndpoints:
    """Answers questions about the server and its models."""

    def __init__(self, repository: ModelRepository, metrics: Metrics, lifecycle: Lifecycle) -> None:
        self._repository = repository
        self._metrics = metrics
        self._lifecycle = lifecycle

    async def live(self, _request: Request) -> Response:
        """Whether the process answers."""
        return json_response({"live": True})

    async def ready(self, request: Request) -> Response:
        """Whether every model that should be served is served; the reason, if not, is for trusted clients only."""
        reason = self._reason_not_ready()
        if reason is not None and not request.trusted:
            reason = "not ready"
        if reason is None:
            return json_response({"live": True, "ready": True})
        return json_response({"live": True, "ready": False, "error": reason}, 503)

    async def server(self, _request: Request) -> Response:
        """The server's name, version and protocol extensions."""
        return json_response({"name": SERVER_NAME, "version": __version__, "extensions": EXTENSIONS})

    async def openapi(self, _request: Request) -> Response:
        """The OpenAPI description of all endpoints."""
        return Response(_read(_OPENAPI))

    async def metrics(self, _request: Request) -> Response:
        """All metrics, in Prometheus' text format."""
        return Response(self._metrics.exposition(), content_type=CONTENT_TYPE.encode("ascii"))

    async def model_ready(self, request: Request) -> Response:
        """Whether the model is served."""
        try:
            served = lease(self._repository, self._lifecycle, request)
        except UnavailableError as error:
            return json_response({"name": request.name, "ready": False, "error": str(error)}, 503)
        try:
            if request.part:
                served.part(request.part)
        finally:
            served.release()
        return json_response({"name": request.name, "ready": True})

    async def model(self, request: Request) -> Response:
        """The model's version, inputs, outputs with the names of their classes, and what its file says about itself; of
        a pipeline its version and the names of its parts."""
        served = lease(self._repository, self._lifecycle, request)
        try:
            document: dict[str, Any] = {"name": request.name, "versions": [served.version]}
            if served.is_pipeline and not request.part:
                names = [full_name(served.name, part) for part in served.parts]
                parameters = {"parts": ",".join(names)}
                document.update(platform=PIPELINE_PLATFORM, inputs=[], outputs=[], parameters=parameters)
            else:
                document.update(_model_metadata(served.part(request.part)))
        finally:
            served.release()
        return json_response(document)

    def _reason_not_ready(self) -> str | None:
        if self._lifecycle.phase in (Phase.STARTING, Phase.STOPPING):
            return f"the server is {self._lifecycle.phase.value}"
        failures = self._repository.failures()
        return "; ".join(f"model {model!r}: {reason}" for model, reason in failures.items()) or None


def lease(repository: ModelRepository, lifecycle: Lifecycle, request: Request) -> ServedModel:
    """Return the model that the request's URL names, leased. Raises NotFoundError, UnavailableError."""
    try:
        return repository.lease(request.model, request.version)
    except NotFoundError:
        if lifecycle.phase is Phase.STARTING:
            raise UnavailableError("the server is starting: not all models are loaded yet") from None
        raise


def _model_metadata(part: LoadedModel) -> dict[str, Any]:
    backend = part.backend
    document: dict[str, Any] = {
        "platform": backend.platform,
        "inputs": [_tensor_metadata(spec) for spec in backend.inputs],
        "outputs": [_tensor_metadata(spec, part.classes.get(spec.name)) for spec in backend.outputs],
    }
    metadata = {key: value[:_METADATA_CHARACTERS_MAX] for key, value in backend.metadata.items()}
    return {**document, "parameters": metadata} if metadata else document


def _tensor_metadata(spec: TensorSpec, classes: Sequence[str] | None = None) -> dict[str, Any]:
    found: dict[str, Any] = {"name": spec.name, "datatype": spec.datatype, "shape": list(spec.shape)}
    return found if classes is None else {**found, "parameters": {"classes": list(classes)}}


def _read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()
