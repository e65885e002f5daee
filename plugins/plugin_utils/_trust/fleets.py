# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""The desired state of a fleet in a signed repository: who may write it, and how its next version is published.

The keys of targets delegate one file to a key that lies on the controller. That key names releases, and signs none.
"""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import os
import re
from dataclasses import dataclass
from typing import Any, Callable, Sequence

from ansible_collections.edgeml.fleet.plugins.module_utils._common.files import fsync_directory, write_whole
from ansible_collections.edgeml.fleet.plugins.module_utils._release.desired import (
    check_fleet_name,
    desired_name,
    fleet_role,
)
from ansible_collections.edgeml.fleet.plugins.module_utils._trust import metadata
from ansible_collections.edgeml.fleet.plugins.module_utils._trust.metadata import TrustError
from ansible_collections.edgeml.fleet.plugins.module_utils._trust.roots import verified

from .keys import PrivateKey, key_name
from .request import Request
from .signing import KEEP_SECONDS, SigningRepository, State

with contextlib.suppress(ImportError):
    from tuf.api.metadata import DelegatedRole, Delegations, Key, Metadata, TargetFile, Targets

_SUPERSEDED = re.compile(r"[0-9a-f]{64}\.desired\.json\Z")


@dataclass(frozen=True)
class Published:
    """What is in force of a fleet: its version, 0 if there is none, its content, and until when it is valid."""

    version: int
    content: bytes = b""
    expires: datetime.datetime | None = None


def fleet_keys(targets: Targets, fleet: str) -> dict[str, Key]:
    """Return the keys that may write a fleet's desired state, by their names."""
    delegations = targets.delegations or Delegations({}, {})
    role = (delegations.roles or {}).get(fleet_role(fleet))
    return {key_name(delegations.keys[keyid]): delegations.keys[keyid] for keyid in role.keyids} if role else {}


def propose_fleet(repository: SigningRepository, fleet: str, add: Sequence[Key], remove: Sequence[str]) -> Request:
    """Propose who may write a fleet's desired state. ``remove``: the names of keys. Raises TrustError."""
    check_fleet_name(fleet, "fleet")
    now = repository.state()
    found = fleet_keys(now.targets.signed, fleet)
    unknown = [name for name in remove if name not in found]
    if unknown:
        raise TrustError(
            f"--remove: expected one of {', '.join(sorted(found)) or 'no key'}; found {', '.join(unknown)}"
        )
    kept = [*(key for name, key in found.items() if name not in remove), *add]
    if not kept:
        raise TrustError(
            f"fleet {fleet}: expected at least one key that may write its desired state. Name one with --add"
        )
    new = repository.next_targets(now)
    role, delegations = fleet_role(fleet), new.delegations or Delegations({}, {})
    keyids = list(dict.fromkeys(key.keyid for key in kept))
    roles = {
        **(delegations.roles or {}),
        role: DelegatedRole(role, keyids, threshold=1, terminating=True, paths=[desired_name(fleet)]),
    }
    keys = {**delegations.keys, **{key.keyid: key for key in kept}}
    used = {keyid for delegated in roles.values() for keyid in delegated.keyids}
    new.delegations = Delegations({keyid: key for keyid, key in keys.items() if keyid in used}, roles)
    return Request(targets=Metadata(new), current=now.root, base=now.targets)


class FleetRepository:
    """The desired state of one fleet in the signed repository in the directory ``path``, for its controller."""

    def __init__(self, path: str, fleet: str, now: Callable[[], datetime.datetime] = metadata.now_utc) -> None:
        self._signing = SigningRepository(path, now)
        self._now = now
        self.fleet = check_fleet_name(fleet, "fleet")
        self._role = fleet_role(fleet)

    def published(self) -> Published:
        """Return what is in force. Raises TrustError where it is damaged, or the repository is not signed."""
        return self._published(self._signing.state())

    def _published(self, now: State) -> Published:
        document = now.fleets.get(self._role)
        if document is None:
            return Published(0)
        (target,) = document.signed.targets.values()
        path = self._path(target.hashes["sha256"])
        try:
            with open(path, "rb") as file:
                content = file.read()
        except OSError as error:
            raise TrustError(f"{path}: expected the desired state of {self.fleet}; {error.strerror}") from error
        return Published(document.signed.version, content, document.signed.expires)

    def publish(
        self, make: Callable[[int], bytes], *, expected: int, key: PrivateKey, online: Sequence[PrivateKey]
    ) -> int:
        """Bring the next version into force, and return it. ``make`` gives its content by its number.

        Whenever it is interrupted, clients see the old version or the new one. Raises TrustError, of the kind ``stale``
        where another version than ``expected`` is in force: another controller has published since.
        """
        with self._signing.locked():
            now = self._signing.state()
            before = self._published(now)
            if before.version != expected:
                raise TrustError(
                    f"{self._signing.path}: fleet {self.fleet}: expected version {expected} of the desired state, as "
                    f"this controller knows it; found {before.version}: another controller has published it",
                    kind="stale",
                )
            content = make(before.version + 1)
            document = self._signed(now, before.version + 1, content, key)
            directory = os.path.dirname(self._path(""))
            os.makedirs(directory, mode=0o755, exist_ok=True)
            fsync_directory(os.path.dirname(directory))
            fsync_directory(self._signing.path)
            path = self._path(hashlib.sha256(content).hexdigest())
            write_whole(path, content.decode())
            fsync_directory(directory)
            self._signing.put_fleet(now, self._role, document, online)
            self._prune(directory, os.path.basename(path))
            return before.version + 1

    def check_key(self, key: PrivateKey) -> None:
        """Raise TrustError where a key may not write the fleet's desired state."""
        self._check_key(self._signing.state(), key)

    def _check_key(self, now: State, key: PrivateKey) -> None:
        allowed = fleet_keys(now.targets.signed, self.fleet)
        if key.id not in {known.keyid for known in allowed.values()}:
            raise TrustError(
                f"fleet {self.fleet}: expected a key that may write its desired state: "
                f"{', '.join(sorted(allowed)) or 'there is none'}; found {key.name}. Those who sign releases allow one "
                f"with: edgeml-publish keys fleet --repository DIRECTORY --fleet {self.fleet} --add {key.name}.pub",
                kind="signature",
            )

    def _signed(self, now: State, version: int, content: bytes, key: PrivateKey) -> Metadata[Targets]:
        self._check_key(now, key)
        name = desired_name(self.fleet)
        expires = self._now() + datetime.timedelta(days=metadata.FLEET_LIFETIME_DAYS)
        targets = {name: TargetFile.from_data(name, content, ["sha256"])}
        document: Metadata[Targets] = Metadata(Targets(version=version, expires=expires, targets=targets))
        document.sign(key.signer)
        return document

    def _path(self, sha256: str) -> str:
        directory, _slash, base = desired_name(self.fleet).rpartition("/")
        return os.path.join(self._signing.path, directory, f"{sha256}.{base}")

    def _prune(self, directory: str, kept: str) -> None:
        """Remove what has not been in force for a day."""
        oldest = self._now().timestamp() - KEEP_SECONDS
        for entry in os.scandir(directory):
            left_over = entry.name.startswith(".") or (_SUPERSEDED.match(entry.name) and entry.name != kept)
            if left_over and entry.stat().st_mtime < oldest:
                os.unlink(entry.path)


def fleet_rows(now: State, time: datetime.datetime) -> list[dict[str, Any]]:
    """Return for each fleet a row: who may write its desired state, and what is in force."""
    rows = []
    for role in (now.targets.signed.delegations.roles or {}) if now.targets.signed.delegations else {}:
        document = now.fleets.get(role)
        state = "nothing published"
        if document is not None:
            valid = verified(now.targets.signed, role, document).verified
            state = "valid" if valid else "not signed by a key of the fleet: have its controller publish"
            if valid and document.signed.expires <= time:
                state = "expired"
        names = ", ".join(sorted(fleet_keys(now.targets.signed, role[len("fleet-") :])))
        rows.append(
            {
                "role": role,
                "version": document.signed.version if document else 0,
                "keys": f"1 of {len(names.split(', '))}",
                "signed_by": names,
                "expires": f"{document.signed.expires:%Y-%m-%d}" if document else "-",
                "days_left": metadata.days_left(document.signed.expires, time) if document else 0,
                "state": state,
            }
        )
    return rows
