# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""The metadata of a model repository, as those who hold its keys change it.

Every change is written in an order in which clients see the old state or the new one, whole, whatever interrupts it:
the files of a new version have new names, and one rename of ``timestamp.json`` brings them into force.
"""

from __future__ import annotations

import contextlib
import datetime
import fcntl
import glob
import json
import os
import re
import shutil
import tempfile
from typing import Any, Callable, Iterator, Mapping, NamedTuple, Sequence

from ansible_collections.edgeml.fleet.plugins.module_utils._common.errors import EdgemlError
from ansible_collections.edgeml.fleet.plugins.module_utils._common.files import fsync_directory, write_whole
from ansible_collections.edgeml.fleet.plugins.module_utils._release.names import is_model_name, is_name
from ansible_collections.edgeml.fleet.plugins.module_utils._release.repository import Repository
from ansible_collections.edgeml.fleet.plugins.module_utils._trust import metadata
from ansible_collections.edgeml.fleet.plugins.module_utils._trust.metadata import (
    LIFETIME_DAYS,
    METADATA,
    ONLINE,
    TrustError,
    target_name,
)
from ansible_collections.edgeml.fleet.plugins.module_utils._trust.roots import (
    check_thresholds,
    is_development,
    verified,
)

from .keys import PrivateKey, key_name
from .request import Request, changes

with contextlib.suppress(ImportError):
    from tuf.api.exceptions import RepositoryError
    from tuf.api.metadata import Key, Metadata, MetaFile, Role, Root, Snapshot, TargetFile, Targets, Timestamp

# Versions that are no longer in force stay for clients that are in the middle of an update.
KEEP_SECONDS = 86_400
_SUPERSEDED = re.compile(r"[0-9]+\.(snapshot|targets|fleet-[^.]+)\.json\Z")


class RoleKeys(NamedTuple):
    """Who may sign for a role: public keys, and how many of them have to."""

    keys: tuple[Key, ...]
    threshold: int


class State(NamedTuple):
    """The metadata in force."""

    root: Metadata[Root]
    targets: Metadata[Targets]
    snapshot: Metadata[Snapshot]
    timestamp: Metadata[Timestamp]
    # What has been signed by each fleet's role, by the role's name.
    fleets: Mapping[str, Metadata[Targets]]


class SigningRepository:
    """The model repository in the directory ``path``, for those who sign it."""

    def __init__(self, path: str, now: Callable[[], datetime.datetime] = metadata.now_utc) -> None:
        self.path = os.path.abspath(path)
        self.metadata = os.path.join(self.path, METADATA)
        self._now = now

    # ---- reading ----

    @property
    def is_signed(self) -> bool:
        """Whether the repository has signed metadata."""
        return os.path.isdir(self.metadata)

    def root(self) -> Metadata[Root]:
        """The newest root. Raises TrustError if there is none."""
        found: Metadata[Root] = self._read(f"{max(self._root_versions(), default=1)}.root.json", Root)
        return found

    def state(self) -> State:
        """The metadata in force. Raises TrustError if it is damaged or incomplete."""
        timestamp = self._read("timestamp.json", Timestamp)
        snapshot = self._read(f"{timestamp.signed.snapshot_meta.version}.snapshot.json", Snapshot)
        targets = self._read(f"{snapshot.signed.meta['targets.json'].version}.targets.json", Targets)
        fleets = {
            name[: -len(".json")]: self._read(f"{meta.version}.{name}", Targets)
            for name, meta in snapshot.signed.meta.items()
            if name != "targets.json"
        }
        return State(self.root(), targets, snapshot, timestamp, fleets)

    def _root_versions(self) -> list[int]:
        names = glob.glob(os.path.join(self.metadata, "*.root.json"))
        return [int(found.group()) for found in (re.match("[0-9]+", os.path.basename(name)) for name in names) if found]

    def _read(self, name: str, kind: Any) -> Metadata[Any]:
        path = os.path.join(self.metadata, name)
        try:
            with open(path, "rb") as file:
                document: Metadata[Any] = Metadata.from_bytes(file.read())
        except FileNotFoundError:
            raise TrustError(
                f"{path}: expected signed metadata; the repository has none. Begin with: "
                f"edgeml-publish keys init --repository {self.path}",
                kind="unsigned",
            ) from None
        except (OSError, RepositoryError) as error:
            raise TrustError(f"{path}: expected signed metadata; {error}") from error
        if not isinstance(document.signed, kind):
            raise TrustError(f"{path}: expected {kind.type}; found {document.signed.type}")
        return document

    def releases(self, base: Targets | None) -> dict[str, TargetFile]:
        """The targets that the repository's manifests make. What ``base`` does not have is read and verified whole.

        Raises TrustError for a release that was replaced, ManifestError and IntegrityError for one that is damaged.
        """
        repository, found = Repository(self.path), {}
        for path in sorted(glob.glob(os.path.join(self.path, "*", "*", "manifest.json"))):
            model, version = path.split(os.sep)[-3:-1]
            if not (is_model_name(model) and is_name(version)):
                raise TrustError(f"{path}: {model} {version} cannot name a release of a signed repository")
            name = target_name(model, version)
            known = base.targets.get(name) if base else None
            with open(path, "rb") as file:
                target = TargetFile.from_data(name, file.read(), ["sha256"])
            if known is None:
                release = repository.release(model, version)
                repository.verify(release)
                custom: dict[str, Any] = {"digest": release.digest}
            elif known.hashes != target.hashes:
                raise TrustError(
                    f"{path}: expected the manifest that was signed, SHA-256 {known.hashes['sha256']}; found "
                    f"{target.hashes['sha256']}. A release never changes: publish another version"
                )
            else:
                custom = {"digest": known.custom["digest"]}
            withdrawn = repository.withdrawn(model, version)
            if withdrawn is not None:
                custom["withdrawn"] = withdrawn
            on = sorted(channel for channel, has in repository.channels(model).items() if has == version)
            if on:
                custom["channels"] = on
            target.unrecognized_fields["custom"] = custom
            found[name] = target
        for model in {metadata.release_of(name)[0] for name in found}:
            for channel, version in repository.channels(model).items():
                if target_name(model, version) not in found:
                    raise TrustError(f"{self.path}: {model}: channel {channel}: {version} is not in the repository")
        return found

    # ---- changes that people sign ----

    def begin(self, roles: Mapping[str, RoleKeys]) -> Request:
        """Propose the first metadata. ``roles``: who may sign each. Raises TrustError if the repository is signed."""
        if self.is_signed:
            raise TrustError(
                f"{self.metadata}: the repository has keys already. Change them with: edgeml-publish rotate"
            )
        root = Root(
            version=1,
            expires=self._until("root"),
            keys={},
            roles={role: Role([], 1) for role in LIFETIME_DAYS},
            consistent_snapshot=True,
        )
        for role, holders in roles.items():
            _set_keys(root, role, holders)
        check_thresholds(root)
        targets = Targets(version=1, expires=self._until("targets"), targets=self.releases(None))
        return Request(root=Metadata(root), targets=Metadata(targets))

    def propose_targets(self) -> Request | None:
        """Propose to sign what the repository holds; None if that is signed, and not for half of its life."""
        now = self.state()
        base = now.targets.signed
        targets = self.releases(base)
        late = metadata.needs_attention("targets", base.expires, self._now())
        if targets == base.targets and not late and verified(now.root.signed, "targets", now.targets).verified:
            return None
        new = self.next_targets(now)
        new.targets = targets
        return Request(targets=Metadata(new), current=now.root, base=now.targets)

    def next_targets(self, now: State) -> Targets:
        """The next version of the targets, which says what the present one says."""
        new = Targets.from_dict(json.loads(json.dumps(now.targets.signed.to_dict())))
        new.version += 1
        new.expires = self._until("targets")
        return new

    def propose_root(self, roles: Mapping[str, RoleKeys]) -> Request:
        """Propose another root: other keys for ``roles``, or, without any, the same keys for another year."""
        now = self.state()
        root = Root.from_dict(json.loads(json.dumps(now.root.signed.to_dict())))
        root.version += 1
        root.expires = self._until("root")
        for role, holders in roles.items():
            _set_keys(root, role, holders)
        check_thresholds(root)
        request = Request(root=Metadata(root), current=now.root, base=now.targets)
        if not verified(root, "targets", now.targets).verified:
            request.targets = Metadata(self.next_targets(now))
        return request

    def complete(self, request: Request, online: Sequence[PrivateKey]) -> list[str]:
        """Bring a request into force, and return what that changed. ``online``: keys of snapshot and timestamp.

        Raises TrustError, and changes nothing, where signatures are missing or the repository has moved on.
        """
        with self.locked():
            self._check(request)
            if request.current is None:
                self._create(request, online)
                return request.summary()
            now = self.state()
            root = request.root or now.root
            targets = request.targets or now.targets
            # A kill may have left the new root alone; then the rest follows.
            has_root = root.signed == now.root.signed
            renewed = request.targets is not None or not self._online_valid(root.signed, now)
            files = self._online_files(root.signed, targets, now, online) if renewed else {}
            if request.targets:
                files = {f"{targets.signed.version}.targets.json": _bytes(targets), **files}
            first = {} if has_root else {f"{root.signed.version}.root.json": _bytes(root)}
            # Where the old keys have signed, too, clients of both roots accept the files: they come first, and no
            # moment is without valid metadata. Where old keys are lost, the new root has to come first.
            bridged = all(
                verified(now.root.signed, role, Metadata.from_bytes(content)).verified
                for role, content in ((_role(name), content) for name, content in files.items())
            )
            self._put({**files, **first} if bridged else {**first, **files})
            return request.summary()

    def _check(self, request: Request) -> None:
        missing = request.missing()
        if missing:
            raise TrustError(f"not signed by enough keys: {'; '.join(missing)}", kind="signature")
        if request.current is None:
            if self.is_signed:
                raise TrustError(
                    f"{self.metadata}: the repository has metadata already; the request is for one without"
                )
            return
        now = self.state()
        base = request.base
        resumed = request.root is not None and now.root.signed == request.root.signed
        if not (resumed or now.root.signed == request.current.signed) or not base or now.targets.signed != base.signed:
            raise TrustError(
                f"{self.metadata}: the repository has changed since the request was made (root "
                f"{now.root.signed.version}, targets {now.targets.signed.version}). Make another request",
                kind="stale",
            )
        for role, new, old in (("root", request.root, request.current), ("targets", request.targets, base)):
            if new and new.signed.version != old.signed.version + 1:
                raise TrustError(
                    f"{role}: expected version {old.signed.version + 1}; found {new.signed.version}. "
                    "Make another request"
                )

    # ---- the online roles ----

    def renew(self, online: Sequence[PrivateKey]) -> list[str]:
        """Sign snapshot and timestamp anew if a quarter of their life is over, or their signature is not valid.

        Return what was renewed, in lines; nothing for most calls. Safe to overlap. Raises TrustError.
        """
        with self.locked():
            now = self.state()
            due = [
                role
                for role, document in (("snapshot", now.snapshot), ("timestamp", now.timestamp))
                if document.signed.expires - self._now() < datetime.timedelta(days=LIFETIME_DAYS[role]) * 0.75
            ]
            if not due and self._online_valid(now.root.signed, now):
                return []
            self._put(self._online_files(now.root.signed, now.targets, now, online))
            return [f"snapshot and timestamp renewed until {self._until('timestamp'):%Y-%m-%d %H:%M} UTC"]

    def put_fleet(self, now: State, role: str, document: Metadata[Targets], online: Sequence[PrivateKey]) -> None:
        """Bring what a fleet's role has signed into force. For who holds the lock. Raises TrustError."""
        files = self._online_files(now.root.signed, now.targets, now, online, {role: document})
        self._put({f"{document.signed.version}.{role}.json": _bytes(document), **files})

    def _online_valid(self, root: Root, now: State) -> bool:
        return all(
            verified(root, role, document).verified
            for role, document in (("snapshot", now.snapshot), ("timestamp", now.timestamp))
        )

    def _online_files(
        self,
        root: Root,
        targets: Metadata[Targets],
        now: State | None,
        online: Sequence[PrivateKey],
        fleets: Mapping[str, Metadata[Targets]] | None = None,
    ) -> dict[str, bytes]:
        """The next snapshot and timestamp, in the order in which they are written. ``fleets``: what is new of them."""
        documents = {"targets": targets, **(now.fleets if now else {}), **(fleets or {})}
        snapshot = Metadata(
            Snapshot(
                version=now.snapshot.signed.version + 1 if now else 1,
                expires=self._until("snapshot"),
                meta={
                    f"{role}.json": MetaFile.from_data(document.signed.version, _bytes(document), ["sha256"])
                    for role, document in documents.items()
                },
            )
        )
        self._sign_online(root, "snapshot", snapshot, online)
        timestamp = Metadata(
            Timestamp(
                version=now.timestamp.signed.version + 1 if now else 1,
                expires=self._until("timestamp"),
                snapshot_meta=MetaFile.from_data(snapshot.signed.version, _bytes(snapshot), ["sha256"]),
            )
        )
        self._sign_online(root, "timestamp", timestamp, online)
        return {f"{snapshot.signed.version}.snapshot.json": _bytes(snapshot), "timestamp.json": _bytes(timestamp)}

    def _sign_online(self, root: Root, role: str, document: Metadata[Any], online: Sequence[PrivateKey]) -> None:
        for key in online:
            document.sign(key.signer, append=True)
        found = verified(root, role, document)
        if not found.verified:
            names = ", ".join(sorted(key_name(key) for key in found.unsigned.values()))
            given = ", ".join(key.name for key in online) or "none"
            raise TrustError(
                f"{role}: expected the online key {names}; found {given}. Name its file with --online-key",
                kind="signature",
            )

    # ---- writing ----

    def _create(self, request: Request, online: Sequence[PrivateKey]) -> None:
        """Make the first metadata: beside its place, and put there by one rename."""
        if request.root is None or request.targets is None:
            raise TrustError("the request: expected root and targets, the first of the repository", kind="request")
        files = {
            "1.root.json": _bytes(request.root),
            "1.targets.json": _bytes(request.targets),
            **self._online_files(request.root.signed, request.targets, None, online),
        }
        staging = tempfile.mkdtemp(dir=self.path, prefix=".metadata-")
        try:
            os.chmod(staging, 0o755)
            for name, content in files.items():
                write_whole(os.path.join(staging, name), content.decode())
            fsync_directory(staging)
            os.rename(staging, self.metadata)
        except BaseException:
            shutil.rmtree(staging, ignore_errors=True)
            raise
        fsync_directory(self.path)

    def _put(self, files: Mapping[str, bytes]) -> None:
        for name, content in files.items():
            write_whole(os.path.join(self.metadata, name), content.decode())
            fsync_directory(self.metadata)
        self._prune()

    def _prune(self) -> None:
        """Remove what has not been in force for a day, and what a kill left."""
        now = self.state()
        kept = {
            f"{now.snapshot.signed.version}.snapshot.json",
            f"{now.targets.signed.version}.targets.json",
            *(f"{document.signed.version}.{role}.json" for role, document in now.fleets.items()),
        }
        oldest = self._now().timestamp() - KEEP_SECONDS
        for entry in os.scandir(self.metadata):
            left_over = entry.name.startswith(".") or (_SUPERSEDED.match(entry.name) and entry.name not in kept)
            if left_over and entry.stat().st_mtime < oldest:
                os.unlink(entry.path)

    def _until(self, role: str) -> datetime.datetime:
        return self._now() + datetime.timedelta(days=LIFETIME_DAYS[role])

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """One writer at a time; the kernel gives the lock back however the writer ends."""
        try:
            descriptor = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise TrustError(f"{self.path}: expected a model repository; {error.strerror}") from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        except OSError as error:
            raise TrustError(
                f"{error.filename or self.path}: the metadata cannot be written: {error.strerror}"
            ) from error
        finally:
            os.close(descriptor)

    # ---- what is the matter ----

    def status(self) -> Status:
        """What the metadata says, and what has to be done. Raises TrustError if it cannot be read."""
        now, time = self.state(), self._now()
        rows, problems = [], []
        documents: Mapping[str, Metadata[Any]] = now._asdict()
        for role in LIFETIME_DAYS:
            document = documents[role]
            expires = document.signed.expires
            found = verified(now.root.signed, role, document)
            state = "valid"
            if not found.verified:
                state = "not signed by enough keys of the root"
            elif expires <= time:
                state = "expired"
            elif metadata.needs_attention(role, expires, time):
                state = "renew now: half of its life is over"
            if state != "valid":
                problems.append(f"{role}: {state}. Run: {_remedy(role)}")
            holders = now.root.signed.roles[role]
            rows.append(
                {
                    "role": role,
                    "version": document.signed.version,
                    "keys": f"{holders.threshold} of {len(holders.keyids)}",
                    "signed_by": ", ".join(sorted(key_name(key) for key in found.signed.values())) or "nobody",
                    "expires": f"{expires:%Y-%m-%d}",
                    "days_left": metadata.days_left(expires, time),
                    "state": state,
                }
            )
        try:
            unsigned = changes(now.targets.signed, Targets(targets=self.releases(now.targets.signed)))
        except (EdgemlError, OSError) as error:
            unsigned = [str(error)]
        problems += [f"not signed yet: {line}. Run: edgeml-publish sign" for line in unsigned]
        signed = [
            metadata.signed_release(name, target.custom) for name, target in sorted(now.targets.signed.targets.items())
        ]
        return Status(
            rows=rows,
            problems=problems,
            withdrawn=[release for release in signed if release.withdrawn is not None],
            releases=len(signed),
            development=is_development(now.root.signed),
        )


class Status(NamedTuple):
    """The roles as rows of a table, what has to be done, and what was withdrawn."""

    rows: list[dict[str, Any]]
    problems: list[str]
    withdrawn: list[metadata.SignedRelease]
    releases: int
    development: bool


def _remedy(role: str) -> str:
    if role in ONLINE:
        return "edgeml-publish renew (and see why its schedule did not)"
    return "edgeml-publish rotate" if role == "root" else "edgeml-publish sign"


def _set_keys(root: Root, role: str, holders: RoleKeys) -> None:
    for keyid in list(root.roles[role].keyids):
        root.revoke_key(keyid, role)
    for key in holders.keys:
        root.add_key(key, role)
    keys = len(root.roles[role].keyids)
    if not 1 <= holders.threshold <= keys:
        raise TrustError(f"{role}: expected a threshold from 1 to {keys}; found {holders.threshold}")
    root.roles[role].threshold = holders.threshold


def _role(name: str) -> str:
    return name.split(".")[-2]


def _bytes(document: Metadata[Any]) -> bytes:
    content: bytes = document.to_bytes()
    return content
