# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""The model repository, as static files: ``<model>/<version>/manifest.json`` and ``blobs/sha256/<digest>``.

``withdrawn.json`` beside a manifest says that nobody may run the release any more, and why; ``channels.json`` beside a
model's versions says which of them each channel stands for.
"""

from __future__ import annotations

import json
import os
from typing import Mapping

from .._common.errors import IntegrityError, ManifestError
from .._common.hashing import BlockDigests, read_hashed
from .channels import CHANNELS, CHANNELS_BYTES_MAX, channel_of, read_channels, version_on_channel
from .delta_index import INDEX_BYTES_MAX, Delta, delta_path, index_path, parse_index
from .manifest import MANIFEST_BYTES_MAX, parse_release_json
from .names import check_model_name, check_name, is_model_name, is_name
from .onnx_check import check_onnx
from .probe_set import ProbeSetError
from .probe_set_file import read_outputs, read_probe_set
from .release import IMAGE, PACKAGES, File, Part, Release, Variant

WITHDRAWN = "withdrawn.json"
_WITHDRAWN_BYTES_MAX = 65536
_NAMED_MAX = 12


class Repository:
    """The model repository in the directory ``root``."""

    def __init__(self, root: str) -> None:
        self.root = root

    def release(self, model: str, version: str) -> Release:
        """Read and check a release's manifest. Raises ManifestError when it is absent, damaged or another's."""
        path = os.path.join(self._directory(model, version), "manifest.json")
        try:
            with open(path, "rb") as file:
                release = parse_release_json(file.read(MANIFEST_BYTES_MAX + 1), path)
        except OSError as error:
            there = self._there_is(model) if isinstance(error, FileNotFoundError) else ""
            raise ManifestError(
                f"{path}: expected the manifest of {model} {version}; {error.strerror}{there}"
            ) from error
        if (release.model, release.version) != (model, version):
            raise ManifestError(f"{path}: expected {model} {version}; found {release.model} {release.version}")
        return release

    def _there_is(self, model: str) -> str:
        """What there is where a release is not."""
        if not os.path.isdir(self.root):
            return f": {self.root} is no directory"
        kind, names = f"versions of {model}", self.versions(model)
        if not names:
            kind, names = "models", self.models()
        shown = f"{', '.join(names[:_NAMED_MAX])}{' …' if len(names) > _NAMED_MAX else ''}"
        return f". The repository has the {kind} {shown}" if names else f". {self.root} has no release of any model"

    def models(self) -> list[str]:
        """The models of which releases are in the directory, by name. Raises ManifestError if it cannot be read."""
        return [name for name in _directories(self.root) if is_model_name(name) and self.versions(name)]

    def versions(self, model: str) -> list[str]:
        """The versions of a model that are in the directory, by name. Raises ManifestError if it cannot be read."""
        directory = os.path.join(self.root, check_model_name(model, "model"))
        names = _directories(directory) if os.path.isdir(directory) else []
        return [name for name in names if os.path.exists(os.path.join(directory, name, "manifest.json"))]

    def channels(self, model: str) -> Mapping[str, str]:
        """The version of each channel of a model. Raises ManifestError if that cannot be read."""
        path = os.path.join(self.root, check_model_name(model, "model"), CHANNELS)
        try:
            with open(path, "rb") as file:
                return read_channels(file.read(CHANNELS_BYTES_MAX + 1), path)
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise ManifestError(f"{path}: expected the channels of {model}; {error.strerror}") from error

    def version_of(self, model: str, version: str) -> str:
        """The version that ``channel:NAME`` stands for now; any other is its own. Raises ManifestError."""
        channel = channel_of(version)
        if channel is None:
            return version
        return version_on_channel(self.channels(model), model, channel, self.root, self.versions)

    def withdrawn(self, model: str, version: str) -> str | None:
        """Why a release is withdrawn; None if it is not. Raises ManifestError if that cannot be read."""
        path = os.path.join(self._directory(model, version), WITHDRAWN)
        try:
            with open(path, "rb") as file:
                reason = json.loads(file.read(_WITHDRAWN_BYTES_MAX))["reason"]
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise ManifestError(f'{path}: expected {{"reason": "…"}}; {error}') from error
        if not isinstance(reason, str):
            raise ManifestError(f"{path}: reason: expected a text; found {reason!r:.80}")
        return reason

    def blob_path(self, sha256: str) -> str:
        """Path of the blob with this digest."""
        return os.path.join(self.root, "blobs", "sha256", sha256)

    def deltas(self, file: File) -> list[Delta]:
        """The deltas of a file, the smallest first; none where their index cannot be read, for it is a hint."""
        try:
            with open(os.path.join(self.root, index_path(file.sha256)), "rb") as index:
                return parse_index(index.read(INDEX_BYTES_MAX + 1), file)
        except (OSError, ValueError):
            return []

    def delta_path(self, file: File, delta: Delta) -> str:
        """Path of a delta of ``file``."""
        return os.path.join(self.root, delta_path(file.sha256, delta))

    def read_blob(self, file: File) -> bytes:
        """The bytes of a small blob, at most one more than ``file`` has. Raises IntegrityError if it cannot be read."""
        path = self.blob_path(file.sha256)
        try:
            with open(path, "rb") as source:
                return source.read(file.size + 1)
        except OSError as error:
            raise IntegrityError(f"{path}: {file.path}: expected {file.size} bytes; {error.strerror}") from error

    def verify(self, release: Release) -> int:
        """Read every file of the release; return their bytes in all.

        Raises IntegrityError at the first wrong one, and ManifestError for a golden file or a probe set that is none or
        does not fit the model's outputs, and for a model that needs more than the runtime that the manifest promises.
        """
        for file in release.all_files():
            self._verify_file(file)
        for variant in release.variants:
            if release.kind == IMAGE:
                self._check_image(variant, f"{release.model} {release.version}")
            elif release.kind == PACKAGES:
                self._check_packages(variant, f"{release.model} {release.version}")
            else:
                self._check_models(variant, f"{release.model} {release.version}")
        for name, part in release.parts.items():
            self._check_part(part, f"{release.model} {release.version}{f' {name}' if name else ''}")
        return sum(file.size for file in release.all_files())

    def _directory(self, model: str, version: str) -> str:
        return os.path.join(self.root, check_model_name(model, "model"), check_name(version, "version"))

    def _check_models(self, variant: Variant, name: str) -> None:
        """Have each model's file say whether the runtime that the manifest promises can load it."""
        blobs = {file.path: file.sha256 for file in variant.files}
        for path in {entry.entrypoint for entry in variant.entries.values()}:
            try:
                check_onnx(variant, path, self.blob_path(blobs[path]))
            except ManifestError as error:
                raise ManifestError(f"{name}: {error}") from error

    def _check_image(self, variant: Variant, name: str) -> None:
        """Have the image's own documents say whether they are of the variant's files."""
        # Imported here: a device reads many a release, and no image of a repository.
        from .image import CONFIG, check_image

        files = {file.path: file for file in variant.files}
        try:
            if CONFIG not in files:
                raise ManifestError(f"variant {variant.name}: files: expected {CONFIG}; found none")
            check_image(variant, lambda path: self.read_blob(files[path]))
        except ManifestError as error:
            raise ManifestError(f"{name}: {error}") from error

    def _check_packages(self, variant: Variant, name: str) -> None:
        """Have the snapshot's own documents say whether they are of the variant's files."""
        from .packages import check_snapshot

        files = {file.path: file for file in variant.files}
        try:
            check_snapshot(variant, lambda path: self.read_blob(files[path]))
        except ManifestError as error:
            raise ManifestError(f"{name}: {error}") from error

    def _check_part(self, part: Part, name: str) -> None:
        """Have the probe set read as a device reads it, with what the golden file says of the outputs."""
        try:
            outputs = read_outputs(self.blob_path(part.golden.sha256) if part.golden else None)
            if part.probe is not None:
                probe = read_probe_set(self.blob_path(part.probe.sha256))
                if outputs and probe.output not in outputs:
                    known = ", ".join(sorted(outputs))
                    raise ProbeSetError(f"{part.probe.path}: output: expected one of {known}; found {probe.output!r}")
                probe.resolved(outputs.get(probe.output))
        except ProbeSetError as error:
            raise ManifestError(f"{name}: {error}") from error

    def _verify_file(self, file: File) -> None:
        path = self.blob_path(file.sha256)
        origin = f"{path}: {file.path}"
        try:
            with open(path, "rb") as source:
                size = os.fstat(source.fileno()).st_size
                if size != file.size:
                    raise IntegrityError(f"{origin}: expected {file.size} bytes; found {size}")
                blocks = BlockDigests()
                actual = read_hashed(source, file.size, origin, blocks)
        except OSError as error:
            raise IntegrityError(f"{origin}: expected {file.size} bytes; {error.strerror}") from error
        if actual != file.sha256:
            raise IntegrityError(f"{origin}: expected SHA-256 {file.sha256}; found {actual}")
        # A device would fetch block after block, and keep none of it.
        for number, (expected, found) in enumerate(zip(file.blocks, blocks.found()), 1):
            if found != expected:
                raise IntegrityError(f"{origin}: block {number}: expected SHA-256 {expected}; found {found}")


def _directories(path: str) -> list[str]:
    """The directories in a directory that can name a model or a version."""
    try:
        return sorted(entry.name for entry in os.scandir(path) if is_name(entry.name) and entry.is_dir())
    except OSError as error:
        raise ManifestError(f"{path}: expected a model repository; {error.strerror}") from error
