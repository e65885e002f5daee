# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""An image of the inference server as a release has it: OCI's documents and layers, and the archive that engines load.

A variant of a release of the kind ``image`` has OCI's manifest as ``manifest.json``, the configuration as
``config.json``, and each layer as a tar archive that is not compressed: a device fetches only what differs, and any
engine knows a layer by the digest of just these bytes.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
from typing import Any, BinaryIO, Callable, Collection, Mapping, NamedTuple

from .._common.errors import ManifestError
from .._common.hashing import is_sha256
from .release import IMAGE_ENTRYPOINT, Variant

NAME = "localhost/edgeml-inference"
MANIFEST = IMAGE_ENTRYPOINT
CONFIG = "config.json"
MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar"
INDEX_TYPE = "application/vnd.oci.image.index.v1+json"
# Debian's and Go's names by those of `uname -m`.
ARCHITECTURES = {"aarch64": "arm64", "x86_64": "amd64"}
# The label of the configuration with the versions of the runtimes, as a JSON object by package name.
RUNTIMES_LABEL = "edgeml.runtimes"
_DOCUMENT_BYTES_MAX = 1 << 20


class ImageLayer(NamedTuple):
    """A layer: its size in bytes and its SHA-256, which is that of its content for every engine."""

    size: int
    sha256: str


class Image(NamedTuple):
    """An image: the bytes of its manifest and of its configuration, its layers, the lowest first, and the versions of
    the runtimes in it by package name."""

    manifest: bytes
    config: bytes
    architecture: str
    layers: tuple[ImageLayer, ...]
    runtimes: Mapping[str, str] = {}

    @property
    def reference(self) -> str:
        """The name that it has in an engine: never that of another image."""
        return f"{NAME}:{hashlib.sha256(self.manifest).hexdigest()}"

    @property
    def size(self) -> int:
        """The bytes of all layers, unpacked or not."""
        return sum(layer.size for layer in self.layers)

    @property
    def diff_ids(self) -> list[str]:
        """What an engine lists as the image's layers."""
        return [f"sha256:{layer.sha256}" for layer in self.layers]


def parse_image(manifest: bytes, config: bytes, origin: str) -> Image:
    """Read an image's documents. Raises ManifestError, which begins with ``origin``, unless they are one image's."""
    try:
        described, configured = json.loads(manifest.decode("utf-8")), json.loads(config.decode("utf-8"))
        listed = [(each["mediaType"], each["digest"], each["size"]) for each in described["layers"]]
        diff_ids, architecture = configured["rootfs"]["diff_ids"], configured["architecture"]
        promised = described["config"]["digest"]
        runtimes = dict(json.loads(configured["config"]["Labels"][RUNTIMES_LABEL]))
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ManifestError(f"{origin}: expected an image's manifest and configuration; {error!r}") from error
    found = f"sha256:{hashlib.sha256(config).hexdigest()}"
    if promised != found:
        raise ManifestError(f"{origin}: config.digest: expected {found}, that of {CONFIG}; found {promised!r}")
    if diff_ids != [digest for _type, digest, _size in listed]:
        raise ManifestError(f"{origin}: layers: expected those of {CONFIG}, not compressed; found other ones")
    layers = []
    for kind, digest, size in listed:
        algorithm, _colon, sha256 = str(digest).partition(":")
        if kind != LAYER_TYPE or algorithm != "sha256" or not is_sha256(sha256) or not isinstance(size, int):
            raise ManifestError(f"{origin}: layers: expected {LAYER_TYPE} with a SHA-256; found {kind!r}, {digest!r}")
        layers.append(ImageLayer(size, sha256))
    return Image(manifest, config, str(architecture), tuple(layers), runtimes)


def check_image(variant: Variant, read: Callable[[str], bytes]) -> Image:
    """Return the image of a variant, whose documents ``read`` returns by their names.

    Raises ManifestError unless it is for the variant's architecture and the variant has all of its layers.
    """
    origin = f"variant {variant.name}"
    image = parse_image(read(MANIFEST), read(CONFIG), origin)
    expected = [ARCHITECTURES.get(name, name) for name in variant.architectures]
    if expected != [image.architecture]:
        raise ManifestError(
            f"{origin}: architectures: expected {image.architecture}, which its configuration has; found "
            f"{', '.join(variant.architectures)}"
        )
    held = {file.sha256: file.size for file in variant.files}
    for layer in image.layers:
        if held.get(layer.sha256) != layer.size:
            raise ManifestError(f"{origin}: files: expected the layer {layer.sha256} of {layer.size} bytes; found none")
    return image


def read_image(variant: Variant, directory: str) -> Image:
    """Return the image of a variant whose files are in a directory. Raises ManifestError, OSError."""

    def read(name: str) -> bytes:
        with open(os.path.join(directory, name), "rb") as file:
            return file.read(_DOCUMENT_BYTES_MAX)

    return check_image(variant, read)


def write_archive(
    target: BinaryIO, image: Image, layer_path: Callable[[str], str], left_out: Collection[str] = ()
) -> None:
    """Write what ``docker load`` and ``podman load`` read: an OCI layout in a tar archive, with Docker's manifest.

    ``layer_path`` has the path of a layer by its SHA-256; those ``left_out`` are in the engine already. The same image
    is always the same bytes. Raises OSError.
    """
    config, manifest = (hashlib.sha256(content).hexdigest() for content in (image.config, image.manifest))
    tag = image.reference
    index = {
        "schemaVersion": 2,
        "mediaType": INDEX_TYPE,
        "manifests": [
            {
                **descriptor(MANIFEST_TYPE, image.manifest),
                "platform": {"architecture": image.architecture, "os": "linux"},
                "annotations": {"io.containerd.image.name": tag, "org.opencontainers.image.ref.name": tag},
            }
        ],
    }
    docker = [
        {
            "Config": _blob(config),
            "RepoTags": [tag],
            "Layers": [_blob(layer.sha256) for layer in image.layers],
        }
    ]
    with tarfile.open(fileobj=target, mode="w|", format=tarfile.USTAR_FORMAT) as archive:
        _add(archive, "oci-layout", document({"imageLayoutVersion": "1.0.0"}))
        _add(archive, "index.json", document(index))
        _add(archive, MANIFEST, document(docker))
        _add(archive, _blob(manifest), image.manifest)
        _add(archive, _blob(config), image.config)
        for layer in dict.fromkeys(image.layers):
            if layer.sha256 in left_out:
                continue
            entry = _entry(_blob(layer.sha256), layer.size)
            with open(layer_path(layer.sha256), "rb") as source:
                archive.addfile(entry, source)


def descriptor(kind: str, content: bytes) -> dict[str, Any]:
    """What OCI's documents say of another one."""
    return {"mediaType": kind, "digest": f"sha256:{hashlib.sha256(content).hexdigest()}", "size": len(content)}


def document(value: Any) -> bytes:
    """One spelling of a document: sorted, without white space."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode("utf-8")


def _blob(sha256: str) -> str:
    return f"blobs/sha256/{sha256}"


def _entry(name: str, size: int) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.size = size
    return entry


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    archive.addfile(_entry(name, len(content)), io.BytesIO(content))
