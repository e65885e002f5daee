# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""The device's store: content-addressed blobs, the versions built from them, and which one is active.

::

    blobs/sha256/<digest>                      verified bytes, written once
    models/<model>/state.json                  active and previous version, trial: the one truth, replaced atomically
    models/<model>/active                      link to the active version, for servers that read a path
    models/<model>/journal.jsonl               every transition, appended
    models/<model>/withdrawn.json              the releases that nobody may run any more, if any are known
    models/<model>/versions/<version>/         version.json and hard links to the blobs, under their own names;
                                               tested.json: how it did in its smoke test, and its prepared model
                     prepared-<random>/        the files of that: what this device's runtime loads best
    fetched/                                   what fetches have brought, in part or whole, until a swap takes it
    orders/                                    what is to be fetched ahead of its rollout
    staging/                                   what is being written; on the same filesystem, never read
    neighbours                                 link to the directory of stores that this one copies blobs from, if any
    reserve                                    bytes set aside: no disk is too full for going back

Whatever becomes visible was written in ``staging``, verified, fsynced (file and directory) and put in place by
one rename. A process killed at any point leaves either the old or the new, and rubbish only in ``staging``.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
import time
from typing import Any, Iterable, Iterator, Mapping, Sequence

from .._common.errors import IntegrityError, StoreError, with_path
from .._common.files import (
    DurableTree,
    Room,
    file_status,
    free_room,
    fsync_directory,
    is_directory,
    remove_file,
    remove_tree,
)
from .._common.hashing import read_hashed
from .._release.names import check_name, is_name
from .._release.release import MODEL, File, Release, Variant
from .blobs import CONTENT_MODE, Blobs
from .documents import document_bytes, read_document
from .facts import processor_id
from .fetched import Fetched
from .journal import Journal
from .prepared import PREFIX, PreparedModel, parse_prepared
from .state import KIND_STRATEGIES, SCHEMA, State, parse_state, state_document
from .version import Version, read_version

LOCK_SECONDS = 60
# What going back writes: a state, the journal's entry, a link, and their directories. On a full disk they need it.
RESERVE_BYTES = 64 << 10
_STATE_MODE = 0o640
_NO_STATE: Any = object()


class Store:
    """The store below ``root``, a directory that must exist. Its group may read everything; only its owner writes."""

    def __init__(self, root: str) -> None:
        self.root = root
        self._tree = DurableTree(root)
        self.blobs = Blobs(self._tree)
        self.fetched = Fetched(self._tree)
        self._models = os.path.join(root, "models")
        self._reserve = os.path.join(root, "reserve")
        # A version's directory never changes: what was parsed once stays true while the file is the same.
        self._parsed: dict[str, tuple[tuple[int, int, int], Version]] = {}

    def journal(self, model: str) -> Journal:
        """The model's journal."""
        return Journal(self._tree, self._journal_path(model))

    # ---- reading ----

    def exists(self) -> bool:
        """Whether the device has a store. Raises OSError where that is unknown."""
        return is_directory(self.root)

    def models(self) -> list[str]:
        """Names of the models that have a state, or a journal of what was to give them one, sorted."""
        paths = (self._state_path, self._journal_path)
        return [name for name in self._model_names() if any(file_status(path(name)) for path in paths)]

    def kind(self, model: str) -> str:
        """Of which kind the releases of this name are: as its server was notified, and before the first time as those
        that are held; a model where neither can be read."""
        try:
            serving = self.state(model).serving
        except (StoreError, OSError):
            return MODEL
        if serving is not None:
            return serving.strategy if serving.strategy in KIND_STRATEGIES else MODEL
        for version in self.versions(model):
            with contextlib.suppress(StoreError, OSError):
                return self.version(model, version).release.kind
        return MODEL

    def state(self, model: str) -> State:
        """The model's state; an empty one for a model that this device never had. Raises StoreError if damaged."""
        path = self._state_path(model)
        document = read_document(path, missing=_NO_STATE)
        return State() if document is _NO_STATE else parse_state(document, path)

    def versions(self, model: str) -> list[str]:
        """Versions of the model that the store holds, sorted as text."""
        return _names(os.path.join(self._model_path(model), "versions"))

    def version(self, model: str, version: str) -> Version:
        """One version that the store holds. Raises StoreError when it is absent or its record damaged."""
        directory = self._version_path(model, version)
        path = os.path.join(directory, "version.json")
        if not is_directory(directory):
            held = ", ".join(self.versions(model)) or "none"
            raise StoreError(f"{directory}: the store does not hold {model} {version}; it holds {held}")
        status = file_status(path)
        if status is None:
            raise StoreError(f"{path}: missing")
        written = (status.st_ino, status.st_size, status.st_mtime_ns)
        known = self._parsed.get(path)
        if known is None or known[0] != written:
            known = self._parsed[path] = (written, read_version(model, version, directory))
        return known[1]

    def held_files(self) -> list[File]:
        """The files of all versions of all models that can be read."""
        return [file for version in self._readable_versions() for file in version.files]

    def prunable(self, model: str, keep: int, needed: Iterable[str | None]) -> list[str]:
        """The versions beyond the ``needed`` ones and the ``keep`` newest others, newest first."""
        others = set(self.versions(model)).difference(needed)
        age = {version: os.stat(self._version_path(model, version)).st_mtime for version in others}
        return sorted(others, key=lambda version: (age[version], version), reverse=True)[keep:]

    def activation(self, model: str) -> dict[str, Any] | None:
        """The journal's entry that made the model's active version active; None if there is none."""
        return self.journal(model).activation(self.state(model).active)

    def tested(self, version: Version) -> dict[str, Any] | None:
        """How the version did in its smoke test, as ``note_test`` noted it; None if it was not tested, or if that
        record is damaged: a test can be repeated."""
        with contextlib.suppress(StoreError):
            document = read_document(os.path.join(version.directory, "tested.json"))
            return document if isinstance(document, dict) else None
        return None

    def prepared(self, version: Version) -> PreparedModel | None:
        """The version's prepared model, if there is one for this processor, complete. Reads no content."""
        found = parse_prepared((self.tested(version) or {}).get("prepared"))
        if found is None or found.processor != processor_id():
            return None
        try:
            for file in found.files:
                version.check_size(file)
        except IntegrityError:
            return None
        return found

    def unique_bytes(self, model: str, version: str) -> int:
        """What the removal of a version would free: the sizes of the files that no other version shares."""
        directory = self._version_path(model, version)
        found = (os.stat(os.path.join(directory, name)) for name in os.listdir(directory))
        own = sum(status.st_size for status in found if stat.S_ISREG(status.st_mode) and status.st_nlink <= 2)
        return own + self.prepared_bytes(model, version)

    def prepared_bytes(self, model: str, version: str) -> int:
        """What the removal of all that is prepared of a version, used or not, would free."""
        found = (
            os.stat(os.path.join(directory, name))
            for directory in self._prepared_directories(model, version)
            for name in os.listdir(directory)
        )
        return sum(status.st_size for status in found if status.st_nlink == 1)

    def unique_files(self, model: str, version: str) -> int:
        """How many inodes the removal of a version would free, without those of its prepared models."""
        directory = self._version_path(model, version)
        return 1 + sum(os.lstat(os.path.join(directory, name)).st_nlink <= 2 for name in os.listdir(directory))

    def free_bytes(self) -> int:
        """The bytes of ``free_room``."""
        return self.free_room().bytes

    def free_room(self) -> Room:
        """What is free on the store's disk; where there is no store yet, on the disk that it would be made on."""
        path = os.path.abspath(self.root)
        while not os.path.isdir(path):
            path = os.path.dirname(path)
        return free_room(path)

    # ---- writing (hold the lock) ----

    @contextlib.contextmanager
    def lock(self, seconds: float = LOCK_SECONDS) -> Iterator[None]:
        """Hold the store's lock, waiting at most ``seconds``. A killed holder lets go by itself (flock)."""
        if not self.exists():
            raise StoreError(f"{self.root}: no store here; the role edgeml.fleet.provision makes it")
        descriptor = os.open(os.path.join(self.root, "lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            deadline = time.monotonic() + seconds
            while True:
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError as error:
                    if time.monotonic() >= deadline:
                        raise StoreError(
                            f"{self.root}: another swap has held the store's lock for {seconds:g} s; try again later"
                        ) from error
                    time.sleep(0.1)
            yield
        finally:
            os.close(descriptor)

    def reserve_space(self) -> None:
        """Set aside what a way back needs. Raises StoreError where the disk is too full for that."""
        if self.has_reserve():
            return
        self._tree.directory(self._tree.staging)
        staged = os.path.join(self._tree.staging, "reserve")
        try:
            with open(staged, "wb") as file:
                os.posix_fallocate(file.fileno(), 0, RESERVE_BYTES)
                os.fsync(file.fileno())
        except OSError as error:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(staged)
            raise StoreError(
                f"{self.root}: the disk has no {RESERVE_BYTES} bytes to set aside for a way back: {error}"
            ) from error
        os.rename(staged, self._reserve)
        fsync_directory(self.root)

    def has_reserve(self) -> bool:
        """Whether something is set aside."""
        return os.path.exists(self._reserve)

    def use_reserve(self) -> None:
        """Give up what was set aside, if the disk is so full that a way back needs it."""
        if self.free_bytes() < RESERVE_BYTES:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._reserve)

    @contextlib.contextmanager
    def work_directory(self) -> Iterator[str]:
        """An empty directory on the store's disk, which is gone after the block, or when staging is cleaned."""
        directory = self._tree.staged("work")
        remove_tree(directory)
        os.mkdir(directory, 0o700)
        try:
            yield directory
        finally:
            remove_tree(directory)

    def clean_staging(self) -> None:
        """Remove what an interrupted write left behind; nothing is touched where nothing was left."""
        if os.path.isdir(self._tree.staging) and os.listdir(self._tree.staging):
            remove_tree(self._tree.staging)

    def install(self, release: Release, variant: Variant) -> bool:
        """Make the version's directory from blobs that the store holds. Return False if it is there already,
        with whichever variant: it may be serving.

        Raises StoreError if the store holds another release under the same version: a release is immutable.
        """
        directory = self._version_path(release.model, release.version)
        if is_directory(directory):
            held = self.version(release.model, release.version)
            if held.digest != release.digest:
                raise StoreError(
                    f"{directory}: the store holds {release.model} {release.version} with digest {held.digest}; "
                    f"this release has {release.digest}. A release is immutable: publish the change as a new version"
                )
            return False
        staged = os.path.join(self._tree.staging, f"{release.model}@{release.version}")
        self.blobs.copy_from_neighbours(release.files(variant))
        remove_tree(staged)
        self._tree.directory(staged)
        for file in release.files(variant):
            os.link(self.blobs.path(file), os.path.join(staged, file.path))
        record = {"schema": SCHEMA, "variant": variant.name, "release": release.document}
        self._tree.write(os.path.join(staged, "version.json"), document_bytes(record), CONTENT_MODE)
        fsync_directory(staged)
        parent = os.path.dirname(directory)
        self._tree.directory(parent)
        os.rename(staged, directory)
        fsync_directory(parent)
        return True

    def note_test(self, version: Version, result: Mapping[str, Any]) -> None:
        """Keep the result of the version's smoke test with it."""
        self._tree.replace(os.path.join(version.directory, "tested.json"), document_bytes(result), CONTENT_MODE)

    def adopt_prepared(self, source: str, names: Iterable[str]) -> tuple[File, ...]:
        """Take the named files out of ``source``, a directory on the store's disk, into staging as a prepared model.

        They become the store's own and are brought to the disk; whoever made them must have ended. Raises
        IntegrityError for anything but a plain file.
        """
        name = PREFIX + os.urandom(4).hex()
        staged = self._tree.staged(name)
        self._tree.directory(staged)
        found = []
        for file in names:
            path = os.path.join(staged, file)
            os.rename(os.path.join(source, file), path)
            found.append(self._adopted(path, os.path.join(name, file)))
        fsync_directory(staged)
        return tuple(found)

    def keep_prepared(self, version: Version, result: Mapping[str, Any], files: Sequence[File]) -> None:
        """Note the result of the version's smoke test, which names a prepared model; ``files`` are its, as adopted.

        It takes the place of the one before. Until it is there, its record names files that are not: then none is used.
        What another version's prepared model has as well becomes one file: whoever loads both has it in memory once.
        """
        self.drop_prepared(version.model, version.version)
        self._share_prepared(version, files)
        self.note_test(version, result)
        for name in {os.path.dirname(file.path) for file in files}:
            os.rename(self._tree.staged(name), os.path.join(version.directory, name))
            fsync_directory(version.directory)

    def _share_prepared(self, version: Version, files: Iterable[File]) -> None:
        """Have files that another version's prepared model has as well take the place of the same ones in staging."""
        new = {(file.size, file.sha256): file for file in files}
        for other in self._readable_versions() if new else ():
            if other.directory == version.directory:
                continue
            prepared = self.prepared(other)
            for held in prepared.files if prepared else ():
                file = new.get((held.size, held.sha256))
                if file is not None and other.is_right(held):
                    del new[file.size, file.sha256]
                    self._link(other.path(held), self._tree.staged(file.path))

    def drop_prepared(self, model: str, version: str) -> None:
        """Remove what is prepared of a version. Whoever has it loaded keeps it mapped."""
        for directory in self._prepared_directories(model, version):
            doomed = self._tree.staged(os.path.basename(directory))
            os.rename(directory, doomed)
            fsync_directory(os.path.dirname(directory))
            remove_tree(doomed)

    def relink(self, files: Iterable[File]) -> None:
        """Link the blobs of ``files``, which are right, in place of each other file that a version has of one."""
        right = {file.sha256 for file in files}
        for version in self._readable_versions() if right else ():
            for file in version.files:
                path, good = version.path(file), self.blobs.path(file)
                if file.sha256 in right and _are_two(path, good):
                    self._link(good, path)

    def remove_unused(self, needed: Iterable[File] = ()) -> None:
        """Remove the blobs that no version uses, except the ``needed`` ones.

        What a version has is its blob, by another name. Where they are two, as in a store that was copied without its
        hard links, or one is lost, the one that is right takes the other's place: so a copy gives its room back, deltas
        still find what they are made from, and no right blob goes where its version's file is damaged.
        """
        right: dict[str, File] = {}
        for version in self._readable_versions():
            for file in version.files:
                if file.sha256 in right or not _are_two(version.path(file), self.blobs.path(file)):
                    continue
                if version.is_right(file):
                    self._link(version.path(file), self.blobs.path(file))
                elif not self.blobs.is_right(file):
                    continue
                right[file.sha256] = file
        self.relink(right.values())
        self.blobs.remove_unused(needed)

    def write_document(self, path: str, document: Any, mode: int) -> None:
        """Put a JSON document in place of what is at ``path`` in the store, in one atomic step."""
        self._tree.directory(os.path.dirname(path))
        self._tree.replace(path, document_bytes(document), mode)

    def transition(self, model: str, state: State, entry: Mapping[str, Any]) -> None:
        """Append ``entry`` to the model's journal, then make ``state`` its state in one atomic step.

        In this order no version is ever active without the entry that says what it replaced.
        """
        self._tree.directory(self._model_path(model))
        self.journal(model).append(entry)
        self.update(model, state)

    def update(self, model: str, state: State) -> None:
        """Make ``state`` the model's state in one atomic step; the link to the active version follows."""
        self._tree.directory(self._model_path(model))
        self._tree.replace(self._state_path(model), document_bytes(state_document(state)), _STATE_MODE)
        self.link_active(model, state)

    def link_active(self, model: str, state: State) -> bool:
        """Have the link to the active version say what the state says. Return whether it said something else."""
        link = os.path.join(self._model_path(model), "active")
        wanted = os.path.join("versions", state.active) if state.active else None
        try:
            found: str | None = os.readlink(link)
        except FileNotFoundError:
            found = None
        if found == wanted:
            return False
        if wanted is None:
            os.unlink(link)
            fsync_directory(self._model_path(model))
        else:
            self._tree.replace_link(link, wanted)
        return True

    def remove(self, model: str, version: str, needed: Iterable[File] = ()) -> None:
        """Forget a version and the blobs that only it used, except the ``needed`` ones.

        Raises StoreError for the active or previous version, and for those that a trial's revert returns to.
        """
        state = self.state(model)
        if version in state.needed():
            role = "active" if version == state.active else "previous"
            raise StoreError(f"{model} {version} is the {role} version on this device: it is never removed")
        directory = self._version_path(model, version)
        self._tree.directory(self._tree.staging)
        doomed = os.path.join(self._tree.staging, f"removed-{model}@{version}")
        remove_tree(doomed)
        os.rename(directory, doomed)
        fsync_directory(os.path.dirname(directory))
        # What can't be deleted now is rubbish in staging, like that of an interrupted write.
        remove_tree(doomed)
        self.remove_unused(needed)

    # ---- the parts ----

    def _link(self, source: str, path: str) -> None:
        """Put a link to ``source`` in place of what is at ``path``, in one atomic step."""
        staged = self._tree.staged("linked")
        remove_file(staged)
        self._tree.directory(os.path.dirname(path))
        os.link(source, staged)
        os.rename(staged, path)
        fsync_directory(os.path.dirname(path))

    def _model_names(self) -> list[str]:
        return _names(self._models)

    def _adopted(self, path: str, name: str) -> File:
        """Make a file that another user wrote the store's own, durably. Returns it with its digest under ``name``."""
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with with_path(path), open(descriptor, "rb") as file:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode) or status.st_nlink != 1:
                raise IntegrityError(f"{path}: expected a file with one name; found a device, a link or the like")
            os.fchown(descriptor, os.geteuid(), -1)
            self._tree.seal(file, CONTENT_MODE)
            return File(name, status.st_size, read_hashed(file, status.st_size, path))

    def _prepared_directories(self, model: str, version: str) -> list[str]:
        directory = self._version_path(model, version)
        names = os.listdir(directory) if is_directory(directory) else []
        paths = (os.path.join(directory, name) for name in names if name.startswith(PREFIX))
        # A release may have a file of such a name.
        return [path for path in paths if is_directory(path)]

    def _readable_versions(self) -> Iterator[Version]:
        for model in self._model_names():
            for name in self.versions(model):
                with contextlib.suppress(StoreError):
                    yield self.version(model, name)

    def _model_path(self, model: str) -> str:
        return os.path.join(self._models, check_name(model, "model"))

    def _version_path(self, model: str, version: str) -> str:
        return os.path.join(self._model_path(model), "versions", check_name(version, "version"))

    def _state_path(self, model: str) -> str:
        return os.path.join(self._model_path(model), "state.json")

    def _journal_path(self, model: str) -> str:
        return os.path.join(self._model_path(model), "journal.jsonl")


def _are_two(path: str, other: str) -> bool:
    """Whether there are two files; what is not there is none."""
    status, found = file_status(path), file_status(other)
    return status is None or found is None or not os.path.samestat(status, found)


def _names(path: str) -> list[str]:
    """The directory's entries that are named as a model or a version, sorted; what somebody else put there is not."""
    return sorted(filter(is_name, os.listdir(path))) if is_directory(path) else []
