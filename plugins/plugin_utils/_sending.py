# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""In which form a controller sends each file that a device lacks: the smallest; small ones come with the call."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ansible_collections.edgeml.fleet.plugins.module_utils._common.errors import EdgemlError, IntegrityError, with_path
from ansible_collections.edgeml.fleet.plugins.module_utils._release.delta_index import Delta
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
        """Whether it is sent in parts: all but what is small."""
        return self.size > PART_BYTES

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
    """How much of a file is sent at once: a link that breaks costs some seconds, and the calls for all parts at most as
    much as sending them, also where a device takes half a minute for a call."""

    def __init__(self) -> None:
        self.bytes = PART_BYTES

    def note(self, sending: float, calling: float) -> None:
        """Note how many seconds a part took on the link, and in the call that had the device keep it."""
        if sending < max(_PART_SECONDS / 2, calling):
            self.bytes = min(2 * self.bytes, _PART_BYTES_MAX)
        elif sending > 2 * max(_PART_SECONDS, calling):
            self.bytes = max(self.bytes // 2, _PART_BYTES_MIN)


def whole_forms(repository: Repository, files: Iterable[File]) -> list[Form]:
    """The files as they are."""
    return [Form(file, None, repository.blob_path(file.sha256)) for file in files]


class DeviceAnswer:
    """What a device said that it lacks and holds, in the result of a call: whatever it said, of the types expected."""

    def __init__(self, result: Mapping[str, Any]) -> None:
        self._missing = {str(blob.get("sha256")): blob for blob in _entries(result, "missing_blobs")}
        held = result.get("held_blobs")
        self.held_blobs = {str(sha256) for sha256 in held} if isinstance(held, list) else set()
        # What a person should know of each, by the SHA-256 of its file.
        self.refused_deltas = {
            str(entry.get("sha256")): (
                f"{entry.get('path')}: sent whole, as its delta was refused: {entry.get('reason')}"
            )
            for entry in _entries(result, "refused_deltas")
        }

    @property
    def lacking(self) -> set[str]:
        """The SHA-256 of each blob that the device lacks."""
        return set(self._missing)

    def held_bytes(self, form: Form) -> int:
        """How many bytes of what is sent in parts the device has already: of a file that it does not lack, all."""
        blob = self._missing.get(form.file.sha256)
        if blob is None:
            return form.size
        held = blob.get("held_bytes") if form.delta is None else self._held_deltas(form.file).get(form.delta.sha256)
        return min(max(held, 0), form.size) if form.in_parts and isinstance(held, int) else 0

    def can_use(self, file: File, delta: Delta) -> bool:
        """Whether the device holds what a delta needs, and has not refused it."""
        refused = self._held_deltas(file).get(delta.sha256, 0) is None
        return not refused and all(base in self.held_blobs for base in delta.bases)

    def _held_deltas(self, file: File) -> Mapping[str, Any]:
        held = self._missing.get(file.sha256, {}).get("held_deltas")
        return held if isinstance(held, dict) else {}


def _entries(result: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    found = result.get(name)
    return [entry for entry in found if isinstance(entry, dict)] if isinstance(found, list) else []


def smallest_forms(
    repository: OpenRepository, files: Iterable[File], answer: DeviceAnswer, warn: Callable[[str], object]
) -> list[Form]:
    """Each file in the form of which the fewest bytes have to be sent to a device with this ``answer``.

    ``warn`` is told of a delta that the repository promises and does not have.
    """
    forms = []
    for whole in whole_forms(repository, files):
        deltas = [
            Form(whole.file, delta, repository.delta_path(whole.file, delta))
            for delta in repository.deltas(whole.file)
            if answer.can_use(whole.file, delta)
        ]
        form = min([whole, *deltas], key=lambda form: form.size - answer.held_bytes(form))
        if form.delta is not None:
            try:
                repository.bring_delta(whole.file, form.delta)
            except EdgemlError as error:
                warn(f"{whole.file.path}: sent whole, as its delta could not be read: {error}")
                form = whole
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


def told(forms: Iterable[Form], resumed: int) -> dict[str, int]:
    """The return value ``sent``, of which ``resumed`` bytes were there."""
    forms = list(forms)
    return {
        "bytes": sum(form.size for form in forms) - resumed,
        "whole_bytes": sum(form.file.size for form in forms),
        "deltas": sum(form.delta is not None for form in forms),
        "resumed_bytes": resumed,
    }
