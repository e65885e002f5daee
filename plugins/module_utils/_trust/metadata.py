# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""What the signed metadata of a model repository is made of: names, bounds and lifetimes. Pure; needs no package."""

from __future__ import annotations

import datetime
import importlib.util
import re
import sys
from typing import Any, Iterable, Mapping, NamedTuple

from .._common.errors import EdgemlError
from .._release.names import is_model_name, is_name

METADATA = "metadata"
OFFLINE = ("root", "targets")
ONLINE = ("snapshot", "timestamp")
LIFETIME_DAYS: Mapping[str, int] = {"root": 365, "targets": 180, "snapshot": 14, "timestamp": 14}
# That of a fleet's desired state, which each publication of it renews.
FLEET_LIFETIME_DAYS = 180
# Bytes that a client reads of a file at most.
ROOT_BYTES_MAX = 512_000
TIMESTAMP_BYTES_MAX = 16_384
SNAPSHOT_BYTES_MAX = 2_000_000
TARGETS_BYTES_MAX = 5_000_000

_TARGET = re.compile(r"(?P<model>[^/]+)/(?P<version>[^/]+)/manifest\.json\Z")


class TrustError(EdgemlError):
    """A repository is not to be trusted, or cannot be signed. ``kind`` is the reason in one word."""

    def __init__(self, message: str, kind: str = "invalid") -> None:
        super().__init__(message)
        self.kind = kind


# Of a root that is to be believed: what to name.
ROOT_EXPECTED = (
    "a copy of the repository's root.json, which edgeml-publish keys init writes beside the keys, and which is in the "
    "repository as metadata/1.root.json"
)


class SignedRelease(NamedTuple):
    """What the signed metadata says of a release. ``withdrawn`` is the reason why nobody may run it, or None;
    ``channels`` are those that stand for it."""

    model: str
    version: str
    digest: str
    withdrawn: str | None
    channels: tuple[str, ...] = ()


def require_packages() -> None:
    """Raise TrustError where the packages are missing that verify and sign."""
    missing = [name for name in ("tuf", "securesystemslib", "cryptography") if importlib.util.find_spec(name) is None]
    if missing:
        raise TrustError(
            f"{sys.executable}: Python packages by which repositories are verified and signed: expected tuf, "
            f"securesystemslib and cryptography; missing {', '.join(missing)}. Install the collection's "
            "requirements.txt for this Python (edgeml-publish takes another one by the environment variable PYTHON)",
            kind="state",
        )


def target_name(model: str, version: str) -> str:
    """Return the name of the target that is a release's manifest."""
    return f"{model}/{version}/manifest.json"


def release_of(target: str) -> tuple[str, str]:
    """Return model and version by the name of a target. Raises TrustError for a name that leads elsewhere."""
    found = _TARGET.match(target)
    names = found.group("model", "version") if found else ("", "")
    if not (is_model_name(names[0]) and is_name(names[1])):
        raise TrustError(
            f"target {target!r}: expected <model>/<version>/manifest.json. The metadata names a file outside of the "
            "releases: find out who signed it",
            kind="name",
        )
    return names[0], names[1]


def signed_release(target: str, custom: Mapping[str, Any] | None) -> SignedRelease:
    """Read what the metadata says of one target. Raises TrustError."""
    model, version = release_of(target)
    said = custom or {}
    withdrawn, digest, channels = said.get("withdrawn"), said.get("digest"), said.get("channels", [])
    if (
        not isinstance(digest, str)
        or not (withdrawn is None or isinstance(withdrawn, str))
        or not (isinstance(channels, list) and all(map(is_name, channels)))
    ):
        raise TrustError(
            f"target {target!r}: custom: expected a text 'digest', of a withdrawn release a text 'withdrawn', and a "
            f"list of names 'channels', if any; found {said!r:.200}"
        )
    return SignedRelease(model, version, digest, withdrawn, tuple(channels))


def channels_of(releases: Iterable[SignedRelease], model: str) -> dict[str, str]:
    """The version of each channel of a model. Raises TrustError where two versions are said to have one."""
    found: dict[str, str] = {}
    for release in releases:
        for channel in release.channels if release.model == model else ():
            if channel in found:
                raise TrustError(
                    f"{model}: channel {channel}: expected one version; found {found[channel]} and {release.version}"
                )
            found[channel] = release.version
    return found


def days_left(expires: datetime.datetime, now: datetime.datetime) -> int:
    """Whole days until ``expires``; negative once it has passed."""
    return (expires - now) // datetime.timedelta(days=1)


def needs_attention(role: str, expires: datetime.datetime, now: datetime.datetime) -> bool:
    """Whether a role's metadata has used half of its life: its renewal is late."""
    return expires - now < datetime.timedelta(days=LIFETIME_DAYS[role]) / 2


def now_utc() -> datetime.datetime:
    """Return the present time, in whole seconds, as metadata has it."""
    return datetime.datetime.now(datetime.timezone.utc).replace(microsecond=0)
