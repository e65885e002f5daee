# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""Fetching files, each at the cost of the fewest bytes: whole, without the blocks that are held, or as a delta."""

from __future__ import annotations

import time
from contextlib import closing
from itertools import islice
from typing import Callable, Iterator, Sequence

from .._common.errors import IntegrityError
from .._common.files import DurableTree
from .._release.delta_index import INDEX_BYTES_MAX, Delta, by_size, delta_path, index_path, parse_index
from .._release.release import File
from .failures import FetchError, Kind
from .from_delta import check_space, delta_part, make_from_delta
from .held import Held
from .options import FetchOptions
from .pace import Patience
from .partial import CorruptBlockError, Partial, is_fetched, remove_deltas
from .sources import blob_path
from .transfer import CHECK_SECONDS, Errand, Tally, Transfer

# Who waits for another process looks so often.
_LOOK_SECONDS = 0.5
_PATIENCE = Patience()
# Of less, no delta saves what asking for it costs.
_DELTA_WORTH_BYTES = 16 << 10
# So many are asked for, before the whole file is.
_DELTAS_MAX = 3


class Fetcher:
    """Fetches files into ``directory``, a directory of ``tree``. ``headroom_percent`` of the free disk is left.

    ``held`` is what they may be made from; ``warnings`` are for the operator. ``may_go_on`` returns why a fetch must
    stop for now, or None; it is asked again and again.
    """

    def __init__(
        self,
        tree: DurableTree,
        directory: str,
        options: FetchOptions,
        *,
        headroom_percent: int = 0,
        patience: Patience = _PATIENCE,
        held: Held | None = None,
        may_go_on: Callable[[], str | None] = lambda: None,
    ) -> None:
        self.warnings: list[str] = []
        self._tree = tree
        self._directory = directory
        self._options = options
        self._headroom_percent = headroom_percent
        self._held = held if held is not None else Held()
        self._transfer = Transfer(options, patience, self._held, may_go_on)

    @property
    def tally(self) -> Tally:
        """What the fetches cost until now."""
        return self._transfer.tally

    def fetch(self, file: File) -> str:
        """Fetch one file, verify it, and return its path: ``directory`` and its digest. What another fetch, or an
        earlier one, has of it is used; a blob that is held by now stays where it is. Raises FetchError, and OSError for
        a disk that fails."""
        began = time.monotonic()
        deadline = began + self._options.seconds_max
        partial = Partial(self._tree, self._directory, file)
        try:
            while not is_fetched(self._directory, file) and not self._held.has(file):
                if partial.open():
                    return self._bring(partial, deadline)
                if time.monotonic() >= deadline:
                    raise self._transfer.exhausted(file, "another process fetches it")
                self._transfer.check_permission(0)
                time.sleep(_LOOK_SECONDS)
            return partial.path
        finally:
            partial.close()
            seconds = self.tally.seconds + time.monotonic() - began
            self._transfer.tally = self.tally._replace(seconds=seconds)

    def fetch_all(self, files: Sequence[File]) -> None:
        """Fetch files one after the other, if there is room for all of them. Raises as ``fetch`` does."""
        self._check_space(files)
        for file in files:
            self.fetch(file)

    def close(self) -> None:
        """Let go of all connections."""
        self._transfer.close()

    # ---- the parts ----

    def _bring(self, partial: Partial, deadline: float) -> str:
        file = partial.file
        self._check_space((file,))
        before = self.tally.received
        self._use_delta(partial, deadline)
        spent = self.tally.received - before
        errand = Errand(blob_path(file.sha256), deadline, spent, lambda: self._check_space((file,)))
        path = self._transfer.bring(partial, errand)
        if file.size >= _DELTA_WORTH_BYTES:
            remove_deltas(self._directory, (file,))
        return path

    def _use_delta(self, partial: Partial, deadline: float) -> None:
        """Make the file from a delta, if fewer bytes have to come for it than for what is missing.

        A delta that no source has any more, as an index says that a cache has kept, leads to the next one. What else is
        wrong becomes a warning: the blocks that were made are right, and the others are fetched.
        """
        for delta in islice(self._deltas(partial), _DELTAS_MAX):
            try:
                self._make_from(partial, delta, deadline)
                return
            except (FetchError, IntegrityError, CorruptBlockError, OSError) as error:
                if isinstance(error, FetchError) and error.kind is Kind.DEFERRED:
                    raise
                self.warnings.append(
                    f"{partial.file.path}: fetched without its delta, which could not be used: {error}"
                )
                if not isinstance(error, FetchError) or error.kind is Kind.CORRUPT:
                    # The same delta is as wrong the next time.
                    self._delta_part(partial.file, delta).refuse()
                if not isinstance(error, FetchError) or error.kind is not Kind.REFUSED:
                    return

    def _make_from(self, partial: Partial, delta: Delta, deadline: float) -> None:
        """Bring a delta, unless another process does, and make the file from it. Raises what is wrong with it."""
        file, made = partial.file, partial.verified
        with closing(self._delta_part(file, delta)) as part:
            path = delta_path(file.sha256, delta)
            if not part.is_finished():
                if not part.open():
                    return
                self._transfer.bring(part, Errand(path, deadline, 0, lambda: self._check_space((file,), part)))
            make_from_delta(
                part.path, partial, self._held.open_blob, lambda: self._transfer.check_permission(CHECK_SECONDS)
            )
        self._transfer.count(deltas=1, delta_bytes=delta.size, made=partial.verified - made)

    def _deltas(self, partial: Partial) -> Iterator[Delta]:
        """The deltas for which fewer bytes have to come than are missing of the file itself: of each index the smallest
        first."""
        file, missing = partial.file, self._transfer.missing_bytes(partial)
        if missing < _DELTA_WORTH_BYTES:
            return
        path = index_path(file.sha256)
        tried: set[str] = set()
        for source, content in self._transfer.documents(path, INDEX_BYTES_MAX, file):
            try:
                deltas = parse_index(content, file)
            except ValueError as error:
                self.warnings.append(f"{source}/{path}: {error}")
                continue
            for delta in by_size(deltas, self._held.blobs):
                part = self._delta_part(file, delta)
                if delta.sha256 not in tried and not part.is_refused() and delta.size - part.held_bytes() < missing:
                    tried.add(delta.sha256)
                    yield delta

    def _delta_part(self, file: File, delta: Delta) -> Partial:
        """What there is of a delta on the disk."""
        return delta_part(self._tree, self._directory, file, delta.sha256, delta.size)

    def _check_space(self, files: Sequence[File], delta: Partial | None = None) -> None:
        check_space(self._tree, self._directory, files, self._headroom_percent, delta)
