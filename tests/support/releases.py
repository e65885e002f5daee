# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Releases made for a test: their manifests, the bytes of their files, and repositories that hold them."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ansible_collections.edgeml.fleet.plugins.module_utils._common.hashing import BlockDigests
from ansible_collections.edgeml.fleet.plugins.module_utils._device.state import State
from ansible_collections.edgeml.fleet.plugins.module_utils._device.store import Store
from ansible_collections.edgeml.fleet.plugins.module_utils._release.manifest import parse_release
from ansible_collections.edgeml.fleet.plugins.module_utils._release.release import Release

# Texts that are no JSON, or no object with the fields that are asked for.
NO_DOCUMENTS = ("", "{", "null", "[]", "3", "{}", "[" * 100_000)


def sha256(content: bytes) -> str:
    """The digest that names ``content``."""
    return hashlib.sha256(content).hexdigest()


def file_entry(path: str, content: bytes) -> dict[str, Any]:
    """A manifest's entry of a file."""
    blocks = BlockDigests()
    blocks.write(content)
    found = {"blocks": list(blocks.found())} if blocks.found() else {}
    return {"path": path, "size": len(content), "sha256": sha256(content), **found}


def variant_entry(files: Mapping[str, bytes], name: str = "onnx-fp32", **changes: Any) -> dict[str, Any]:
    """A manifest's entry of a variant; the first of ``files`` is its entrypoint."""
    return {
        "name": name,
        "format": "onnx",
        "architectures": ["aarch64", "x86_64"],
        "runtime": {"name": "onnxruntime", "minimum": "1.17.0"},
        "memory_bytes": 1 << 20,
        "entrypoint": next(iter(files)),
        "files": [file_entry(path, content) for path, content in files.items()],
        **changes,
    }


@dataclass(frozen=True)
class Made:
    """A release and the bytes of its files, by digest."""

    document: dict[str, Any]
    blobs: Mapping[str, bytes]

    @property
    def release(self) -> Release:
        """The parsed manifest."""
        return parse_release(self.document)


def make_release(
    version: str = "1.0.0",
    model: str = "digits",
    files: Mapping[str, bytes] | None = None,
    golden: bytes | None = None,
    probe: bytes | None = None,
    reference: bytes | None = None,
    **changes: Any,
) -> Made:
    """A release of one variant. Its content differs with its version, unless ``files`` are given."""
    files = files or {"model.onnx": f"{model} {version} ".encode() * 1000}
    document: dict[str, Any] = {"schema": 2, "model": model, "version": version, "variants": [variant_entry(files)]}
    contents = list(files.values())
    for name, content in (("golden", golden), ("probe", probe), ("reference", reference)):
        if content is not None:
            document[name] = file_entry(f"{name}.json", content)
            contents.append(content)
    return Made({**document, **changes}, {sha256(content): content for content in contents})


def make_pipeline(
    version: str,
    model: str,
    models: Mapping[str, bytes],
    golden: Mapping[str, bytes] | None = None,
    probe: Mapping[str, bytes] | None = None,
    reference: Mapping[str, bytes] | None = None,
    model_format: str = "onnx",
    **changes: Any,
) -> Made:
    """A release of several models; each argument is by part. ``changes`` are of the variant."""
    files = {f"{name}.{model_format}": content for name, content in models.items()}
    parts: dict[str, dict[str, Any]] = {name: {} for name in models}
    contents = list(files.values())
    for kind, by_part in (("golden", golden), ("probe", probe), ("reference", reference)):
        for name, content in (by_part or {}).items():
            parts[name][kind] = file_entry(f"{kind}-{name}.json", content)
            contents.append(content)
    variant = variant_entry(files, name=f"{model_format}-fp32", format=model_format, **changes)
    del variant["entrypoint"]
    variant["parts"] = {name: {"entrypoint": path} for name, path in zip(models, files, strict=True)}
    document = {"schema": 2, "model": model, "version": version, "parts": parts, "variants": [variant]}
    return Made(document, {sha256(content): content for content in contents})


def read_release(repository: Path, model: str, version: str) -> Made:
    """A release that a model repository holds."""
    document = json.loads((repository / model / version / "manifest.json").read_text())
    files = parse_release(document).all_files()
    blobs = repository / "blobs" / "sha256"
    return Made(document, {file.sha256: (blobs / file.sha256).read_bytes() for file in files})


def publish(made: Made, repository: Path) -> Path:
    """Write a release into the model repository in the directory ``repository``; return its manifest's path."""
    manifest = repository.joinpath(made.document["model"], made.document["version"], "manifest.json")
    manifest.parent.mkdir(parents=True)
    manifest.write_text(json.dumps(made.document))
    blobs = repository / "blobs" / "sha256"
    blobs.mkdir(parents=True, exist_ok=True)
    for digest, content in made.blobs.items():
        (blobs / digest).write_bytes(content)
    return manifest


def make_store(directory: Path, *held: Made, active: str = "1.0.0") -> Store:
    """A new store below ``directory`` that holds releases, with one version of each of their models active."""
    root = directory / "store"
    root.mkdir()
    store = Store(str(root))
    for made in held:
        put(store, made)
    for model in {made.document["model"] for made in held}:
        activate(store, model, active)
    return store


def put(store: Store, made: Made) -> None:
    """Bring a release into a store, without its lock."""
    release = made.release
    for file in store.blobs.missing(release.files(release.variants[0])):
        store.blobs.add(file, io.BytesIO(made.blobs[file.sha256]), "test")
    store.install(release, release.variants[0])


def activate(store: Store, model: str, active: str | None, previous: str | None = None, **entry: Any) -> None:
    """Make a version the active one of a store, without its lock."""
    before = store.state(model).active
    store.transition(model, State(active, previous), {"event": "activate", "from": before, "to": active, **entry})
