# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""What is taken of a device's collected inputs: in which order, in how many calls, and what the device may remove."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from ansible_collections.edgeml.fleet.plugins.module_utils._common.errors import EdgemlError
from ansible_collections.edgeml.fleet.plugins.module_utils._common.records import is_whole
from ansible_collections.edgeml.fleet.plugins.module_utils._release.collected_input import (
    INPUT_BYTES_MAX,
    CollectedInputError,
    digest_of,
    file_name,
    is_served_name,
)

from .inbox import Inbox

# A call has the devices' names of them, and an answer their contents in base64.
_CALL_INPUTS_MAX = 1000
_CALL_BYTES_MAX = 4 << 20
_REFUSALS_MAX = 10

Ask = Callable[[dict[str, Any]], dict[str, Any]]


class AnswerError(EdgemlError):
    """A device answers something else than it was asked; the text says what was expected and what was found."""


class Waiting(NamedTuple):
    """An input that waits on a device."""

    model: str
    digest: str
    size: int

    @property
    def name(self) -> str:
        """How a call names it."""
        return f"{self.model}:{self.digest}"


class Selection(NamedTuple):
    """What is to be taken, what the inbox has already, and how many inputs are left for another run."""

    take: list[Waiting]
    held: list[Waiting]
    left: int


def parse_waiting(entries: Any) -> list[Waiting]:
    """What a device says that waits. Raises AnswerError."""
    if not isinstance(entries, list):
        raise AnswerError("expected what waits on the device; found nothing")
    found = [_waiting(entry) for entry in entries]
    if len({item.name for item in found}) < len(found):
        raise AnswerError("expected each waiting input once; found one twice")
    return found


def select(waiting: Sequence[Waiting], inbox: Inbox, max_bytes: int) -> Selection:
    """Take the oldest ones, of at most ``max_bytes`` together."""
    held = [item for item in waiting if inbox.has(item.model, item.digest)]
    known = set(held)
    missing = [item for item in waiting if item not in known]
    take: list[Waiting] = []
    room = max_bytes
    for item in missing:
        if item.size > room:
            break
        room -= item.size
        take.append(item)
    return Selection(take, held, len(missing) - len(take))


def bring(ask: Ask, inbox: Inbox, selection: Selection) -> dict[str, Any]:
    """Bring what is selected, and have the device remove what is stored. Returns the counts for the task's result.

    ``ask`` asks the device, and returns what it answers without an error.
    """
    stored = list(selection.held)
    brought = size = removed = 0
    refused: list[str] = []
    for batch in _batches(selection.take):
        answer = ask({"want": [item.name for item in batch], "remove": [item.name for item in stored]})
        removed += int(answer["removed"])
        stored = []
        for item, content in _contents(answer, batch):
            try:
                if len(content) > INPUT_BYTES_MAX:
                    raise CollectedInputError(f"expected at most {INPUT_BYTES_MAX} bytes; found {len(content)}")
                inbox.store(item.model, item.digest, content)
            except CollectedInputError as error:
                refused.append(f"{item.model} {item.digest[:12]}: {error}")
                continue
            stored.append(item)
            brought += 1
            size += len(content)
    for start in range(0, len(stored), _CALL_INPUTS_MAX):
        names = [item.name for item in stored[start : start + _CALL_INPUTS_MAX]]
        removed += int(ask({"remove": names})["removed"])
    more = [f"and {len(refused) - _REFUSALS_MAX} more"] if len(refused) > _REFUSALS_MAX else []
    return {"brought": brought, "bytes": size, "removed": removed, "refused": refused[:_REFUSALS_MAX] + more}


def _waiting(entry: Mapping[str, Any]) -> Waiting:
    if not isinstance(entry, Mapping) or set(entry) != {"model", "sha256", "bytes"}:
        raise AnswerError("expected model, sha256 and bytes of each waiting input")
    model, digest, size = entry["model"], entry["sha256"], entry["bytes"]
    named = is_served_name(model) and isinstance(digest, str) and digest_of(file_name(digest)) is not None
    if not named or not is_whole(size) or not 0 < size <= INPUT_BYTES_MAX:
        raise AnswerError(
            f"expected a model, a digest and a size of at most {INPUT_BYTES_MAX} of each waiting input; "
            f"found {str(model)[:80]!r}, {str(digest)[:80]!r}, {str(size)[:20]}"
        )
    return Waiting(model, digest, size)


def _batches(items: Sequence[Waiting]) -> Iterator[list[Waiting]]:
    batch: list[Waiting] = []
    room = _CALL_BYTES_MAX
    for item in items:
        if batch and (item.size > room or len(batch) >= _CALL_INPUTS_MAX):
            yield batch
            batch, room = [], _CALL_BYTES_MAX
        batch.append(item)
        room -= item.size
    if batch:
        yield batch


def _contents(answer: Mapping[str, Any], batch: Sequence[Waiting]) -> Iterator[tuple[Waiting, bytes]]:
    """What came of a batch; what the device has no more is not among it. Raises AnswerError."""
    wanted = {item.name: item for item in batch}
    for entry in answer.get("inputs", []):
        item = wanted.pop(f"{entry.get('model')}:{entry.get('sha256')}", None)
        if item is None:
            raise AnswerError("expected the inputs that were wanted, each once; found another")
        try:
            yield item, base64.b64decode(entry.get("content", ""), validate=True)
        except (binascii.Error, ValueError) as error:
            raise AnswerError(f"{item.name}: expected base64: {error}") from error
