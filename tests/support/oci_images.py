# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Archives of images as devices take them: an OCI layout that Docker 20.10 reads as well."""

from __future__ import annotations

import hashlib
import io
import json
import platform
import tarfile
from pathlib import Path
from typing import Any

NAME = "localhost/edgeml-inference"
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_CONFIG = "application/vnd.oci.image.config.v1+json"
_LAYER = "application/vnd.oci.image.layer.v1.tar"


def write_image(path: Path, layers: list[bytes], runtimes: dict[str, str], machine: str = platform.machine()) -> str:
    """Write the archive of an image, for this machine unless another is named, of layers that are tar archives.

    Returns the image's name.
    """
    blobs: dict[str, bytes] = {}

    def blob(content: bytes, kind: str) -> dict[str, Any]:
        digest = hashlib.sha256(content).hexdigest()
        blobs[f"blobs/sha256/{digest}"] = content
        return {"mediaType": kind, "digest": f"sha256:{digest}", "size": len(content)}

    described = [blob(layer, _LAYER) for layer in layers]
    config = {
        "architecture": ARCHITECTURES[machine],
        "os": "linux",
        "config": {"Labels": {"edgeml.runtimes": json.dumps(runtimes)}},
        "rootfs": {"type": "layers", "diff_ids": [layer["digest"] for layer in described]},
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": _MANIFEST,
        "config": blob(json.dumps(config).encode(), _CONFIG),
        "layers": described,
    }
    descriptor = blob(json.dumps(manifest).encode(), _MANIFEST)
    name = f"{NAME}:{_blob_name(descriptor)}"
    annotations = {"org.opencontainers.image.ref.name": name, "io.containerd.image.name": name}
    index = {"schemaVersion": 2, "manifests": [{**descriptor, "annotations": annotations}]}
    docker = {
        "Config": _path(manifest["config"]),
        "RepoTags": [name],
        "Layers": [_path(layer) for layer in described],
    }
    files = {
        "oci-layout": json.dumps({"imageLayoutVersion": "1.0.0"}).encode(),
        "index.json": json.dumps(index).encode(),
        "manifest.json": json.dumps([docker]).encode(),
        **blobs,
    }
    with tarfile.open(path, "w") as archive:
        for file, content in files.items():
            member = tarfile.TarInfo(file)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return name


def _blob_name(descriptor: Any) -> str:
    return str(descriptor["digest"]).partition(":")[2]


def _path(descriptor: Any) -> str:
    return f"blobs/sha256/{_blob_name(descriptor)}"
