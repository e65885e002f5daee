# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection edgeml.fleet: no stable interface.

"""The commands that look after a repository: ``list``, ``promote``, ``withdraw``, ``diff`` and ``gc``."""

from __future__ import annotations

import argparse
import json
import os
import shlex
from typing import Any

from ansible_collections.edgeml.fleet.plugins.module_utils._common.table import text_table
from ansible_collections.edgeml.fleet.plugins.module_utils._common.words import counted
from ansible_collections.edgeml.fleet.plugins.module_utils._release.repository import Repository

from .catalogue import read_catalogue
from .garbage_collection import BLOB_AGE_SECONDS, KEEP_LAST, collect
from .model import PublishError
from .promotion import Promotion, promote
from .release_diff import ReleaseChanges, compare
from .signature_due import needs_signature, say_what_is_next
from .withdrawal import withdraw
from .words import bytes_text

_SECONDS_OF_HOUR = 3600


def register(commands: Any) -> None:
    """Add the commands to ``commands``, the subparsers of the program."""
    listing = _add(commands, "list", "list the releases of a repository with their channels", _list)
    listing.add_argument("--model", metavar="TEXT", help="of this model only")

    promotion = _add(commands, "promote", "have a channel, such as production, stand for another version", _promote)
    promotion.add_argument("--model", required=True, metavar="TEXT", help="name of the model")
    promotion.add_argument("--version", metavar="TEXT", help="the version; with --from, that channel has to have it")
    promotion.add_argument("--from", dest="source", metavar="CHANNEL", help="take the version of this channel")
    promotion.add_argument("--to", required=True, metavar="CHANNEL", help="the channel that is set")
    _add_check(promotion)

    withdrawal = _add(commands, "withdraw", "have nobody run a release any more", _withdraw)
    withdrawal.add_argument("--model", required=True, metavar="TEXT", help="name of the model")
    withdrawal.add_argument("--version", required=True, metavar="TEXT", help="version of the release")
    why = withdrawal.add_mutually_exclusive_group(required=True)
    why.add_argument("--reason", metavar="TEXT", help="what is wrong with it, for everybody who asks")
    why.add_argument("--undo", action="store_true", help="have it run again")
    _add_check(withdrawal)

    diff = _add(commands, "diff", "show what differs between two releases of a model", _diff)
    diff.add_argument("--model", required=True, metavar="TEXT", help="name of the model")
    diff.add_argument("--from", dest="before", required=True, metavar="VERSION", help="the older one")
    diff.add_argument("--to", dest="after", required=True, metavar="VERSION", help="the newer one")

    garbage = _add(commands, "gc", "remove releases and blobs that nobody needs", _collect)
    garbage.add_argument(
        "--keep-last", type=int, default=KEEP_LAST, metavar="N", help="newest releases of each model (%(default)s)"
    )
    garbage.add_argument("--ledger", metavar="DIRECTORY", help="keep what the rollouts of this ledger need")
    garbage.add_argument(
        "--blob-hours",
        type=float,
        default=BLOB_AGE_SECONDS / _SECONDS_OF_HOUR,
        metavar="X",
        help="blobs younger than this stay, for somebody may be copying a release (%(default)g)",
    )
    _add_check(garbage)


def _add(commands: Any, name: str, text: str, run: Any) -> Any:
    parser = commands.add_parser(name, help=text)
    parser.add_argument("--repository", required=True, metavar="DIRECTORY", help="the model repository")
    parser.add_argument("--json", action="store_true", help="print the result as JSON on standard output")
    parser.set_defaults(run=run)
    return parser


def _add_check(parser: Any) -> None:
    parser.add_argument("--check", action="store_true", help="say what would change, and change nothing")


def _list(parsed: argparse.Namespace) -> int:
    listed = read_catalogue(Repository(parsed.repository), parsed.model)
    if parsed.json:
        print(json.dumps({"releases": [item.to_dict() for item in listed]}))
        return 0
    for line in text_table([item.row() for item in listed]) or ["no releases"]:
        print(line)
    return 0


def _promote(parsed: argparse.Namespace) -> int:
    if parsed.version is None and parsed.source is None:
        raise PublishError("promote: expected --version, or --from with the channel whose version is taken")
    found = promote(
        parsed.repository, parsed.model, parsed.to, version=parsed.version, source=parsed.source, check=parsed.check
    )
    if parsed.json:
        print(json.dumps({**found.to_dict(), "check": parsed.check}))
        return 0
    print(_promoted(found, check=parsed.check))
    say_what_is_next(parsed.repository, changed=found.changed, check=parsed.check)
    return 0


def _withdraw(parsed: argparse.Namespace) -> int:
    found = withdraw(parsed.repository, parsed.model, parsed.version, parsed.reason, check=parsed.check)
    if parsed.json:
        print(json.dumps({**found.to_dict(), "check": parsed.check}))
        return 0
    verb = ("would be" if parsed.check else "is") if found.changed else "is already"
    state = f"withdrawn: {found.reason}" if found.reason is not None else "published, and not withdrawn"
    print(f"{found.model} {found.version} {verb} {state}")
    for channel in found.channels if found.reason is not None else ():
        print(
            f"channel {channel} stands for it. Promote another version with: edgeml-publish promote "
            f"--repository {shlex.quote(parsed.repository)} --model {found.model} --version VERSION --to {channel}"
        )
    say_what_is_next(parsed.repository, changed=found.changed, check=parsed.check)
    return 0


def _promoted(found: Promotion, *, check: bool) -> str:
    name = f"{found.model}: channel {found.channel}"
    if not found.changed:
        return f"{name} stands for {found.version} already"
    verb = "would stand" if check else "stands"
    return f"{name} {verb} for {found.version}, before {found.before or 'nothing'}"


def _diff(parsed: argparse.Namespace) -> int:
    repository = Repository(parsed.repository)
    versions = [repository.version_of(parsed.model, version) for version in (parsed.before, parsed.after)]
    before, after = (repository.release(parsed.model, version) for version in versions)
    found = compare(repository, before, after)
    if parsed.json:
        print(json.dumps(found.to_dict()))
        return 0
    _print_changes(found)
    return 0


def _print_changes(found: ReleaseChanges) -> None:
    print(f"{found.after.model}: {found.before.version} -> {found.after.version}")
    for line in text_table([variant.row() for variant in found.variants]):
        print(line)
    for variant in found.variants:
        if variant.tensors is not None:
            print(f"{variant.name}: {variant.tensors.line}")
    if found.fields:
        print(f"the manifest differs in: {', '.join(found.fields)}")


def _collect(parsed: argparse.Namespace) -> int:
    found = collect(
        parsed.repository,
        keep_last=parsed.keep_last,
        ledger=os.path.expanduser(parsed.ledger) if parsed.ledger else None,
        blob_age_seconds=parsed.blob_hours * _SECONDS_OF_HOUR,
        check=parsed.check,
    )
    if parsed.json:
        print(json.dumps({**found.to_dict(), "check": parsed.check}))
        return 0
    verb = "would be removed" if parsed.check else "removed"
    for model, version in found.releases:
        print(f"{model} {version} {verb}")
    if found.changed:
        print(f"{counted(len(found.blobs), 'blob')} {verb}: {bytes_text(found.size)}")
    else:
        print("nothing to remove")
    if found.releases and not parsed.check and needs_signature(parsed.repository):
        print("next: edgeml-publish sign, so that the signed metadata no longer names them")
    return 0
