# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""What python-tuf's errors mean for a person: the kind of each, and what to do; and what is no error yet."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from . import metadata
from .metadata import TrustError
from .roots import is_development

with contextlib.suppress(ImportError):
    from tuf.api import exceptions
if TYPE_CHECKING:
    from tuf.api.metadata import Root, Targets


# From the narrower to the wider kind of error: what it means, and what to do.
def _refusals() -> tuple[tuple[type[Exception], str, str], ...]:
    return (
        (
            exceptions.ExpiredMetadataError,
            "expired",
            (
                "the metadata is no longer valid: somebody replays an old state (freeze), its renewal has stopped, or "
                "this clock is wrong. See edgeml-publish status, renew, and compare clocks"
            ),
        ),
        (
            exceptions.BadVersionNumberError,
            "rollback",
            (
                "the metadata is older than what was seen before, or does not fit together (rollback). Find out who "
                "brought it back; do not delete what the controller has seen"
            ),
        ),
        (
            exceptions.UnsignedMetadataError,
            "signature",
            (
                "too few of the trusted keys have signed (wrong key). Find out who wrote it; compare the pinned root "
                "with the repository's"
            ),
        ),
        (
            exceptions.LengthOrHashMismatchError,
            "mismatch",
            (
                "the bytes are not those that were signed (arbitrary file, or files of different states mixed). "
                "Publish again from a copy that you trust"
            ),
        ),
        (
            exceptions.DownloadLengthMismatchError,
            "too_long",
            "the file is longer than it may be (endless data, or a file of another state). Find out who wrote it",
        ),
        (
            exceptions.SlowRetrievalError,
            "slow",
            "the repository answers too slowly (slow retrieval). See its server and link",
        ),
        (
            exceptions.DownloadError,
            "unreachable",
            "the file cannot be read. See that the address, the path and the server are right",
        ),
        (exceptions.RepositoryError, "invalid", "the metadata breaks its format. Find out who wrote it"),
    )


def refusal(location: str, error: Exception) -> TrustError:
    """What an error of python-tuf means for the repository at ``location``, and what to do."""
    if isinstance(error, exceptions.DownloadHTTPError) and error.status_code in (403, 404):
        return TrustError(
            f"{location}: {error}: a file that the metadata needs is not there. Is the repository signed "
            "(edgeml-publish status), and its copy complete?",
            kind="missing",
        )
    kind, what = next((kind, what) for cause, kind, what in _refusals() if isinstance(error, cause))
    return TrustError(f"{location}: {error}: {what}", kind=kind)


def warnings_of(location: str, root: Root, targets: Targets) -> list[str]:
    """What a person should know although the repository is trusted."""
    now, lines = metadata.now_utc(), []
    if is_development(root):
        lines.append(
            f"{location}: DEVELOPMENT KEY: one key signs everything, which is good for trying only. "
            "See docs/signing.md before devices depend on it"
        )
    for role, document in (("root", root), ("targets", targets)):
        if metadata.needs_attention(role, document.expires, now):
            left = metadata.days_left(document.expires, now)
            lines.append(
                f"{location}: {role} expires in {left} days; after that no rollout can be planned. Sign it anew"
            )
    return lines
