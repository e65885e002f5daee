# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""A model's journal: every transition, appended as one line of JSON, the oldest first."""

from __future__ import annotations

import contextlib
import json
import os
import time
from datetime import datetime
from typing import Any, Iterator, Mapping

from .._common.errors import with_path
from .._common.files import DurableTree, file_status, fsync_directory

TIME_FORMAT = "%Y-%m-%dT%H:%M:%SZ"
# The events that change which version is active.
TRANSITIONS = ("activate", "commit", "revert", "put_back", "interrupted", "fallback")
_BLOCK_BYTES = 64 << 10
_MODE = 0o640


class Journal:
    """The journal at ``path`` in the store ``tree``."""

    def __init__(self, tree: DurableTree, path: str) -> None:
        self._tree = tree
        self.path = path

    def history(self) -> list[dict[str, Any]]:
        """All entries, oldest first, in the order in which they were written."""
        return list(self.newest_first())[::-1]

    def activation(self, version: str | None) -> dict[str, Any] | None:
        """The newest entry that made ``version`` the active one; None if there is none."""
        found = (entry for entry in self.newest_first() if entry.get("event") == "activate")
        return next((entry for entry in found if entry.get("to") == version), None)

    def last_transition(self) -> dict[str, Any] | None:
        """The newest entry that tells which version became active; None if there is none."""
        return next((entry for entry in self.newest_first() if entry.get("event") in TRANSITIONS), None)

    def newest_first(self) -> Iterator[dict[str, Any]]:
        """The entries, newest first, read from the end: the journal grows for as
        long as the device lives. A line that a power cut left incomplete or damaged is passed over."""
        if file_status(self.path) is None:
            return
        with with_path(self.path), open(self.path, "rb") as file:
            start, rest = file.seek(0, os.SEEK_END), b""
            while start > 0:
                end, start = start, max(0, start - _BLOCK_BYTES)
                file.seek(start)
                lines = (file.read(end - start) + rest).split(b"\n")
                # What stands before the first end of a line goes on in the block before.
                rest = lines.pop(0) if start > 0 else b""
                for line in reversed(lines):
                    with contextlib.suppress(ValueError, RecursionError):
                        entry = json.loads(line)
                        if isinstance(entry, dict):
                            yield entry

    def append(self, entry: Mapping[str, Any]) -> None:
        """Append one entry with the time (UTC), durably. Needs the store's lock. Raises OSError."""
        line = json.dumps({"time": utc_now(), **entry}, sort_keys=True).encode("utf-8") + b"\n"
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, _MODE)
        with with_path(self.path), open(descriptor, "ab") as journal:
            size = os.fstat(descriptor).st_size
            torn = size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
            journal.write(b"\n" + line if torn else line)
            self._tree.seal(journal, _MODE)
        # A journal that was just made could be lost otherwise, and the state that it announces not.
        fsync_directory(os.path.dirname(self.path))


def utc_now() -> str:
    """The time as the journal and the state write it."""
    return time.strftime(TIME_FORMAT, time.gmtime())


def parse_time(text: str) -> float:
    """An entry's time in seconds of the epoch. Raises ValueError.

    Not ``time.strptime``, whose first use imports more than half of what a call's imports take.
    """
    if not text.endswith("Z"):
        raise ValueError(f"expected a time such as 2026-11-21T10:15:09Z; found {text!r}")
    return datetime.fromisoformat(f"{text[:-1]}+00:00").timestamp()
