# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The inference endpoint: reads the body, runs the model in the executor, and reports what became of the request."""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import Mapping

from edgeml_server.common.errors import InvalidRequestError, RequestError, UnavailableError
from edgeml_server.common.tensors import Array, shown
from edgeml_server.models.executor import InferenceExecutor
from edgeml_server.models.inference import Answer, infer
from edgeml_server.models.loading import LoadedModel
from edgeml_server.models.repository import ModelRepository
from edgeml_server.models.served import ServedModel
from edgeml_server.observe.metrics import Metrics
from edgeml_server.observe.observer import Observer
from edgeml_server.observe.prediction_log import Record
from edgeml_server.observe.shadow import MirroredRequest

from .body import BodyReader
from .exchange import ClientGoneError
from .lifecycle import Lifecycle
from .limits import MAX_INTEGER_DIGITS, deadline, result_by
from .messages import Request, Response
from .metadata import lease


class InferenceEndpoint:
    """Answers inference requests. ``deadline_ms`` limits the time of each, 0 does not."""

    def __init__(
        self,
        repository: ModelRepository,
        executor: InferenceExecutor,
        observer: Observer,
        metrics: Metrics,
        lifecycle: Lifecycle,
        bodies: BodyReader,
        deadline_ms: int,
    ) -> None:
        self._repository = repository
        self._executor = executor
        self._observer = observer
        self._metrics = metrics
        self._lifecycle = lifecycle
        self._bodies = bodies
        self._deadline_ms = deadline_ms

    async def infer(self, request: Request) -> Response:
        """Run the model on the request's inputs. Raises RequestError and ClientGoneError."""
        labels = ("", "")
        code = 500
        size = 0
        failure: str | None = None
        answer: Answer | None = None
        served: ServedModel | None = None
        part: LoadedModel | None = None
        arrived = started = time.perf_counter()
        try:
            latest = deadline(request.headers, self._deadline_ms)
            header_length = _header_length(request.headers)
            encoding = request.headers.get(b"content-encoding", b"identity")
            if encoding != b"identity":
                raise InvalidRequestError(f"Content-Encoding: expected none; found {shown(encoding)}")
            body = await self._bodies.read(request, tensors_at=header_length)
            size = len(body)
            started = time.perf_counter()
            served = lease(self._repository, self._lifecycle, request)
            part = served.part(request.part)
            labels = (served.name, served.version)
            # One lease for the run, which continues when the client is gone, and one until the request is recorded.
            served.lease()
            call = functools.partial(
                infer,
                part.backend,
                request.name,
                served.version,
                part.classes,
                part.sequences,
                body,
                header_length,
                arrived,
            )
            timed = functools.partial(part.calls.run, call, size)
            if latest is None and part.calls.expects_quick(size) and self._executor.is_idle:
                try:
                    answer = timed()
                finally:
                    served.release()
            else:
                try:
                    job = self._executor.submit(timed, at_end=served.release)
                except UnavailableError:
                    served.release()
                    raise
                del body, call, timed
                answer = await result_by(job, latest)
            code = 200
            if not request.is_probe:
                self._metrics.observe_duration(*labels, request.part, seconds=time.perf_counter() - started)
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
            self._bodies.release(size)
            if code and not request.is_probe:
                self._metrics.count_request(*labels, request.part, code=code)
                self._record(request, labels, code, time.perf_counter() - started, size, answer, failure, part)
            if served is not None:
                served.release()
        reply = answer.reply
        if reply.header_length is None:
            return Response(reply.body)
        headers = ((b"inference-header-content-length", b"%d" % reply.header_length),)
        return Response(reply.body, content_type=b"application/octet-stream", headers=headers)

    def _record(
        self,
        request: Request,
        labels: tuple[str, str],
        code: int,
        seconds: float,
        size: int,
        answer: Answer | None,
        failure: str | None,
        part: LoadedModel | None,
    ) -> None:
        request_id: str | None = None
        inputs: Mapping[str, Array] = {}
        outputs: Mapping[str, Array] = {}
        in_sequence = False
        form = None if part is None else part.form
        if answer is not None:
            request_id, inputs, outputs = answer.request.id, answer.request.inputs, answer.outputs
            in_sequence = answer.request.place is not None
            shadow = self._repository.shadow(request.model, request.part)
            # A candidate has no state of the sequence.
            if shadow is not None and shadow.active_version == labels[1] and not in_sequence:
                shadow.offer(MirroredRequest(inputs, outputs, answer.run_seconds, size))
        name = request.name if labels[0] else ""
        record = Record(
            time.time(), name, labels[1], request_id, code, seconds, inputs, outputs, failure, in_sequence, form
        )
        self._observer.offer(record, size)


def _header_length(headers: Mapping[bytes, bytes]) -> int | None:
    value = headers.get(b"inference-header-content-length")
    if value is None:
        return None
    if not value.isdigit() or len(value) > MAX_INTEGER_DIGITS:
        raise InvalidRequestError(f"Inference-Header-Content-Length: expected a number; found {shown(value)}")
    return int(value)
