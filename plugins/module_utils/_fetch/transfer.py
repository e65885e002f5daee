# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""Bringing objects: from the first source that gives them, block by block, each verified before the next."""

from __future__ import annotations

import time
from datetime import datetime, timezone
from typing import Callable, Iterator, NamedTuple

from .._common.errors import IntegrityError
from .._common.hashing import BLOCK_BYTES
from .._common.window import is_open
from .._release.release import File
from .failures import FetchError, Kind, SourceError
from .held import Held
from .options import FetchOptions
from .pace import Pace, Patience
from .partial import CorruptBlockError, Partial
from .sources import Source, Stream, Wanted, blob_path, open_sources
from .standing import Standing

# What a fetch may use beyond its percentage: a block that was wrong, and what was on the way when it was dropped.
_SPARE_BYTES = 2 << 20
# A connection that brings less counts as fruitless.
_PROGRESS_BYTES = 4 << 10
CHECK_SECONDS = 5.0
# How often an object comes whose bytes are others when they are read again.
_ATTEMPTS = 3
# A document that is worth less than this wait is not asked for again.
_DOCUMENT_WAIT_SECONDS = 60.0


class Tally(NamedTuple):
    """What fetches cost: ``fetched`` bytes that came and are right, the bytes ``received`` in all, and their
    ``seconds``. Of files, ``made`` bytes are made from ``deltas`` of ``delta_bytes``, and ``copied`` from blobs that
    were held."""

    fetched: int = 0
    received: int = 0
    seconds: float = 0.0
    deltas: int = 0
    delta_bytes: int = 0
    made: int = 0
    copied: int = 0


class Errand(NamedTuple):
    """How an object is brought: its ``path`` below a source, the ``deadline`` on the monotonic clock, the bytes that
    were ``spent`` on it, and ``check_space``, which raises FetchError where the disk has no room."""

    path: str
    deadline: float
    spent: int
    check_space: Callable[[], None]


class _Offer:
    """A source as one object finds it."""

    def __init__(self, standing: Standing) -> None:
        self.standing = standing
        self.source = standing.source
        self.closed = False
        self.fresh = False
        self.corrupt = 0
        self.whole_only = False
        self.failure: SourceError | None = None


class Transfer:
    """The sources of ``options``, and what came from them. ``held``: what need not come.

    ``may_go_on`` returns why a fetch must stop for now, or None; it is asked again and again.
    """

    def __init__(
        self, options: FetchOptions, patience: Patience, held: Held, may_go_on: Callable[[], str | None]
    ) -> None:
        # Its own imports take time on a device whose sources are none of the web.
        from .web import WebServer

        options.check()
        self.tally = Tally()
        self._options = options
        self._patience = patience
        self._may_go_on = may_go_on
        self._held = held
        self._held_blocks = dict(held.blocks)
        self._pace = Pace(options.bytes_per_second)
        sources = open_sources(options, lambda url: WebServer(url, options, self._pace, patience))
        self._standings = [Standing(source, patience.stall) for source in sources]
        self._checked = 0.0

    def bring(self, partial: Partial, errand: Errand) -> str:
        """Bring an object, verify it, and return its path. Raises FetchError, and OSError for a disk that fails."""
        for _attempt in range(_ATTEMPTS):
            run = _Run(partial, [_Offer(standing) for standing in self._standings], errand, self.missing_bytes(partial))
            while not partial.is_complete():
                self._next(run)
            try:
                return partial.finish()
            except CorruptBlockError as error:
                # A power cut took bytes that had been verified. They come once more.
                why = error
        raise FetchError(Kind.DISK, f"{partial.path}: the disk returns other bytes than were written: {why}")

    def documents(self, path: str, bytes_max: int, file: File) -> Iterator[tuple[str, bytes]]:
        """The small file at ``path`` of each source that has one, with the name of the source.

        It ends with a source that has ``file`` itself: what comes behind it is not asked for what the first ones have.
        """
        standings = sorted(self._standings, key=lambda standing: standing.is_away)
        for standing in standings:
            self.check_permission(0)
            source, is_last, began = standing.source, standing is standings[-1], time.monotonic()
            try:
                try:
                    yield source.name, self._awaited_document(standing, path, bytes_max, is_last)
                except SourceError as error:
                    if error.kind is not Kind.REFUSED:
                        raise
                if is_last or source.has(blob_path(file.sha256), file.size):
                    return
            except SourceError as error:
                standing.note(error, began)

    def missing_bytes(self, partial: Partial) -> int:
        """How many bytes of an object have to come, if no delta makes them."""
        return sum(
            min(partial.block_bytes, partial.file.size - start) - max(0, partial.size - start)
            for start in range(partial.verified, partial.file.size, partial.block_bytes)
            if partial.block(start) not in self._held_blocks
        )

    def count(self, **counts: int) -> None:
        """Add to the tally."""
        self.tally = self.tally._replace(**{name: getattr(self.tally, name) + count for name, count in counts.items()})

    def close(self) -> None:
        """Let go of all connections."""
        for standing in self._standings:
            standing.source.close()

    def check_permission(self, seconds: float) -> None:
        """Raise FetchError where the fetch must stop for now; asked at most once in so many ``seconds``."""
        now = time.monotonic()
        if now - self._checked < seconds:
            return
        self._checked = now
        why = self._may_go_on()
        if why is None and not is_open(self._options.windows, datetime.now(timezone.utc)):
            why = f"none of the windows is open: {', '.join(self._options.windows)}"
        if why is not None:
            raise FetchError(Kind.DEFERRED, f"the fetch goes on later: {why}")

    # ---- the parts ----

    def _check_reach(self, file: File) -> None:
        """Raise FetchError where no source could be reached, if somebody else may bring the file sooner."""
        why = [standing.unreachable for standing in self._standings if standing.unreachable is not None]
        if self._patience.connects_once and why and len(why) == len(self._standings):
            raise FetchError(Kind.UNREACHABLE, f"{file.path}: {'; '.join(why)}")

    def _awaited_document(self, standing: Standing, path: str, bytes_max: int, is_last: bool) -> bytes:
        """A small file of a source that may ask for time. The last one gets it, and is asked once more where its link
        broke: without the document, a whole object comes in place of a part."""
        began = time.monotonic()
        if not is_last:
            self._check_time(standing, 0.0)
            return self._document(standing.source, path, bytes_max)
        try:
            self._check_time(standing, _DOCUMENT_WAIT_SECONDS)
            return self._document(standing.source, path, bytes_max)
        except SourceError as error:
            if error.kind not in (Kind.BUSY, Kind.INTERRUPTED) or error.wait_seconds > _DOCUMENT_WAIT_SECONDS:
                raise
            standing.note(error, began)
            if standing.is_away:
                raise
            seconds = max(error.wait_seconds, self._patience.pause(1))
        self._sleep(seconds)
        return self._document(standing.source, path, bytes_max)

    def _check_time(self, standing: Standing, seconds_max: float) -> None:
        """Wait until a source may be asked. Raises SourceError where that is longer than ``seconds_max``."""
        seconds = standing.not_before - time.monotonic()
        if seconds > seconds_max:
            raise SourceError(Kind.BUSY, f"{standing.source.name}: it asked for {seconds:.0f} s more", seconds)
        self._sleep(seconds)

    def _document(self, source: Source, path: str, bytes_max: int) -> bytes:
        stream = source.open_document(path, bytes_max)
        deadline = time.monotonic() + self._patience.stall
        content = b""
        try:
            while True:
                chunk = stream.read(self._pace.chunk_bytes)
                content += chunk
                self.count(received=len(chunk))
                if not chunk:
                    return content
                if time.monotonic() >= deadline:
                    raise SourceError(Kind.INTERRUPTED, f"{source.name}: {path}: not there in time")
                self._pace.spend(len(chunk))
        finally:
            stream.close()

    def _next_held(self, partial: Partial) -> int:
        """Where the next block begins that is held; the end of the object if none is."""
        first = partial.verified + partial.block_bytes
        for start in range(first, partial.file.size, partial.block_bytes):
            if partial.block(start) in self._held_blocks:
                return start
        return partial.file.size

    def _copy_held(self, run: _Run) -> bool:
        """Take the next block from a blob that is held. Return whether one has it."""
        partial = run.partial
        digest = partial.block(partial.verified)
        found = self._held_blocks.get(digest)
        if found is None:
            return False
        run.drop_block()
        before = partial.verified
        length = min(BLOCK_BYTES, partial.file.size - before)
        try:
            with self._held.open_blob(found.sha256, found.size) as blob:
                blob.seek(found.offset)
                partial.write(blob.read(length))
        except (IntegrityError, CorruptBlockError, OSError):
            # It was pruned meanwhile, or it is damaged. The sources have it.
            pass
        if partial.verified == before:
            run.drop_block()
            del self._held_blocks[digest]
            return False
        self.count(copied=length)
        return True

    def _next(self, run: _Run) -> None:
        """One try, at the best source that there is now."""
        self.check_permission(0)
        if time.monotonic() >= run.deadline:
            raise self.exhausted(run.partial.file, run.last)
        if self._copy_held(run):
            return
        self._check_reach(run.partial.file)
        offer = run.choose()
        if offer is None:
            self._pause(run)
            return
        partial, before, began = run.partial, run.partial.size, time.monotonic()
        try:
            self._take(run, offer)
        except SourceError as error:
            offer.standing.note(error, began)
            run.note(offer, error)
        except CorruptBlockError as error:
            run.note(offer, SourceError(Kind.CORRUPT, f"{offer.source.name}: {error}"))
        if partial.size - before >= _PROGRESS_BYTES or partial.is_complete():
            offer.standing.note_bytes()
            run.progress()

    def _take(self, run: _Run, offer: _Offer) -> None:
        """Take what the source gives, to its end."""
        partial = run.partial
        start = 0 if offer.whole_only else partial.size
        if offer.corrupt and run.givers - {offer}:
            # A block of one source alone says who is wrong.
            run.drop_block()
            start = partial.size
        run.errand.check_space()
        size = partial.file.size
        # Who sends whole files only would send the first bytes again for each gap between blocks that are held.
        end = size if offer.whole_only else self._next_held(partial)
        stream = offer.source.open(Wanted(run.errand.path, size, start, end, offer.fresh))
        try:
            self._read(run, offer, stream, end)
        except BaseException:
            offer.source.close()
            raise
        finally:
            stream.close()

    def _read(self, run: _Run, offer: _Offer, stream: Stream, end: int) -> None:
        partial, position = run.partial, stream.start
        mark, marked = time.monotonic(), 0
        while partial.size < end:
            chunk = stream.read(self._pace.chunk_bytes)
            if not chunk:
                return
            now = time.monotonic()
            marked += len(chunk)
            run.received += len(chunk)
            self.count(received=len(chunk))
            if now - mark >= self._patience.stall:
                if marked < self._patience.stall_bytes:
                    raise SourceError(
                        Kind.INTERRUPTED, f"{offer.source.name}: {marked} bytes came within {now - mark:.0f} s"
                    )
                mark, marked = now, 0
            # From a server that gives whole files only, what is there already comes again.
            new = chunk[max(0, partial.size - position) : max(0, end - position)]
            position += len(chunk)
            if new:
                before = partial.verified
                run.write(offer, new)
                self.count(fetched=partial.verified - before)
            self._check_budget(run)
            self._pace.spend(len(chunk))
            self.check_permission(CHECK_SECONDS)

    def _pause(self, run: _Run) -> None:
        """Wait until a source can be asked again. Raises FetchError when none will be."""
        open_offers = run.open_offers()
        run.fruitless += 1
        if not open_offers or run.fruitless >= self._patience.rounds:
            raise FetchError(run.kind(), f"{run.partial.file.path}: {run.told()}")
        asked = min(offer.standing.not_before for offer in open_offers) - time.monotonic()
        seconds = max(self._patience.pause(run.fruitless), asked)
        if time.monotonic() + seconds > run.deadline:
            raise self.exhausted(run.partial.file, run.told())
        self._sleep(seconds)
        run.begin_round()

    def _sleep(self, seconds: float) -> None:
        """Wait, and stop at once when nothing may flow any more."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            time.sleep(min(CHECK_SECONDS, max(0.0, until - time.monotonic())))
            self.check_permission(CHECK_SECONDS)

    def _check_budget(self, run: _Run) -> None:
        file = run.partial.file
        if run.partial.is_complete():
            return
        most = run.missing * self._options.bytes_max_percent // 100 + _SPARE_BYTES
        if run.received > most:
            raise FetchError(
                Kind.EXHAUSTED,
                f"{file.path}: expected at most {most} bytes, {self._options.bytes_max_percent}% of what was missing; "
                f"{run.received} came, and {run.partial.verified} of {file.size} are right. {run.told()}",
            )
        if time.monotonic() >= run.deadline:
            raise self.exhausted(file, run.told())

    def exhausted(self, file: File, why: str) -> FetchError:
        """The error of a fetch whose time is over."""
        return FetchError(Kind.EXHAUSTED, f"{file.path}: not there after {self._options.seconds_max:g} s: {why}")


class _Run:
    """One object's fetch: what was asked, and what came of it."""

    def __init__(self, partial: Partial, offers: list[_Offer], errand: Errand, missing: int) -> None:
        self.partial = partial
        self.offers = offers
        self.errand = errand
        self.deadline = errand.deadline
        self.missing = missing
        self.received = errand.spent
        self.fruitless = 0
        self.last = "no source was asked"
        # Who gave what there is of the block that is not whole yet; None: an earlier fetch.
        self.givers: set[_Offer | None] = {None} if partial.size > partial.verified else set()
        self._left = list(offers)

    def write(self, offer: _Offer, chunk: bytes) -> None:
        """Add what a source gave. Raises as ``Partial.write`` does."""
        verified = self.partial.verified
        self.givers.add(offer)
        try:
            self.partial.write(chunk)
        finally:
            if self.partial.size == self.partial.verified:
                self.givers = set()
            elif self.partial.verified > verified:
                self.givers = {offer}

    def choose(self) -> _Offer | None:
        """The first source of this round that may be asked: one that is away, and then one that gives whole files only,
        when no other is left."""
        now = time.monotonic()
        able = [offer for offer in self._left if not offer.closed and offer.standing.not_before <= now]
        able.sort(key=lambda offer: offer.standing.is_away)
        parts = [offer for offer in able if not offer.whole_only]
        others = [offer for offer in self.open_offers() if not offer.whole_only]
        if parts:
            return parts[0]
        return able[0] if able and not others else None

    def drop_block(self) -> None:
        """Forget what there is of a block that is not whole."""
        self.partial.drop_block()
        self.givers = set()

    def open_offers(self) -> list[_Offer]:
        """The sources that may still give the object."""
        return [offer for offer in self.offers if not offer.closed]

    def note(self, offer: _Offer, error: SourceError) -> None:
        """Note how a try failed: the source comes again in the next round, later, or not at all."""
        self.last = str(error)
        # Not the error itself: its traceback leads to this run, which would keep all of its connections.
        offer.failure = SourceError(error.kind, self.last)
        if error.kind is Kind.NO_RANGES:
            offer.whole_only = True
            return
        if error.kind is Kind.CORRUPT:
            # A cache may have kept what is wrong: it is passed by once.
            offer.corrupt += 1
            offer.fresh = True
        offer.closed = error.kind.permanent or offer.corrupt > 1
        if offer in self._left:
            self._left.remove(offer)

    def progress(self) -> None:
        """Bytes came: every source counts again, the first ones first."""
        self.fruitless = 0
        self.begin_round()

    def begin_round(self) -> None:
        """Have every source asked once more."""
        self._left = list(self.offers)

    def kind(self) -> Kind:
        """The kind of the last failure of the first source that failed."""
        return next((offer.failure.kind for offer in self.offers if offer.failure), Kind.UNREACHABLE)

    def told(self) -> str:
        """How each source failed."""
        return "; ".join(str(offer.failure) for offer in self.offers if offer.failure) or self.last
