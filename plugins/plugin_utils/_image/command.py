# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""The command ``edgeml-publish image``."""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from typing import Any

from ansible_collections.edgeml.fleet.plugins.module_utils._common.errors import ArgumentError
from ansible_collections.edgeml.fleet.plugins.module_utils._common.table import text_table
from ansible_collections.edgeml.fleet.plugins.module_utils._release.image import ARCHITECTURES, write_archive
from ansible_collections.edgeml.fleet.plugins.plugin_utils._publish.model import Progress

_CACHE = "~/.cache/edgeml-fleet/image"
_EPOCH = "SOURCE_DATE_EPOCH"


def register(commands: Any) -> None:
    """Add the command ``image``."""
    from .apt import MIRROR
    from .release import NAME
    from .wheels import RUNTIMES

    parser = commands.add_parser("image", help="build and publish the image of the inference server for containers")
    parser.add_argument("--version", required=True, metavar="TEXT", help="version of the image")
    parser.add_argument("--name", default=NAME, metavar="TEXT", help=f"name of its releases (default: {NAME})")
    parser.add_argument("--repository", metavar="PATH", help="the model repository that it is published in")
    parser.add_argument(
        "--architectures",
        default=",".join(ARCHITECTURES),
        metavar="LIST",
        help=f"as uname -m says (default: {','.join(ARCHITECTURES)})",
    )
    parser.add_argument(
        "--runtimes",
        default=RUNTIMES[0],
        metavar="LIST",
        help=f"of {', '.join(RUNTIMES)} (default: {RUNTIMES[0]})",
    )
    parser.add_argument("--archives", metavar="PATH", help="a directory for an archive of each image, for engines")
    parser.add_argument("--layouts", metavar="PATH", help="a directory for an OCI layout of each image")
    parser.add_argument("--mirror", default=MIRROR, metavar="URL", help=f"Debian's packages (default: {MIRROR})")
    parser.add_argument("--cache", default=_CACHE, metavar="PATH", help=f"what was downloaded (default: {_CACHE})")
    parser.add_argument("--json", action="store_true", help="print the result as JSON on standard output")
    parser.set_defaults(run=_run)


def _run(parsed: argparse.Namespace) -> int:
    from .build import build_images, write_layout
    from .release import publish_images

    if not (parsed.repository or parsed.archives or parsed.layouts):
        raise ArgumentError("--repository, --archives, --layouts: expected at least one of them; found none")
    created = source_date(os.environ.get(_EPOCH))
    cache = os.path.abspath(os.path.expanduser(parsed.cache))
    os.makedirs(cache, exist_ok=True)
    progress = Progress()
    with tempfile.TemporaryDirectory(prefix="edgeml-image-", dir=cache) as work:
        images = build_images(
            parsed.architectures.split(","),
            version=parsed.version,
            runtimes=parsed.runtimes.split(","),
            directory=work,
            cache=cache,
            created=created,
            mirror=parsed.mirror,
            say=progress.step,
        )
        for built in images:
            if parsed.archives:
                os.makedirs(parsed.archives, exist_ok=True)
                path = os.path.join(parsed.archives, f"{parsed.name}-{parsed.version}-{built.image.architecture}.tar")
                with open(path, "wb") as target:
                    write_archive(target, built.image, built.layer_path)
            if parsed.layouts:
                write_layout(built, os.path.join(parsed.layouts, built.image.architecture))
        changed, manifest = False, None
        if parsed.repository:
            progress.step(f"publishing in {parsed.repository}")
            changed, manifest = publish_images(
                images,
                name=parsed.name,
                version=parsed.version,
                repository=parsed.repository,
                directory=work,
                created=created,
            )
    rows = [
        {
            "architecture": built.machine,
            "bytes": built.image.size,
            "layers": len(built.layers),
            "packages": len(built.packages),
            "image": built.image.reference,
        }
        for built in images
    ]
    if parsed.json:
        print(json.dumps({"changed": changed, "manifest": manifest, "images": rows}))
        return 0
    for line in text_table(rows):
        print(line)
    if parsed.repository:
        state = "is published" if changed else "was published already, and nothing changed"
        print(f"{parsed.name} {parsed.version} {state}: {parsed.repository}")
    return 0


def source_date(text: str | None) -> int | None:
    """The time that the variable SOURCE_DATE_EPOCH names, in seconds; none without it. Raises ArgumentError."""
    if not text:
        return None
    if not text.isascii() or not text.isdigit():
        raise ArgumentError(f"{_EPOCH}: expected seconds since 1970; found {text!r}")
    return int(text)
