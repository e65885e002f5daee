# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""What differs between two releases: their variants, files, measurements and tensors."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from dataclasses import dataclass
from typing import Any, Mapping, Sequence

from ansible_collections.edgeml.fleet.plugins.module_utils._release.release import Release, Variant
from ansible_collections.edgeml.fleet.plugins.module_utils._release.repository import Repository

from .deltas import bytes_to_fetch, like
from .model import PublishError
from .words import NONE, bytes_text, metric_text, seconds_text

_NAMES_SHOWN = 8


@dataclass(frozen=True)
class TensorChanges:
    """The weights of a model that differ from those of another, by name. ``same`` counts those that do not."""

    changed: Sequence[str]
    added: Sequence[str]
    removed: Sequence[str]
    same: int

    @property
    def line(self) -> str:
        """As a line for people."""
        total = len(self.changed) + len(self.added) + self.same
        parts = [f"{len(self.changed)} of {total} tensors changed{_names(self.changed)}"]
        for names, what in ((self.added, "added"), (self.removed, "removed")):
            if names:
                parts.append(f"{len(names)} {what}{_names(names)}")
        return ", ".join(parts)


@dataclass(frozen=True)
class VariantChanges:
    """A variant of two releases. ``before`` or ``after`` are None where one has it not; they are what was measured.

    ``fetched_bytes`` is what a device with the older release would fetch for it. ``tensors`` is None for a variant that
    is in one release only, or is no ONNX file.
    """

    name: str
    before: Mapping[str, Any] | None
    after: Mapping[str, Any] | None
    fetched_bytes: int | None
    tensors: TensorChanges | None

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        return {**vars(self), "tensors": vars(self.tensors) if self.tensors is not None else None}

    def row(self) -> dict[str, str]:
        """As a row of a table for people."""
        return {
            "variant": self.name,
            "size": _both(self, lambda row: bytes_text(row.get("size"))),
            "metric": _both(self, metric_text),
            "latency": _both(self, lambda row: seconds_text(row.get("latency_seconds"))),
            "memory": _both(self, lambda row: bytes_text(row.get("memory_bytes"))),
            "runtime": _both(self, lambda row: row.get("runtime_minimum") or NONE),
            "to fetch": bytes_text(self.fetched_bytes),
        }


@dataclass(frozen=True)
class ReleaseChanges:
    """What differs between two releases of a model. ``fields`` are the manifest's own that differ."""

    before: Release
    after: Release
    fields: Sequence[str]
    variants: Sequence[VariantChanges]

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        return {
            "model": self.after.model,
            "from": {"version": self.before.version, "digest": self.before.digest},
            "to": {"version": self.after.version, "digest": self.after.digest},
            "fields": list(self.fields),
            "variants": [variant.to_dict() for variant in self.variants],
        }


def compare(repository: Repository, before: Release, after: Release) -> ReleaseChanges:
    """Compare two releases of the repository. Raises IntegrityError and PublishError for files that are damaged."""
    names = [variant.name for variant in after.variants]
    names += [variant.name for variant in before.variants if variant.name not in names]
    measured = [_measurements(repository, release) for release in (before, after)]
    variants = [_variant(repository, name, before, after, measured) for name in names]
    fields = sorted({*before.document, *after.document} - {"version", "created", "variants", "documents"})
    changed = [name for name in fields if before.document.get(name) != after.document.get(name)]
    return ReleaseChanges(before, after, changed, variants)


def _variant(
    repository: Repository, name: str, before: Release, after: Release, measured: Sequence[Mapping[str, Any]]
) -> VariantChanges:
    old, new = (_find(release, name) for release in (before, after))
    fetched = None
    if new is not None:
        fetched = bytes_to_fetch(after.files(new), before.files(like(before, name)), repository.deltas)
    tensors = None
    if old is not None and new is not None and not (before.is_pipeline or after.is_pipeline):
        tensors = _tensors(repository, old, new)
    rows = [
        {**_manifest_row(variant), **found.get(name, {})} if variant is not None else None
        for variant, found in zip((old, new), measured, strict=True)
    ]
    return VariantChanges(name, rows[0], rows[1], fetched, tensors)


def _find(release: Release, name: str) -> Variant | None:
    return next((variant for variant in release.variants if variant.name == name), None)


def _manifest_row(variant: Variant) -> dict[str, Any]:
    """What a manifest says of a variant of which nothing was measured."""
    return {
        "variant": variant.name,
        "size": sum(file.size for file in variant.files),
        "memory_bytes": variant.memory_bytes,
        "runtime_minimum": variant.runtime_minimum,
    }


def _measurements(repository: Repository, release: Release) -> dict[str, Mapping[str, Any]]:
    """What was measured of each variant when it was published; empty for releases that do not say."""
    document = release.documents.get("measurements")
    if document is None:
        return {}
    try:
        return {row["variant"]: row for row in json.loads(repository.read_blob(document))["variants"]}
    except (ValueError, TypeError, KeyError) as error:
        raise PublishError(
            f"{repository.blob_path(document.sha256)}: expected the measurements of {release.model} "
            f"{release.version}: {error!r}"
        ) from error


def _tensors(repository: Repository, before: Variant, after: Variant) -> TensorChanges | None:
    if not all(variant.format == "onnx" and _entrypoint(variant).endswith(".onnx") for variant in (before, after)):
        return None
    old, new = _digests(repository, before), _digests(repository, after)
    return TensorChanges(
        changed=sorted(name for name in new if name in old and old[name] != new[name]),
        added=sorted(set(new) - set(old)),
        removed=sorted(set(old) - set(new)),
        same=sum(old.get(name) == digest for name, digest in new.items()),
    )


def _entrypoint(variant: Variant) -> str:
    (entry,) = variant.entries.values()
    return entry.entrypoint


def _digests(repository: Repository, variant: Variant) -> dict[str, str]:
    """The SHA-256 of each initializer of a variant's graph: its type, its shape and its values."""
    import onnx

    with tempfile.TemporaryDirectory(prefix="edgeml-diff-") as work:
        for file in variant.files:
            # onnx refuses weights in a file that has a second name.
            shutil.copyfile(repository.blob_path(file.sha256), os.path.join(work, file.path))
        path = os.path.join(work, _entrypoint(variant))
        try:
            graph = onnx.load(path).graph
            return {
                tensor.name: hashlib.sha256(
                    f"{tensor.data_type}{list(tensor.dims)}".encode() + onnx.numpy_helper.to_array(tensor).tobytes()
                ).hexdigest()
                for tensor in graph.initializer
            }
        except Exception as error:  # Whatever a library says of a file that it cannot read.
            raise PublishError(f"variant {variant.name}: its tensors cannot be read: {error}") from error


def _both(changes: VariantChanges, text: Any) -> str:
    before, after = (text(row) if row is not None else NONE for row in (changes.before, changes.after))
    return before if before == after else f"{before} -> {after}"


def _names(names: Sequence[str]) -> str:
    if not names:
        return ""
    return f" ({', '.join(names[:_NAMES_SHOWN])}{', …' if len(names) > _NAMES_SHOWN else ''})"
