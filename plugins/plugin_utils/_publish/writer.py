# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""Writing a release into a model repository: whole, or not at all."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
from typing import Any, Mapping

from ansible_collections.edgeml.fleet.plugins.module_utils._common.errors import with_path
from ansible_collections.edgeml.fleet.plugins.module_utils._common.files import fsync_directory
from ansible_collections.edgeml.fleet.plugins.module_utils._release.manifest import parse_release
from ansible_collections.edgeml.fleet.plugins.module_utils._release.release import Release
from ansible_collections.edgeml.fleet.plugins.module_utils._release.repository import Repository

from .model import PublishError
from .repository_lock import writing

MANIFEST = "manifest.json"
# In the place of a manifest that gc has removed: no other release gets this version's name.
REMOVED = "removed.json"
_MODE = 0o644
_PART = ".part-"


def manifest_bytes(document: Mapping[str, Any]) -> bytes:
    """The text of a manifest."""
    return (json.dumps(document, indent=2, ensure_ascii=False) + "\n").encode()


def publish(repository: str, document: Mapping[str, Any], locations: Mapping[str, str]) -> bool:
    """Publish a release: its blobs first, its manifest last, in one step. Return whether it was not there before.

    ``locations`` has a path for the SHA-256 of each file that the manifest names. A reader sees the whole release or
    nothing of it, whenever this process or the machine stops; ``gc`` collects what a stopped one left, and waits for
    one that runs. Two at once cannot both publish a version.

    Raises PublishError if the version is or was there with other content, ManifestError for a document that is none,
    IntegrityError for a file that is another than the manifest says, and OSError.
    """
    release = parse_release(document)
    if is_published(repository, document):
        return False
    content = manifest_bytes(document)
    blobs = os.path.join(repository, "blobs", "sha256")
    make_directories(blobs)
    with writing(repository):
        return _write(Repository(repository), release, content, locations)


def is_published(repository: str, document: Mapping[str, Any]) -> bool:
    """Whether a release is there. Raises PublishError if its version is or was there with other content, OSError, and
    ManifestError for a document that is none."""
    release = parse_release(document)
    directory = os.path.join(repository, release.model, release.version)
    if _is_published(os.path.join(directory, MANIFEST), manifest_bytes(document)):
        return True
    _check_removed(directory, release.digest)
    return False


def _write(repository: Repository, release: Release, content: bytes, locations: Mapping[str, str]) -> bool:
    directory = os.path.join(repository.root, release.model, release.version)
    path = os.path.join(directory, MANIFEST)
    blobs = os.path.join(repository.root, "blobs", "sha256")
    for file in release.all_files():
        target = os.path.join(blobs, file.sha256)
        # A damaged blob is replaced: a file of that name has that content, or is of no use to anybody.
        if not _has_size(target, file.size):
            publish_file(locations[file.sha256], target)
    fsync_directory(blobs)
    repository.verify(release)
    make_directories(directory)
    part = os.path.join(directory, _PART + secrets.token_hex(8))
    try:
        with open(part, "xb") as target_file, with_path(part):
            target_file.write(content)
            target_file.flush()
            os.fchmod(target_file.fileno(), _MODE)
            os.fsync(target_file.fileno())
        try:
            # Unlike a rename, this fails where another publication was first.
            os.link(part, path)
        except FileExistsError:
            return not _is_published(path, content)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(part)
    fsync_directory(directory)
    return True


def _is_published(path: str, content: bytes) -> bool:
    try:
        with open(path, "rb") as file:
            found = file.read()
    except FileNotFoundError:
        return False
    if found != content:
        raise PublishError(
            f"{path}: this version is published with other content, and a release never changes. Publish another "
            "version"
        )
    return True


def _check_removed(directory: str, digest: str) -> None:
    """Refuse another release under the name of one that is no longer there."""
    path = os.path.join(directory, REMOVED)
    try:
        with open(path, encoding="utf-8") as file:
            removed = json.load(file)["digest"]
    except FileNotFoundError:
        return
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise PublishError(f'{path}: expected {{"digest": "…"}}; {error!r}') from error
    if removed != digest:
        raise PublishError(
            f"{path}: another release of this version was published, and removed since; found the digest {digest}, "
            f"expected {removed}. Devices may still have it: publish another version"
        )


def _has_size(path: str, size: int) -> bool:
    try:
        return os.stat(path).st_size == size
    except FileNotFoundError:
        return False


def publish_file(source: str, target: str) -> None:
    """Copy a file into the repository, durably, in one atomic step. Raises OSError."""
    part = f"{target}{_PART}{secrets.token_hex(8)}"
    try:
        with open(source, "rb") as reader, open(part, "xb") as writer, with_path(part):
            shutil.copyfileobj(reader, writer, 1 << 20)
            writer.flush()
            os.fchmod(writer.fileno(), _MODE)
            os.fsync(writer.fileno())
        os.rename(part, target)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(part)


def make_directories(path: str) -> None:
    """Make a directory and the ones above it, each durably."""
    if os.path.isdir(path):
        return
    above = os.path.dirname(os.path.abspath(path))
    make_directories(above)
    with contextlib.suppress(FileExistsError):
        os.mkdir(path, 0o755)
    fsync_directory(above)
