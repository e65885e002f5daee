# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""A client of the Open Inference Protocol (REST) for the server on this device."""

from __future__ import annotations

import json
import socket
from typing import Any, Mapping, Protocol

from .._common.errors import ServerError
from .http import HttpError, TooLargeError, exchange

# A server that answers at all answers a look in much less; a hung one must not hold up a fleet.
LOOK_SECONDS = 10.0
# What loading a model or one inference may take on a small board.
WORK_SECONDS = 120.0
# Metrics of many models, or an inference's outputs; what is longer is no answer of an inference server.
REPLY_BYTES_MAX = 64 << 20
# What edgeml_server says while it loads the models that it starts with. Others listen when they have theirs.
STARTING = "the server is starting"

# Has edgeml_server keep what this client asks out of what it counts as traffic. Others pass it over.
PROBE_HEADER = "Edgeml-Probe"
# How much of a body is JSON; binary data follows it.
_JSON_LENGTH = "inference-header-content-length"


class LateError(ServerError):
    """Who listens at the server's address has not answered in time: it hangs, or this machine is busy."""


class InferenceServer(Protocol):
    """What a probe set is put to."""

    def extensions(self) -> list[str]:
        """The protocol's extensions that it has."""

    def inputs(self, model: str) -> Mapping[str, list[int]]:
        """The shapes of the model's inputs by name, -1 for any size; nothing if it does not say."""

    def infer(self, model: str, request: Mapping[str, Any], data: bytes = b"") -> tuple[Mapping[str, Any], bytes]:
        """One inference, as the Open Inference Protocol has it. A reply's parameter ``seconds`` is what it took."""


class Server:
    """The inference server at ``address``: the path of its Unix socket, or ``http://host:port``.

    Each call raises ServerError when it fails. ``look_seconds`` and ``work_seconds`` bound how long a call waits.
    """

    def __init__(self, address: str, look_seconds: float = LOOK_SECONDS, work_seconds: float = WORK_SECONDS) -> None:
        self.address = address
        self.look_seconds = look_seconds
        self.work_seconds = work_seconds

    def is_live(self) -> bool:
        """Whether a server answers at all."""
        try:
            return self._request("GET", "/v2/health/live")[0] == 200
        except ServerError:
            return False

    def has_started(self) -> bool:
        """Whether a server answers that has tried to load each of the models that it starts with."""
        try:
            self.require_started()
        except ServerError:
            return False
        return True

    def require_started(self) -> None:
        """Return where a server answers that has tried to load each of the models that it starts with.

        Raises LateError where the answer is late, ServerError where there is none, or the server still starts.
        """
        url = "/v2/health/ready"
        status, body = self._request("GET", url)
        # 503, and from Triton 400, is also said of a server of which one model is not ready.
        if status >= 500 and (status != 503 or _reason(body) == STARTING):
            raise ServerError(
                f"{self.address}: GET {url}: expected a server that has started; found status {status}: {_reason(body)}"
            )

    def serving_version(self, model: str) -> str | None:
        """The version that answers for ``model`` now; None when the model is not served or no server answers."""
        try:
            reply = self._request("GET", f"/v2/models/{model}")
        except ServerError:
            return None
        return _served(reply)

    def require_version(self, model: str) -> str | None:
        """The version that answers for ``model`` now; None when the model is not served, or the server names none.

        Raises LateError where the answer is late, ServerError where there is none.
        """
        return _served(self._request("GET", f"/v2/models/{model}"))

    def load(self, model: str) -> None:
        """Have the server serve the store's active version of ``model``; the old one serves until that works."""
        self._expect_ok("POST", f"/v2/repository/models/{model}/load", {})

    def unload(self, model: str) -> None:
        """Have the server stop serving ``model``."""
        self._expect_ok("POST", f"/v2/repository/models/{model}/unload", {})

    def shadow(self, model: str, version: str, seconds: float) -> None:
        """Have another version of the store answer copies of the requests to ``model``, for ``seconds``."""
        self._expect_ok("POST", f"/v2/repository/models/{model}/shadow", {"version": version, "seconds": seconds})

    def end_shadow(self, model: str) -> bool:
        """End the shadow of ``model``; return whether there was one."""
        url = f"/v2/repository/models/{model}/unshadow"
        status, body = self._request("POST", url, {})
        if status not in (200, 404):
            raise ServerError(f"{self.address}: POST {url}: expected status 200; found {status}: {_reason(body)}")
        return status == 200

    def is_ready(self, model: str, version: str | None = None) -> bool:
        """Whether ``model`` (exactly ``version``, unless None) is served and ready."""
        part = f"/versions/{version}" if version else ""
        return self._request("GET", f"/v2/models/{model}{part}/ready")[0] == 200

    def extensions(self) -> list[str]:
        """The protocol's extensions that the server has; none if it does not say."""
        status, body = self._request("GET", "/v2")
        found = _json(body, "server metadata").get("extensions") if status == 200 else None
        return [str(name) for name in found] if isinstance(found, list) else []

    def inputs(self, model: str) -> dict[str, list[int]]:
        """The shapes of the model's inputs by name, -1 for any size; nothing if the server does not say."""
        status, body = self._request("GET", f"/v2/models/{model}")
        items = _json(body, "metadata").get("inputs") if status == 200 else None
        try:
            return {str(item["name"]): [int(size) for size in item["shape"]] for item in items or []}
        except (KeyError, TypeError, ValueError) as error:
            raise ServerError(f"metadata: expected inputs with names and shapes; {error!r}") from error

    def infer(self, model: str, request: Mapping[str, Any], data: bytes = b"") -> tuple[Mapping[str, Any], bytes]:
        """One inference; ``request`` and the returned reply are the protocol's JSON objects.

        ``data`` is the inputs' binary data, as the protocol's extension has it; the outputs' follows the reply.
        """
        url = f"/v2/models/{model}/infer"
        text = json.dumps(request).encode("utf-8")
        headers = {"Content-Type": "application/json", PROBE_HEADER: "1"}
        if data:
            headers.update({"Content-Type": "application/octet-stream", _JSON_LENGTH: str(len(text))})
        status, body, answered = self._exchange("POST", url, text + data, headers)
        if status != 200:
            raise ServerError(f"{self.address}: POST {url}: expected status 200; found {status}: {_reason(body)}")
        length = answered.get(_JSON_LENGTH)
        size = int(length) if length is not None and length.isdigit() else len(body)
        return _json(body[:size], "infer"), body[size:]

    def metrics(self) -> str:
        """The server's metrics in Prometheus' text format."""
        return self._expect_ok("GET", "/metrics").decode("utf-8", "replace")

    def _expect_ok(self, method: str, url: str, document: Any = None) -> bytes:
        status, body = self._request(method, url, document)
        if status != 200:
            raise ServerError(f"{self.address}: {method} {url}: expected status 200; found {status}: {_reason(body)}")
        return body

    def _request(self, method: str, url: str, document: Any = None) -> tuple[int, bytes]:
        headers = {"Content-Type": "application/json", PROBE_HEADER: "1"} if document is not None else {}
        content = json.dumps(document).encode("utf-8") if document is not None else b""
        status, body, _headers = self._exchange(method, url, content, headers)
        return status, body

    def _exchange(
        self, method: str, url: str, content: bytes, headers: Mapping[str, str]
    ) -> tuple[int, bytes, Mapping[str, str]]:
        seconds = self.look_seconds if method == "GET" else self.work_seconds
        sent = {"Host": "localhost", **headers}
        try:
            with self._connect(seconds, sent) as connection:
                return exchange(connection, method, url, sent, content, (REPLY_BYTES_MAX, seconds))
        except TooLargeError as error:
            raise ServerError(f"{self.address}: {method} {url}: {error}") from error
        except HttpError as error:
            raise ServerError(f"{self.address}: {method} {url}: no answer from the server: {error}") from error
        # Before Python 3.10 not each timeout is a TimeoutError.
        except (TimeoutError, socket.timeout) as error:
            raise LateError(f"{self.address}: {method} {url}: no answer from the server: {error!r}") from error
        # ValueError: an address that cannot be one, such as a host name with two dots in a row.
        except (OSError, ValueError) as error:
            raise ServerError(f"{self.address}: {method} {url}: no answer from the server: {error!r}") from error

    def _connect(self, seconds: float, headers: dict[str, str]) -> socket.socket:
        """A connection to the server, whose name over TCP is put into ``headers``."""
        if self.address.startswith("/"):
            connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                connection.settimeout(seconds)
                connection.connect(self.address)
            except BaseException:
                connection.close()
                raise
            return connection
        host, port, name = _tcp_address(self.address)
        headers["Host"] = name
        return socket.create_connection((host, port), seconds)


def _tcp_address(address: str) -> tuple[str, int, str]:
    """Host, port and the Host header of ``http://host:port``. Raises ServerError."""
    # Most servers listen on a socket, and the import takes its time on a small board.
    from urllib.parse import urlsplit

    try:
        url = urlsplit(address)
        if url.scheme == "http" and url.hostname and url.path in ("", "/"):
            return url.hostname, url.port or 80, url.netloc.rpartition("@")[2]
    except ValueError:
        pass
    raise ServerError(f"{address!r}: expected the path of a Unix socket or http://host:port")


def _served(reply: tuple[int, bytes]) -> str | None:
    """The version that a model's metadata name last; None where there are none."""
    status, body = reply
    if status != 200:
        return None
    versions = _json(body, "metadata").get("versions") or []
    if not isinstance(versions, list):
        raise ServerError(f"metadata: expected a list of versions; found {type(versions).__name__}")
    return str(versions[-1]) if versions else None


def _json(body: bytes, what: str) -> Mapping[str, Any]:
    try:
        document = json.loads(body.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise ServerError(f"{what}: expected JSON from the server; {error}") from error
    if not isinstance(document, Mapping):
        raise ServerError(f"{what}: expected a JSON object from the server; found {type(document).__name__}")
    return document


def _reason(body: bytes) -> str:
    try:
        return str(json.loads(body.decode("utf-8"))["error"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return body[:200].decode("utf-8", errors="replace")
