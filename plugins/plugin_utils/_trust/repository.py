# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""The one place where the controller decides whether it believes a model repository.

Nothing here needs python-tuf until a repository is verified.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
import urllib.parse
import urllib.request
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Callable, Iterable, Mapping, Sequence

from ansible.module_utils.parsing.convert_bool import boolean

from ansible_collections.edgeml.fleet.plugins.module_utils._common.errors import ArgumentError, IntegrityError
from ansible_collections.edgeml.fleet.plugins.module_utils._common.files import DurableTree, write_whole
from ansible_collections.edgeml.fleet.plugins.module_utils._fetch.failures import FetchError, Kind
from ansible_collections.edgeml.fleet.plugins.module_utils._fetch.options import FetchOptions
from ansible_collections.edgeml.fleet.plugins.module_utils._release.delta_index import (
    INDEX_BYTES_MAX,
    Delta,
    delta_path,
    index_path,
)
from ansible_collections.edgeml.fleet.plugins.module_utils._release.manifest import parse_release_json
from ansible_collections.edgeml.fleet.plugins.module_utils._release.release import File, Release
from ansible_collections.edgeml.fleet.plugins.module_utils._release.repository import Repository
from ansible_collections.edgeml.fleet.plugins.module_utils._release.withdrawals import Withdrawals
from ansible_collections.edgeml.fleet.plugins.module_utils._trust.metadata import (
    ROOT_EXPECTED,
    TrustError,
    require_packages,
    target_name,
)

if TYPE_CHECKING:
    from ansible_collections.edgeml.fleet.plugins.module_utils._trust.client import Client

STATE = "~/.local/state/edgeml/repositories"
_CACHE_SECONDS = 30 * 86_400
_INDEX_SECONDS = 60
_HINT_BYTES_MAX = 1 << 20


@dataclass(frozen=True)
class Trust:
    """Whom the controller trusts, as the variables ``model_repository_*`` say."""

    root: str = ""
    unsigned: bool = False
    state: str = STATE
    client_ca: str = ""
    client_certificate: str = ""

    @classmethod
    def from_variables(cls, read: Callable[[str], Any]) -> Trust:
        """Read the variables; ``read`` returns one, or None. Raises ArgumentError, which names the variable."""
        texts = {}
        for option in ("root", "state", "client_ca", "client_certificate"):
            name = f"model_repository_{option}"
            value = read(name)
            if value is not None and not isinstance(value, str):
                raise ArgumentError(f"{name}: expected a path; found {value!r}")
            if value:
                texts[option] = os.path.abspath(os.path.expanduser(os.path.expandvars(value)))
        unsigned = read("model_repository_unsigned")
        try:
            trust = cls(unsigned=bool(boolean(unsigned)) if unsigned not in (None, "") else False, **texts)
        except TypeError:
            raise ArgumentError(f"model_repository_unsigned: expected true or false; found {unsigned!r}") from None
        if trust.unsigned and trust.root:
            raise ArgumentError(
                "model_repository_root and model_repository_unsigned: expected one of them. Remove "
                "model_repository_unsigned to have releases verified"
            )
        return trust


class OpenRepository(Repository):
    """A model repository for the controller. Its files are below ``root``, or are brought there."""

    # What a person should know.
    warnings: tuple[str, ...] = ()

    def unavailable(self, files: Iterable[File]) -> dict[str, str]:
        """The paths at which blobs should be and are not, by their SHA-256."""
        paths = {file.sha256: self.blob_path(file.sha256) for file in files}
        return {sha256: path for sha256, path in paths.items() if not os.path.isfile(path)}

    def withdrawals(self, model: str) -> Withdrawals:
        """The withdrawn releases of a model, as a device is told of them. Raises ManifestError, or TrustError."""
        reasons = {version: self.withdrawn(model, version) for version in self.versions(model)}
        return Withdrawals({version: reason for version, reason in reasons.items() if reason is not None})

    def withdrawn_releases(self) -> dict[str, Mapping[str, str]]:
        """Why releases are withdrawn, by model and version. Raises ManifestError, or TrustError."""
        found = {model: self.withdrawals(model).releases for model in self.models()}
        return {model: releases for model, releases in found.items() if releases}

    def bring(self, files: Iterable[File]) -> None:
        """Have these blobs below ``root``, if the repository has them elsewhere. Raises TrustError."""

    def hints(self, directory: str, name: str) -> dict[str, bytes]:
        """The small files of a directory that no metadata signs, by their paths: of a web server only ``name``."""
        path, found = os.path.join(self.root, directory), {}
        for entry in sorted(os.listdir(path)) if os.path.isdir(path) else ():
            with open(os.path.join(path, entry), "rb") as file:
                found[os.path.join(path, entry)] = file.read(_HINT_BYTES_MAX)
        return found

    def bring_delta(self, file: File, delta: Delta) -> None:
        """Have a delta below ``root``. Raises EdgemlError where there is none of its size."""
        path = self.delta_path(file, delta)
        found = os.path.getsize(path) if os.path.isfile(path) else "no file"
        if found != delta.size:
            raise IntegrityError(f"{path}: expected a delta of {delta.size} bytes; found {found}")


class UnsignedRepository(OpenRepository):
    """A directory whose writers are believed, because somebody said so."""

    def release(self, model: str, version: str) -> Release:
        """Read and check a release's manifest. Raises ManifestError, and TrustError for one that is withdrawn."""
        release = super().release(model, version)
        withdrawn = self.withdrawn(model, version)
        if withdrawn is not None:
            raise TrustError(
                f"{self.root}: {model} {version} is withdrawn: {withdrawn}. Choose another version", kind="withdrawn"
            )
        return release


class SignedRepository(OpenRepository):
    """A repository, in a directory or on a web server, of which only what is signed is believed."""

    def __init__(self, location: str, client: Client, *, cache: str | None) -> None:
        super().__init__(cache or location)
        self._client = client
        self._cache = cache

    def release(self, model: str, version: str) -> Release:
        """Read a release that is signed. Raises TrustError for any other one, and ManifestError for a damaged one."""
        content, signed = self._client.manifest(model, version)
        self.warnings = tuple(self._client.warnings)
        origin = f"{self._client.location}: {target_name(model, version)}"
        release = parse_release_json(content, origin)
        if (release.model, release.version, release.digest) != (model, version, signed.digest):
            raise TrustError(
                f"{origin}: expected {model} {version} with the digest {signed.digest}; found {release.model} "
                f"{release.version} with {release.digest}: its metadata names another release",
                kind="mismatch",
            )
        return release

    def channels(self, model: str) -> Mapping[str, str]:
        """The version of each channel of a model, as it is signed. Raises TrustError."""
        return self._client.channels(model)

    def models(self) -> list[str]:
        """The models that have a signed release. Raises TrustError."""
        return sorted({release.model for release in self._client.releases()})

    def withdrawals(self, model: str) -> Withdrawals:
        """The withdrawn releases of a model, as it is signed. Raises TrustError."""
        return self._client.withdrawals(model)

    def unavailable(self, files: Iterable[File]) -> dict[str, str]:
        """None of a web server's, as far as it is known before they are asked for."""
        return {} if self._cache else super().unavailable(files)

    def verify(self, release: Release) -> int:
        """Read every file of the release, wherever it is; return their bytes in all."""
        self.bring(release.all_files())
        return super().verify(release)

    def bring(self, files: Iterable[File]) -> None:
        """Download the blobs that are not in the cache, and forget those that nobody asked for in thirty days."""
        if self._cache is None:
            return
        directory = os.path.join(self._cache, "blobs", "sha256")
        os.makedirs(directory, mode=0o700, exist_ok=True)
        lacking = []
        for file in files:
            path = self.blob_path(file.sha256)
            if os.path.isfile(path):
                os.utime(path)
            else:
                lacking.append(file)
        if lacking:
            self._download(lacking, directory)
        _forget_old(directory)

    def hints(self, directory: str, name: str) -> dict[str, bytes]:
        """The small files of a directory that no metadata signs, by their paths; none that the web server lacks."""
        if self._cache is None:
            return super().hints(directory, name)
        path = f"{directory}/{name}"
        # The client takes one quoting off, the server the other: a percent sign is a letter of the file's name.
        quoted = urllib.parse.quote(urllib.parse.quote(path))
        try:
            return {f"{self._client.location}: {path}": self._client.hint(quoted, _HINT_BYTES_MAX)}
        except TrustError:
            return {}

    def deltas(self, file: File) -> list[Delta]:
        """The deltas of a file, the smallest first; none where their index cannot be read, for it is a hint."""
        if self._cache is None:
            return super().deltas(file)
        path = os.path.join(self._cache, index_path(file.sha256))
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        # The devices of a fleet are asked by one process each.
        if not os.path.exists(path) or os.path.getmtime(path) < time.time() - _INDEX_SECONDS:
            try:
                content = self._client.hint(index_path(file.sha256), INDEX_BYTES_MAX)
            except TrustError:
                content = b""
            write_whole(path, content.decode("utf-8", "replace"))
        return super().deltas(file)

    def bring_delta(self, file: File, delta: Delta) -> None:
        """Download a delta that is not in the cache. Raises TrustError."""
        if self._cache is None:
            super().bring_delta(file, delta)
            return
        path = self.delta_path(file, delta)
        if os.path.isfile(path):
            os.utime(path)
        else:
            self._client.bring(delta_path(file.sha256, delta), delta.sha256, delta.size, path)
        deltas = os.path.join(self._cache, "deltas")
        for name in os.listdir(deltas):
            _forget_old(os.path.join(deltas, name))

    def _download(self, files: Sequence[File], directory: str) -> None:
        """Have blobs fetched as a device fetches them: verified block by block, and where a connection breaks, from
        there on."""
        from ansible_collections.edgeml.fleet.plugins.module_utils._fetch.fetcher import Fetcher

        location, bounds = self._client.location, self._client.bounds
        options = self._client.options._replace(
            sources=[location],
            seconds_max=bounds.begin_seconds + max(file.size for file in files) / bounds.bytes_per_second_min,
        )
        fetcher = Fetcher(DurableTree(self.root), directory, options)
        try:
            fetcher.fetch_all(sorted(files, key=lambda file: file.size))
        except FetchError as error:
            raise TrustError(f"{location}: {error}", kind=_KINDS.get(error.kind, "unreachable")) from error
        finally:
            fetcher.close()


# What a fetch that failed says of the repository.
_KINDS = {Kind.CORRUPT: "mismatch", Kind.EXHAUSTED: "slow", Kind.MISMATCH: "missing", Kind.REFUSED: "missing"}


def _proxy(location: str) -> str | None:
    """The web proxy that the environment names for an address."""
    parts = urllib.parse.urlsplit(location)
    if urllib.request.proxy_bypass(parts.netloc):
        return None
    return urllib.request.getproxies().get(parts.scheme)


def open_repository(location: str, trust: Trust) -> OpenRepository:
    """Return the repository at ``location``, a path or an address, for reading releases that ``trust`` allows.

    Raises TrustError for one that is not signed, unless that was allowed, and for one that is not to be trusted.
    """
    from_web = location.startswith(("http://", "https://"))
    location = location if from_web else os.path.abspath(os.path.expanduser(os.path.expandvars(location)))
    if trust.unsigned:
        if from_web:
            raise TrustError(
                f"{location}: model_repository_unsigned: expected a path. What comes over a network has to be signed",
                kind="unsigned",
            )
        return UnsignedRepository(location)
    if not trust.root:
        raise TrustError(
            f"{location}: model_repository_root is not set, so no release can be verified. Set it to a copy of the "
            "root.json that you trust (docs/signing.md), or, for a repository that is not signed, set "
            "model_repository_unsigned: true",
            kind="unsigned",
        )
    root = _pinned(trust.root)
    require_packages()
    from ansible_collections.edgeml.fleet.plugins.module_utils._trust.client import Client, Fetcher
    from ansible_collections.edgeml.fleet.plugins.module_utils._trust.roots import read_root

    read_root(root, f"{trust.root}: model_repository_root")

    # One state for each repository and pinned root: whoever pins another begins anew.
    digest = hashlib.sha256(location.rstrip("/").encode() + b"\0" + root).hexdigest()[:32]
    state = os.path.join(os.path.expanduser(trust.state), digest)
    options = FetchOptions(
        ca_file=trust.client_ca or None,
        certificate_file=trust.client_certificate or None,
        proxy=_proxy(location) if from_web else None,
    )
    client = Client(location, root, os.path.join(state, "metadata"), fetcher=Fetcher(location, options))
    return SignedRepository(location, client, cache=os.path.join(state, "cache") if from_web else None)


def _forget_old(directory: str) -> None:
    """Remove the files of a cache that nobody asked for in thirty days."""
    oldest = time.time() - _CACHE_SECONDS
    for entry in os.scandir(directory):
        # Another run may have removed it.
        with contextlib.suppress(FileNotFoundError):
            if entry.stat().st_mtime < oldest:
                os.unlink(entry.path)


def _pinned(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise TrustError(
            f"{path}: model_repository_root: expected {ROOT_EXPECTED}; {error.strerror}",
            kind="state",
        ) from error


def read_from(variables: Mapping[str, Any], template: Callable[[Any], Any]) -> Callable[[str], Any]:
    """Return what reads one of an action's variables, templated; None for one that is not set."""
    return lambda name: template(variables[name]) if name in variables else None
