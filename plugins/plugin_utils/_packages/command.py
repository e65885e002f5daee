# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""The command ``edgeml-publish packages``."""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from typing import Any

from ansible_collections.edgeml.fleet.plugins.module_utils._common.errors import ArgumentError
from ansible_collections.edgeml.fleet.plugins.module_utils._common.table import text_table
from ansible_collections.edgeml.fleet.plugins.module_utils._release.packages import is_package_name
from ansible_collections.edgeml.fleet.plugins.plugin_utils._publish.signature_due import say_what_is_next


def register(commands: Any) -> None:
    """Add the command ``packages``."""
    text = "publish a frozen snapshot of Debian packages, to patch devices with"
    parser = commands.add_parser("packages", help=text, description=text)
    parser.add_argument("--archive", required=True, metavar="PATH", help="a Debian archive, such as reprepro makes")
    parser.add_argument(
        "--distribution",
        required=True,
        metavar="NAME",
        help="the distribution below dists/, such as bookworm, or bookworm/snapshots/2026-11",
    )
    parser.add_argument("--suite", metavar="NAME", help="the devices' release of Debian (default: the distribution's)")
    parser.add_argument("--component", default="main", metavar="NAME", help="default: main")
    parser.add_argument("--name", metavar="TEXT", help="name of the releases (default: debian-SUITE)")
    parser.add_argument("--version", required=True, metavar="TEXT", help="version of the snapshot")
    parser.add_argument("--repository", required=True, metavar="PATH", help="the model repository to publish it in")
    parser.add_argument(
        "--architectures", default="aarch64", metavar="LIST", help="as uname -m says (default: aarch64)"
    )
    parser.add_argument("--only", metavar="FILE", help="a file with the names of the packages to take, one a line")
    parser.add_argument(
        "--downgrade",
        action="append",
        default=[],
        metavar="PACKAGE",
        help="a package whose version may become lower on devices; may be given several times",
    )
    parser.add_argument(
        "--no-way-back",
        action="store_true",
        help="devices take it also where no snapshot that they hold could bring back what they have",
    )
    parser.add_argument("--check", action="store_true", help="do all but write the release")
    parser.add_argument("--json", action="store_true", help="print the result as JSON on standard output")
    parser.set_defaults(run=_run)


def _run(parsed: argparse.Namespace) -> int:
    from .release import freeze, publish_snapshots

    suite = parsed.suite or parsed.distribution.partition("/")[0]
    name = parsed.name or f"debian-{suite}"
    snapshots = [
        freeze(
            parsed.archive,
            distribution=parsed.distribution,
            component=parsed.component,
            suite=suite,
            machine=machine,
            only=_names(parsed.only),
            downgrades=frozenset(parsed.downgrade),
            way_back=not parsed.no_way_back,
        )
        for machine in parsed.architectures.split(",")
    ]
    changed, manifest = False, None
    if not parsed.check:
        os.makedirs(parsed.repository, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="edgeml-packages-") as work:
            changed, manifest = publish_snapshots(
                snapshots,
                name=name,
                version=parsed.version,
                repository=parsed.repository,
                directory=work,
                description=f"{parsed.distribution} of Debian's packages",
            )
    rows = [
        {
            "architecture": each.machine,
            "packages": len(each.packages),
            "bytes": sum(int(package.fields["Size"]) for package in each.packages),
            "snapshot": each.digest,
        }
        for each in snapshots
    ]
    if parsed.json:
        print(json.dumps({"changed": changed, "check": parsed.check, "manifest": manifest, "snapshots": rows}))
        return 0
    for line in text_table(rows):
        print(line)
    state = "is published" if changed else "was published already, and nothing changed"
    print(f"{name} {parsed.version} {'would be published' if parsed.check else state}: {parsed.repository}")
    say_what_is_next(parsed.repository, changed=changed, check=parsed.check)
    return 0


def _names(path: str | None) -> frozenset[str] | None:
    """The names in a file; what follows a colon, such as dpkg's architecture, does not count. Raises ArgumentError."""
    if path is None:
        return None
    with open(path, encoding="utf-8") as file:
        names = frozenset(line.split(":")[0].strip() for line in file if line.strip())
    wrong = sorted(name for name in names if not is_package_name(name))
    if wrong:
        raise ArgumentError(f"--only: {path}: expected names of packages, one a line; found {wrong[0]!r:.80}")
    return names
