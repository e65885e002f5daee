# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Endpoints that change what is served (the protocol's repository extension, and shadows), and for feedback."""

from __future__ import annotations

import asyncio
from concurrent.futures import Executor
from typing import Any, Callable

from edgeml_device._common.records import is_number

from edgeml_server.common.errors import InvalidRequestError
from edgeml_server.common.tensors import shown
from edgeml_server.models.repository import ModelRepository
from edgeml_server.observe.feedback import Feedback
from edgeml_server.observe.observer import Observer

from .body import BodyReader
from .messages import Request, Response, json_response

SHADOW_SECONDS_MAX = 30 * 86400


class RepositoryEndpoints:
    """Loads, unloads and shadows models in ``loader``, the one thread that changes what is served."""

    def __init__(self, repository: ModelRepository, loader: Executor, bodies: BodyReader) -> None:
        self._repository = repository
        self._loader = loader
        self._bodies = bodies

    async def index(self, request: Request) -> Response:
        """Every model of the server and of the store, with its state."""
        options = await self._bodies.read_options(request, {"ready"})
        entries = await self._in_loader(self._repository.index)
        if options.get("ready"):
            entries = [entry for entry in entries if entry["state"] == "READY"]
        return json_response(entries)

    async def load(self, request: Request) -> Response:
        """Serve the store's active version of the model."""
        await self._bodies.read_options(request, {"parameters"})
        served = await self._in_loader(self._repository.load, request.model)
        return json_response({"name": served.name, "version": served.version, "digest": served.digest})

    async def unload(self, request: Request) -> Response:
        """Stop serving the model."""
        await self._bodies.read_options(request, {"parameters"})
        await self._in_loader(self._repository.unload, request.model)
        return json_response({"name": request.model})

    async def start_shadow(self, request: Request) -> Response:
        """Mirror the model's requests to another version, which the body names, for as long as it says."""
        options = await self._bodies.read_options(request, {"version", "seconds"})
        version, seconds = options.get("version"), options.get("seconds")
        if not isinstance(version, str):
            raise InvalidRequestError(f"version: expected the version that is to be the shadow; found {shown(version)}")
        if seconds is not None and (not is_number(seconds) or not 0 < seconds <= SHADOW_SECONDS_MAX):
            expected = f"a number above 0, of at most {SHADOW_SECONDS_MAX}"
            raise InvalidRequestError(f"seconds: expected {expected}; found {shown(seconds)}")
        candidate = await self._in_loader(self._repository.start_shadow, request.model, version, seconds)
        return json_response({"name": candidate.name, "version": candidate.version, "digest": candidate.digest})

    async def stop_shadow(self, request: Request) -> Response:
        """End the model's shadow and return its counts."""
        await self._bodies.read_options(request, {"parameters"})
        shadow = await self._in_loader(self._repository.stop_shadow, request.model)
        return json_response(
            {
                "name": request.model,
                "version": shadow.version,
                "active_version": shadow.active_version,
                **shadow.counts,
            }
        )

    async def _in_loader(self, call: Callable[..., Any], *arguments: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._loader, call, *arguments)


class FeedbackEndpoint:
    """Takes true labels for earlier predictions."""

    def __init__(self, observer: Observer, feedback: Feedback, bodies: BodyReader) -> None:
        self._observer = observer
        self._feedback = feedback
        self._bodies = bodies

    async def take(self, request: Request) -> Response:
        """Compare the label in the body with the prediction in the log."""
        document = await self._bodies.read_json(request)
        taken = self._observer.with_log(lambda log: self._feedback.take(log, request.name, request.model, document))
        return json_response(await asyncio.wrap_future(taken))
