# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""A change of a repository's metadata on its way from one holder of a key to the next, as a file.

It has what is to be signed and what it is compared with, so that a person without the repository sees what a signature
is for. Nothing of it is secret; a request that somebody changed fails where it is completed.
"""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass
from typing import Any, Collection, Mapping, Sequence

from ansible_collections.edgeml.fleet.plugins.module_utils._common.words import counted
from ansible_collections.edgeml.fleet.plugins.module_utils._trust import metadata
from ansible_collections.edgeml.fleet.plugins.module_utils._trust.metadata import (
    SignedRelease,
    TrustError,
    signed_release,
)
from ansible_collections.edgeml.fleet.plugins.module_utils._trust.roots import verified

from .keys import PrivateKey, key_name

with contextlib.suppress(ImportError):
    from tuf.api.exceptions import RepositoryError
    from tuf.api.metadata import Metadata, Root, Targets

FORMAT = "edgeml-signing-request-1"
REQUEST_BYTES_MAX = 16 << 20


@dataclass
class Request:
    """What is to be signed: a new root, new targets, or both. ``current`` and ``base`` are those that are in force."""

    root: Metadata[Root] | None = None
    targets: Metadata[Targets] | None = None
    current: Metadata[Root] | None = None
    base: Metadata[Targets] | None = None

    @property
    def roots(self) -> list[Root]:
        """The roots whose keys may sign: the one in force, and the new one."""
        return [root.signed for root in (self.current, self.root) if root]

    @property
    def effective(self) -> Root:
        """The root that is in force when the request is completed."""
        return self.roots[-1]

    def sign(self, key: PrivateKey) -> list[str]:
        """Sign what the key may sign, and return those roles. Raises TrustError if that is nothing."""
        signed = []
        for role, document in (("root", self.root), ("targets", self.targets)):
            if document and any(key.id in root.roles[role].keyids for root in self.roots):
                document.sign(key.signer, append=True)
                signed.append(role)
        if not signed:
            raise TrustError(
                f"key {key.name}: it may sign nothing of this. Still needed: {'; '.join(self.missing()) or 'nothing'}",
                kind="signature",
            )
        return signed

    def missing(self) -> list[str]:
        """What signatures are still needed, a line for each role and root."""
        lines = []
        # A new root is signed by the keys of the one before it, and by its own.
        needed: list[tuple[str, Metadata[Any] | None, Root]] = [("root", self.root, root) for root in self.roots]
        needed.append(("targets", self.targets, self.effective))
        for role, document, root in needed:
            if document is None:
                continue
            found = verified(root, role, document)
            if not found.verified:
                names = ", ".join(sorted(key_name(key) for key in found.unsigned.values()))
                of = f"version {root.version} of the root" if role == "root" else "the root"
                line = (
                    f"{role}: {len(found.signed)} of {found.threshold} signatures that {of} asks for; can sign: {names}"
                )
                if line not in lines:
                    lines.append(line)
        return lines

    def summary(self) -> list[str]:
        """What a signature is for, in lines that a person reads before signing."""
        lines = []
        if self.root:
            lines.append(f"root: version {self.root.signed.version}, until {self.root.signed.expires:%Y-%m-%d}")
            for role in sorted(self.root.signed.roles):
                lines.append(f"  {role}: {_described(self.root.signed, role)}")
                if self.current and _described(self.current.signed, role) != _described(self.root.signed, role):
                    lines.append(f"    before: {_described(self.current.signed, role)}")
        if self.targets:
            new = self.targets.signed
            releases = counted(len(new.targets), "release")
            lines.append(f"targets: version {new.version}, until {new.expires:%Y-%m-%d}, {releases}")
            lines += [f"  {line}" for line in changes(self.base.signed if self.base else None, new)]
        return lines

    def is_made(self, now: Targets) -> bool:
        """Whether ``now`` has each change of a release that is asked for: the request was completed before."""
        if self.root or not (self.targets and self.base):
            return False
        new, base = self.targets.signed, self.base.signed
        changed = [name for name in {*new.targets, *base.targets} if new.targets.get(name) != base.targets.get(name)]
        same = all(new.targets.get(name) == now.targets.get(name) for name in changed)
        return bool(changed) and same and new.delegations == base.delegations

    def to_json(self) -> str:
        """Return the request as the text of its file."""
        parts = {name: part.to_dict() for name, part in vars(self).items() if part is not None}
        return json.dumps({"format": FORMAT, **parts}, indent=1, sort_keys=True) + "\n"

    @classmethod
    def from_json(cls, text: str, origin: str) -> Request:
        """Read a request. Raises TrustError, which names ``origin``."""
        try:
            document = json.loads(text)
            if not isinstance(document, dict) or document.pop("format", None) != FORMAT:
                raise ValueError(f"expected a signing request of the format {FORMAT}")
            parts: dict[str, Any] = {name: Metadata.from_dict(part) for name, part in document.items()}
            request = cls(**parts)
            kinds = {"root": "root", "targets": "targets", "current": "root", "base": "targets"}
            for name, part in parts.items():
                if part.signed.type != kinds[name]:
                    raise ValueError(f"{name}: expected {kinds[name]}; found {part.signed.type}")
            if not request.roots or not (request.root or request.targets):
                raise ValueError("expected something to sign, and a root that says who may")
        except (ValueError, TypeError, KeyError, RecursionError, RepositoryError) as error:
            raise TrustError(f"{origin}: {error}") from error
        return request


def changes(base: Targets | None, new: Targets) -> list[str]:
    """What is released, promoted, withdrawn and removed, from ``base`` to ``new``, in lines."""
    before, after = _releases(base), _releases(new)
    lines = []
    for target in sorted({*before, *after}):
        old, now = before.get(target), after.get(target)
        release = now or before[target]
        name = f"{release.model} {release.version}"
        if now is None:
            lines.append(f"- {name} removed")
            continue
        if old is None:
            lines.append(f"+ {name} sha256:{now.digest}")
        elif old.digest != now.digest:
            lines.append(f"! {name} sha256:{now.digest}, before sha256:{old.digest}: A RELEASE WAS REPLACED")
        if now.withdrawn is not None and (old is None or old.withdrawn is None):
            lines.append(f"- {name} withdrawn: {now.withdrawn}")
        elif old is not None and old.withdrawn is not None and now.withdrawn is None:
            lines.append(f"+ {name} no longer withdrawn")
    return [*lines, *_channel_changes(before.values(), after.values()), *_fleet_changes(base, new)]


def _fleet_changes(base: Targets | None, new: Targets) -> list[str]:
    """Which fleets may be told what to run, by whose keys, in lines."""
    before, after = _fleets(base), _fleets(new)
    return [
        f"* {role}: its desired state is written by {after.get(role, 'nobody')}, before by {before.get(role, 'nobody')}"
        for role in sorted({*before, *after})
        if before.get(role) != after.get(role)
    ]


def _fleets(targets: Targets | None) -> dict[str, str]:
    if targets is None or targets.delegations is None:
        return {}
    keys = targets.delegations.keys
    return {
        role: ", ".join(sorted(key_name(keys[keyid]) for keyid in delegated.keyids))
        for role, delegated in (targets.delegations.roles or {}).items()
    }


def _channel_changes(before: Collection[SignedRelease], after: Collection[SignedRelease]) -> list[str]:
    """Which channels stand for another version."""
    lines = []
    for model in sorted({release.model for release in (*before, *after)}):
        old, now = metadata.channels_of(before, model), metadata.channels_of(after, model)
        for channel in sorted({*old, *now}):
            if old.get(channel) != now.get(channel):
                to = now.get(channel, "nothing")
                lines.append(f"* {model}: channel {channel}: {to}, before {old.get(channel, 'nothing')}")
    return lines


def _releases(targets: Targets | None) -> Mapping[str, SignedRelease]:
    if targets is None:
        return {}
    return {name: signed_release(name, target.custom) for name, target in targets.targets.items()}


def _described(root: Root, role: str) -> str:
    names: Sequence[str] = sorted(key_name(root.keys[keyid]) for keyid in root.roles[role].keyids)
    return f"{root.roles[role].threshold} of {', '.join(names)}"
