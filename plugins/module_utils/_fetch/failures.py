# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""Why a fetch ended: a closed set of kinds, each with a message for the operator."""

from __future__ import annotations

from enum import Enum

from .._common.errors import EdgemlError


class Kind(Enum):
    """What went wrong. ``permanent`` kinds end a source for the object; the others are tried again."""

    # Nobody answers: name resolution, connection, or the proxy.
    UNREACHABLE = "unreachable"
    # The certificate, or a file of the client's own for TLS, is not accepted.
    UNTRUSTED = "untrusted"
    # The connection ended early, or brought next to nothing for too long.
    INTERRUPTED = "interrupted"
    # The server is overloaded or broken: 408, 429, 5xx.
    BUSY = "busy"
    # The server does not give the object: any other 4xx, or no such file.
    REFUSED = "refused"
    # The reply is not the object: a login page, another length or range, an encoding, several parts.
    MISMATCH = "mismatch"
    # The reply leads elsewhere, to where nobody may be led.
    REDIRECTED = "redirected"
    # The server gives whole files only, and a part is asked for.
    NO_RANGES = "no_ranges"
    # The bytes are not those that the manifest promises.
    CORRUPT = "corrupt"
    # The budget of bytes or of time is used up.
    EXHAUSTED = "exhausted"
    # The disk has no room, or fails.
    DISK = "disk"
    # A window is closed, or a version is on trial: the fetch goes on later.
    DEFERRED = "deferred"

    @property
    def permanent(self) -> bool:
        """Whether the same request would have the same answer."""
        return self in _PERMANENT


_PERMANENT = frozenset((Kind.UNTRUSTED, Kind.REFUSED, Kind.MISMATCH, Kind.REDIRECTED))


class FetchError(EdgemlError):
    """An object could not be fetched. What was verified of it is kept."""

    def __init__(self, kind: Kind, message: str) -> None:
        super().__init__(message)
        self.kind = kind


class SourceError(Exception):
    """One try at one source failed.

    ``wait_seconds`` is what the source asks to be left alone for, ``status`` the status of HTTP that it answered with:
    404 also for a file that a directory has not, 0 where it gave no such answer.
    """

    def __init__(self, kind: Kind, message: str, wait_seconds: float = 0.0, *, status: int = 0) -> None:
        super().__init__(message)
        self.kind = kind
        self.wait_seconds = wait_seconds
        self.status = status
