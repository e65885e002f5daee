# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The table of URLs: each leads to one endpoint, by one method."""

from __future__ import annotations

from typing import NamedTuple

from edgeml_device._release.manifest import RESERVED_PARTS

from .inference import InferenceEndpoint
from .messages import Endpoint
from .metadata import MetadataEndpoints
from .repository import FeedbackEndpoint, RepositoryEndpoints

OPEN_PATHS = ("/v2/health/live", "/v2/health/ready")
"""What load balancers and orchestrators ask without a credential. They learn yes or no."""


class Route(NamedTuple):
    """The endpoint of a URL, its method, and the model, its part and the version in the URL."""

    method: str
    endpoint: Endpoint
    model: str = ""
    part: str = ""
    version: str | None = None
    unix_socket_only: bool = False
    of_current_process: bool = False
    """Whether only the process that accepts connections can answer, and not one that has handed over."""


class Router:
    """Finds the route of a path."""

    def __init__(
        self,
        metadata: MetadataEndpoints,
        inference: InferenceEndpoint,
        repository: RepositoryEndpoints,
        feedback: FeedbackEndpoint,
    ) -> None:
        self._metadata = metadata
        self._inference = inference
        self._feedback = feedback
        self._fixed = {
            "/metrics": Route("GET", metadata.metrics, of_current_process=True),
            "/v2": Route("GET", metadata.server),
            "/v2/": Route("GET", metadata.server),
            "/v2/openapi.json": Route("GET", metadata.openapi),
            "/v2/health/live": Route("GET", metadata.live),
            "/v2/health/ready": Route("GET", metadata.ready),
            "/v2/repository/index": Route("POST", repository.index, unix_socket_only=True, of_current_process=True),
        }
        self._model_changes: dict[str, Endpoint] = {
            "load": repository.load,
            "unload": repository.unload,
            "shadow": repository.start_shadow,
            "unshadow": repository.stop_shadow,
        }

    def find(self, path: str) -> Route | None:
        """Return the route of ``path``, or None when there is no such URL."""
        fixed = self._fixed.get(path)
        if fixed is not None:
            return fixed
        parts = path.split("/")
        if parts[:3] == ["", "v2", "models"] and len(parts) > 3:
            return self._model_route(parts[3], parts[4:])
        if parts[:4] == ["", "v2", "repository", "models"] and len(parts) == 6 and parts[5] in self._model_changes:
            return Route(
                "POST", self._model_changes[parts[5]], model=parts[4], unix_socket_only=True, of_current_process=True
            )
        return None

    def _model_route(self, model: str, rest: list[str]) -> Route | None:
        part, version = "", None
        if rest and rest[0] and rest[0] not in RESERVED_PARTS:
            part, rest = rest[0], rest[1:]
        if rest[:1] == ["versions"] and len(rest) > 1:
            version, rest = rest[1], rest[2:]
        if not rest:
            return Route("GET", self._metadata.model, model, part, version)
        if rest == ["ready"]:
            return Route("GET", self._metadata.model_ready, model, part, version)
        if rest == ["infer"]:
            return Route("POST", self._inference.infer, model, part, version)
        if rest == ["feedback"] and version is None:
            return Route("POST", self._feedback.take, model, part, of_current_process=True)
        return None
