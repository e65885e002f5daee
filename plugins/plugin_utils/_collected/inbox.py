# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""The inputs that devices collected, on the controller: verified, one file each, below the device that they came from.

``inbox/DEVICE/MODEL/DIGEST.input``. To remove what is of a device is to remove its directory. A file is on the disk
before its device is told to remove it.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import NamedTuple
from urllib.parse import quote, unquote

from ansible_collections.edgeml.fleet.plugins.module_utils._common.errors import EdgemlError
from ansible_collections.edgeml.fleet.plugins.module_utils._common.files import (
    DurableTree,
    hold_directory,
    remove_tree,
)
from ansible_collections.edgeml.fleet.plugins.module_utils._release.collected_input import (
    CollectedInput,
    CollectedInputError,
    digest_of,
    directory_name,
    file_name,
    model_of,
    unpack,
)

_MODE = 0o600
_STAGING = "staging"


class InboxError(EdgemlError):
    """The inbox cannot be used; the text says why."""


class Stored(NamedTuple):
    """An input in the inbox: where it is, its device, model and digest."""

    path: str
    device: str
    model: str
    digest: str


class Inbox:
    """What came of one device, or will."""

    def __init__(self, directory: str, device: str) -> None:
        self.directory = os.path.join(_root(directory), quote(device, safe=""))
        self._tree = DurableTree(self.directory)

    @contextlib.contextmanager
    def hold(self) -> Iterator[None]:
        """Use the inbox alone. Raises InboxError while another run does."""
        os.makedirs(os.path.dirname(self.directory), mode=0o700, exist_ok=True)
        self._tree.directory(self.directory)
        with hold_directory(self.directory) as held:
            if not held:
                raise InboxError(f"{self.directory}: another run collects from this device; wait for its end")
            # What a run that was killed had begun to write.
            remove_tree(os.path.join(self.directory, _STAGING))
            yield

    def has(self, model: str, digest: str) -> bool:
        """Whether the input is stored, and whole."""
        try:
            return read_input(self._path(model, digest), model, digest) is not None
        except (OSError, CollectedInputError):
            return False

    def store(self, model: str, digest: str, content: bytes) -> None:
        """Store an input, durably. Raises OSError, and CollectedInputError for another than it is called."""
        verified(content, model, digest)
        path = self._path(model, digest)
        self._tree.directory(os.path.dirname(path))
        self._tree.replace(path, content, _MODE)

    def _path(self, model: str, digest: str) -> str:
        return os.path.join(self.directory, directory_name(model), file_name(digest))


def stored_inputs(directory: str) -> Iterator[Stored]:
    """Every input below ``directory``, sorted by device, model and digest."""
    root = _root(directory)
    for device in _names(root):
        for name in _names(os.path.join(root, device)):
            model = model_of(name)
            if model is None or name == _STAGING:
                continue
            place = os.path.join(root, device, name)
            for file in _names(place):
                digest = digest_of(file)
                if digest is not None:
                    yield Stored(os.path.join(place, file), unquote(device), model, digest)


def read_input(path: str, model: str, digest: str) -> CollectedInput:
    """Read a file of the inbox. Raises CollectedInputError and OSError."""
    with open(path, "rb") as file:
        return verified(file.read(), model, digest)


def verified(content: bytes, model: str, digest: str) -> CollectedInput:
    """The input in ``content``. Raises CollectedInputError where it is not the one that it is called."""
    item = unpack(content)
    if item.model != model or item.digest != digest:
        raise CollectedInputError(f"expected {model} {digest}; found {item.model} {item.digest}")
    return item


def _root(directory: str) -> str:
    return os.path.join(directory, "inbox")


def _names(path: str) -> list[str]:
    try:
        return sorted(os.listdir(path))
    except (FileNotFoundError, NotADirectoryError):
        return []
