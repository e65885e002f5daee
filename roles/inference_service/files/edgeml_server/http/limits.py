# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Limits on a request's header and on the time until its response."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TypeVar

from edgeml_server.common.errors import DeadlineError, HeaderTooLargeError, InvalidRequestError
from edgeml_server.common.tensors import shown
from edgeml_server.models.executor import Job

Result = TypeVar("Result")

MAX_HEADER_FIELDS = 100
MAX_HEADER_BYTES = 32 << 10
MAX_INTEGER_DIGITS = 18
"""Digits of a number in a header."""

_DEADLINE_MS_MAX = 86_400_000


def check_header(headers: list[tuple[bytes, bytes]]) -> None:
    """Raise HeaderTooLargeError when there are too many fields or too many bytes of them."""
    if len(headers) > MAX_HEADER_FIELDS:
        raise HeaderTooLargeError(f"expected at most {MAX_HEADER_FIELDS} header fields; found {len(headers)}")
    size = sum([len(name) + len(value) for name, value in headers])
    if size > MAX_HEADER_BYTES:
        raise HeaderTooLargeError(f"expected a header of at most {MAX_HEADER_BYTES} bytes; found {size}")


def deadline(headers: Mapping[bytes, bytes], server_limit_ms: int) -> float | None:
    """Return the event loop's time at which the request is too late, or None.

    The client's ``Inference-Timeout-Ms`` can only shorten the server's own limit (0: none). Raises
    InvalidRequestError.
    """
    milliseconds = server_limit_ms
    value = headers.get(b"inference-timeout-ms")
    if value is not None:
        if not (value.isdigit() and len(value) <= MAX_INTEGER_DIGITS and 1 <= int(value) <= _DEADLINE_MS_MAX):
            raise InvalidRequestError(
                f"Inference-Timeout-Ms: expected a whole number from 1 to {_DEADLINE_MS_MAX}; found {shown(value)}"
            )
        milliseconds = min(int(value), milliseconds or _DEADLINE_MS_MAX)
    return asyncio.get_running_loop().time() + milliseconds / 1000 if milliseconds else None


async def result_by(job: Job[Result], deadline: float | None) -> Result:
    """Return the result of ``job``. Raises DeadlineError when the event loop's time passes ``deadline`` first."""
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
