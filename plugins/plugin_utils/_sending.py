# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""In which form a controller sends each file that a device lacks: the smallest; small ones come with the call."""

from __future__ import annotations

import base64
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ansible_collections.edgeml.fleet.plugins.module_utils._common.errors import EdgemlError, IntegrityError, with_path
from ansible_collections.edgeml.fleet.plugins.module_utils._release.delta_index import Delta, smallest
from ansible_collections.edgeml.fleet.plugins.module_utils._release.release import File
from ansible_collections.edgeml.fleet.plugins.module_utils._release.repository import Repository
from ansible_collections.edgeml.fleet.plugins.plugin_utils._trust.repository import OpenRepository

# How much of what a device lacks comes with the second call: the files beside a model, deltas, and the smallest models.
# A transfer is five commands more.
INLINE_BYTES = 64 * 1024
# A larger file is sent in parts, so that a sending that broke goes on. Their size follows the link's rate.
PART_BYTES = 4 << 20
_PART_BYTES_MIN, _PART_BYTES_MAX = 1 << 20, 64 << 20
_PART_SECONDS = 10.0
# What a device calls the delta of a file, beside whole ones.
_DELTA_SUFFIX = ".delta"


@dataclass(frozen=True)
class Form:
    """A file that is sent: whole, or as a delta. ``path`` is where its bytes are, ``size`` how many they are."""

    file: File
    delta: Delta | None
    path: str

    @property
    def size(self) -> int:
        """How many bytes are sent."""
        return self.file.size if self.delta is None else self.delta.size

    @property
    def name(self) -> str:
        """What it is called on the device."""
        return self.file.sha256 + (_DELTA_SUFFIX if self.delta is not None else "")

    @property
    def in_parts(self) -> bool:
        """Whether it is sent in parts: a delta is not, and what is small."""
        return self.delta is None and self.size > PART_BYTES

    def read(self, offset: int = 0, count: int | None = None) -> bytes:
        """Its bytes, at most one more than it has, or so many of them from ``offset`` on. Raises IntegrityError."""
        try:
            with open(self.path, "rb") as source, with_path(self.path):
                source.seek(offset)
                return source.read(self.size + 1 if count is None else count)
        except OSError as error:
            raise IntegrityError(
                f"{self.path}: {self.file.path}: expected {self.size} bytes; {error.strerror}"
            ) from error


class PartSize:
    """How much of a file is sent at once: a link that breaks costs some seconds, and the call for each part little."""

    def __init__(self) -> None:
        self.bytes = PART_BYTES

    def note(self, seconds: float) -> None:
        """Note how long a part took, with its call."""
        if seconds < _PART_SECONDS / 2:
            self.bytes = min(2 * self.bytes, _PART_BYTES_MAX)
        elif seconds > 2 * _PART_SECONDS:
            self.bytes = max(self.bytes // 2, _PART_BYTES_MIN)


def whole_forms(repository: Repository, files: Iterable[File]) -> list[Form]:
    """The files as they are."""
    return [Form(file, None, repository.blob_path(file.sha256)) for file in files]


def smallest_forms(
    repository: OpenRepository, files: Iterable[File], held: Collection[str], warn: Callable[[str], object]
) -> list[Form]:
    """Each file as a delta, if there is one that a device can use that holds the blobs ``held``; else as it is.

    ``warn`` is told of a delta that the repository promises and does not have.
    """
    forms = []
    for whole in whole_forms(repository, files):
        delta = smallest(repository.deltas(whole.file), held)
        form = whole
        if delta is not None:
            try:
                repository.bring_delta(whole.file, delta)
                form = Form(whole.file, delta, repository.delta_path(whole.file, delta))
            except EdgemlError as error:
                warn(f"{whole.file.path}: sent whole, as its delta could not be read: {error}")
        forms.append(form)
    return forms


def inline_arguments(forms: Sequence[Form]) -> tuple[dict[str, dict[str, str]], list[Form]]:
    """The arguments of a call that has the smallest forms with it, and the forms that have to be sent before it."""
    inline: dict[str, dict[str, str]] = {"inline_blobs": {}, "inline_deltas": {}}
    total = 0
    rest = []
    for form in sorted(forms, key=lambda form: (form.size, form.file.sha256)):
        total += form.size
        if total > INLINE_BYTES:
            rest.append(form)
            continue
        option = "inline_blobs" if form.delta is None else "inline_deltas"
        inline[option][form.file.sha256] = base64.b64encode(form.read()).decode()
    return inline, rest


def told(forms: Iterable[Form], before: Mapping[str, Any] | None = None) -> dict[str, int]:
    """The return value ``sent``, with what was sent before."""
    total = dict(before or {"bytes": 0, "whole_bytes": 0, "deltas": 0, "resumed_bytes": 0})
    for form in forms:
        total["bytes"] += form.size
        total["whole_bytes"] += form.file.size
        total["deltas"] += form.delta is not None
    return total
