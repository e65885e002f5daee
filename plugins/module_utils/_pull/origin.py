# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""Where a device looks: the newest ``timestamp.json`` of a source, and whether anything has to be done at all.

A poll that finds nothing imports no more than this: one GET, a comparison of its bytes, and no write.
"""

from __future__ import annotations

import hashlib
import os
import time
from typing import Any

from .._common.errors import EdgemlError
from .config import PullConfig
from .memory import Memory, PullState

TIMESTAMP = "metadata/timestamp.json"
TIMESTAMP_BYTES_MAX = 16_384
TIMESTAMP_LIFETIME_SECONDS = 14 * 86_400
# A link that brings nothing for so long brings nothing.
SILENCE_SECONDS = 30.0
# Clocks of controllers and devices differ by less.
_CLOCK_SECONDS = 86_400


class LinkError(EdgemlError):
    """A source or the mailbox cannot be reached now. That is no alarm: the device looks again."""


def clock_state(now: float, expires: float) -> str:
    """How a clock stands to metadata that was signed for TIMESTAMP_LIFETIME_SECONDS, until ``expires``: ``right``,
    ``behind`` its signature, or ``late``, which is after its end. Both are in seconds since 1970."""
    if now < expires - TIMESTAMP_LIFETIME_SECONDS - _CLOCK_SECONDS:
        return "behind"
    return "late" if now >= expires else "right"


def is_idle(content: bytes, state: PullState, memory: Memory, sends: bool) -> bool:
    """Whether a poll that found ``content`` as ``timestamp.json`` has nothing to do. ``sends``: reports are sent."""
    return (
        not state.pending
        and hashlib.sha256(content).hexdigest() == state.timestamp
        and clock_state(time.time(), state.expires) == state.clock
        and not (sends and memory.queued())
    )


def read_timestamp(location: str, config: PullConfig) -> bytes:
    """The newest ``timestamp.json`` of a source: an address of the web, or a directory. Raises LinkError."""
    if location.startswith(("https://", "http://")):
        return _from_web(f"{location.rstrip('/')}/{TIMESTAMP}", config)
    path = os.path.join(location, TIMESTAMP)
    try:
        with open(path, "rb") as file:
            return file.read(TIMESTAMP_BYTES_MAX + 1)
    except OSError as error:
        raise LinkError(f"{path}: {error.strerror}") from error


def _from_web(url: str, config: PullConfig) -> bytes:
    import http.client

    connection, path = connect(url, config.fetch.get("certificate_file"), config.fetch.get("key_file"), config.ca_file)
    try:
        connection.request("GET", path, headers={"Accept-Encoding": "identity", "User-Agent": "edgeml"})
        response = connection.getresponse()
        content: bytes = response.read(TIMESTAMP_BYTES_MAX + 1)
    except (OSError, http.client.HTTPException) as error:
        raise LinkError(f"{url}: {error or type(error).__name__}") from error
    finally:
        connection.close()
    if response.status != 200:
        raise LinkError(f"{url}: HTTP status {response.status}")
    return content


def connect(url: str, certificate: str | None, key: str | None, ca_file: str | None) -> tuple[Any, str]:
    """A connection to the server of ``url``, and the path there. Raises LinkError where a file for TLS is not right."""
    import http.client

    scheme, _mark, rest = url.partition("://")
    host, slash, path = rest.partition("/")
    if scheme != "https":
        return http.client.HTTPConnection(host, timeout=SILENCE_SECONDS), slash + path
    import ssl

    try:
        context = ssl.create_default_context(cafile=ca_file)
        if certificate is not None:
            context.load_cert_chain(certificate, key)
    except (OSError, ValueError) as error:
        raise LinkError(f"{url}: {certificate or ''} {ca_file or ''}: cannot be used for TLS: {error}") from error
    return http.client.HTTPSConnection(host, timeout=SILENCE_SECONDS, context=context), slash + path
