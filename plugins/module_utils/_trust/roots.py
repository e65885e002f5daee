# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""What a root says: who may sign, how many of them have to, and whether they have."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .metadata import OFFLINE, ROOT_EXPECTED, TrustError

if TYPE_CHECKING:
    from tuf.api.metadata import Metadata, Root, Targets


def verified(root: Root | Targets, role: str, document: Metadata[Any]) -> Any:
    """Return what ``root``, or who delegates, says of a document's signatures, as python-tuf's VerificationResult."""
    return root.get_verification_result(role, document.signed_bytes, document.signatures)


def check_thresholds(root: Root) -> None:
    """Raise TrustError where the loss of one key would lock everybody out; a single key of a person is for trying."""
    if is_development(root):
        return
    for role in OFFLINE:
        keys, threshold = len(root.roles[role].keyids), root.roles[role].threshold
        if not 1 <= threshold < keys:
            raise TrustError(
                f"{role}: expected a threshold from 1 to {max(keys - 1, 1)} for {keys} keys; found {threshold}. "
                "With as many signatures as keys, one lost key ends all publishing. Add a key, or lower the threshold"
            )


def is_development(root: Root) -> bool:
    """Whether a single key signs everything, which is good for trying only."""
    return all(len(role.keyids) == 1 for role in root.roles.values()) and (
        len({keyid for role in root.roles.values() for keyid in role.keyids}) == 1
    )


def read_root(content: bytes, origin: str) -> Root:
    """Read a pinned root. Raises TrustError, which begins with ``origin``, for a file that is none."""
    from tuf.api.exceptions import RepositoryError
    from tuf.api.metadata import Metadata, Root

    why = "another file"
    try:
        document: Metadata[Any] = Metadata.from_bytes(content)
        if isinstance(document.signed, Root):
            return document.signed
        why = f"metadata of the type {document.signed.type}"
    except (RepositoryError, ValueError, KeyError, TypeError, AttributeError):
        pass
    raise TrustError(f"{origin}: expected {ROOT_EXPECTED}; found {why}")


def difference(pinned: Root, found: Root) -> str | None:
    """Why a repository's root is not the pinned one of the same version: the keys of both; None where they are the
    same."""
    expected, actual = (sorted(root.roles["root"].keyids) for root in (pinned, found))
    if expected == actual:
        return None
    return (
        f"root {pinned.version} has the keys {_short(actual)}, and the pinned root has {_short(expected)}: "
        "model_repository_root is another repository's, or somebody has put another repository in the place of this "
        "one (wrong key). Ask the people who sign for theirs (edgeml-publish status) before you pin another root"
    )


def _short(key_ids: list[str]) -> str:
    return ", ".join(key_id[:8] for key_id in key_ids)
