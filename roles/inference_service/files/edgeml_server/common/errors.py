# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Errors that become replies: each has an HTTP status and a text for whoever sent the request."""

from __future__ import annotations


class RequestError(Exception):
    """A request that is answered with ``status`` and ``{"error": str(self)}``."""

    status = 500


class InvalidRequestError(RequestError):
    """The request breaks the protocol or does not fit the model."""

    status = 400


class UnauthorizedError(RequestError):
    """The request does not say who sent it, or nobody who is known."""

    status = 401


class ForbiddenError(RequestError):
    """The request is not allowed on the listener that it came in by."""

    status = 403


class NotFoundError(RequestError):
    """No such URL, model or version."""

    status = 404


class MethodNotAllowedError(RequestError):
    """The URL exists, but not with this method. ``allowed`` is the value of the reply's header ``Allow``."""

    status = 405

    def __init__(self, message: str, allowed: str) -> None:
        super().__init__(message)
        self.allowed = allowed


class ConflictError(RequestError):
    """The request was possible once, and was made already."""

    status = 409


class TooLargeError(RequestError):
    """The request's body is larger than the server takes."""

    status = 413


class HeaderTooLargeError(RequestError):
    """The request has more or longer header fields than the server takes."""

    status = 431


class DeadlineError(RequestError):
    """The reply was not there when the request's own deadline came."""

    status = 504


class UnavailableError(RequestError):
    """Not now: the server is busy, starting or stopping, or the model is not ready. Worth another try."""

    status = 503


class ModelError(InvalidRequestError):
    """A model cannot be loaded or failed its test; the text says what was wrong, expected and found."""
