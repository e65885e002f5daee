# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""Who may change a repository's files at once: publications beside each other, and gc alone."""

from __future__ import annotations

import contextlib
import fcntl
import os
from typing import Iterator

from .model import PublishError


@contextlib.contextmanager
def writing(repository: str) -> Iterator[None]:
    """Hold what a publication and a promotion hold: while they write, ``gc`` waits."""
    with _locked(repository, fcntl.LOCK_SH):
        yield


@contextlib.contextmanager
def collecting(repository: str) -> Iterator[None]:
    """Hold what ``gc`` holds: nobody publishes or promotes meanwhile."""
    with _locked(repository, fcntl.LOCK_EX):
        yield


@contextlib.contextmanager
def _locked(repository: str, how: int) -> Iterator[None]:
    """The lock is on the directory of the blobs; the kernel gives it back however its holder ends."""
    path = os.path.join(repository, "blobs")
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise PublishError(f"{path}: expected the blobs of a model repository; {error.strerror}") from error
    try:
        fcntl.flock(descriptor, how)
        yield
    finally:
        os.close(descriptor)
