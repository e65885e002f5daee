# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""What a device that pulls remembers, and the reports that it could not send yet.

::

    state.json                   what was done last; replaced in one step
    metadata/                    the signed metadata that was verified, as python-tuf keeps it
    queue/<sequence>.json        reports, in their order
    git/<digest>/                clones of git repositories
"""

from __future__ import annotations

import json
import os
import time
from typing import Any, ContextManager, Mapping, NamedTuple

from .._common.errors import StoreError
from .._common.files import DurableTree, hold_directory, remove_file
from .._common.records import as_document, build

QUEUED_MAX = 64
_MODE = 0o640
_DIGITS = 12


class PullState(NamedTuple):
    """What the device did last.

    ``timestamp`` is the ``timestamp.json`` that was handled whole, ``expires`` (seconds since 1970) when
    that ends, ``clock`` how this clock stood to it. ``pending``: something is left to do. ``answered`` has the number
    of the last question that was answered, by model. ``problem`` is what keeps the device from following. ``stale``
    has by source the ``timestamp`` that was older than one that was seen, and the ``problem`` that it was refused by.
    """

    sequence: int = 0
    desired_version: int = 0
    timestamp: str = ""
    expires: float = 0.0
    clock: str = ""
    pending: bool = False
    answered: Mapping[str, Any] = {}
    problem: str | None = None
    stale: Mapping[str, Any] = {}


class Memory:
    """The directory of what a device that pulls remembers."""

    def __init__(self, root: str) -> None:
        self.root = root
        self._tree = DurableTree(root)
        self._path = os.path.join(root, "state.json")
        self._queue = os.path.join(root, "queue")

    def path(self, *parts: str) -> str:
        """The path of something in the directory."""
        return os.path.join(self.root, *parts)

    def lock(self) -> ContextManager[bool]:
        """Hold the directory; yields False where another poll does. Raises OSError where there is none."""
        return hold_directory(self.root)

    def state(self) -> PullState:
        """What was done last. Raises StoreError for a file that is damaged."""
        try:
            with open(self._path, encoding="utf-8") as file:
                found: PullState = build(PullState, json.load(file))
            return found
        except FileNotFoundError:
            return PullState()
        except (ValueError, TypeError, RecursionError) as error:
            raise StoreError(f"{self._path}: damaged: {error}. Remove it: everything is done and told again") from error

    def keep(self, state: PullState) -> None:
        """Remember what was done; nothing is written where nothing changed."""
        if state != self.state():
            content = json.dumps(as_document(state), sort_keys=True) + "\n"
            self._tree.replace(self._path, content.encode("ascii"), _MODE)

    def queued(self) -> list[tuple[int, str]]:
        """The reports that were not sent yet, in their order: sequence and path."""
        try:
            names = os.listdir(self._queue)
        except FileNotFoundError:
            return []
        found = [(name.split(".")[0], name) for name in names if name.endswith(".json")]
        return sorted((int(number), os.path.join(self._queue, name)) for number, name in found if number.isdigit())

    def next_sequence(self) -> int:
        """The number of the next report. A device that remembers none begins at the time, in seconds since 1970: above
        what it used before it was flashed anew or lost its memory."""
        last = max([self.state().sequence, *(sequence for sequence, _path in self.queued())])
        return (last or int(time.time())) + 1

    def enqueue(self, sequence: int, content: bytes, observation: bool) -> None:
        """Keep a report until it is sent. Of more than QUEUED_MAX the oldest that tells of no swap goes first."""
        self._tree.directory(self._queue)
        kind = ".observation.json" if observation else ".result.json"
        self._tree.replace(os.path.join(self._queue, f"{sequence:0{_DIGITS}}{kind}"), content, _MODE)
        queued = [path for _sequence, path in self.queued()]
        observations = [path for path in queued if path.endswith(".observation.json")]
        results = [path for path in queued if path not in observations]
        for path in [*observations, *results][: max(len(queued) - QUEUED_MAX, 0)]:
            remove_file(path)

    def sent(self, path: str) -> None:
        """Forget a report that has arrived."""
        remove_file(path)
