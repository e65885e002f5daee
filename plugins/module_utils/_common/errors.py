# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""Typed errors. Utilities raise them; only a module's main() turns them into a failed task."""

from __future__ import annotations

import contextlib
from typing import Any, Iterator


class EdgemlError(Exception):
    """Base of every error that the collection raises on purpose; its text is meant for the operator."""


def message_of(error: Exception) -> str:
    """What is wrong, for people: of a file its path first, and not the number that the system has for it."""
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        return f"{error.filename}: {error.strerror}"
    return str(error)


class ArgumentError(EdgemlError):
    """An argument is out of its range; the text names it, what was expected and what was found."""


class ManifestError(EdgemlError):
    """A release manifest breaks the format; the text names the field, what was expected and what was found."""


class IncompatibleError(EdgemlError):
    """No variant of the release can run on the device; the text says why, variant by variant."""


class StoreError(EdgemlError):
    """The device's store is absent, damaged, locked, or asked for something that it does not hold."""


class IntegrityError(StoreError):
    """Bytes differ from what the manifest promises; the text names path, expected and actual."""


class ServerError(EdgemlError):
    """The inference server could not be reached or refused a call."""


class ServerDownError(ServerError):
    """Nobody answers where the inference server should."""


class FailedBeforeError(StoreError):
    """The version failed on this device, or was left on purpose, and nobody asked to try it again.

    ``failure`` has ``reason``, ``time`` and ``rollout_id``.
    """

    def __init__(self, message: str, failure: dict[str, Any]) -> None:
        super().__init__(message)
        self.failure = failure


class WithdrawnError(EdgemlError):
    """The release is withdrawn: nobody may run it any more."""


class NoWayBackError(EdgemlError):
    """After the switch the device could not return to what it serves now; nothing was switched."""


class CandidateError(EdgemlError):
    """A candidate failed its smoke test; nothing was switched."""


class SwapError(EdgemlError):
    """A swap did not reach its goal. ``live`` is the version that serves now (None when none does)."""

    def __init__(self, message: str, live: str | None) -> None:
        super().__init__(message)
        self.live = live


@contextlib.contextmanager
def with_path(path: str) -> Iterator[None]:
    """Have an OSError of the block say which file it is about: one of a read, a write or an fsync does not."""
    try:
        yield
    except OSError as error:
        if error.filename is not None or error.errno is None:
            raise
        raise OSError(error.errno, error.strerror, path) from error
