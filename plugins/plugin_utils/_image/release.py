# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""An image as a release: a variant for each architecture, whose files are OCI's documents and the layers."""

from __future__ import annotations

import os
from datetime import datetime, timezone
from typing import Any, Sequence
from urllib.parse import quote

from ansible_collections.edgeml.fleet.plugins.module_utils._release.image import CONFIG, MANIFEST, document
from ansible_collections.edgeml.fleet.plugins.module_utils._release.manifest import SCHEMA
from ansible_collections.edgeml.fleet.plugins.module_utils._release.packages import source_of
from ansible_collections.edgeml.fleet.plugins.module_utils._release.release import IMAGE, IMAGE_FORMAT
from ansible_collections.edgeml.fleet.plugins.plugin_utils._publish.bom import (
    bill,
    file_component,
    library,
    sha256_hash,
)
from ansible_collections.edgeml.fleet.plugins.plugin_utils._publish.release_files import ReleaseFiles
from ansible_collections.edgeml.fleet.plugins.plugin_utils._publish.writer import is_published, publish

from .build import BuiltImage
from .contents import SUITE
from .debian import Package

NAME = "edgeml-inference"
# What the runtime is called that runs an image: any engine that reads OCI's first specification.
_RUNTIME = {"name": "oci", "minimum": "1.0.0"}
# What a second server takes beside the one that serves, until that has handed over; its models are not in it.
MEMORY_BYTES = 128 << 20


def publish_images(
    images: Sequence[BuiltImage],
    *,
    name: str,
    version: str,
    repository: str,
    directory: str,
    created: int | None,
    check: bool = False,
) -> tuple[bool, dict[str, Any]]:
    """Publish images as one release, with a bill of materials of each. Return whether it was not there before, and its
    manifest. With ``check`` nothing is published, and with an empty ``repository`` there is nowhere to.

    ``directory`` is for files of the release. Raises PublishError where the version is there with other content.
    """
    held = ReleaseFiles(directory)
    time = None if created is None else datetime.fromtimestamp(created, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    variants, documents = [], {}
    for built in images:
        files = [
            held.write(MANIFEST, built.image.manifest, built.machine),
            held.write(CONFIG, built.image.config, built.machine),
            *(held.add(os.path.basename(layer.path), layer.path) for layer in built.layers),
        ]
        variants.append(
            {
                "name": f"linux-{built.image.architecture}",
                "format": IMAGE_FORMAT,
                "architectures": [built.machine],
                "runtime": _RUNTIME,
                "memory_bytes": MEMORY_BYTES,
                "entrypoint": MANIFEST,
                "files": files,
            }
        )
        documents[f"bom-{built.image.architecture}"] = held.write(
            f"bom-{built.image.architecture}.cdx.json",
            document(bill_of_materials(built, name, version, time)),
            built.machine,
        )
    manifest = {
        "schema": SCHEMA,
        "kind": IMAGE,
        "model": name,
        "version": version,
        **({} if time is None else {"created": time}),
        "description": f"The inference server on Debian's {SUITE}",
        "variants": variants,
        "documents": documents,
    }
    if not repository:
        return False, manifest
    if check:
        return not is_published(repository, manifest), manifest
    return publish(repository, manifest, held.locations), manifest


def bill_of_materials(built: BuiltImage, name: str, version: str, created: str | None) -> dict[str, Any]:
    """What is in an image: Debian's packages, the wheels, and the layers with their digests."""
    packages = [
        library(
            f"pkg:deb/debian/{package.name}@{package.version.replace(':', '%3A').replace('+', '%2B')}"
            f"?arch={package.field('Architecture')}&distro={SUITE}{_upstream(package)}",
            package.name,
            package.version,
            hashes=[sha256_hash(package.sha256)],
            supplier={"name": package.field("Maintainer")},
        )
        for package in built.packages
    ]
    wheels = [library(f"pkg:pypi/{each.name}@{each.version}", each.name, each.version) for each in built.wheels]
    layers = [file_component(layer.title, layer.sha256) for layer in built.layers]
    components = [*packages, *wheels, *layers]
    reference = f"{name}@{version}?arch={built.image.architecture}"
    return bill(
        {"type": "container", "bom-ref": reference, "name": name, "version": version},
        components,
        [component["bom-ref"] for component in components],
        identity=[reference, built.image.reference],
        created=created,
    )


def _upstream(package: Package) -> str:
    """The source package, where it has another name or version: vulnerabilities are known by it."""
    source, version = source_of(
        {"Package": package.name, "Version": package.version, "Source": package.field("Source")}
    )
    if (source, version) == (package.name, package.version):
        return ""
    return f"&upstream={quote(f'{source}@{version}', safe='.~-')}"
