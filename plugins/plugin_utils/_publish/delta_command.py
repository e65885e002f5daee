# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""``edgeml-publish delta``: smaller forms of a release's files, for devices that hold another version."""

from __future__ import annotations

import argparse
import json
import tempfile
from typing import Any

from ansible_collections.edgeml.fleet.plugins.module_utils._common.table import text_table
from ansible_collections.edgeml.fleet.plugins.module_utils._release.repository import Repository

from .deltas import add_deltas, describe, make_deltas
from .model import PublishError


def register(commands: Any) -> None:
    """Add the subcommand."""
    parser = commands.add_parser("delta", help="add deltas of a published version, from another version")
    parser.add_argument("--model", required=True, metavar="TEXT", help="the model's name")
    parser.add_argument("--from", required=True, dest="old", metavar="VERSION", help="the version that devices hold")
    parser.add_argument("--to", required=True, dest="new", metavar="VERSION", help="the version that they shall get")
    parser.add_argument("--repository", required=True, metavar="PATH", help="the model repository")
    parser.add_argument("--json", action="store_true", help="print the result as JSON on standard output")
    parser.set_defaults(run=_run)


def _run(parsed: argparse.Namespace) -> int:
    if parsed.old == parsed.new:
        raise PublishError(f"--from and --to: expected two versions; found {parsed.new} twice")
    repository = Repository(parsed.repository)
    new, old = (repository.release(parsed.model, version) for version in (parsed.new, parsed.old))
    for release in (new, old):
        repository.verify(release)

    def locate(file: Any) -> str:
        return repository.blob_path(file.sha256)

    with tempfile.TemporaryDirectory(prefix="edgeml-delta-") as work:
        made = make_deltas(new, locate, old, locate, work)
        add_deltas(parsed.repository, made)
    if parsed.json:
        rows = [{"path": item.file.path, "of": item.file.size, **item.delta._asdict()} for item in made]
        print(json.dumps({"changed": bool(made), "deltas": rows}))
        return 0
    for line in text_table(list(describe(made, old.all_files()))):
        print(line)
    if not made:
        print(f"no delta from {parsed.old} to {parsed.new} is smaller than its file")
    return 0
