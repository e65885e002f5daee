# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""The command ``edgeml-publish image``."""

from __future__ import annotations

import argparse
import json
import os
from typing import Any

from ansible_collections.edgeml.fleet.plugins.module_utils._common.errors import ArgumentError
from ansible_collections.edgeml.fleet.plugins.module_utils._common.table import text_table
from ansible_collections.edgeml.fleet.plugins.plugin_utils._publish.model import Progress
from ansible_collections.edgeml.fleet.plugins.plugin_utils._publish.signature_due import say_what_is_next

EPOCH = "SOURCE_DATE_EPOCH"


def register(commands: Any) -> None:
    """Add the command ``image``."""
    from .publication import ImageOptions
    from .wheels import RUNTIMES

    default = ImageOptions(version="")
    architectures, runtimes = ",".join(default.architectures), ",".join(default.runtimes)
    parser = commands.add_parser("image", help="build and publish the image of the inference server for containers")
    parser.add_argument("--version", required=True, metavar="TEXT", help="version of the image")
    parser.add_argument(
        "--name", default=default.name, metavar="TEXT", help=f"name of its releases (default: {default.name})"
    )
    parser.add_argument("--repository", default="", metavar="PATH", help="the model repository to publish in")
    parser.add_argument(
        "--architectures",
        default=architectures,
        metavar="LIST",
        help=f"as uname -m says (default: {architectures})",
    )
    parser.add_argument(
        "--runtimes", default=runtimes, metavar="LIST", help=f"of {', '.join(RUNTIMES)} (default: {runtimes})"
    )
    parser.add_argument("--archives", default="", metavar="PATH", help="a directory for an archive of each image")
    parser.add_argument("--layouts", default="", metavar="PATH", help="a directory for an OCI layout of each image")
    parser.add_argument(
        "--mirror", default=default.mirror, metavar="URL", help=f"Debian's packages (default: {default.mirror})"
    )
    parser.add_argument(
        "--cache", default=default.cache, metavar="PATH", help=f"what was downloaded (default: {default.cache})"
    )
    parser.add_argument("--check", action="store_true", help="build, and write nothing")
    parser.add_argument("--json", action="store_true", help="print the result as JSON on standard output")
    parser.set_defaults(run=_run)


def _run(parsed: argparse.Namespace) -> int:
    from .publication import ImageOptions, publish_image

    options = ImageOptions(
        version=parsed.version,
        name=parsed.name,
        architectures=parsed.architectures.split(","),
        runtimes=parsed.runtimes.split(","),
        repository=parsed.repository,
        archives=parsed.archives,
        layouts=parsed.layouts,
        created=source_date(os.environ.get(EPOCH)),
        mirror=parsed.mirror,
        cache=parsed.cache,
    )
    result = publish_image(options, check=parsed.check, say=Progress().step)
    if parsed.json:
        print(json.dumps(result))
        return 0
    for line in text_table(result["images"]):
        print(line)
    if options.repository:
        state = "would be published" if parsed.check else "is published"
        state = state if result["published"] else "was published already, and nothing changed"
        print(f"{options.name} {options.version} {state}: {options.repository}")
        say_what_is_next(options.repository, changed=result["published"], check=parsed.check)
    return 0


def source_date(text: str | None) -> int | None:
    """The time that the variable SOURCE_DATEEPOCH names, in seconds; none without it. Raises ArgumentError."""
    if not text:
        return None
    if not text.isascii() or not text.isdigit():
        raise ArgumentError(f"{EPOCH}: expected seconds since 1970; found {text!r}")
    return int(text)
