# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""A publication of the server's image: what is asked for, built, written where it is asked for, and told."""

from __future__ import annotations

import filecmp
import os
import tempfile
from dataclasses import dataclass
from typing import Any, Callable, Sequence

from ansible_collections.edgeml.fleet.plugins.module_utils._common.errors import ArgumentError
from ansible_collections.edgeml.fleet.plugins.module_utils._release.image import ARCHITECTURES, write_archive
from ansible_collections.edgeml.fleet.plugins.module_utils._release.manifest import parse_release

from . import build
from .apt import MIRROR
from .release import NAME, publish_images
from .wheels import RUNTIMES

CACHE = "~/.cache/edgeml-fleet/image"


@dataclass(frozen=True)
class ImageOptions:
    """What is published, for which ``architectures`` (as ``uname -m`` says), with which ``runtimes``, and where to: a
    model ``repository``, a directory for ``archives``, one for OCI ``layouts``. An empty path is none.

    ``created`` is in seconds of the epoch; ``cache`` keeps what was downloaded from the ``mirror`` and from PyPI.
    """

    version: str
    name: str = NAME
    architectures: Sequence[str] = tuple(ARCHITECTURES)
    runtimes: Sequence[str] = RUNTIMES[:1]
    repository: str = ""
    archives: str = ""
    layouts: str = ""
    created: int | None = None
    mirror: str = MIRROR
    cache: str = CACHE


def publish_image(options: ImageOptions, *, check: bool, say: Callable[[str], None]) -> dict[str, Any]:
    """Build the images and publish them as one release; with ``check``, build them and write nothing.

    Returns whether anything ``changed`` and whether the release was ``published`` by this, its ``manifest`` and its
    ``digest``, the table of ``images``, and the paths of the ``archives``. Raises ImageError, PublishError,
    ArgumentError and OSError.
    """
    if not (options.repository or options.archives or options.layouts):
        raise ArgumentError("repository, archives, layouts: expected at least one of them; found none")
    cache = os.path.abspath(os.path.expanduser(options.cache))
    os.makedirs(cache, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="edgeml-image-", dir=cache) as work:
        images = build.build_images(
            options.architectures,
            version=options.version,
            runtimes=options.runtimes,
            directory=work,
            cache=cache,
            created=options.created,
            mirror=options.mirror,
            say=say,
        )
        if options.repository and not check:
            say(f"publishing in {options.repository}")
        published, manifest = publish_images(
            images,
            name=options.name,
            version=options.version,
            repository=options.repository,
            directory=work,
            created=options.created,
            check=check,
        )
        changed, archives = published, []
        for built in images:
            if options.archives:
                name = f"{options.name}-{options.version}-{built.image.architecture}.tar"
                archives.append(os.path.join(options.archives, name))
                changed |= _write_archive(built, archives[-1], work, check)
            if options.layouts and not check:
                build.write_layout(built, os.path.join(options.layouts, built.image.architecture))
        return {
            "changed": changed,
            "published": published,
            "manifest": manifest,
            "digest": parse_release(manifest).digest,
            "images": [_row(built) for built in images],
            "archives": archives,
        }


def _write_archive(built: build.BuiltImage, path: str, work: str, check: bool) -> bool:
    """Have an image's archive at ``path``. Return whether it was not there with this content."""
    part = os.path.join(work if check else os.path.dirname(path), f".{os.path.basename(path)}.part")
    if not check:
        os.makedirs(os.path.dirname(path), exist_ok=True)
    try:
        with open(part, "wb") as target:
            write_archive(target, built.image, built.layer_path)
        if os.path.exists(path) and filecmp.cmp(part, path, shallow=False):
            return False
        if not check:
            os.replace(part, path)
        return True
    finally:
        if os.path.exists(part):
            os.unlink(part)


def _row(built: build.BuiltImage) -> dict[str, Any]:
    return {
        "architecture": built.machine,
        "bytes": built.image.size,
        "layers": len(built.layers),
        "packages": len(built.packages),
        "image": built.image.reference,
    }
