# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Errors that become responses: each has an HTTP status and a text for the client."""

from __future__ import annotations


class RequestError(Exception):
    """A request that cannot be answered. Its response has ``status`` and the body ``{"error": str(self)}``."""

    status = 500


class InvalidRequestError(RequestError):
    """The request violates the protocol or does not fit the model."""

    status = 400


class UnauthorizedError(RequestError):
    """The request has no valid credential."""

    status = 401


class ForbiddenError(RequestError):
    """The request is not allowed on this listener."""

    status = 403


class NotFoundError(RequestError):
    """No such URL, model or version."""

    status = 404


class MethodNotAllowedError(RequestError):
    """The URL does not support this method. ``allowed`` is the value of the response's header ``Allow``."""

    status = 405

    def __init__(self, message: str, allowed: str) -> None:
        super().__init__(message)
        self.allowed = allowed


class ConflictError(RequestError):
    """The request was possible only once, and was made before."""

    status = 409


class TooLargeError(RequestError):
    """The request's body is larger than the server's limit."""

    status = 413


class HeaderTooLargeError(RequestError):
    """The request's header has more fields or bytes than the server's limits."""

    status = 431


class DeadlineError(RequestError):
    """The response was not ready at the request's deadline."""

    status = 504


class UnavailableError(RequestError):
    """The server is busy, starting or stopping, or the model is not ready. A later attempt may succeed."""

    status = 503


class ModelError(InvalidRequestError):
    """A model cannot be loaded or fails its test. The text says what was expected and found."""
