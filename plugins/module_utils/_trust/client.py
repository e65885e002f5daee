# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""The client: what a controller or a device believes of a repository. It judges by python-tuf, and signs nothing.

A repository is a directory, or the address of one on a web server; both go the same way. What was seen before is kept,
so that nobody can bring back what was replaced.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import sys
import tempfile
import time
import urllib.parse
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Iterator, NamedTuple, cast

from .._fetch.failures import SourceError
from .._fetch.options import FetchOptions
from .._fetch.pace import Pace, Patience
from .._fetch.sources import Directory, Source, Stream
from .._fetch.web import WebServer
from .._release.withdrawals import Withdrawals
from . import metadata
from .metadata import METADATA, SignedRelease, TrustError, release_of, signed_release, target_name
from .refusals import refusal, warnings_of
from .roots import difference, read_root

with contextlib.suppress(ImportError):
    from tuf.api import exceptions
    from tuf.api.metadata import Metadata, Root, Snapshot, TargetFile, Targets
    from tuf.ngclient import Updater, UpdaterConfig
if TYPE_CHECKING:
    from tuf.ngclient import FetcherInterface

CHUNK_BYTES = 1 << 16
_SCHEMES = ("http", "https")


class Bounds(NamedTuple):
    """How long a repository may take: to connect and to begin its answer, and how many bytes then in each second."""

    begin_seconds: float = 30.0
    bytes_per_second_min: int = 1024


class Fetcher:
    """Reads the files of the repository at ``location``, over one connection and within bounds of time.

    ``options`` say whom to trust on the way, who the client is, and by which proxy it goes; their sources and limits
    are for larger files. It unpacks nothing, and has what python-tuf asks of a fetcher.
    """

    def __init__(self, location: str, options: FetchOptions | None = None, bounds: Bounds | None = None) -> None:
        self.options = options or FetchOptions()
        self.bounds = bounds or Bounds()
        self._base = base_url(location)
        self._source: Source | None = None

    @contextlib.contextmanager
    def download_file(self, url: str, max_length: int) -> Iterator[IO[bytes]]:
        """Yield a temporary file with the content. Raises DownloadError as soon as it is longer than ``max_length``."""
        with tempfile.TemporaryFile() as file:
            received, started = 0, time.monotonic()
            with self._failing(url, started), contextlib.closing(self._open(url)) as stream:
                # One read of the socket: a server that sends a byte now and then does not hold it for ever.
                for chunk in iter(lambda: stream.read(CHUNK_BYTES), b""):
                    received += len(chunk)
                    self._require(url, received, max_length, time.monotonic() - started)
                    file.write(chunk)
            file.seek(0)
            yield file

    def download_bytes(self, url: str, max_length: int) -> bytes:
        """Return a file of metadata. python-tuf bounds one by the length that its reference says, however long."""
        with self.download_file(url, min(max_length, metadata.TARGETS_BYTES_MAX)) as file:
            return file.read()

    def close(self) -> None:
        """Let go of the connection; the next file makes another one."""
        if self._source is not None:
            self._source.close()

    def _open(self, url: str) -> Stream:
        if self._source is None:
            patience = Patience(connect=self.bounds.begin_seconds, stall=self.bounds.begin_seconds)
            self._source = (
                WebServer(self._base.rstrip("/"), self.options, Pace(), patience)
                if is_url(self._base)
                else Directory(self._base)
            )
        # How long it may be is seen while it comes.
        return self._source.open_document(urllib.parse.unquote(url[len(self._base) :]), sys.maxsize)

    def _require(self, url: str, received: int, bytes_max: int, seconds: float) -> None:
        """Raise a DownloadError for what is too long, or comes too slowly."""
        if received > bytes_max:
            raise exceptions.DownloadLengthMismatchError(
                f"{url}: {received} bytes, and the maximum allowed length of {bytes_max} is exceeded"
            )
        allowed = self.bounds.begin_seconds + received / self.bounds.bytes_per_second_min
        if is_url(url) and seconds > allowed:
            raise exceptions.SlowRetrievalError(
                f"{url}: {received} bytes in {allowed:.0f} s; expected at least {self.bounds.bytes_per_second_min} "
                "bytes in each second"
            )

    @contextlib.contextmanager
    def _failing(self, url: str, started: float) -> Iterator[None]:
        """Each failure of a source as the DownloadError that python-tuf expects."""
        try:
            yield
        except SourceError as error:
            if error.status:
                raise exceptions.DownloadHTTPError(str(error), error.status) from error
            if is_url(url) and time.monotonic() - started >= self.bounds.begin_seconds:
                raise exceptions.SlowRetrievalError(str(error)) from error
            raise exceptions.DownloadError(str(error)) from error


class Client:
    """What to believe of the repository at ``location``, a path or an address, by the trusted root in ``root``.

    ``state`` is a directory that keeps what was seen, one for each repository; ``fetcher`` reads its files.
    """

    def __init__(
        self,
        location: str,
        root: bytes,
        state: str,
        *,
        fetcher: Fetcher | None = None,
    ) -> None:
        self.location = location
        self._base = base_url(location)
        self._root = root
        self._state = state
        self._fetcher = fetcher or Fetcher(location)
        # The releases, by the names of their targets: none are delegated.
        self._targets: dict[str, TargetFile] | None = None
        # The version of the metadata that names them, and the ids of the root's keys.
        self._number = 0
        self._root_keys: tuple[str, ...] = ()
        self._updater: Any = None
        # What a person should know although the repository is trusted.
        self.warnings: list[str] = []

    @property
    def bounds(self) -> Bounds:
        """How long the repository may take."""
        return self._fetcher.bounds

    @property
    def options(self) -> FetchOptions:
        """Whom to trust on the way, who the client is, and by which proxy it goes."""
        return self._fetcher.options

    def close(self) -> None:
        """Let go of the connection; the next question makes another one."""
        self._fetcher.close()

    def refresh(self) -> None:
        """Read the repository's newest metadata, and verify it. Raises TrustError, which names what is wrong."""
        self._targets = self._read()

    def _read(self) -> dict[str, TargetFile]:
        try:
            return self._update()
        except TrustError as error:
            why = self._other_root() if error.kind == "signature" else None
            raise TrustError(f"{self.location}: {why}", kind=error.kind) if why else error from None

    def _other_root(self) -> str | None:
        """Whether the signatures do not fit because the pinned root is another repository's, in words. What the
        repository says of itself is told, and never trusted."""
        pinned = read_root(self._root, self.location)
        url = f"{self._base}{METADATA}/{pinned.version}.root.json"
        try:
            return difference(pinned, read_root(self._fetcher.download_bytes(url, metadata.ROOT_BYTES_MAX), url))
        except (exceptions.DownloadError, TrustError):
            return None

    def _update(self) -> dict[str, TargetFile]:
        with self._refusing(), self._locked():
            updater = Updater(
                metadata_dir=self._state,
                metadata_base_url=f"{self._base}{METADATA}/",
                fetcher=cast("FetcherInterface", self._fetcher),
                config=UpdaterConfig(
                    root_max_length=metadata.ROOT_BYTES_MAX,
                    timestamp_max_length=metadata.TIMESTAMP_BYTES_MAX,
                    snapshot_max_length=metadata.SNAPSHOT_BYTES_MAX,
                    targets_max_length=metadata.TARGETS_BYTES_MAX,
                ),
                bootstrap=self._root,
            )
            updater.refresh()
            self._updater = updater
            root: Metadata[Root] = Metadata.from_file(os.path.join(self._state, "root.json"))
            targets: Metadata[Targets] = Metadata.from_file(os.path.join(self._state, "targets.json"))
        self.warnings = warnings_of(self.location, root.signed, targets.signed)
        self._number, self._root_keys = targets.signed.version, tuple(sorted(root.signed.roles["root"].keyids))
        return targets.signed.targets

    def releases(self) -> list[SignedRelease]:
        """Every release that the metadata names. Raises TrustError."""
        return [signed_release(name, target.custom) for name, target in sorted(self._known().items())]

    def withdrawals(self, model: str) -> Withdrawals:
        """The withdrawn releases of a model, as it is signed. Raises TrustError."""
        withdrawn = {
            release.version: release.withdrawn
            for release in self.releases()
            if release.model == model and release.withdrawn is not None
        }
        return Withdrawals(withdrawn, self._number, hashlib.sha256("".join(self._root_keys).encode()).hexdigest())

    def channels(self, model: str) -> dict[str, str]:
        """The version of each channel of a model, as it is signed. Raises TrustError."""
        return metadata.channels_of(self.releases(), model)

    def manifest(self, model: str, version: str) -> tuple[bytes, SignedRelease]:
        """The bytes of a release's manifest, verified, and what is signed of it.

        Raises TrustError, also for a release that is withdrawn.
        """
        name = target_name(model, version)
        release_of(name)
        target = self._known().get(name)
        if target is None:
            known = sorted(release.version for release in self.releases() if release.model == model)
            models = sorted({release.model for release in self.releases()})
            signed_is = (
                f"signed of {model}: {', '.join(known)}" if known else f"signed models: {', '.join(models) or 'none'}"
            )
            raise TrustError(
                f"{self.location}: {model} {version} is not signed; {signed_is}. Correct the name or the version, or "
                "sign the release, once it is published, with: edgeml-publish sign",
                kind="unsigned",
            )
        signed = signed_release(name, target.custom)
        if signed.withdrawn is not None:
            raise TrustError(
                f"{self.location}: {model} {version} is withdrawn: {signed.withdrawn}. Choose another version",
                kind="withdrawn",
            )
        with self._refusing(), self._fetcher.download_file(f"{self._base}{name}", target.length) as file:
            target.verify_length_and_hashes(file)
            file.seek(0)
            content: bytes = file.read()
        return content, signed

    def target(self, name: str) -> tuple[bytes, int]:
        """The bytes of a target that is delegated, verified, and the version of the role that signed it.

        It lies under its digest, so that it belongs to its metadata in each moment. Raises TrustError, of the kind
        ``unsigned`` where nobody has signed it yet.
        """
        self._known()
        with self._refusing(), self._locked():
            role = self._role_of(name)
            found = self._updater.get_targetinfo(name) if role else None
            if role is None or found is None:
                raise TrustError(f"{self.location}: {name} is not signed: nothing was published yet", kind="unsigned")
            signed: Metadata[Targets] = Metadata.from_file(os.path.join(self._state, f"{role}.json"))
        directory, _slash, base = name.rpartition("/")
        url = f"{self._base}{directory}/{found.hashes['sha256']}.{base}"
        with self._refusing(), self._fetcher.download_file(url, found.length) as file:
            found.verify_length_and_hashes(file)
            file.seek(0)
            return file.read(), signed.signed.version

    def _role_of(self, name: str) -> str | None:
        """The delegated role that may sign a target, if it has signed anything yet."""
        targets: Metadata[Targets] = Metadata.from_file(os.path.join(self._state, "targets.json"))
        snapshot: Metadata[Snapshot] = Metadata.from_file(os.path.join(self._state, "snapshot.json"))
        delegations = targets.signed.delegations
        roles = delegations.get_roles_for_target(name) if delegations else ()
        return next((role for role, _ends in roles if f"{role}.json" in snapshot.signed.meta), None)

    def hint(self, name: str, bytes_max: int) -> bytes:
        """The bytes of a small file that nobody signs, of which nothing may be believed. Raises TrustError."""
        with self._refusing(), self._fetcher.download_file(f"{self._base}{name}", bytes_max) as file:
            return file.read()

    def bring(self, name: str, sha256: str, size: int, path: str) -> None:
        """Bring the file ``name``, which has this content, to ``path``, in one atomic step. Raises TrustError."""
        url = f"{self._base}{name}"
        with self._refusing(), self._fetcher.download_file(url, size) as file:
            digest, partial = hashlib.sha256(), f"{path}.{os.getpid()}"
            try:
                with open(partial, "wb") as target:
                    for chunk in iter(lambda: file.read(CHUNK_BYTES), b""):
                        digest.update(chunk)
                        target.write(chunk)
                    target.flush()
                    os.fsync(target.fileno())
                if digest.hexdigest() != sha256:
                    raise exceptions.LengthOrHashMismatchError(
                        f"{url}: expected SHA-256 {sha256}; found {digest.hexdigest()}"
                    )
                os.replace(partial, path)
            finally:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(partial)

    def _known(self) -> dict[str, TargetFile]:
        if self._targets is None:
            self._targets = self._read()
        return self._targets

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """One updater at a time works in the directory of the state: python-tuf asks for that."""
        os.makedirs(self._state, mode=0o700, exist_ok=True)
        descriptor = os.open(self._state, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    @contextlib.contextmanager
    def _refusing(self) -> Iterator[None]:
        try:
            yield
        except (exceptions.RepositoryError, exceptions.DownloadError) as error:
            raise refusal(self.location, error) from error
        except OSError as error:
            raise TrustError(
                f"{error.filename or self._state}: what is known of the repository {self.location} cannot be kept: "
                f"{error.strerror}",
                kind="state",
            ) from error


def is_url(location: str) -> bool:
    """Whether a repository is on a web server."""
    return urllib.parse.urlsplit(location).scheme in _SCHEMES


def base_url(location: str) -> str:
    """The address of a repository, with a slash at its end."""
    url = location if is_url(location) else Path(os.path.abspath(location)).as_uri()
    return url if url.endswith("/") else f"{url}/"
