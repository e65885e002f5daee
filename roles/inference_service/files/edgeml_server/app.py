# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The HTTP interface: routes, limits, replies and their metrics. Every error is ``{"error": "…"}``."""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import time
from collections.abc import Awaitable, Mapping
from concurrent.futures import Executor
from pathlib import Path
from typing import Any, Callable, NamedTuple

from . import __version__, json_codec
from .errors import (
    DeadlineError,
    ForbiddenError,
    HeaderTooLargeError,
    InvalidRequestError,
    MethodNotAllowedError,
    NotFoundError,
    RequestError,
    TooLargeError,
    UnauthorizedError,
    UnavailableError,
)
from .executor import InferenceExecutor, Job
from .feedback import Feedback
from .guard import Guard
from .inference import Answer, infer
from .log import Log
from .metrics import CONTENT_TYPE, Metrics
from .observer import Observer
from .prediction_log import Record
from .repository import ModelRepository, ServedModel
from .shadow import Copy
from .tensors import Array, TensorSpec, shown

Receive = Callable[[], Awaitable[Mapping[str, Any]]]
Send = Callable[[Mapping[str, Any]], Awaitable[None]]

SERVER_NAME = "edgeml"
_DESCRIPTION = Path(__file__).with_name("openapi.json")
EXTENSIONS = ["binary_tensor_data", "model_repository", "edgeml_feedback"]
LOCAL = "edgeml_local"
"""Key of ``scope["state"]``: whether the request came in by the Unix socket."""
LAST = "edgeml_last"
"""Key of ``scope["state"]``: whether the connection is to be closed after this request."""

_JSON = b"application/json"
_RETRY_AFTER_SECONDS = b"1"
_PROBE_HEADER = b"edgeml-probe"
# Requests of the largest size that may be in memory at once.
_LARGEST_BODIES = 4
# Parts of a body that are smaller are put together as they come.
_PIECE_BYTES = 32 << 10
_LENGTH_DIGITS = 18
_DEADLINE_MS_MOST = 86_400_000

# What a load balancer or an orchestrator asks, who has no credential. It learns yes or no.
_OPEN_PATHS = ("/v2/health/live", "/v2/health/ready")

MAX_HEADER_FIELDS = 100
MAX_HEADER_BYTES = 32 << 10

_log = Log(__name__)


class Request(NamedTuple):
    """What a handler needs of a request."""

    receive: Receive
    headers: Mapping[bytes, bytes]
    model: str = ""
    version: str | None = None
    trusted: bool = True
    """Whether the client was let in; only health is answered to others."""
    is_probe: bool = False
    """Whether the device itself asks, to measure the model: that is no traffic."""


class Response(NamedTuple):
    """What a handler answers."""

    body: bytes
    status: int = 200
    content_type: bytes = _JSON
    headers: tuple[tuple[bytes, bytes], ...] = ()


Handler = Callable[[Request], Awaitable[Response]]


class Route(NamedTuple):
    """The handler of a URL, its one method, and the model and version in the URL."""

    method: str
    handler: Handler
    model: str = ""
    version: str | None = None
    local_only: bool = False


class ClientGoneError(Exception):
    """The client closed the connection before its request was complete."""


class Application:
    """The ASGI application. ``phase`` is ``starting``, ``serving`` or ``stopping``; whoever runs it sets it.

    So is ``guard``, which decides who is let in over TCP; None lets everybody in.
    """

    def __init__(
        self,
        repository: ModelRepository,
        executor: InferenceExecutor,
        operator: Executor,
        observer: Observer,
        metrics: Metrics,
        max_request_bytes: int,
        deadline_ms: int,
    ) -> None:
        self._repository = repository
        self._executor = executor
        self._operator = operator
        self._observer = observer
        self._feedback = Feedback(metrics)
        self._metrics = metrics
        self._max_request_bytes = max_request_bytes
        self._deadline_ms = deadline_ms
        self._repository_calls: Mapping[str, Handler] = {
            "load": self._load,
            "unload": self._unload,
            "shadow": self._start_shadow,
            "unshadow": self._stop_shadow,
        }
        self._body_bytes = 0
        self.phase = "starting"
        self.guard: Guard | None = None

    async def __call__(self, scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        """Answer one request."""
        try:
            response = await self._answer(scope, receive)
        except ClientGoneError:
            return
        except RequestError as error:
            response = _error_response(error)
        except asyncio.CancelledError:
            # Uvicorn cancels what is not done when the time to drain is over.
            response = _error_response(UnavailableError("the server stopped before the request was done"))
        except Exception as error:
            _log.error("internal error", traceback=True, method=scope["method"], path=scope["path"])
            response = _error_response(RequestError(f"internal error: {error}"))
        headers = [
            (b"content-type", response.content_type),
            (b"content-length", b"%d" % len(response.body)),
            *response.headers,
        ]
        if self.phase == "stopping" or LAST in scope["state"]:
            headers.append((b"connection", b"close"))
        await send({"type": "http.response.start", "status": response.status, "headers": headers})
        await send({"type": "http.response.body", "body": response.body})

    async def _answer(self, scope: Mapping[str, Any], receive: Receive) -> Response:
        path: str = scope["path"]
        _check_header(scope["headers"])
        headers = dict(scope["headers"])
        if b"transfer-encoding" in headers and b"content-length" in headers:
            # A proxy in front may have believed the other, and take what follows for a request of its own.
            scope["state"][LAST] = True
            raise InvalidRequestError("expected either Content-Length or Transfer-Encoding; found both")
        trusted = self.guard is None or scope["state"][LOCAL]
        if not trusted and path not in _OPEN_PATHS:
            await self._let_in(headers)
            trusted = True
        route = self._route(path)
        if route is None:
            raise NotFoundError(f"no such URL: {shown(path)}")
        method = "GET" if scope["method"] == "HEAD" else scope["method"]
        if method != route.method:
            allowed = "GET, HEAD" if route.method == "GET" else route.method
            raise MethodNotAllowedError(f"{path}: expected {allowed}; found {scope['method']}", allowed)
        if route.local_only and not scope["state"][LOCAL]:
            raise ForbiddenError("models are loaded and unloaded over the server's Unix socket only")
        is_probe = scope["state"][LOCAL] and _PROBE_HEADER in headers
        return await route.handler(Request(receive, headers, route.model, route.version, trusted, is_probe))

    async def _let_in(self, headers: Mapping[bytes, bytes]) -> None:
        assert self.guard is not None
        try:
            await self.guard.let_in(headers.get(b"authorization"))
        except UnauthorizedError:
            self._metrics.unauthorized.inc()
            raise

    def _route(self, path: str) -> Route | None:
        parts = path.split("/")
        if parts[1:2] != ["v2"]:
            return Route("GET", self._metrics_page) if path == "/metrics" else None
        rest = parts[2:]
        if rest in ([], [""]):
            return Route("GET", self._server_metadata)
        if rest[0] == "models" and len(rest) > 1:
            return self._model_route(rest[1], rest[2:])
        if rest[:2] == ["repository", "models"] and len(rest) == 4 and rest[3] in self._repository_calls:
            return Route("POST", self._repository_calls[rest[3]], rest[2], local_only=True)
        return {
            "openapi.json": Route("GET", self._description),
            "health/live": Route("GET", self._live),
            "health/ready": Route("GET", self._ready),
            "repository/index": Route("POST", self._index, local_only=True),
        }.get("/".join(rest))

    def _model_route(self, model: str, rest: list[str]) -> Route | None:
        version = None
        if rest[:1] == ["versions"] and len(rest) > 1:
            version, rest = rest[1], rest[2:]
        if not rest:
            return Route("GET", self._model_metadata, model, version)
        if rest == ["ready"]:
            return Route("GET", self._model_ready, model, version)
        if rest == ["infer"]:
            return Route("POST", self._infer, model, version)
        if rest == ["feedback"] and version is None:
            return Route("POST", self._take_feedback, model)
        return None

    # ---- health and metadata ----

    async def _live(self, _request: Request) -> Response:
        return _json_response({"live": True})

    async def _ready(self, request: Request) -> Response:
        reason = self._reason_not_ready()
        if reason is not None and not request.trusted:
            reason = "not ready"
        if reason is None:
            return _json_response({"live": True, "ready": True})
        return _json_response({"live": True, "ready": False, "error": reason}, 503)

    async def _server_metadata(self, _request: Request) -> Response:
        return _json_response({"name": SERVER_NAME, "version": __version__, "extensions": EXTENSIONS})

    async def _description(self, _request: Request) -> Response:
        return Response(_DESCRIPTION.read_bytes())

    async def _model_ready(self, request: Request) -> Response:
        try:
            served = self._lease(request)
        except UnavailableError as error:
            return _json_response({"name": request.model, "ready": False, "error": str(error)}, 503)
        served.release()
        return _json_response({"name": request.model, "ready": True})

    async def _model_metadata(self, request: Request) -> Response:
        served = self._lease(request)
        try:
            document = {
                "name": served.name,
                "versions": [served.version],
                "platform": served.backend.platform,
                "inputs": [_metadata_of(spec) for spec in served.backend.inputs],
                "outputs": [_metadata_of(spec) for spec in served.backend.outputs],
            }
        finally:
            served.release()
        return _json_response(document)

    async def _metrics_page(self, _request: Request) -> Response:
        return Response(self._metrics.exposition(), content_type=CONTENT_TYPE.encode("ascii"))

    # ---- inference ----

    async def _infer(self, request: Request) -> Response:
        labels = ("", "")
        code = 500
        size = 0
        failure: str | None = None
        answer: Answer | None = None
        arrived = started = time.perf_counter()
        try:
            deadline = self._deadline(request.headers)
            header_length = _header_length(request.headers)
            encoding = request.headers.get(b"content-encoding", b"identity")
            if encoding != b"identity":
                raise InvalidRequestError(f"Content-Encoding: expected none; found {shown(encoding)}")
            body = await self._read_body(request)
            size = len(body)
            started = time.perf_counter()
            served = self._lease(request)
            labels = (served.name, served.version)
            call = functools.partial(infer, served.backend, served.name, served.version, body, header_length, arrived)
            try:
                job = self._executor.submit(call, at_end=served.release)
            except UnavailableError:
                served.release()
                raise
            del body, call
            answer = await self._result(job, deadline)
            code = 200
            if not request.is_probe:
                self._metrics.duration.labels(*labels).observe(time.perf_counter() - started)
        except RequestError as error:
            code, failure = error.status, str(error)
            raise
        except asyncio.CancelledError:
            code, failure = UnavailableError.status, "the server stopped before the request was done"
            raise
        except ClientGoneError:
            code = 0
            raise
        except Exception as error:
            failure = f"internal error: {error}"
            raise
        finally:
            self._body_bytes -= size
            if code and not request.is_probe:
                self._metrics.requests.labels(*labels, str(code)).inc()
                self._note(labels, code, time.perf_counter() - started, size, answer, failure)
        reply = answer.reply
        if reply.header_length is None:
            return Response(reply.body)
        headers = ((b"inference-header-content-length", b"%d" % reply.header_length),)
        return Response(reply.body, content_type=b"application/octet-stream", headers=headers)

    def _deadline(self, headers: Mapping[bytes, bytes]) -> float | None:
        """When the event loop's clock has it that the request is too late: what it asks for or the server's limit."""
        milliseconds = self._deadline_ms
        value = headers.get(b"inference-timeout-ms")
        if value is not None:
            if not (value.isdigit() and len(value) <= _LENGTH_DIGITS and 1 <= int(value) <= _DEADLINE_MS_MOST):
                raise InvalidRequestError(
                    f"Inference-Timeout-Ms: expected a whole number from 1 to {_DEADLINE_MS_MOST}; found {shown(value)}"
                )
            milliseconds = min(int(value), milliseconds or _DEADLINE_MS_MOST)
        return asyncio.get_running_loop().time() + milliseconds / 1000 if milliseconds else None

    async def _result(self, job: Job[Answer], deadline: float | None) -> Answer:
        late = False

        def give_up() -> None:
            nonlocal late
            late = True
            job.result.cancel()

        timer = None if deadline is None else asyncio.get_running_loop().call_at(deadline, give_up)
        try:
            return await job.result
        except asyncio.CancelledError:
            waited = job.withdraw()
            if not late:
                raise
            raise DeadlineError(f"the deadline came while the request {'waited' if waited else 'ran'}") from None
        finally:
            if timer is not None:
                timer.cancel()

    def _note(
        self, labels: tuple[str, str], code: int, seconds: float, size: int, answer: Answer | None, failure: str | None
    ) -> None:
        request_id: str | None = None
        inputs: Mapping[str, Array] = {}
        outputs: Mapping[str, Array] = {}
        if answer is not None:
            request_id, inputs, outputs = answer.request.id, answer.request.inputs, answer.outputs
            shadow = self._repository.shadow(labels[0])
            if shadow is not None and shadow.active_version == labels[1]:
                shadow.offer(Copy(inputs, outputs, answer.run_seconds, size))
        self._observer.offer(Record(time.time(), *labels, request_id, code, seconds, inputs, outputs, failure), size)

    async def _take_feedback(self, request: Request) -> Response:
        document = await self._read_json(request)
        taken = self._observer.with_log(lambda log: self._feedback.take(log, request.model, document))
        return _json_response(await asyncio.wrap_future(taken))

    # ---- the model repository extension ----

    async def _index(self, request: Request) -> Response:
        options = await self._read_options(request, {"ready"})
        entries = await self._as_operator(self._repository.index)
        if options.get("ready"):
            entries = [entry for entry in entries if entry["state"] == "READY"]
        return _json_response(entries)

    async def _load(self, request: Request) -> Response:
        await self._read_options(request, {"parameters"})
        served = await self._as_operator(self._repository.load, request.model)
        return _json_response({"name": served.name, "version": served.version, "digest": served.digest})

    async def _unload(self, request: Request) -> Response:
        await self._read_options(request, {"parameters"})
        await self._as_operator(self._repository.unload, request.model)
        return _json_response({"name": request.model})

    async def _start_shadow(self, request: Request) -> Response:
        version = (await self._read_options(request, {"version"})).get("version")
        if not isinstance(version, str):
            raise InvalidRequestError(f"version: expected the version that is to be the shadow; found {shown(version)}")
        candidate = await self._as_operator(self._repository.start_shadow, request.model, version)
        return _json_response({"name": candidate.name, "version": candidate.version, "digest": candidate.digest})

    async def _stop_shadow(self, request: Request) -> Response:
        await self._read_options(request, {"parameters"})
        shadow = await self._as_operator(self._repository.stop_shadow, request.model)
        return _json_response(
            {
                "name": request.model,
                "version": shadow.version,
                "active_version": shadow.active_version,
                **dataclasses.asdict(shadow.tally),
            }
        )

    async def _as_operator(self, call: Callable[..., Any], *arguments: str) -> Any:
        """Run what may take long in the one thread that changes what is served."""
        return await asyncio.get_running_loop().run_in_executor(self._operator, call, *arguments)

    async def _read_options(self, request: Request, known: set[str]) -> Mapping[str, Any]:
        options = await self._read_json(request, {})
        if not isinstance(options, dict) or set(options) - known:
            raise InvalidRequestError(f"expected an object with {', '.join(known)}; found {shown(options)}")
        return options

    async def _read_json(self, request: Request, default: Any = None) -> Any:
        """Return the parsed body, ``default`` for an empty one."""
        body = await self._read_body(request)
        self._body_bytes -= len(body)
        if not body:
            return default
        try:
            return json_codec.loads(body)
        except ValueError as error:
            raise InvalidRequestError(f"expected JSON or nothing: {error}") from error

    # ---- the parts ----

    def _lease(self, request: Request) -> ServedModel:
        try:
            return self._repository.lease(request.model, request.version)
        except NotFoundError:
            if self.phase == "starting":
                raise UnavailableError("the server is starting: not all models are loaded yet") from None
            raise

    def _reason_not_ready(self) -> str | None:
        if self.phase != "serving":
            return f"the server is {self.phase}"
        failures = self._repository.failures()
        return "; ".join(f"model {model!r}: {reason}" for model, reason in failures.items()) or None

    async def _read_body(self, request: Request) -> bytes:
        """Return the whole body. Its size counts in ``_body_bytes``; the caller takes it off when done with it."""
        declared = request.headers.get(b"content-length", b"0")
        if declared.isdigit() and int(declared) > self._max_request_bytes:
            raise TooLargeError(f"expected a body of at most {self._max_request_bytes} bytes; found {int(declared)}")
        pieces: list[bytes | bytearray] = []
        size = 0
        try:
            while True:
                message = await request.receive()
                if message["type"] != "http.request":
                    raise ClientGoneError
                chunk: bytes = message.get("body", b"")
                size += len(chunk)
                self._body_bytes += len(chunk)
                if size > self._max_request_bytes:
                    raise TooLargeError(f"expected a body of at most {self._max_request_bytes} bytes; found more")
                if self._body_bytes > _LARGEST_BODIES * self._max_request_bytes:
                    raise UnavailableError(f"busy: {self._body_bytes} bytes of requests are in memory; try again")
                if message.get("more_body", False):
                    _add_piece(pieces, chunk)
                elif pieces:
                    return b"".join([*pieces, chunk])
                else:
                    return chunk
        except BaseException:
            self._body_bytes -= size
            raise


def _add_piece(pieces: list[bytes | bytearray], chunk: bytes) -> None:
    """Append a part of a body. What a client sends byte by byte takes no more memory than its size."""
    if len(chunk) >= _PIECE_BYTES:
        pieces.append(chunk)
    elif pieces and isinstance(pieces[-1], bytearray) and len(pieces[-1]) < _PIECE_BYTES:
        pieces[-1] += chunk
    else:
        pieces.append(bytearray(chunk))


def _check_header(headers: list[tuple[bytes, bytes]]) -> None:
    if len(headers) > MAX_HEADER_FIELDS:
        raise HeaderTooLargeError(f"expected at most {MAX_HEADER_FIELDS} header fields; found {len(headers)}")
    size = sum([len(name) + len(value) for name, value in headers])
    if size > MAX_HEADER_BYTES:
        raise HeaderTooLargeError(f"expected a header of at most {MAX_HEADER_BYTES} bytes; found {size}")


def _header_length(headers: Mapping[bytes, bytes]) -> int | None:
    value = headers.get(b"inference-header-content-length")
    if value is None:
        return None
    if not value.isdigit() or len(value) > _LENGTH_DIGITS:
        raise InvalidRequestError(f"Inference-Header-Content-Length: expected a number; found {shown(value)}")
    return int(value)


def _metadata_of(spec: TensorSpec) -> dict[str, Any]:
    return {"name": spec.name, "datatype": spec.datatype, "shape": list(spec.shape)}


def _json_response(document: Any, status: int = 200) -> Response:
    return Response(json_codec.dumps(document), status)


def _error_response(error: RequestError) -> Response:
    headers: tuple[tuple[bytes, bytes], ...] = ()
    if isinstance(error, UnavailableError):
        headers = ((b"retry-after", _RETRY_AFTER_SECONDS),)
    elif isinstance(error, UnauthorizedError):
        headers = ((b"www-authenticate", b'Basic realm="edgeml", charset="UTF-8"'), (b"www-authenticate", b"Bearer"))
    elif isinstance(error, MethodNotAllowedError):
        headers = ((b"allow", error.allowed.encode("ascii")),)
    return Response(json_codec.dumps({"error": str(error)}), error.status, headers=headers)
